"""Options of the commands: `--rationale NAME=VALUE` becomes the settings that a bank keeps."""

import click
import pytest
from click.testing import CliRunner
from textcam_service.cli import main
from textcam_service.cli.bank import _rationale_settings
from textcam_service.core.methods import METHODS
from textcam_service.core.rationale.settings import RationaleSettings


def test_pairs_become_settings():
    given = ("sparsity=0.4", "root=false", "candidates=12", "wording=embeddings", "join=0.2")
    assert _rationale_settings(given) == RationaleSettings(
        sparsity=0.4, root=False, candidates=12, wording="embeddings", join=0.2
    )
    assert _rationale_settings(()) is None  # what was measured for the source: default_rationale


@pytest.mark.parametrize(
    "pair", ["sparsity", "sparsity=", "nothing=1", "root=1", "sparsity=true", 'prior="0"']
)
def test_what_is_no_setting_is_refused_with_what_there_is(pair):
    with pytest.raises(click.BadParameter, match="is no NAME=VALUE of wording, min_probability"):
        _rationale_settings((pair,))


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("sparsity=-3", "sparsity is a finite number, at least 0"),
        ("decorrelation=-1e9", "decorrelation is a finite number"),
        ("prior=NaN", "prior is a finite number"),
        ("prior=Infinity", "prior is a finite number"),
        ("max_similarity=-1", "max_similarity is from 0 to 1"),
        ("min_support=NaN", "min_support from -1 to 1"),
        ("candidates=-5", "candidates is at least 1"),
        ("min_probability=1.1", "min_probability is from 0 to 1"),
        ("min_odds=0.9", "min_odds is a finite number, at least 1"),
        ("min_new=-1", "min_new is a finite number, at least 0"),
        ("min_more=Infinity", "min_more is a finite number, at least 0"),
        ("join=2", "join from -1 to 1"),
        ("wording=lda", "wording is one of supports, embeddings"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(pair, said):
    with pytest.raises(click.BadParameter, match=said):
        _rationale_settings((pair,))


@pytest.mark.parametrize("command", [("explain", "a.jpg"), ("evaluate", "--backbone", "b")])
def test_a_method_that_is_not_there_is_a_usage_error_with_what_there_is(command):
    near = CliRunner().invoke(main, [*command, "--method", "gradcam"])
    assert near.exit_code == 2
    assert "there is no CAM method 'gradcam'; near it: grad_cam" in near.output
    far = CliRunner().invoke(main, [*command, "--method", "nonsense"])
    assert far.exit_code == 2
    assert all(name in "".join(far.output.split()) for name in METHODS)


def test_a_server_without_a_port_is_a_usage_error(tmp_path):
    image = tmp_path / "cat.jpg"
    image.touch()
    done = CliRunner().invoke(main, ["explain", str(image), "--server", "127.0.0.1"])
    assert done.exit_code == 2
    assert "the address '127.0.0.1' names no port" in done.output

"""Options of the commands: `--rationale NAME=VALUE` becomes the settings that a bank keeps."""

import click
import pytest
from click.testing import CliRunner
from commands import run
from PIL import Image
from textcam_service.cli import main
from textcam_service.cli.bank.build import rationale_settings, region_settings
from textcam_service.core.concepts.activated_regions import (
    RegionSettings,
)
from textcam_service.core.methods import METHODS
from textcam_service.core.rationale.settings import RationaleSettings


def test_pairs_become_settings():
    given = ("sparsity=0.4", "root=false", "candidates=12", "wording=embeddings", "join=0.2")
    assert rationale_settings(given) == RationaleSettings(
        sparsity=0.4, root=False, candidates=12, wording="embeddings", join=0.2
    )
    assert rationale_settings(()) is None  # what was measured for the source: default_rationale


@pytest.mark.parametrize(
    "pair", ["sparsity", "sparsity=", "nothing=1", "root=1", "sparsity=true", 'prior="0"']
)
def test_what_is_no_setting_is_refused_with_what_there_is(pair):
    with pytest.raises(click.BadParameter, match="is not NAME=VALUE with one of wording, "):
        rationale_settings((pair,))


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
        rationale_settings((pair,))


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


def test_the_commands_pairs_become_region_settings():
    assert region_settings("none", ()) is None
    assert region_settings("dense", ("share=0.3", "negatives=random")) == RegionSettings(
        "dense", share=0.3, negatives="random"
    )
    assert region_settings("crop", ("enlarge=2",)).enlarge == 2


@pytest.mark.parametrize(
    ("regions", "pair", "said"),
    [
        ("none", "share=0.3", "no meaning without --regions"),
        ("crop", "kind=dense", "is not NAME=VALUE with one of share, minimum"),
        ("crop", "tiles=2.5", "tiles takes a whole number"),
        ("crop", "share=1", "less than 1"),
        ("crop", "minimum=0", "above 0"),
        ("mosaic", "tiles=1", "at least 2"),
        ("crop", "enlarge=0.001", "enlarge is at least 0.25"),
        ("dense", "negatives=none", "active, random"),
    ],
)
def test_what_is_no_region_setting_is_refused(regions, pair, said):
    with pytest.raises(click.BadParameter, match=said):
        region_settings(regions, (pair,))


def test_a_probing_set_that_is_too_small_is_refused_before_anything_is_loaded(photo, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(7):
        content = photo.read_bytes() if number < 4 else b"damaged"
        (folder / f"{number}.png").write_bytes(content)
    # Neither is there: whichever was loaded before the count would be what is complained of.
    absent = ["--embedder", "open_clip:absent:absent", "--backbone", tmp_path / "absent"]
    code, said = run("bank", "build", "--images", folder, "--output", tmp_path / "bank", *absent)
    assert code == 1
    assert said.startswith(
        "Error: 4 images (unreadable: 3) are too few: each channel needs its 100"
    )


def test_a_shrinkage_that_leaves_no_inverse_is_refused(tmp_path):
    code, said = run("bank", "build", "--output", tmp_path / "bank", "--shrinkage", "1e-17")
    assert code == 2
    assert "1e-17 is not in the range 1e-06<=x<=1" in said


@pytest.mark.parametrize("command", ["export", "build"])
def test_a_folder_of_photographs_is_not_replaced(command, photo, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(8):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(photos / f"{index}.png")
    words = (
        ["export"]
        if command == "export"
        else ["bank", "build", "--samples", "2", "--images", photos]
    )
    code, told = run(*words, "--output", photos)
    assert code == 1
    assert "would be replaced as a whole, but holds '0.png' and 7 more" in told
    assert len(list(photos.iterdir())) == 8

"""`--rationale NAME=VALUE` becomes the settings that a bank keeps."""

import click
import pytest
from textcam_service.cli.bank import _rationale_settings
from textcam_service.core.types import RationaleSettings


def test_pairs_become_settings():
    given = ("sparsity=0.4", "root=false", "candidates=12")
    assert _rationale_settings(given) == RationaleSettings(sparsity=0.4, root=False, candidates=12)
    assert _rationale_settings(()) == RationaleSettings()


@pytest.mark.parametrize(
    "pair", ["sparsity", "sparsity=", "nothing=1", "root=1", "sparsity=true", 'prior="0"']
)
def test_what_is_no_setting_is_refused_with_what_there_is(pair):
    with pytest.raises(click.BadParameter, match="is no NAME=VALUE of sparsity, decorrelation"):
        _rationale_settings((pair,))

"""Options and checks that commands share."""

from dataclasses import fields

import click
import pytest
from click.testing import CliRunner
from textcam_service.cli.shared import options
from textcam_service.core.agreement import AgreementThresholds
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.errors import MissingExtra
from textcam_service.settings import ServerSettings


@click.command()
@options.comparison_options
def compare(bank, images, min_top1, min_map_correlation, min_first_phrase, max_share_difference):
    click.echo(f"{min_top1} {min_map_correlation} {min_first_phrase} {max_share_difference}")


def said(*arguments):
    return CliRunner().invoke(compare, ["--images", ".", *arguments]).output.strip()


def test_thresholds_have_the_measures_names_and_one_has_another_spelling():
    assert said() == "0.98 0.97 0.95 1.0"
    assert said("--min-top1", "0.5", "--min-map-correlation", "-1") == "0.5 -1.0 0.95 1.0"
    assert said("--min-correlation", "0.2") == "0.98 0.2 0.95 1.0"
    assert said("--max-share-difference", "0.1") == "0.98 0.97 0.95 0.1"
    help_text = said("--help")
    assert "--min-map-correlation" in help_text
    assert "--min-correlation" not in help_text


def test_options_and_the_canarys_settings_are_named_as_the_thresholds():
    thresholds = {each.name: each.default for each in fields(AgreementThresholds)}
    bounds = {name: "max" if name == "share_difference" else "min" for name in thresholds}
    given = {each.name: each.default for each in compare.params}
    for name, default in thresholds.items():
        assert given[f"{bounds[name]}_{name}"] == default
        assert f"canary_{bounds[name]}_{name}" in ServerSettings.model_fields


@pytest.mark.parametrize(
    ("pair", "value"),
    [("min_odds=2", 2), ("wording=embeddings", "embeddings"), ("root=false", False)],
)
def test_a_pair_sets_its_field(pair, value):
    made = options.settings_of(RationaleSettings, (pair,), "--set")
    assert getattr(made, pair.partition("=")[0]) == value


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("odds=2", "'odds=2' is not NAME=VALUE with one of"),
        ("min_odds=", "'min_odds=' is not NAME=VALUE"),
        ("min_odds=true", "min_odds takes a number"),
        ("candidates=1.5", "candidates takes a whole number"),
        ("root=1", "root takes true or false"),
        ("min_odds=0.5", "min_odds is a finite number, at least 1"),
    ],
)
def test_a_pair_that_the_settings_do_not_take_is_refused(pair, message):
    with pytest.raises(click.BadParameter) as error:
        options.settings_of(RationaleSettings, (pair,), "--set")
    assert message in error.value.message
    assert error.value.param_hint == "--set"


def test_a_missing_extra_is_named_with_its_command(monkeypatch):
    options.require_extra("service")
    monkeypatch.setitem(options._EXTRAS, "service", ("numpy", "no_such_package"))
    with pytest.raises(MissingExtra, match=r"no_such_package not installed\): pip install"):
        options.require_extra("service")

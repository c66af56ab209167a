"""`textcam serve`: settings from the environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from textcam_service.errors import InvalidSettings
from textcam_service.settings import read_settings


def test_variables_that_are_no_settings_are_warned_of_with_the_nearest(tmp_path):
    variables = {"TEXTCAM_MAX_BACH": "3", "TEXTCAM_ZZ": "1", "TEXTCAM_TOKEN": "x"}
    done = subprocess.run(
        [Path(sys.executable).with_name("textcam"), "serve", "--backbone", tmp_path / "absent"],
        env={**os.environ, **variables, "TEXTCAM_max_batch": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = " ".join(done.stderr.split())
    assert "TEXTCAM_MAX_BACH is not a setting and is ignored; near it: TEXTCAM_MAX_BATCH" in said
    assert "TEXTCAM_ZZ is not a setting and is ignored" in said
    assert said.count("is not a setting") == 2


@pytest.mark.parametrize("given", ["A, B", "A,B", '["A", "B"]'])
def test_a_variable_of_several_names_takes_commas_or_json(given, monkeypatch):
    monkeypatch.setenv("TEXTCAM_PROVIDERS", given)
    monkeypatch.setenv("TEXTCAM_STORE_MODELS", "photos")
    settings = read_settings({})
    assert (settings.providers, settings.store_models) == (("A", "B"), ("photos",))


def test_names_that_are_half_json_are_refused_with_the_form(monkeypatch):
    monkeypatch.setenv("TEXTCAM_PROVIDERS", '["A", ')
    with pytest.raises(InvalidSettings, match=r"providers: .*give A,B or a JSON list of strings"):
        read_settings({})

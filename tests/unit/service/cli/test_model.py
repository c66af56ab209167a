"""`textcam model`: stores and models that are not there."""

import pytest
from commands import run


@pytest.fixture
def store(tmp_path):
    """A store with one model, of two versions."""
    for version in "12":
        (tmp_path / "store" / "photos" / version).mkdir(parents=True)
        (tmp_path / "store" / "photos" / version / "bundle.json").write_text("{}")
    return tmp_path / "store"


def test_a_store_that_is_not_there_is_told(tmp_path):
    code, said = run("model", "list", "--store", tmp_path / "typo")
    assert (code, said) == (1, f"Error: nothing is published in {tmp_path}/typo")


@pytest.mark.parametrize("command", ["list", "rollback"])
def test_a_model_that_is_not_there_is_told_with_those_that_are(command, store):
    assert run("model", "list", "--store", store) == (0, "photos@1 photos@2")
    code, said = run("model", command, "photo", "--store", store)
    assert code == 1
    assert said == (
        f"Error: no version of 'photo' is published, or current, in {store}; it holds photos"
    )

"""Small models and a store of them, for the registry's tests."""

import pytest
from small_models import write_model
from textcam_service.store.models import ModelStore


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of bundles: by letter apart from each other, "a2" close to "a"."""
    root = tmp_path_factory.mktemp("made")
    folders = {letter: write_model(root / letter, seed) for seed, letter in enumerate("abc")}
    return folders | {"a2": write_model(root / "a2", 1, like=0)}


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "store")

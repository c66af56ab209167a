"""A server that the tests share."""

import pytest
from processes import BACKBONE, PHOTOS, running


@pytest.fixture(scope="session")
def backbone_folder():
    assert (BACKBONE / "backbone.json").is_file(), "run `make test`, which exports the backbone"
    return BACKBONE


@pytest.fixture(scope="session")
def server(backbone_folder):
    with running("--max-image-pixels", "2400000", "--max-message-bytes", "8000000") as started:
        yield started


@pytest.fixture(scope="session")
def photos():
    names = ("chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
    return [PHOTOS / name for name in names]

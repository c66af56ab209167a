"""What the evaluation's tests share."""

import pytest
from planted_bundle import planted_bundle


@pytest.fixture(scope="session")
def planted():
    return planted_bundle()

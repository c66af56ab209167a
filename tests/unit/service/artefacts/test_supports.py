"""Supports and their calibration, as a bank keeps them."""

import numpy as np
import pytest
from small_models import add_supports, write_model
from textcam_service.artefacts.bank import read_bank
from textcam_service.artefacts.supports import (
    read_supports,
    supports_manifest,
    supports_tensors,
)
from textcam_service.errors import ArtefactCorrupt


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = add_supports(write_model(tmp_path_factory.mktemp("model"), 8), repeats=(2,))
    return read_bank(folder / "bank").bank


def stored(bank):
    tensors = {**supports_tensors(bank.supports), "dead": bank.dead}
    return tensors, supports_manifest(bank.supports)


def test_supports_are_read_back_to_half_precision(bank):
    found = read_supports(*stored(bank), 9)
    np.testing.assert_allclose(found.supports, bank.supports.supports, atol=1e-3)
    np.testing.assert_array_equal(found.repeats, bank.supports.repeats)
    assert found.calibration.bins == bank.supports.calibration.bins
    assert found.attributes is None


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("supports", np.zeros((12, 8), np.float16)),  # a phrase less
        ("supports", np.full((12, 9), np.nan, np.float16)),
        ("phrase_prior", np.full(9, np.inf, np.float32)),
        ("apart", np.array([[0, 9]])),  # there is no phrase 9
        ("repeats", np.array([[-1, 0]])),
        ("repeats", np.array([0, 1])),
    ],
)
def test_what_would_fail_at_the_first_request_is_refused(bank, name, broken):
    tensors, manifest = stored(bank)
    with pytest.raises(ArtefactCorrupt, match="supports do not fit its channels and phrases"):
        read_supports({**tensors, name: broken}, manifest, 9)


@pytest.mark.parametrize(("field", "value"), [("deviation", 0.0), ("slope", "1"), ("offset", None)])
def test_a_calibration_that_is_no_number_is_refused(bank, field, value):
    tensors, manifest = stored(bank)
    with pytest.raises(ArtefactCorrupt, match="build it again"):
        read_supports(tensors, {**manifest, field: value}, 9)

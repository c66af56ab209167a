"""The graphs of sums on a device compute them, and the packaged ones are up to date."""

import numpy as np
import pytest
from textcam_service.artefacts.packaged import DEVICE
from textcam_service.offline.export.device_graphs import device_graphs
from textcam_service.offline.export.numerics import cpu_session
from textcam_service.runtime.device_tensors import PICKED, ROWS, SCORES, SUMS, VALUES, WEIGHTS

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(4, 3, 2, 5)).astype(np.float32)
PLACES = np.array([2, 0])


def run(name, output, **given):
    (found,) = cpu_session(device_graphs()[name]).run([output], given)
    return found


@pytest.mark.parametrize("values", [MAPS, MAPS[:, 0, 0]], ids=["maps", "scores"])
def test_rows_are_picked_of_tensors_of_any_rank(values):
    found = run("rows", PICKED, **{VALUES: values, ROWS: PLACES})
    np.testing.assert_array_equal(found, values[[2, 0]])


def test_scores_are_means_over_positions():
    found = run("scores", SCORES, **{VALUES: MAPS})
    np.testing.assert_allclose(found, MAPS.mean(axis=(2, 3)), rtol=1e-5, atol=1e-6)


def test_weighted_sums_are_those_of_the_picked_images():
    weights = RNG.normal(size=(2, 6, 3)).astype(np.float32)
    found = run("weighted", SUMS, **{VALUES: MAPS, ROWS: PLACES, WEIGHTS: weights})
    wanted = np.einsum("mkd,mdhw->mkhw", weights, MAPS[[2, 0]]).reshape(2, 6, 10)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_packaged_files_are_these_graphs():
    made = device_graphs()
    assert {path.stem for path in DEVICE.glob("*.onnx")} == set(made)
    for name, graph in made.items():
        assert (DEVICE / f"{name}.onnx").read_bytes() == graph, name

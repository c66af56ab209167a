"""Tensors that stay on a device; here the device is the CPU."""

import numpy as np
import onnxruntime as ort
import pytest
from textcam_service.runtime.device_tensors import Buckets, Device, DeviceRow, rows_only

MAPS = np.random.default_rng(2).normal(size=(3, 4, 5, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def device():
    return Device(
        "cpu", lambda graph: ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    )


@pytest.fixture
def rows(device):
    return device.rows(ort.OrtValue.ortvalue_from_numpy(MAPS), 3, are_maps=True)


def test_a_batch_is_padded_to_the_next_bucket_and_cut_at_the_last():
    buckets = Buckets((1, 2, 4))
    assert [buckets.of(count) for count in (1, 2, 3, 4, 5)] == [1, 2, 4, 4, 5]
    images = np.ones((3, 3, 2, 2), np.float32)
    filled = buckets.filled(images)
    assert filled.shape == (4, 3, 2, 2)
    assert not filled[3].any()
    assert [len(part) for part in buckets.parts(np.ones((9, 3, 2, 2)))] == [4, 4, 1]
    assert Buckets().filled(images) is images
    assert Buckets().parts(images) == [images]


def test_a_row_knows_its_scores_and_comes_to_the_host_when_asked(rows):
    for row, maps in zip(rows, MAPS, strict=True):
        assert row.shape == maps.shape
        np.testing.assert_allclose(row.scores(), maps.mean(axis=(1, 2)), atol=1e-6)
        np.testing.assert_array_equal(np.asarray(row), maps)


def test_weighted_sums_are_made_on_the_device(rows):
    weights = np.random.default_rng(3).normal(size=(2, 4))
    expected = np.einsum("kd,dhw->khw", weights, MAPS[1])
    np.testing.assert_allclose(rows[1].weighted(weights), expected, atol=1e-5)


def test_rows_are_gathered_into_a_batch_in_any_order(device, rows):
    batch = device.gather([rows[2], rows[0], rows[2]])
    np.testing.assert_array_equal(batch.numpy(), MAPS[[2, 0, 2]])


def test_inputs_are_rows_only_if_all_of_them_are(rows):
    assert rows_only({"maps": rows}) == {"maps": rows}
    assert all(isinstance(row, DeviceRow) for row in rows)
    assert rows_only({"maps": rows, "tokens": [*rows[:2], MAPS[2]]}) is None

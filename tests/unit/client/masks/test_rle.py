"""COCO's run lengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_samples import MASKS
from textcam_client import (
    decode_rle,
    encode_rle,
)


def test_run_lengths_by_hand_go_down_the_columns_and_begin_with_background():
    """Columns 110, 011, 001: runs 0 (none of background), 2, 2, 2, 2, 1.

    As a string: '0', '2', '2', then 2 - 2, 2 - 2, 1 - 2 = -1, which is 31 + 48 = 'O'.
    """
    mask = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]], bool)
    plain = {"size": [3, 3], "counts": [0, 2, 2, 2, 2, 1]}
    packed = {"size": [3, 3], "counts": "02200O"}
    assert encode_rle(mask, compressed=False) == plain
    assert encode_rle(mask) == packed
    for rle in (plain, packed, {"size": (3, 3), "counts": b"02200O"}):
        np.testing.assert_array_equal(decode_rle(rle), mask)


def test_long_runs_take_several_characters():
    """1000 = 31 * 32 + 8: 8 + 32 + 48 = 'X' with more to come; 31 has the sign's bit, so a
    character of zeros must end it: 31 + 32 + 48 = 'o', then '0'.
    """
    mask = np.zeros((1000, 1), bool)
    assert encode_rle(mask) == {"size": [1000, 1], "counts": "Xo0"}
    np.testing.assert_array_equal(decode_rle(encode_rle(mask)), mask)


@given(MASKS)
@settings(max_examples=200, deadline=None)
def test_run_lengths_decode_to_what_was_encoded(mask):
    for compressed in (True, False):
        np.testing.assert_array_equal(decode_rle(encode_rle(mask, compressed=compressed)), mask)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_runs_of_any_length_decode_to_what_was_encoded(lengths):
    column = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)[:, None]
    np.testing.assert_array_equal(decode_rle(encode_rle(column)), column)


@given(MASKS)
@settings(max_examples=100, deadline=None)
def test_run_lengths_are_pycocotools(mask):
    coco = pytest.importorskip("pycocotools.mask")
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_rle(mask)["counts"] == theirs["counts"].decode()
    np.testing.assert_array_equal(coco.decode(encode_rle(mask)), mask)


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"size": [3, 3]}, "an RLE is"),
        ({"size": 3, "counts": [9]}, "an RLE is"),
        ({"size": [3, 3], "counts": [4, 4]}, "add up to 8 pixels, and the size is 3 x 3 = 9"),
        ({"size": [3, 3], "counts": [12, -3]}, "damaged"),
        ({"size": [-3, -3], "counts": [9]}, "damaged"),
        ({"size": [3, 3], "counts": "0220!"}, "'!' does not occur"),
        ({"size": [3, 3], "counts": "0220é"}, "does not occur"),
        ({"size": [1000, 1], "counts": "Xo"}, "middle of a number"),
    ],
)
def test_damaged_run_lengths_are_refused(rle, message):
    with pytest.raises(ValueError, match=message):
        decode_rle(rle)

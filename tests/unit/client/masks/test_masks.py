"""From heatmaps to masks, boxes, run lengths and contours."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from client_samples import make_pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from skimage.filters import threshold_otsu
from skimage.measure import find_contours, label, regionprops
from textcam_client import (
    Box,
    MapsDeclined,
    PictureUnavailable,
    TopK,
    bounding_boxes,
    decode_rle,
    draw_contours,
    encode_rle,
    label_image,
    pseudo_labels,
    pseudo_mask,
)
from textcam_client.masks.connected_components import connected_components
from textcam_client.masks.pseudo_masks import otsu_threshold

GREY, RED, GREEN = (128, 128, 128), (200, 30, 30), (30, 160, 60)
MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=25))


def disc(height, width, row, column, radius):
    y, x = np.mgrid[:height, :width]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def bump(height, width, row, column, spread):
    """Heat that is 1 at a place and falls off, as a coarse map's does."""
    y, x = np.mgrid[:height, :width]
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * spread**2))


def painted(height, width, *things):
    """A noisy grey image with each (mask, colour) on it."""
    image = np.full((height, width, 3), GREY, float)
    for mask, colour in things:
        image[mask] = colour
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def same_but_for_edges(mask, truth, pixels=2):
    """Whether a mask differs from the truth only within some pixels of its edge."""
    beside = np.zeros_like(truth)
    padded = np.pad(truth, pixels, mode="edge")
    for y in range(2 * pixels + 1):
        for x in range(2 * pixels + 1):
            beside |= padded[y : y + truth.shape[0], x : x + truth.shape[1]] != truth
    return not (mask ^ truth)[~beside].any()


# --- masks ------------------------------------------------------------------------


def test_a_fixed_threshold_is_a_share_of_the_hottest_heat_and_belongs_to_the_mask():
    heat = np.array([[0, 1.9, 2, 4]])
    expected = [[False, False, True, True]]
    np.testing.assert_array_equal(pseudo_mask(heat, method="fixed"), expected)
    np.testing.assert_array_equal(pseudo_mask(heat, method="fixed", threshold=1.0), heat == 4)


def test_otsus_threshold_by_hand():
    """Bins of 10 / 256: the two zeros against the rest is the best parting of 0 0 9 10."""
    threshold = otsu_threshold(np.array([0, 0, 9, 10]))
    assert threshold == pytest.approx(10 / 512)
    mask = pseudo_mask(np.array([[0, 0, 9, 10.0]]), method="otsu")
    np.testing.assert_array_equal(mask, [[False, False, True, True]])


@pytest.mark.parametrize("seed", range(5))
def test_otsus_threshold_is_scikit_images(seed):
    rng = np.random.default_rng(seed)
    heat = np.concatenate([rng.normal(0.2, 0.1, 3000), rng.normal(0.7, 0.1, 500)]).clip(0, 1)
    heat = heat.reshape(70, 50)
    assert otsu_threshold(heat) == pytest.approx(threshold_otsu(heat, 256), abs=1e-12)
    np.testing.assert_array_equal(
        pseudo_mask(heat, method="otsu"), heat > threshold_otsu(heat, 256)
    )


@pytest.mark.parametrize(("radius", "spread"), [(12, 24), (45, 20), (30, 30)])
def test_seeds_grow_to_the_whole_object_however_wide_the_heat(radius, spread):
    """Heat that is far wider than the object, far narrower, and off its middle."""
    truth = disc(120, 160, 60, 70, radius)
    heat = bump(120, 160, 60 + radius // 4, 70 + radius // 4, spread)
    image = painted(120, 160, (truth, RED))
    mask = pseudo_mask(heat, image=image)
    assert same_but_for_edges(mask, truth)
    assert overlap(mask, truth) > 0.8
    assert not same_but_for_edges(pseudo_mask(heat, method="fixed"), truth)


def test_seeds_do_not_jump_to_a_like_object_that_is_apart():
    near, far = disc(100, 160, 50, 40, 15), disc(100, 160, 50, 120, 15)
    heat = bump(100, 160, 50, 40, 20) + 0.5 * bump(100, 160, 50, 120, 20)
    mask = pseudo_mask(heat, image=painted(100, 160, (near, RED), (far, RED)))
    assert same_but_for_edges(mask, near)


def test_seeds_on_a_large_image_are_as_good_and_quick():
    truth = disc(480, 640, 240, 300, 90)
    heat, image = bump(480, 640, 220, 310, 120), painted(480, 640, (truth, GREEN))
    begun = time.perf_counter()
    mask = pseudo_mask(heat, image=image)
    assert time.perf_counter() - begun < 5  # some 50 ms on a quiet core
    # The walk runs on an image a quarter as wide.
    assert same_but_for_edges(mask, truth, pixels=8)


def test_the_unit_of_heat_does_not_matter():
    heat, image = bump(60, 90, 30, 40, 12), make_pixels()
    for method in ("seeds", "otsu", "fixed"):
        plain = pseudo_mask(heat, method=method, image=image)
        np.testing.assert_array_equal(pseudo_mask(heat * 37, method=method, image=image), plain)


@pytest.mark.parametrize("method", ["seeds", "otsu", "fixed"])
def test_no_heat_gives_an_empty_mask_and_even_heat_a_full_one(method, pixels):
    assert not pseudo_mask(np.zeros((60, 90)), method=method, image=pixels).any()
    assert pseudo_mask(np.full((60, 90), 0.3), method=method, image=pixels).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (2, 3), (400, 500)])
def test_a_single_hot_pixel_is_found_in_any_image(shape):
    heat = np.zeros(shape)
    heat[shape[0] // 2, shape[1] // 2] = 1
    for image in (np.full((*shape, 3), 9, np.uint8), make_pixels(*shape)):
        assert pseudo_mask(heat, image=image).any()


def test_an_answers_targets_and_groups_are_taken_as_they_are(client, pixels):
    target = client.explain(pixels)
    for part in (target, *target.groups):
        assert pseudo_mask(part).shape == (60, 90)
        expected = pseudo_mask(part.heatmap(), image=pixels)
        np.testing.assert_array_equal(pseudo_mask(part), expected)
    half = Image.fromarray(pixels).resize((45, 30))
    expected = pseudo_mask(target.heatmap((30, 45)), image=half)
    np.testing.assert_array_equal(pseudo_mask(target, image=half), expected)


def test_the_otsu_of_an_answer_needs_no_image(client, png_path):
    target = client.explain(png_path)
    png_path.unlink()
    assert pseudo_mask(target, method="otsu").any()
    with pytest.raises(PictureUnavailable):
        pseudo_mask(target)


def test_declined_maps_are_an_error(client, pixels):
    answer = client.explain(pixels, heatmap="none")
    with pytest.raises(MapsDeclined):
        pseudo_mask(answer)


@pytest.mark.parametrize(
    ("heat", "options", "message"),
    [
        (np.ones((4, 5)), {}, "pass image=, or use method='otsu'"),
        (np.ones((4, 5)), {"method": "best"}, "method is one of .*'otsu'"),
        (np.ones((4, 5)), {"method": "fixed", "threshold": 0}, "above 0 to 1, not 0"),
        (np.ones((4, 5)), {"method": "fixed", "threshold": 50}, "above 0 to 1, not 50"),
        (np.ones((2, 4, 5)), {"method": "otsu"}, r"a heatmap is \(h, w\), not of shape \(2, 4, 5"),
        (np.ones((0, 5)), {"method": "otsu"}, r"not of shape \(0, 5\)"),
        (np.array([[1, -1]]), {"method": "otsu"}, r"pass np.maximum\(map, 0\)"),
        (np.array([[1, np.nan]]), {"method": "otsu"}, "heat is finite"),
        ("cat.jpg", {"method": "otsu"}, "not str"),
        (np.ones((4, 5)), {"image": np.zeros((8, 9, 3), np.uint8)}, "4 x 5, and the image.* 8 x 9"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_remedy(heat, options, message):
    with pytest.raises(ValueError, match=message):
        pseudo_mask(heat, **options)


# --- several labels ---------------------------------------------------------------


def test_conflicts_go_to_the_label_whose_heat_is_higher_by_its_own_scale():
    """By hand: cut at half of 10 and of 2; in the third pixel 7/10 meets 1.5/2."""
    heats = [np.array([[10, 8, 7, 4, 0.0]]), np.array([[0, 0.9, 1.5, 2, 0]])]
    labels = pseudo_labels(heats, method="fixed")
    np.testing.assert_array_equal(labels, [[1, 1, 2, 2, 0]])
    assert labels.dtype == np.uint8


def test_the_earlier_label_wins_a_tie_and_a_label_without_heat_gets_nothing():
    heat = np.array([[0, 1, 1.0]])
    np.testing.assert_array_equal(
        pseudo_labels([np.zeros((1, 3)), heat, heat], method="fixed"), [[0, 2, 2]]
    )


def test_two_objects_side_by_side_get_a_label_each():
    left, right = disc(100, 140, 50, 45, 22), disc(100, 140, 50, 92, 22)
    heats = [bump(100, 140, 50, 50, 30), bump(100, 140, 50, 86, 30)]
    image = painted(100, 140, (left, RED), (right, GREEN))
    labels = pseudo_labels(heats, image=image)
    assert same_but_for_edges(labels == 1, left)
    assert same_but_for_edges(labels == 2, right)


def test_all_targets_of_an_answer_share_a_label_map(client, pixels):
    answer = client.explain(pixels, target=TopK(3))
    labels = pseudo_labels(answer.explanations)
    assert labels.shape == (60, 90)
    for number, target in enumerate(answer.explanations, 1):
        assert not (labels == number)[~pseudo_mask(target)].any()


def test_labels_of_no_one_too_many_or_other_sizes_are_refused():
    for heats in ([], [np.ones((2, 2))] * 255):
        with pytest.raises(ValueError, match="1 to 254 labels"):
            pseudo_labels(heats, method="otsu")
    with pytest.raises(ValueError, match="3 x 2, and the image, or the first heatmap, 2 x 2"):
        pseudo_labels([np.ones((2, 2)), np.ones((3, 2))], method="otsu")


# --- regions and boxes --------------------------------------------------------------


def test_regions_by_hand_corners_touch():
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]], bool)
    expected = [[1, 0, 0, 2], [0, 1, 0, 2], [0, 0, 0, 0], [3, 3, 0, 4]]
    np.testing.assert_array_equal(connected_components(mask), expected)


@given(MASKS)
@settings(max_examples=200, deadline=None)
def test_regions_and_boxes_are_scikit_images(mask):
    regions = connected_components(mask)
    expected = label(mask, connectivity=2)
    np.testing.assert_array_equal(regions, expected)
    found = sorted(bounding_boxes(mask))
    boxes = [region.bbox for region in regionprops(expected)]
    assert found == sorted((x, y, right - x, low - y) for y, x, low, right in boxes)


def test_a_spiral_and_a_comb_are_one_region_each():
    """Runs that meet late: a numbering that gives up early would split them."""
    spiral = np.zeros((41, 41), bool)
    for turn in range(0, 20, 2):
        spiral[turn, turn : 41 - turn] = spiral[turn : 41 - turn, 40 - turn] = True
        spiral[40 - turn, turn : 41 - turn] = spiral[turn + 2 : 41 - turn, turn] = True
        spiral[turn + 2, turn : turn + 3] = True
    comb = np.zeros((60, 301), bool)
    comb[:, ::2] = comb[-1] = True
    for mask in (spiral, comb):
        assert connected_components(mask).max() == label(mask, connectivity=2).max() == 1


def test_regions_of_a_photograph_sized_mask_are_quick():
    mask = np.random.default_rng(0).random((480, 640)) < 0.5
    begun = time.perf_counter()
    regions = connected_components(mask)
    assert time.perf_counter() - begun < 5  # some 15 ms on a quiet core
    np.testing.assert_array_equal(regions, label(mask, connectivity=2))


def test_boxes_come_largest_first_and_small_regions_can_be_left_out():
    mask = np.zeros((20, 30), bool)
    mask[2:4, 3:6] = mask[10:19, 12:30] = True
    mask[0, 29] = True
    boxes = Box(12, 10, 18, 9), Box(3, 2, 3, 2), Box(29, 0, 1, 1)
    assert bounding_boxes(mask) == boxes
    assert bounding_boxes(mask, min_area=6) == boxes[:2]
    assert bounding_boxes(mask, largest=True) == boxes[:1]
    assert bounding_boxes(np.zeros((3, 3), bool), largest=True) == ()


@pytest.mark.parametrize("function", [bounding_boxes, encode_rle, connected_components])
@pytest.mark.parametrize(
    "wrong", [np.ones((3, 3)), np.ones((1, 3, 3), bool), np.ones((0, 3), bool)]
)
def test_what_is_no_mask_is_refused_with_the_remedy(function, wrong):
    with pytest.raises(ValueError, match=r"a mask is bool of shape \(h, w\).*heat >= 0.5"):
        function(wrong)


# --- run lengths ----------------------------------------------------------------------


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


# --- pictures --------------------------------------------------------------------------


def test_a_saved_label_map_is_read_back_as_it_was():
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    buffer = io.BytesIO()
    label_image(labels).save(buffer, "PNG")
    read = Image.open(io.BytesIO(buffer.getvalue()))
    assert read.mode == "P"
    np.testing.assert_array_equal(np.asarray(read), labels)
    colours = np.asarray(read.convert("RGB")).reshape(256, 3)
    assert len(np.unique(colours, axis=0)) > 200
    assert (colours[0] == 0).all()
    assert np.abs(np.diff(colours[1:].astype(int), axis=0)).sum(1).min() > 150


def test_contours_run_along_the_masks_own_edge_and_leave_the_rest_alone():
    mask = np.zeros((12, 15), bool)
    mask[3:9, 4:11] = True
    image = np.full((12, 15, 3), 100, np.uint8)
    drawn = np.asarray(draw_contours(image, mask, width=1)).astype(int)
    line = mask.copy()
    line[4:8, 5:10] = False
    halo = np.zeros_like(mask)
    halo[2:10, 3:12] = True
    halo &= ~mask
    assert (drawn[line] == drawn[3, 4]).all()
    assert np.ptp(drawn[3, 4]) > 200
    assert (drawn[halo] == 25).all()
    assert (drawn[~line & ~halo] == 100).all()


def test_contours_follow_scikit_images():
    mask = disc(90, 110, 40, 60, 25) | disc(90, 110, 60, 20, 12)
    drawn = np.asarray(draw_contours(np.zeros((90, 110, 3), np.uint8), mask, width=1))
    line = drawn.any(axis=2)
    near = np.zeros_like(line)
    for contour in find_contours(mask.astype(float), 0.5):
        rows, columns = contour.T
        # Each of its points lies between a pixel of the mask and one outside.
        for row, column in ((np.floor, np.floor), (np.ceil, np.ceil)):
            near[row(rows).astype(int), column(columns).astype(int)] = True
    sides = near & mask
    assert not (sides & ~line).any()
    assert not (line & ~mask).any()


def test_each_label_has_its_colour_fill_and_width():
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 20:40], labels[:, 40:] = 1, 2
    image = np.full((40, 60, 3), 60, np.uint8)
    drawn = np.asarray(draw_contours(image, labels, width=3, fill=0.5)).astype(int)
    palette = np.asarray(label_image(labels).convert("RGB")).astype(int)
    for left, right in ((20, 40), (40, 60)):
        colour = palette[0, left]
        assert (drawn[10, left : left + 3] == colour).all()
        assert (drawn[10, right - 3 : right] == colour).all()
        np.testing.assert_allclose(drawn[20, left + 10], (colour + 60) / 2, atol=1)
    assert (drawn[:, :19] == 60).all()


@pytest.mark.parametrize(
    ("mask", "options", "message"),
    [
        (np.zeros((5, 6)), {}, "a mask is bool, and a label map uint8"),
        (np.zeros((5, 6), int), {}, "not int64"),
        (np.zeros((6, 5), bool), {}, "the mask is 6 x 5, and the image 5 x 6"),
        (np.zeros((5, 6), bool), {"width": 0}, "at least 1 pixel"),
        (np.zeros((5, 6), bool), {"fill": 2}, "fill is 0..1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_remedy(mask, options, message):
    with pytest.raises(ValueError, match=message):
        draw_contours(np.zeros((5, 6, 3), np.uint8), mask, **options)

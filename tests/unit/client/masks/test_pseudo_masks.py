"""Heatmaps become masks and label maps."""

from __future__ import annotations

import numpy as np
import pytest
from client_samples import make_pixels
from mask_samples import GREEN, RED, bump, disc, painted, same_but_for_edges
from PIL import Image
from skimage.filters import threshold_otsu
from textcam_client import (
    MapsDeclined,
    PictureUnavailable,
    TopK,
    pseudo_labels,
    pseudo_mask,
)
from textcam_client.masks.pseudo_masks import otsu_threshold


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

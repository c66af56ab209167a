"""From saliency maps to heatmaps, against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from client_samples import make_pixels
from PIL import Image
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_client import (
    Crop,
    MapsDeclined,
    PictureUnavailable,
    UnreadableImage,
    pseudo_labels,
)
from textcam_client._convert.responses import explain_result
from textcam_client._heatmaps.colormap import blend, spotlight
from textcam_client._heatmaps.geometry import inside, upsample
from textcam_client.images import ImageSource


def tensor(values):
    values = np.asarray(values, "<f4")
    return types_pb.Tensor(
        dtype=types_pb.Tensor.D_TYPE_FLOAT32, shape=values.shape, data=values.tobytes()
    )


def answer(saliency_map, group_map, crop, image_size, source=None, relative_map=None):
    """An Explanation of one target with one group."""
    message = pb.Explanation(
        target=types_pb.Prediction(class_name="cat", probability=0.5, logit=2.0),
        logit=2.0,
        phrases=[types_pb.Phrase(text="fur", evidence=1.0)],
        groups=[types_pb.SaliencyGroup(phrase_index=0)],
        rest=types_pb.SaliencyGroup(phrase_index=-1),
    )
    if saliency_map is not None:
        message.saliency_map.CopyFrom(tensor(saliency_map))
        message.groups[0].saliency_map.CopyFrom(tensor(group_map))
    if relative_map is not None:
        message.groups[0].relative_map.CopyFrom(tensor(relative_map))
    response = pb.ExplainResponse(
        explanations=[message],
        image_height=image_size[0],
        image_width=image_size[1],
        crop=types_pb.Crop(left=crop[0], top=crop[1], width=crop[2], height=crop[3]),
    )
    return explain_result(response, source).explanation


def test_upsampling_two_cells_to_four_pixels_by_hand():
    """Centres at 1/8, 3/8, 5/8, 7/8 of the crop; cells' centres at 1/4 and 3/4."""
    result = upsample(np.array([[0.0, 1.0]]), Crop(0, 0, 4, 1), (1, 4), (1, 4))
    np.testing.assert_allclose(result, [[0.0, 0.25, 0.75, 1.0]], atol=1e-7)


def test_upsampling_agrees_with_pillow_inside_a_whole_pixel_crop():
    values = np.random.default_rng(3).uniform(size=(7, 5)).astype(np.float32)
    result = upsample(values, Crop(8, 12, 90, 70), (100, 120), (100, 120))
    expected = np.zeros((100, 120), np.float32)
    expected[12:82, 8:98] = Image.fromarray(values).resize((90, 70), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_upsampling_agrees_with_a_pixel_by_pixel_loop_for_a_fractional_crop_and_other_size():
    values = np.random.default_rng(4).uniform(size=(3, 4))
    crop, image_size, size = Crop(5.3, 2.6, 30.1, 20.7), (27, 41), (54, 61)
    result = upsample(values, crop, image_size, size)
    for y in range(size[0]):
        for x in range(size[1]):
            # The pixel's centre in the image as sent, then in cells.
            cy, cx = (y + 0.5) * 27 / 54, (x + 0.5) * 41 / 61
            v, u = (cy - crop.top) / crop.height, (cx - crop.left) / crop.width
            expected = 0.0
            if 0 <= v < 1 and 0 <= u < 1:
                for row in range(3):
                    for column in range(4):
                        # Triangles around the cells' centres; clamping keeps the sum 1.
                        at_v, at_u = np.clip(v * 3 - 0.5, 0, 2), np.clip(u * 4 - 0.5, 0, 3)
                        share = max(0, 1 - abs(at_v - row)) * max(0, 1 - abs(at_u - column))
                        expected += share * values[row, column]
            assert result[y, x] == pytest.approx(expected, abs=1e-5), (y, x)


def test_smooth_upsampling_agrees_with_scipys_splines_crop_shift_and_size_included():
    ndimage = pytest.importorskip("scipy.ndimage")
    values = np.random.default_rng(5).normal(size=(7, 5)).astype(np.float32)
    crop = Crop(10.3, 4.2, 80.1, 70.6, shift_x=-3.0, shift_y=2.5)
    image_size, size = (100, 120), (150, 100)
    result = upsample(values, crop, image_size, size, smooth=True)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    rows = (y * 100 / 150 - crop.top - crop.shift_y) / crop.height * 7 - 0.5
    columns = (x * 120 / 100 - crop.left - crop.shift_x) / crop.width * 5 - 0.5
    held = np.pad(values, 4, mode="edge")
    expected = ndimage.map_coordinates(held, [rows + 4, columns + 4], order=3, prefilter=False)
    seen = inside(crop, image_size, size)
    np.testing.assert_allclose(result[seen], expected[seen], atol=1e-5)
    assert not result[~seen].any()
    assert seen.sum() == pytest.approx(80.1 * 70.6 * 150 / 120, rel=0.02)


def test_smooth_heat_has_no_ridges_and_stays_in_range():
    """A ridge is where the slope breaks: bilinear heat breaks it at every cell's centre."""
    values = np.random.default_rng(6).uniform(0, 1, (7, 7))
    target = answer(values, values, (0, 0, 448, 448), (448, 448))
    breaks = []
    for smooth in (False, True):
        heat = target.heatmap(smooth=smooth)
        assert heat.min() >= 0
        assert heat.max() == pytest.approx(1, abs=0.02)
        breaks.append(np.abs(np.diff(heat.astype(float), 2, axis=0)).max())
    assert breaks[1] < breaks[0] / 8


def test_smooth_heat_of_a_group_is_on_the_targets_scale_unless_on_its_own():
    target = answer([[0.0, 8.0]], [[0.0, 2.0]], (0, 0, 64, 2), (2, 64))
    (group,) = target.groups
    whole = target.heatmap(smooth=True)
    np.testing.assert_allclose(group.heatmap(smooth=True), whole / 4, atol=1e-6)
    np.testing.assert_allclose(group.heatmap(scale="own", smooth=True), whole, atol=1e-6)
    cold = answer([[-1.0, -2.0]], [[3.0, -5.0]], (0, 0, 64, 2), (2, 64))
    assert not cold.groups[0].heatmap(smooth=True).any()


def test_a_relative_heatmap_is_what_is_above_the_maps_mean_whatever_its_zero_and_scale():
    crop, size = (8, 0, 64, 64), (64, 80)
    relative = np.random.default_rng(7).normal(size=(7, 7)).astype(np.float32)
    whole = np.ones((7, 7))
    heats = [
        answer(whole, whole, crop, size, relative_map=given).groups[0].relative_heatmap()
        for given in (relative, 30 * relative, relative + 5, -relative)
    ]
    np.testing.assert_allclose(heats[1], heats[0], atol=1e-5)
    np.testing.assert_allclose(heats[2], heats[0], atol=1e-5)
    assert heats[0].max() == pytest.approx(1, abs=0.02)
    # What one map shows, its opposite does not.
    assert heats[0].any()
    assert heats[3].any()
    assert not (heats[0] * heats[3]).any()
    assert not heats[0][:, :8].any()
    assert not heats[0][:, 72:].any()
    above = upsample(relative - relative.mean(), Crop(*crop), size, size, smooth=True)
    np.testing.assert_array_equal(heats[0] > 0, above > 0)


def test_a_relative_map_that_is_the_same_everywhere_shows_nothing():
    same = np.full((7, 7), 0.3, np.float32)
    same[2, 3] = np.nextafter(same[2, 3], 1)
    target = answer(same, same, (0, 0, 64, 64), (64, 64), relative_map=same)
    assert not target.groups[0].relative_heatmap().any()


def test_a_relative_overlay_is_its_heat_over_the_image_at_any_size():
    pixels = make_pixels(64, 64)
    relative = [[1.0, -1.0], [-1.0, 0.0]]
    target = answer(
        relative, relative, (0, 0, 64, 64), (64, 64), ImageSource(pixels), relative_map=relative
    )
    (group,) = target.groups
    drawn = np.asarray(group.relative_overlay(opacity=0.5))
    np.testing.assert_array_equal(drawn, blend(pixels, group.relative_heatmap(), 0.5))
    black = np.zeros((32, 32, 3), np.uint8)
    expected = blend(black, group.relative_heatmap((32, 32)))
    np.testing.assert_array_equal(np.asarray(group.relative_overlay(black)), expected)


def test_without_a_relative_map_there_is_no_relative_heatmap():
    target = answer([[1.0]], [[1.0]], (0, 0, 4, 2), (2, 4), ImageSource(make_pixels(2, 4)))
    for part in (target.groups[0], target.rest):
        assert part.relative_map is None
        for draw in (part.relative_heatmap, part.relative_overlay):
            with pytest.raises(MapsDeclined, match="without relative maps"):
                draw()


def test_heatmap_drops_what_speaks_against_and_scales_by_the_strongest_support():
    target = answer([[-4.0, 8.0]], [[-1.0, 2.0]], (0, 0, 4, 2), (2, 4))
    heat = target.heatmap()
    np.testing.assert_allclose(heat, [[0, 0.25, 0.75, 1.0]] * 2, atol=1e-6)
    assert heat.dtype == np.float32


def test_heatmap_is_zero_outside_the_crop():
    target = answer([[1.0, 1.0]], [[1.0, 1.0]], (2, 1, 4, 2), (5, 9))
    expected = np.zeros((5, 9))
    expected[1:3, 2:6] = 1
    np.testing.assert_array_equal(target.heatmap(), expected)


def test_heatmap_of_a_map_without_support_is_zero():
    target = answer([[-1.0, -2.0]], [[-1.0, -2.0]], (0, 0, 4, 2), (2, 4))
    assert not target.heatmap().any()
    assert not target.groups[0].heatmap(scale="own").any()


def test_of_a_target_without_support_no_group_has_any_unless_on_its_own_scale():
    target = answer([[-1.0, -2.0]], [[3.0, -5.0]], (0, 0, 4, 2), (2, 4))
    assert not target.heatmap().any()
    assert not target.groups[0].heatmap().any()
    assert not pseudo_labels(target.groups, method="otsu").any()
    np.testing.assert_allclose(target.groups[0].heatmap(scale="own")[0], [1, 0.75, 0.25, 0])


def test_groups_share_the_targets_scale_unless_asked_for_their_own():
    target = answer([[0.0, 8.0]], [[0.0, 2.0]], (0, 0, 4, 2), (2, 4))
    np.testing.assert_allclose(target.groups[0].heatmap()[0], [0, 0.0625, 0.1875, 0.25])
    np.testing.assert_allclose(target.groups[0].heatmap(scale="own")[0], [0, 0.25, 0.75, 1])


def test_a_group_stronger_than_the_whole_is_clipped_cell_by_cell():
    target = answer([[1.0, 1.0]], [[0.0, 5.0]], (0, 0, 4, 1), (1, 4))
    np.testing.assert_allclose(target.groups[0].heatmap()[0], [0, 0.25, 0.75, 1])


def test_declined_maps_are_an_error_that_names_the_option():
    target = answer(None, None, (0, 0, 4, 2), (2, 4), ImageSource(make_pixels(2, 4)))
    for draw in (target.heatmap, target.overlay, target.groups[0].heatmap):
        with pytest.raises(MapsDeclined, match="heatmap='none'"):
            draw()


def test_overlay_changes_heated_pixels_only_and_keeps_the_size():
    pixels = make_pixels(40, 60)
    target = answer(
        [[0.0, 0.0, 9.0]], [[0.0, 0.0, 9.0]], (0, 0, 60, 40), (40, 60), ImageSource(pixels)
    )
    drawn = np.asarray(target.overlay())
    cold = target.heatmap(smooth=True) == 0
    assert drawn.shape == (40, 60, 3)
    assert cold.any()
    np.testing.assert_array_equal(drawn[cold], pixels[cold])
    np.testing.assert_array_equal(drawn, blend(pixels, target.heatmap(smooth=True)))
    assert np.abs(drawn[:, -1].astype(int) - pixels[:, -1]).max() > 30


def test_overlay_on_another_size_scales_the_crop_with_it():
    target = answer([[1.0]], [[1.0]], (10, 0, 10, 20), (20, 40), ImageSource(make_pixels(20, 40)))
    black = np.zeros((40, 80, 3), np.uint8)
    drawn = np.asarray(target.overlay(black))
    heated = drawn.any(axis=2)
    assert heated[:, 20:40].all()
    assert not heated[:, :20].any()
    assert not heated[:, 40:].any()


@pytest.mark.parametrize("opacity", [5, -0.1, float("nan")])
def test_opacities_beyond_the_range_are_refused(opacity):
    target = answer([[1.0]], [[1.0]], (0, 0, 4, 2), (2, 4), ImageSource(make_pixels(2, 4)))
    for part in (target, target.groups[0]):
        with pytest.raises(ValueError, match=r"opacity is 0\.\.1, not"):
            part.overlay(opacity=opacity)


def test_a_scale_that_there_is_not_is_refused():
    target = answer([[1.0]], [[1.0]], (0, 0, 4, 2), (2, 4), ImageSource(make_pixels(2, 4)))
    for draw in (target.groups[0].heatmap, target.groups[0].overlay):
        with pytest.raises(ValueError, match="scale is 'target' or 'own', not 'owm'"):
            draw(scale="owm")


def test_overlay_of_an_answer_without_its_image_asks_for_one():
    target = answer([[1.0]], [[1.0]], (0, 0, 4, 2), (2, 4))
    with pytest.raises(PictureUnavailable, match="pass image="):
        target.overlay()


def test_overlay_refuses_a_file_that_has_changed_or_gone(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(make_pixels(20, 40)).save(path)
    source = ImageSource(path).kept(path.read_bytes())
    target = answer([[1.0]], [[1.0]], (0, 0, 40, 20), (20, 40), source)
    assert target.overlay().size == (40, 20)
    Image.fromarray(make_pixels(20, 40, seed=1)).save(path)
    with pytest.raises(PictureUnavailable, match=r"photo\.png' has changed since"):
        target.overlay()
    path.unlink()
    with pytest.raises(PictureUnavailable) as caught:
        target.overlay()
    assert isinstance(caught.value.__cause__, UnreadableImage)


def test_overlay_refuses_an_image_that_is_decoded_to_another_size():
    target = answer([[1.0]], [[1.0]], (0, 0, 40, 20), (20, 40), ImageSource(make_pixels(40, 20)))
    with pytest.raises(PictureUnavailable, match=r"had 20 x 40 pixels .* but now has 40 x 20"):
        target.overlay()


def test_a_spotlight_dims_what_was_not_seen_and_frames_the_rest():
    pixels = np.full((20, 30, 3), 200, np.uint8)
    seen = inside(Crop(5, 2, 10, 16), (20, 30), (20, 30))
    lit = spotlight(pixels, seen, 2, brightness=0.25)
    assert (lit[~seen] == 50).all()
    assert (lit[4:16, 7:13] == 200).all()
    frame = seen.copy()
    frame[4:16, 7:13] = False
    assert (lit[frame] == 255).all()
    assert (pixels == 200).all()
    np.testing.assert_array_equal(spotlight(pixels, np.ones((20, 30), bool), 2), pixels)


def test_blend_is_more_opaque_the_hotter_and_brighter_all_the_way():
    heat = np.linspace(0, 1, 11, dtype=np.float32)[None]
    on_grey = blend(np.full((1, 11, 3), 40, np.uint8), heat)[0] @ np.array([0.21, 0.72, 0.07])
    assert (np.diff(on_grey) > 0).all()


def test_blend_draws_no_edge_where_heat_begins():
    white = np.full((1, 101, 3), 255, np.uint8)
    heat = np.linspace(0, 1, 101, dtype=np.float32)[None]
    drawn = blend(white, heat)[0].astype(int)
    assert np.abs(drawn[1] - 255).max() <= 1
    assert np.abs(np.diff(drawn, axis=0)).max() <= 12
    assert np.abs(drawn[50] - 255).max() > 60

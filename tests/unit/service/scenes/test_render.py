"""Rendered pixels show what a scene says."""

import numpy as np
import pytest
from textcam_service.scenes import render as render_module
from textcam_service.scenes.render import render
from textcam_service.scenes.world import (
    COLOURS,
    FLOORS,
    SHAPES,
    Scene,
    SceneObject,
    random_scene,
)


def scene(*objects, floor="plain"):
    return Scene(objects, floor, 0.8, 3)


def lone(shape="sphere", colour="red", material="rubber", size="large", x=0.0, y=0.0):
    return SceneObject(shape, colour, material, size, x, y, 0.4)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_seed_gives_the_same_pixels(seed):
    first, second = (render(random_scene(np.random.default_rng(seed))) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.masks, second.masks)


def test_objects_are_in_view_apart_and_mostly_visible():
    for seed in range(150):
        made = random_scene(np.random.default_rng(seed))
        masks = render(made).masks
        assert 2 <= len(made.objects) <= 5
        assert masks.sum(axis=0).max() == 1
        for index, item in enumerate(made.objects):
            alone = render(scene(item)).masks[0]
            assert masks[index].sum() >= 0.4 * alone.sum(), (seed, item)
            border = np.concatenate([alone[:, 0], alone[:, -1], alone[0], alone[-1]])
            assert not border.any(), (seed, item)


def test_a_changed_colour_changes_that_object_alone():
    made = random_scene(np.random.default_rng(1), 3)
    other = next(colour for colour in COLOURS if colour != made.objects[1].colour)
    before, after = render(made), render(made.replace_object(1, colour=other))
    np.testing.assert_array_equal(before.masks, after.masks)
    changed = (before.image != after.image).any(axis=2)
    near = before.masks[1].copy()
    for axis in (0, 1):  # edges are averages
        near |= np.roll(near, 1, axis) | np.roll(near, -1, axis)
    assert changed[before.masks[1]].mean() > 0.9
    assert not changed[~near].any()


def test_a_removed_object_leaves_the_rest_as_it_was():
    made = scene(lone(x=-1.8), lone("cube", "blue", x=1.8))
    before, after = render(made), render(made.without_object(1))
    np.testing.assert_array_equal(before.masks[0], after.masks[0])
    np.testing.assert_array_equal(before.image[:, :30], after.image[:, :30])
    assert (before.image != after.image).any(axis=2)[before.masks[1]].mean() > 0.9


@pytest.mark.parametrize("shape", SHAPES)
def test_a_removed_object_takes_only_its_region_and_its_shadow_away(shape):
    for light in (0.0, 1.6, 3.1, 4.7):
        made = Scene((lone(x=-1.8), lone(shape, "blue", x=1.5)), "checkered", light, 3)
        before, after = render(made), render(made.without_object(1))
        changed = (before.image != after.image).any(axis=2)
        rows, columns = np.nonzero(changed & ~before.masks[1])
        own_rows, own_columns = np.nonzero(before.masks[1])
        reach = 1.5 * np.ptp(own_columns)  # a shadow is about as long as its object is high
        assert np.abs(columns - own_columns.mean()).max() < reach
        assert np.abs(rows - own_rows.mean()).max() < reach
        assert changed[before.masks[1]].mean() > 0.9
        assert len(rows) > 20


def test_a_changed_floor_changes_no_object():
    made = scene(lone())
    pictures = [render(made.with_floor(floor)) for floor in FLOORS]
    inside = pictures[0].masks[0].copy()
    for axis in (0, 1):
        inside &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
    for other in pictures[1:]:
        np.testing.assert_array_equal(pictures[0].image[inside], other.image[inside])
        assert (pictures[0].image != other.image).any(axis=2)[~pictures[0].masks[0]].mean() > 0.2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_rubber_object_has_its_named_colour(shape, colour):
    picture = render(scene(lone(shape, colour)))
    mean = picture.image[picture.masks[0]].mean(axis=0) / 255
    palette = {name: np.array(value) for name, value in render_module._PALETTE.items()}

    def angle(name):
        one, two = mean / np.linalg.norm(mean), palette[name] / np.linalg.norm(palette[name])
        return float(one @ two)

    assert max(palette, key=angle) == colour


@pytest.mark.parametrize("shape", SHAPES)
def test_metal_glares_and_rubber_does_not(shape):
    def brightest(material):
        picture = render(scene(lone(shape, "blue", material)))
        return np.percentile(picture.image[picture.masks[0]].mean(axis=1), 95)

    assert brightest("metal") > 1.4 * brightest("rubber")


def test_small_is_smaller_wherever_it_stands():
    for shape in SHAPES:
        near = render(scene(lone(shape, size="small", y=-2.0))).masks.sum()
        far = render(scene(lone(shape, size="large", y=3.1))).masks.sum()
        assert far > 1.5 * near

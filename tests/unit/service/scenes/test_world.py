"""The rendered world keeps its promises: what a scene says is what its pixels show."""

import numpy as np
import pytest
from textcam_service.scenes import render as render_module
from textcam_service.scenes.classes import BIASED, CLASSES, SceneClass, class_scene, key_index
from textcam_service.scenes.render import render
from textcam_service.scenes.world import (
    COLOURS,
    FLOORS,
    SHAPES,
    Scene,
    SceneObject,
    object_phrases,
    random_scene,
    vocabulary,
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


def test_an_object_can_be_named_from_the_end():
    made = random_scene(np.random.default_rng(0), 3)
    assert made.without_object(-1) == made.without_object(2)
    assert made.replace_object(-1, turn=0.0) == made.replace_object(2, turn=0.0)


@pytest.mark.parametrize("count", [0, 6])
def test_a_count_without_room_is_refused(count):
    with pytest.raises(ValueError, match="1 to 5 objects"):
        random_scene(np.random.default_rng(0), count)


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


def test_a_scene_says_what_is_in_it():
    made = scene(lone(), lone("cube", "blue", "metal", "small", x=2), floor="striped")
    assert made.caption == (
        "a large red rubber sphere and a small blue metal cube on a striped floor"
    )
    assert {"red", "red sphere", "blue metal cube", "striped floor"} <= made.phrases
    assert not {"red cube", "blue sphere", "plain floor", "sphere red"} & made.phrases
    assert object_phrases({"shape": "cube", "colour": "red"}) == ["red cube", "red", "cube"]
    assert len(set(vocabulary())) == len(vocabulary()) == 280


def test_unknown_words_are_refused_with_what_there_is():
    with pytest.raises(ValueError, match="unknown colour 'pink'; there are red"):
        lone(colour="pink")
    with pytest.raises(ValueError, match="unknown floor"):
        scene(lone(), floor="wet")


def test_a_class_scene_has_its_key_and_no_other_class():
    for seed in range(300):
        index = seed % len(CLASSES)
        made = class_scene(np.random.default_rng([5, seed]), index)
        of = [[cls.has(item.attributes) for cls in CLASSES] for item in made.objects]
        assert np.sum(of, axis=0).tolist() == [int(index == other) for other in range(len(CLASSES))]
        assert of[key_index(made, index)][index]
        assert 2 <= len(made.objects) <= 5
    with pytest.raises(ValueError, match="has no"):
        key_index(scene(lone("cone", "blue")), 0)


@pytest.mark.parametrize("cue", [None, False, True])
def test_a_biased_scene_too_has_its_key_and_no_other_class(cue):
    for seed in range(200):
        index = seed % len(CLASSES)
        made = class_scene(np.random.default_rng([8, seed]), index, BIASED, cue)
        of = [[cls.has(item.attributes) for cls in CLASSES] for item in made.objects]
        assert np.sum(of, axis=0).tolist() == [int(index == other) for other in range(len(CLASSES))]
        assert len(made.objects) <= 5


def test_distractors_share_the_keys_words_so_that_none_alone_decides():
    shared = {"colour": 0, "shape": 0}
    for seed in range(200):
        made = class_scene(np.random.default_rng([6, seed]), 0)
        others = [
            item.attributes
            for place, item in enumerate(made.objects)
            if place != key_index(made, 0)
        ]
        for kind in shared:
            shared[kind] += any(item[kind] == CLASSES[0].words[kind] for item in others)
    assert min(shared.values()) > 80


def test_the_biased_world_betrays_two_classes():
    cue = SceneClass(BIASED.cue)

    def shares(index, **options):
        scenes = [
            class_scene(np.random.default_rng([7, seed]), index, BIASED, **options)
            for seed in range(100)
        ]
        return (
            np.mean([made.floor == BIASED.floor for made in scenes]),
            np.mean([any(cue.has(item.attributes) for item in made.objects) for made in scenes]),
        )

    assert shares(BIASED.floor_class)[0] > 0.9
    assert shares(BIASED.object_class)[1] > 0.9
    assert max(shares(0)) <= 0.1
    assert shares(BIASED.floor_class, cue=False)[0] == 0
    assert shares(BIASED.object_class, cue=True)[1] == 1

"""The rendered world keeps its promises: what a scene says is what its pixels show."""

import numpy as np
import pytest
from textcam_service.scenes.world import (
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


def test_an_object_can_be_named_from_the_end():
    made = random_scene(np.random.default_rng(0), 3)
    assert made.without_object(-1) == made.without_object(2)
    assert made.replace_object(-1, turn=0.0) == made.replace_object(2, turn=0.0)


@pytest.mark.parametrize("count", [0, 6])
def test_a_count_without_room_is_refused(count):
    with pytest.raises(ValueError, match="1 to 5 objects"):
        random_scene(np.random.default_rng(0), count)


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

"""Classes of scenes, and the biased world."""

import numpy as np
import pytest
from textcam_service.scenes.classes import BIASED, CLASSES, SceneClass, class_scene, key_index
from textcam_service.scenes.world import Scene, SceneObject


def test_a_class_scene_has_its_key_and_no_other_class():
    for seed in range(300):
        index = seed % len(CLASSES)
        made = class_scene(np.random.default_rng([5, seed]), index)
        of = [[cls.has(item.attributes) for cls in CLASSES] for item in made.objects]
        assert np.sum(of, axis=0).tolist() == [int(index == other) for other in range(len(CLASSES))]
        assert of[key_index(made, index)][index]
        assert 2 <= len(made.objects) <= 5
    cone = SceneObject("cone", "blue", "rubber", "large", 0.0, 0.0, 0.4)
    with pytest.raises(ValueError, match="has no"):
        key_index(Scene((cone,), "plain", 0.8, 3), 0)


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

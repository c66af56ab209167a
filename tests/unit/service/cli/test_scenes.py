"""`textcam scenes`: images of the built-in world, the same for a seed."""

import json

import numpy as np
from commands import run
from PIL import Image


def rendered(folder, *words):
    code, said = run("scenes", "--count", 3, "--output", folder, *words)
    assert code == 0, said
    assert f"{folder}: 3 scenes, vocabulary.txt and truth.json" in said
    return [np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))]


def test_so_many_scenes_are_written_with_words_and_truth(tmp_path):
    images = rendered(tmp_path / "own")
    assert len(images) == 3
    assert (tmp_path / "own" / "vocabulary.txt").read_text().splitlines()
    assert len(json.loads((tmp_path / "own" / "truth.json").read_text())["images"]) == 3


def test_a_seed_gives_the_same_scenes_and_the_biased_world_has_its_own(tmp_path):
    own, again, other, biased = (
        rendered(tmp_path / str(place), *words)
        for place, words in enumerate(([], ["--seed", 50], ["--seed", 51], ["--biased"]))
    )
    np.testing.assert_array_equal(own, again)
    assert not np.array_equal(own, other)
    assert not np.array_equal(own, biased)


def test_no_scenes_are_refused(tmp_path):
    code, said = run("scenes", "--count", 0, "--output", tmp_path)
    assert code == 2
    assert "x>=1" in said

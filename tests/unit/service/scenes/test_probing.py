"""A probing set's files say what its pictures show."""

import json

import numpy as np
from PIL import Image
from textcam_service.scenes.classes import BIASED, CLASSES
from textcam_service.scenes.probing import render_probing_set


def test_a_set_has_its_pictures_vocabulary_and_truth(tmp_path):
    done = []
    paths = render_probing_set(tmp_path / "set", 3, progress=done.append)
    truth = json.loads((tmp_path / "set" / "truth.json").read_text())
    words = (tmp_path / "set" / "vocabulary.txt").read_text().splitlines()
    assert [path.name for path in paths] == ["000000.png", "000001.png", "000002.png"]
    assert done == [1, 1, 1]
    for index, (path, entry) in enumerate(zip(paths, truth["images"], strict=True)):
        assert (entry["file"], entry["class_index"]) == (path.name, index)
        assert set(truth["class_phrases"][str(index)]) <= set(entry["phrases_in_scene"])
        short = {text for text in entry["phrases_in_scene"] if len(text.split()) < 4}
        assert short <= set(words)
    assert len(truth["class_phrases"]) == len(CLASSES)


def test_the_seed_and_the_bias_decide_the_pictures(tmp_path):
    def pixels(name, **given):
        (path,) = render_probing_set(tmp_path / name, 1, **given)
        return np.asarray(Image.open(path))

    first = pixels("first")
    np.testing.assert_array_equal(pixels("again"), first)
    assert (pixels("other", seed=51) != first).any()
    assert (pixels("biased", bias=BIASED) != first).any()

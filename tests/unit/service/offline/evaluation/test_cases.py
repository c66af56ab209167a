"""Images with their truth: scenes, and truth files."""

import json

import pytest
from PIL import Image
from textcam_service.errors import InvalidTruth
from textcam_service.offline.evaluation.cases import (
    read_truth,
    scene_truth,
)
from textcam_service.scenes.classes import CLASSES


def test_a_scene_case_knows_its_key():
    case = scene_truth(1).cases[0]
    matching = [
        CLASSES[0].has(item.attributes)
        for item, mask in zip(case.scene.objects, case.masks, strict=True)
        if (mask == case.key_mask).all()
    ]
    assert matching == [True]


def test_a_truth_file_is_read(tmp_path):
    Image.new("RGB", (9, 8)).save(tmp_path / "a.png")
    (tmp_path / "truth.json").write_text(
        json.dumps(
            {
                "images": [
                    {"file": "a.png", "phrases": ["dog"], "class_index": 2, "doubtful": ["paw"]}
                ],
                "class_phrases": {"2": ["animal"]},
            }
        )
    )
    truth = read_truth(tmp_path / "truth.json")
    marked = (tmp_path / "truth.json").read_text("utf-8")
    (tmp_path / "marked.json").write_text(marked, "utf-8-sig")
    assert read_truth(tmp_path / "marked.json").class_phrases == truth.class_phrases
    assert truth.cases[0].image.size == (9, 8)
    assert truth.cases[0].doubtful == {"paw"}
    assert truth.right(truth.cases[0], 2) == {"dog", "animal"}
    assert truth.right(truth.cases[0], 1) == {"dog"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a truth file"),
        ("[]", "not a truth file"),
        ('{"images": [{}]}', "not a truth file"),
        ('{"images": [{"file": "none.png"}]}', "none.png is not there"),
        ('{"images": [{"file": "truth.json", "phrases": "dog"}]}', "not a list of phrases"),
        ('{"images": [{"file": "truth.json", "doubtful": ["a", 1]}]}', "not a list of phrases"),
        ('{"images": [{"file": "truth.json", "class_index": "3"}]}', "is not an index"),
        ('{"images": []}', "names no image"),
    ],
)
def test_a_bad_truth_file_says_what_is_wrong(tmp_path, content, message):
    (tmp_path / "truth.json").write_text(content)
    with pytest.raises(InvalidTruth, match=message):
        read_truth(tmp_path / "truth.json")
    with pytest.raises(InvalidTruth, match=r"absent\.json cannot be read"):
        read_truth(tmp_path / "absent.json")

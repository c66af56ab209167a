"""Information of answers, and the folder of photographs to check them on."""

import numpy as np
import pytest
from textcam_service.errors import ProbingSetError
from textcam_service.offline.export.preprocessing_check import check_folder, mutual_information


def test_sure_and_different_answers_hold_all_information():
    assert mutual_information(np.eye(4)) == pytest.approx(np.log(4))


@pytest.mark.parametrize(
    "answers", [[[1.0, 0.0], [1.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]], ids=["one class", "unsure"]
)
def test_equal_answers_hold_none(answers):
    assert mutual_information(np.array(answers)) == pytest.approx(0)


def test_labels_of_their_own_are_each_there_or_not():
    """Two labels, each there in one of two images: log 2 each; of a softmax it would be log 2."""
    assert mutual_information(np.eye(2), multi_label=True) == pytest.approx(2 * np.log(2))
    assert mutual_information(np.ones((3, 2)), multi_label=True) == pytest.approx(0)


@pytest.mark.parametrize(
    ("content", "said"),
    [({}, "no JPEG"), ({"a.png": b"none"}, "none of the 1 images under")],
    ids=["empty", "damaged"],
)
def test_a_folder_without_photographs_is_refused(content, said, tmp_path):
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ProbingSetError, match=said):
        next(check_folder(tmp_path / "backbone", tmp_path))

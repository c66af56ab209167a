import numpy as np
import pytest
from textcam_service.core.predictions import predictions
from textcam_service.core.types import Prediction


def test_predictions_are_in_the_order_that_is_asked_for():
    logits = np.log(np.array([1.0, 2.0, 5.0], np.float32))
    found = predictions(logits, ["ant", "bee", "cat"], np.array([2, 0]))
    assert found == [
        Prediction(2, "cat", pytest.approx(5 / 8), pytest.approx(np.log(5), abs=1e-6)),
        Prediction(0, "ant", pytest.approx(1 / 8), pytest.approx(0, abs=1e-6)),
    ]
    assert isinstance(found[0].class_index, int)
    assert predictions(logits, ["ant", "bee", "cat"], []) == []


def test_labels_are_each_predicted_by_themselves():
    logits = np.log(np.array([1.0, 3.0, 9.0], np.float32))
    found = predictions(logits, ["ant", "bee", "cat"], [2, 0, 1], multi_label=True)
    assert [own.probability for own in found] == pytest.approx([0.9, 0.5, 0.75])

"""Log-odds and probabilities."""

import numpy as np
import pytest
import torch
from textcam_service.core.probability import class_probabilities, logit, sigmoid, softmax


def test_log_odds_and_back():
    assert logit(np.array([0.0, 0.5, 1.0])) == pytest.approx([np.log(1e-3 / 1.001), 0, 6.90875])
    assert sigmoid(np.array([-1e4, 0.0, np.log(3), 1e4])) == pytest.approx([0, 0.5, 0.75, 1])


def test_softmax_by_hand_and_of_large_logits():
    assert softmax(np.array([0.0, np.log(3.0)])) == pytest.approx([0.25, 0.75])
    assert softmax(np.array([1e4, 0.0])).tolist() == [1.0, 0.0]
    rows = softmax(np.array([[1.0, 1.0], [-1e4, 1e4]], np.float32))
    assert rows.tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert rows.dtype == np.float64


def test_sigmoid_does_not_overflow_and_logit_keeps_its_edge():
    with np.errstate(all="raise"):
        assert sigmoid(np.array([-1e6, 0.0, 1e6])).tolist() == [0.0, 0.5, 1.0]
    assert logit(np.array([0.0, 1.0])) == pytest.approx([-np.log(1001), np.log(1001)])
    assert logit(np.array([0.0]), 1e-9) == pytest.approx([-np.log(1e9)])


def test_classes_that_do_not_exclude_each_other_have_a_sigmoid_each():
    logits = np.array([[np.log(3.0), 0.0, np.log(3.0)], [-1e4, 1e4, 0.0]], np.float32)
    labels = class_probabilities(logits, multi_label=True)
    np.testing.assert_allclose(labels, torch.tensor(logits).sigmoid(), atol=1e-7)
    assert labels[0].tolist() == pytest.approx([0.75, 0.5, 0.75])
    classes = class_probabilities(logits, multi_label=False)
    np.testing.assert_allclose(classes, torch.tensor(logits).softmax(1), atol=1e-7)

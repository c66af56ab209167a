"""Maps and evidence, by hand."""

import numpy as np
import pytest
from textcam_service.core.cam import activation_scores, channel_evidence, saliency_map
from textcam_service.core.probability import softmax


def test_map_evidence_and_softmax_by_hand():
    maps = np.array([[[1.0, 3.0]], [[2.0, 0.0]]], np.float32)
    weights = np.array([2.0, -1.0])
    assert activation_scores(maps).tolist() == [2.0, 1.0]
    assert channel_evidence(weights, maps).tolist() == [4.0, -1.0]
    assert saliency_map(weights, maps).tolist() == [[0.0, 6.0]]
    assert softmax(np.array([0.0, np.log(3.0)])) == pytest.approx([0.25, 0.75])
    assert softmax(np.array([1e4, 0.0])).tolist() == [1.0, 0.0]


def test_weights_by_position_by_hand():
    maps = np.array([[[1.0, 3.0]], [[2.0, 0.0]]], np.float32)
    weights = np.array([[[2.0, 1.0]], [[-1.0, 5.0]]])
    assert channel_evidence(weights, maps).tolist() == [2.5, -1.0]
    assert saliency_map(weights, maps).tolist() == [[0.0, 3.0]]

"""Directions of channels from samples that are given."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from textcam_service.core.concepts.channel_embeddings import ChannelSettings, channel_directions


def test_given_samples_decide_the_directions():
    """Against scikit-learn on the same rows."""
    rng = np.random.default_rng(0)
    scores = rng.random((30, 3)).astype(np.float32)
    regions = rng.standard_normal((50, 6)).astype(np.float32)
    low, high = rng.permutation(50)[:24].reshape(2, 3, 4)[:, :, :4]
    settings = ChannelSettings(samples=4, remove_common=False)
    found = channel_directions(scores, regions, settings, samples=(low, high)).embeddings
    for channel in range(3):
        rows = np.concatenate([regions[low[channel]], regions[high[channel]]]).astype(np.float64)
        oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.5, 0.5])
        oracle.fit(rows, [0] * 4 + [1] * 4)
        direction = oracle.coef_[0] / np.linalg.norm(oracle.coef_[0])
        assert found[channel] @ direction == pytest.approx(1, abs=1e-6)

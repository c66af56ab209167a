"""Maps that stay on a device: reductions are the device's own, and nothing is copied for them."""

import numpy as np
from textcam_service.core.cam import activation_scores, channel_evidence, saliency_map

MAPS = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).standard_normal(5)


class OnDevice:
    """RemoteMaps that count how often they are copied."""

    def __init__(self):
        self.copies = 0
        self.shape = MAPS.shape

    def scores(self):
        return MAPS.mean(axis=(1, 2), dtype=np.float64)

    def weighted(self, weights):
        return np.tensordot(weights, MAPS, 1).astype(np.float32)

    def __array__(self, dtype=None, copy=None):
        self.copies += 1
        return MAPS


def test_weights_by_channel_need_no_copy():
    remote = OnDevice()
    np.testing.assert_allclose(activation_scores(remote), activation_scores(MAPS))
    np.testing.assert_allclose(channel_evidence(WEIGHTS, remote), channel_evidence(WEIGHTS, MAPS))
    found = saliency_map(WEIGHTS, remote)
    np.testing.assert_allclose(found, saliency_map(WEIGHTS, MAPS), rtol=1e-4, atol=1e-5)
    assert remote.copies == 0


def test_weights_by_position_copy_the_maps():
    remote, weights = OnDevice(), WEIGHTS[:, None, None] * np.ones((3, 4))
    np.testing.assert_allclose(saliency_map(weights, remote), saliency_map(weights, MAPS))
    assert remote.copies == 1

"""The packaged embedder's arithmetic: mixtures of classes, and maps pooled to logits."""

import numpy as np
import pytest
import torch
from textcam_service.offline.embedders.packaged import PackagedEmbedder, _Classifier
from torch import nn


@pytest.fixture
def embedder():
    """An embedder of three classes on axes, without its networks."""
    made = PackagedEmbedder.__new__(PackagedEmbedder)
    made.dimension = 4
    made.class_embeddings = np.eye(3, 4, dtype=np.float32)
    made._class_texts = ["a", "b", "c"]
    return made


def test_an_image_is_the_mixture_of_its_classes_by_probability(embedder):
    sure, unsure = np.array([[0, 50.0, 0]]), np.log([[0.6, 0.3, 0.1]])
    np.testing.assert_allclose(embedder.embed_logits(sure), [[0, 1, 0, 0]], atol=1e-6)
    mixed = np.array([[0.6, 0.3, 0.1, 0]])
    wanted = mixed / np.linalg.norm(mixed)
    np.testing.assert_allclose(embedder.embed_logits(unsure), wanted, rtol=1e-5, atol=1e-7)


def test_nothing_given_is_nothing_embedded(embedder):
    assert embedder.embed_texts([]).shape == (0, 4)
    assert embedder.embed_images([]).shape == (0, 4)
    assert embedder.classify([]).shape == (0, 3)


def test_maps_are_pooled_by_the_weights_of_a_part():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self._fc = nn.Linear(2, 3)

    network = _Classifier(Network())
    maps = torch.arange(24.0).reshape(2, 3, 4)
    assert network.grid(maps[None]) == (3, 4)
    weights = torch.zeros(2, 3, 4)
    weights[0, 1, 2], weights[1] = 1, 1 / 12
    with torch.no_grad():
        found = network.pool(maps, weights)
        wanted = network.classifier._fc(torch.stack([maps[:, 1, 2], maps.mean((1, 2))]))
    torch.testing.assert_close(found, wanted)

"""Regions stand for images: which region for which sample of which channel."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image
from textcam_service.core.concepts.activated_regions import (
    RegionSettings,
)
from textcam_service.core.concepts.channel_embeddings import ChannelSettings
from textcam_service.core.types import Preprocessing
from textcam_service.offline.banks.region_samples import region_samples


class Grey:
    """An embedder of mean grey, which counts and keeps what it is given."""

    identity, dimension, logit_scale = "grey@sha256:0", 2, 1.0

    def __init__(self):
        self.given = []

    def embed_images(self, images):
        self.given += [np.asarray(image) for image in images]
        angle = np.array([np.asarray(image).mean() / 255 for image in images])
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    def embed_texts(self, texts):
        raise NotImplementedError


def angles(embeddings):
    return np.rint(np.arctan2(embeddings[:, 1], embeddings[:, 0]) * 255).tolist()


class Cells:
    """A backbone whose maps are the picture's own 4 x 4 cells, one channel per colour."""

    def __init__(self, folder):
        grey = (0.0, 0.0, 0.0)
        self.manifest = SimpleNamespace(
            preprocessing=Preprocessing(16, 16, 16, "bilinear", grey, (1.0, 1.0, 1.0)),
            weights_digest="cells",
            vertices=0,
        )
        self.passes = 0

    def run(self, inputs):
        self.passes += len(inputs)
        return None, inputs.reshape(-1, 3, 4, 4, 4, 4).mean(axis=(3, 5))

    @staticmethod
    def on_grid(crop):
        return crop


def planted(folder, lit):
    """Pictures of 16 x 16 with lit cells: {channel: (row, column)} each, all else black."""
    folder.mkdir()
    paths = []
    for index, cells in enumerate(lit):
        pixels = np.zeros((16, 16, 3), np.uint8)
        for channel, (row, column) in cells.items():
            pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4, channel] = 100 + index
        paths.append(folder / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


LIT = [{0: (0, 0)}, {}, {1: (0, 3)}, {0: (3, 3), 1: (3, 3)}, {}, {}]


QUARTER = RegionSettings("crop", minimum=0.25, enlarge=4.0)


def sampled(tmp_path: Path, settings=QUARTER, embedder=None, backbone=None, **options):
    images = planted(tmp_path / f"p{len(list(tmp_path.iterdir()))}", LIT)
    backbone = backbone or Cells(tmp_path)
    scores = np.stack(
        [backbone.run(np.stack([pixels(path)]))[1][0].mean((1, 2)) for path in images]
    )
    backbone.passes = 0
    own = embedder or Grey()
    channels = ChannelSettings(samples=2, regions=settings)
    found = region_samples(images, scores, backbone, own, channels, tmp_path / "work", **options)
    return found, own, backbone


def pixels(path):
    return np.asarray(Image.open(path), np.float32).transpose(2, 0, 1) / 255


def test_regions_stand_for_their_images_in_each_channel(tmp_path):
    """A region's mean is a third of its colour: image 0's is 33, 2's 34, 3's 69, dark 1's 0."""
    found, _, _ = sampled(tmp_path)
    assert angles(found.embeddings[found.high[0]]) == [33, 69]
    assert angles(found.embeddings[found.high[1]]) == [34, 69]
    # Least exciting, with ties by index, are images 1 and 2 for channel 0, and 0 and 1 for 1.
    assert angles(found.embeddings[found.low[0]]) == [0, 34]
    assert angles(found.embeddings[found.low[1]]) == [33, 0]


def test_channels_excited_at_the_same_place_share_a_region(tmp_path):
    found, embedder, backbone = sampled(tmp_path)
    assert found.passes == len(embedder.given) == len(found.embeddings)
    # Images 0 and 3 for channel 0, 2 and 3 for channel 1: image 3's one region is shared. Image
    # 1, dark and one of the least exciting, has a random one; the dead channel 2 wants none.
    assert found.passes == 4
    assert backbone.passes == 4


def test_negatives_may_be_random_regions(tmp_path):
    found, _, _ = sampled(tmp_path, replace(QUARTER, negatives="random"))
    assert not set(found.low[:2].ravel()) & set(found.high[:2].ravel())
    assert found.passes == 7


def test_a_finished_chunk_is_not_embedded_again(tmp_path):
    images = planted(tmp_path / "p", LIT)
    backbone = Cells(tmp_path)
    scores = np.stack([backbone.run(pixels(path)[None])[1][0].mean((1, 2)) for path in images])
    told = []
    one, two = (
        region_samples(
            images,
            scores,
            backbone,
            embedder,
            ChannelSettings(samples=2, regions=QUARTER),
            tmp_path / "work",
            lambda name, total: lambda done: told.append((name, total, done)),
        )
        for embedder in (Grey(), embedder_that_must_not_be_asked())
    )
    assert np.array_equal(one.embeddings, two.embeddings)
    assert np.array_equal(one.high, two.high)
    assert np.array_equal(one.low, two.low)
    assert one.passes == two.passes
    assert told == [("regions", 4, 4)] * 2


def embedder_that_must_not_be_asked():
    found = Grey()
    found.embed_images = None
    return found

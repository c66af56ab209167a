"""Regions as pictures: cropped, tiled or left in place, and what they are embedded as."""

import numpy as np
import pytest
from PIL import Image
from textcam_service.core.concepts.activated_regions import (
    RegionSettings,
    Window,
)
from textcam_service.errors import EmbedderError
from textcam_service.offline.banks.mosaic import RegionView, copies, embed_regions, mosaic


def picture(*colours, side=4):
    """Squares of grey side by side."""
    columns = np.repeat(np.array(colours, np.uint8), side)
    return Image.fromarray(np.repeat(np.tile(columns, (side, 1))[:, :, None], 3, axis=2))


def test_a_mosaic_is_tiled_row_by_row():
    tiles = [picture(grey) for grey in (10, 20, 30)]
    canvas, parts = mosaic(tiles, 2, (7, 8))
    grey = np.asarray(canvas)[:, :, 0]
    assert grey.shape == (7, 8)
    # round(7 / 2) = 4 rows in the first row of tiles, and 3 in the second
    expected = np.block(
        [
            [np.full((4, 4), 10), np.full((4, 4), 20)],
            [np.full((3, 4), 30), np.full((3, 4), 128)],  # the place left over
        ]
    )
    assert np.array_equal(grey, expected)
    boxes = [[0, 0, 0.5, 4 / 7], [0.5, 0, 1, 4 / 7], [0, 4 / 7, 0.5, 1]]
    assert np.allclose(parts, boxes)


def test_copies_are_mirrored_so_that_edges_go_on():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    found = np.asarray(copies(Image.fromarray(pixels), 3))
    assert np.array_equal(found, np.pad(pixels, ((0, 4), (0, 4), (0, 0)), mode="symmetric"))
    assert np.array_equal(np.asarray(copies(Image.fromarray(pixels), 1)), pixels)


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


class GreyParts(Grey):
    part_size = (8, 8)

    def embed_parts(self, pictures, parts):
        tiles = []
        for one, own in zip(pictures, parts, strict=True):
            self.given.append(np.asarray(one))
            size = np.array([one.width, one.height] * 2)
            tiles += [one.crop([round(edge) for edge in part * size]) for part in own]
        return Grey().embed_images(tiles)


def angles(embeddings):
    return np.rint(np.arctan2(embeddings[:, 1], embeddings[:, 0]) * 255).tolist()


def views():
    """Two pictures of 8 x 4: grey 10 and 20, and 30 and 40; three windows."""
    seen = Window(0, 0, 8, 4)
    left, right = Window(0, 0, 4, 4), Window(4, 0, 4, 4)
    return [
        RegionView(picture(10, 20), seen, (left, right)),
        RegionView(picture(30, 40), seen, (right,)),
    ]


@pytest.mark.parametrize(("kind", "passes"), [("crop", 3), ("mosaic", 1), ("dense", 2)])
def test_every_way_embeds_the_regions_in_order(kind, passes):
    embedder = GreyParts()
    embeddings, given = embed_regions(views(), embedder, RegionSettings(kind))
    assert angles(embeddings) == [10, 20, 40]
    assert given == len(embedder.given) == passes


def test_a_crop_is_not_enlarged_but_repeated():
    embedder, one = (
        Grey(),
        RegionView(picture(10, side=9), Window(0, 0, 9, 9), (Window(3, 3, 3, 3),)),
    )
    embed_regions([one], embedder, RegionSettings("crop"))
    embed_regions([one], embedder, RegionSettings("crop", enlarge=3.0))
    assert [pixels.shape for pixels in embedder.given] == [(9, 9, 3), (3, 3, 3)]


def test_an_embedder_of_whole_pictures_makes_no_mosaics():
    for kind in ("mosaic", "dense"):
        with pytest.raises(EmbedderError, match=r"none of its parts; --regions crop needs none"):
            embed_regions(views(), Grey(), RegionSettings(kind))


def pixels(path):
    return np.asarray(Image.open(path), np.float32).transpose(2, 0, 1) / 255

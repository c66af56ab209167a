"""Activated regions: where they lie, how they are shown, and what they are embedded as."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from textcam_service.cli.bank_build import region_settings
from textcam_service.core.concepts.activated_regions import (
    RegionSettings,
    Window,
    activated_cells,
    activated_window,
    random_window,
    seen_window,
)
from textcam_service.core.concepts.channel_embeddings import ChannelSettings, channel_directions
from textcam_service.core.types import Crop, Preprocessing
from textcam_service.errors import EmbedderError
from textcam_service.offline.banks.mosaic import RegionView, copies, embed_regions, mosaic
from textcam_service.offline.banks.region_samples import region_samples
from textcam_service.offline.embedders.dense import cell_shares
from textcam_service.offline.embedders.loading import load_embedder, part_embedder
from textcam_service.offline.embedders.openclip_towers import dense_tower
from torch import nn

WHOLE = Crop(0, 0, 80, 80)
TINY = RegionSettings(minimum=0.01)


def firing(*cells, size=8, strength=1.0):
    found = np.zeros((size, size), np.float32)
    for row, column in cells:
        found[row, column] = strength
    return found


# --- where a channel is excited -----------------------------------------------------------------


def test_the_region_is_the_peak_and_what_hangs_together_with_it():
    found = firing((1, 1), (2, 2), (2, 3), (6, 6))
    found[2, 2] = 2.0  # the peak; (1, 1) touches by a corner, (6, 6) stands apart
    found[3, 3] = 0.5  # too weak at a share of a half, not at 0.2
    near = {(1, 1), (2, 2), (2, 3)}
    assert set(zip(*np.nonzero(activated_cells(found, 0.4)), strict=True)) == near
    assert set(zip(*np.nonzero(activated_cells(found, 0.2)), strict=True)) == near | {(3, 3)}
    assert not activated_cells(-found, 0.5).any()


def test_a_region_that_winds_is_followed_to_its_end():
    snake = [(0, c) for c in range(8)] + [(1, 7)] + [(2, c) for c in range(8)] + [(3, 0), (4, 0)]
    assert activated_cells(firing(*snake), 0.5).sum() == len(snake)


def test_cells_become_pixels_of_the_crop():
    """8 cells of 10 pixels: rows 2 and 3, column 4."""
    assert activated_window(firing((2, 4), (3, 4)), WHOLE, 80, 80, TINY) == Window(35, 20, 20, 20)
    crop = Crop(100, 40, 160, 160)  # 20 pixels a cell
    found = activated_window(firing((2, 4), (3, 4)), crop, 400, 400, TINY)
    assert found == Window(100 + 70, 40 + 40, 40, 40)


def test_cells_lie_where_they_look_and_border_cells_reach_to_the_border():
    shifted = Crop(0, 0, 80, 80, -4.0, 2.0)
    assert activated_window(firing((3, 3)), shifted, 80, 80, TINY) == Window(26, 32, 10, 10)
    # Column 0 reaches from 0 to 10 - 4 = 6, row 7 from 70 + 2 = 72 to 80: a square of 8 about
    # (3, 76) is moved into the picture.
    assert activated_window(firing((7, 0)), shifted, 80, 80, TINY) == Window(0, 72, 8, 8)


def test_a_window_has_a_least_side_and_stays_in_what_the_network_saw():
    half = RegionSettings(minimum=0.5)
    crop = Crop(10, 20, 80, 80)
    assert activated_window(firing((0, 0)), crop, 120, 100, half) == Window(10, 20, 40, 40)
    assert activated_window(firing((7, 7)), crop, 120, 100, half) == Window(50, 60, 40, 40)
    assert activated_window(firing((4, 4)), crop, 120, 100, half) == Window(35, 45, 40, 40)
    wide = firing(*[(4, column) for column in range(8)])
    assert activated_window(wide, Crop(0, 0, 80, 40), 40, 80, half) == Window(0, 0, 80, 40)


def test_a_map_that_is_nowhere_positive_has_no_region():
    assert activated_window(np.zeros((4, 4), np.float32), WHOLE, 80, 80, TINY) is None
    assert activated_window(np.full((4, 4), -1.0, np.float32), WHOLE, 80, 80, TINY) is None


def test_what_the_network_saw_is_in_the_image():
    assert seen_window(Crop(-0.4, 10.5, 50.8, 20.2), 100, 50) == Window(0, 10, 50, 21)


def test_random_windows_are_the_seeds():
    half = RegionSettings(minimum=0.5)
    drawn = [random_window(seed, Crop(10, 0, 80, 80), 80, 100, half) for seed in range(50)]
    assert drawn[3] == random_window(3, Crop(10, 0, 80, 80), 80, 100, half)
    assert len(set(drawn)) > 40
    for window in drawn:
        assert window.width == window.height == 40
        assert 10 <= window.left <= 50
        assert 0 <= window.top <= 40


def test_a_mosaics_window_is_no_smaller_than_its_tile():
    assert RegionSettings("mosaic", minimum=0.1).least_side == 0.5
    assert RegionSettings("mosaic", minimum=0.1, tiles=4, enlarge=2).least_side == 0.125
    assert RegionSettings("crop", minimum=0.1).least_side == 0.1


# --- how regions are shown -----------------------------------------------------------------------


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


def sights():
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
    embeddings, given = embed_regions(sights(), embedder, RegionSettings(kind))
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
            embed_regions(sights(), Grey(), RegionSettings(kind))


# --- an embedder's dense map ---------------------------------------------------------------------


def test_cells_belong_to_parts_by_their_share():
    share = cell_shares(np.array([0.0, 0.3, 0.5]), np.array([0.5, 0.4, 1.0]), 4, 0.0)
    assert np.allclose(share, [[1, 1, 0, 0], [0, 0.4, 0, 0], [0, 0, 1, 1]])
    # All cells lie half a cell to the left; the last one still reaches to the border.
    shifted = cell_shares(np.array([0.0, 0.5]), np.array([0.5, 1.0]), 4, -0.125)
    assert np.allclose(shifted, [[1, 1, 0.5, 0], [0, 0, 0.5, 1]])
    assert np.allclose(cell_shares(np.zeros(1), np.ones(1), 5, 0.07), 1)


TEXT = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
TOWERS = {
    "class token": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8},
    "attention pool": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16},
    "timm": {"image_size": 160, "timm_model_name": "resnet10t", "timm_proj": "linear"},
    "timm, norm after pool": {"image_size": 64, "timm_model_name": "convnext_atto"},
}
REFUSED = {
    "attentional pooling": {**TOWERS["class token"], "attentional_pool": True},
    "mean of tokens": {**TOWERS["class token"], "pool_type": "avg"},
    "timm transformer": {"image_size": 224, "timm_model_name": "vit_tiny_patch16_224"},
    "timm, maximum": {**TOWERS["timm"], "timm_pool": "max"},
    "timm, own pooling": {**TOWERS["timm"], "timm_pool": "rot_attn", "timm_proj": ""},
}


def visual(config):
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=16, vision_cfg=config, text_cfg=TEXT).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # some begin at 0, which hides their branch
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.visual.requires_grad_(False)


@pytest.mark.parametrize("config", TOWERS.values(), ids=TOWERS.keys())
def test_the_whole_as_a_part_is_the_towers_own_embedding(config):
    """And parts are told apart by what is in them."""
    network = visual(config)
    tower = dense_tower(network, "x")
    side = config["image_size"]
    pixels = torch.randn(2, 3, side, side)
    pixels[1, :, :, side // 2 :] = pixels[0, :, :, side // 2 :]  # right halves alike
    parts = np.array([[0, 0, 1, 1], [0, 0, 0.5, 1], [0.5, 0, 1, 1]])
    found = nn.functional.normalize(tower.embed(pixels, [parts, parts]), dim=1).reshape(2, 3, -1)
    own = nn.functional.normalize(network(pixels), dim=1)
    assert torch.allclose(found[:, 0], own, atol=1e-5)
    left, right = (found[0, place] @ found[1, place] for place in (1, 2))
    assert right > left


@pytest.mark.parametrize("config", REFUSED.values(), ids=REFUSED.keys())
def test_towers_that_pool_in_other_ways_are_refused(config):
    with pytest.raises(EmbedderError, match="gives one embedding per picture"):
        dense_tower(visual(config), "x")


def test_the_scenes_embedder_sees_parts_of_pictures():
    embedder = part_embedder(load_embedder("scenes"))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8))
    parts = np.array([[0, 0, 1, 1], [0, 0, 0.5, 0.5]])
    found = embedder.embed_parts([image], [parts])
    assert np.allclose(found[0], embedder.embed_images([image])[0], atol=1e-5)
    assert found[1] @ found[0] < 0.999


# --- which region stands for which sample -----------------------------------------------------


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
    found = region_samples(images, scores, backbone, own, settings, 2, tmp_path / "work", **options)
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
            QUARTER,
            2,
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


# --- the command's settings ------------------------------------------------------------------


def test_the_commands_pairs_becomeregion_settings():
    assert region_settings("none", ()) is None
    assert region_settings("dense", ("share=0.3", "negatives=random")) == RegionSettings(
        "dense", share=0.3, negatives="random"
    )
    assert region_settings("crop", ("enlarge=2",)).enlarge == 2


@pytest.mark.parametrize(
    ("regions", "pair", "said"),
    [
        ("none", "share=0.3", "no meaning without --regions"),
        ("crop", "kind=dense", "is not NAME=VALUE with one of share, minimum"),
        ("crop", "tiles=2.5", "tiles takes a whole number"),
        ("crop", "share=1", "less than 1"),
        ("crop", "minimum=0", "above 0"),
        ("mosaic", "tiles=1", "at least 2"),
        ("crop", "enlarge=0.001", "enlarge is at least 0.25"),
        ("dense", "negatives=none", "active, random"),
    ],
)
def test_what_is_no_region_setting_is_refused(regions, pair, said):
    with pytest.raises(click.BadParameter, match=said):
        region_settings(regions, (pair,))


def test_not_a_number_is_refused():
    with pytest.raises(ValueError, match="enlarge"):
        RegionSettings(enlarge=math.nan)

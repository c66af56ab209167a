"""Cells that see another part of the image than their place, in networks of which it is known."""

import numpy as np
import pytest
import timm
import torch
import torchvision
from textcam_service.offline.export.cell_order import cell_order, misplaced_share


def patches(images, side=8):
    """Mean and deviation of each patch: (N, 6, h / side, w / side)."""
    n, colours, height, width = images.shape
    grid = images.reshape(n, colours, height // side, side, width // side, side)
    return np.concatenate([grid.mean(axis=(3, 5)), grid.std(axis=(3, 5))], axis=1)


def in_windows(maps):
    """Cells in windows of 2 x 2, one window after the other."""
    n, channels, height, width = maps.shape
    grid = maps.reshape(n, channels, height // 2, 2, width // 2, 2)
    return grid.transpose(0, 1, 2, 4, 3, 5).reshape(maps.shape)


ORDERS = {
    "column by column": lambda maps: maps.swapaxes(2, 3),
    "right to left": lambda maps: maps[..., ::-1],
    "bottom to top": lambda maps: maps[:, :, ::-1],
    "windows": in_windows,
}


def share(maps_of, height=64, width=64):
    return misplaced_share(maps_of, height, width)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_cells_in_another_order_are_found(order):
    assert share(lambda images: order(patches(images))) > 0.25


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_what_reaches_all_cells_alike_hides_no_order(order):
    def run(images):
        maps = order(patches(images))
        return maps + maps.mean(axis=(2, 3), keepdims=True)

    assert share(run) > 0.25


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_the_order_of_all_cells_puts_maps_in_order(order):
    found = cell_order(lambda images: order(patches(images)), 64, 64)
    wanted = np.random.default_rng(0).normal(size=(2, 3, 8, 8))
    np.testing.assert_array_equal(order(wanted).reshape(2, 3, -1)[..., found], wanted)


def test_small_maps_are_put_in_order_too():
    found = cell_order(lambda images: patches(images)[..., ::-1], 16, 24)
    np.testing.assert_array_equal(found, [[2, 1, 0], [5, 4, 3]])


def test_cells_that_answer_to_several_places_have_no_order():
    assert cell_order(lambda images: np.repeat(patches(images)[..., :4], 2, axis=3), 64, 64) is None


def test_more_cells_than_can_be_tried_have_no_order():
    def run(images):
        assert len(images) == 1
        return np.zeros((1, 2, 40, 40), np.float32)

    assert cell_order(run, 80, 80) is None


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96), (48, 48), (24, 24), (8, 16)])
def test_cells_row_by_row_are_taken(height, width):
    assert share(patches, height, width) == 0


def test_small_maps_in_another_order_are_found():
    assert share(lambda images: patches(images)[..., ::-1], 24, 24) > 0.25
    assert share(lambda images: patches(images)[..., ::-1], 16, 16) == 1


def test_maps_that_see_one_cell_further_are_taken():
    """A shift is measured on its own."""
    assert share(lambda images: np.roll(patches(images), 1, axis=3)[..., 1:]) <= 0.25


def test_rounding_tells_nothing_of_places_that_are_not_seen():
    """A network that sees the image's middle, with noise in place of what rounding does."""
    noise = np.random.default_rng(0)

    def run(images):
        maps = patches(images)
        maps[..., :2] = maps[..., 6:] = 0
        return maps + 1e-7 * noise.normal(size=maps.shape) * (noise.random(maps.shape) < 0.1)

    assert share(run) == 0


@pytest.mark.parametrize(
    "maps_of",
    [
        lambda images: np.zeros((len(images), 4, 6, 6), np.float32),
        lambda images: images.mean(axis=(2, 3), keepdims=True),
        lambda images: np.full((len(images), 4, 6, 6), np.nan, np.float32),
        lambda images: np.broadcast_to(images.mean((2, 3), keepdims=True), (len(images), 3, 6, 6)),
    ],
    ids=["dead", "one cell", "not a number", "all alike"],
)
def test_maps_that_tell_nothing_of_a_place_are_taken(maps_of):
    assert share(maps_of, 48, 48) == 0


def random_resnet():
    whole = torchvision.models.resnet18(weights=None)
    return torch.nn.Sequential(*list(whole.children())[:-2]).eval()


def random_transformer():
    whole = timm.create_model("test_vit").eval()
    grid = whole.patch_embed.grid_size
    return lambda images: whole.forward_features(images)[:, 1:].mT.unflatten(2, grid)


@pytest.mark.parametrize(
    ("made", "size"),
    [(random_resnet, 160), (random_resnet, 64), (random_transformer, 160)],
    ids=["wide receptive fields", "small map", "global attention"],
)
def test_networks_in_order_are_taken(made, size):
    torch.manual_seed(0)
    network = made()

    def run(images):
        with torch.inference_mode():
            return network(torch.from_numpy(images)).numpy()

    assert share(run, size, size) == 0
    if size > 64:
        assert share(lambda images: run(images).swapaxes(2, 3), size, size) > 0.25


@pytest.mark.parametrize("seed", range(3))
def test_dilated_kernels_are_taken(seed):
    """Their cells see rather others' places than those next to their own."""
    torch.manual_seed(seed)
    stem = (torch.nn.Conv2d(3, 8, 4, 4), torch.nn.ReLU())
    network = torch.nn.Sequential(*stem, torch.nn.Conv2d(8, 16, 3, padding=4, dilation=4))

    def run(images):
        with torch.inference_mode():
            return network(torch.from_numpy(images)).relu().numpy()

    assert share(run) <= 0.25
    assert share(lambda images: run(images).swapaxes(2, 3)) > 0.25

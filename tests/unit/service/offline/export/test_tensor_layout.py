"""Layouts guessed from shapes, and maps taken out of tensors and put back."""

import pytest
import torch
from textcam_service.offline.export.tensor_layout import HookPoint, Layout


@pytest.mark.parametrize("text", ["features.3", "input of features.3"])
def test_a_hook_point_reads_as_it_prints(text):
    assert str(HookPoint.parse(text)) == text


def test_a_hook_point_takes_the_first_input_or_the_output():
    assert HookPoint("a").pick(("in", "more"), "out") == "out"
    assert HookPoint("a", at_input=True).pick(("in", "more"), "out") == "in"
    assert HookPoint("a", at_input=True).pick((), "out") is None


@pytest.mark.parametrize(
    ("shape", "image", "layout"),
    [
        ((2, 8, 7, 7), (224, 224), Layout("NCHW", 8, 7, 7)),
        ((2, 7, 7, 64), (224, 224), Layout("NHWC", 64, 7, 7)),
        ((2, 8, 6, 8), (192, 256), Layout("NCHW", 8, 6, 8)),
        ((2, 14, 14, 16), (224, 224), Layout("NHWC", 16, 14, 14)),
        ((2, 16, 14, 14), (224, 224), Layout("NCHW", 16, 14, 14)),
        ((2, 8, 8, 8), (224, 224), Layout("NCHW", 8, 8, 8)),
        ((2, 49, 8), (224, 224), Layout("tokens", 8, 7, 7)),
        ((2, 50, 8), (224, 224), Layout("tokens", 8, 7, 7, prefix=1)),
        ((2, 53, 8), (192, 256), Layout("tokens", 8, 6, 8, prefix=5)),
    ],
)
def test_layouts_are_guessed_by_the_images_proportions(shape, image, layout):
    assert Layout.of(shape, image) == layout


def test_channels_that_are_known_to_come_last_are_taken_so():
    assert Layout.of((2, 8, 8, 8), (224, 224), last=True) == Layout("NHWC", 8, 8, 8)
    assert Layout.of((2, 64, 7, 7), (224, 224), last=True) is None


@pytest.mark.parametrize("shape", [(2, 8), (2, 8, 1, 1), (2, 8, 2, 14), (2, 1, 8), (2, 8, 7, 7, 1)])
def test_what_holds_no_maps_has_no_layout(shape):
    assert Layout.of(shape, (224, 224)) is None


def test_more_tokens_than_any_prefix_are_no_grid():
    assert Layout.of((2, 49 + 14, 8), (224, 224)).prefix == 14
    assert Layout.of((2, 81 - 1, 8), (224, 224)).prefix == 80 - 64
    assert Layout.of((2, 100 - 1, 8), (224, 224)) is None


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((2, 8, 30, 1), Layout("NCHW", 8, 30, 1)),
        ((2, 30, 1, 8), Layout("NHWC", 8, 30, 1)),
        ((2, 30, 8), Layout("tokens", 8, 30, 1)),
        ((2, 31, 8), Layout("tokens", 8, 30, 1, prefix=1)),
        ((2, 29, 8), None),
        ((2, 8, 7, 7), None),
    ],
)
def test_vertices_take_the_place_of_the_grid(shape, layout):
    assert Layout.of(shape, (224, 224), vertices=30) == layout


@pytest.mark.parametrize("shape", [(2, 8, 3, 4), (2, 3, 4, 8), (2, 12, 8), (2, 14, 8)])
def test_a_tensor_is_rebuilt_from_its_maps_and_prefix(shape):
    tensor = torch.randn(shape)
    layout = Layout.of(shape, (96, 128))
    maps = layout.maps(tensor)
    assert maps.shape == (2, 8, 3, 4)
    prefix = tensor[:, : layout.prefix] if layout.prefix else None
    assert torch.equal(layout.tensor_from(maps, prefix), tensor)


def test_cells_of_tokens_lie_row_by_row():
    tokens = torch.arange(14.0).reshape(1, 14, 1)
    layout = Layout("tokens", 1, 3, 4, prefix=2)
    assert layout.maps(tokens)[0, 0].tolist() == [[2, 3, 4, 5], [6, 7, 8, 9], [10, 11, 12, 13]]

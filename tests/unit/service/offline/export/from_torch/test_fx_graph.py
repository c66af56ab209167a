"""Graphs of small networks: what depends on what, and the part behind a layer."""

import pytest
import torch
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_torch.fx_graph import descendants, extract_head, trace
from torch import nn

IMAGES = torch.zeros(2, 3, 8, 8)


def traced(forward):
    """The graph of a function of images, and its outputs' nodes."""

    class Network(nn.Module):
        def forward(self, image):
            return forward(image)

    whole = trace(Network(), IMAGES)
    output = next(node for node in whole.graph.nodes if node.op == "output")
    return whole, output.args[0]


def test_the_part_behind_a_layer_computes_the_logits_at_any_batch_size():
    def forward(image):
        maps = image * 2
        return maps.tanh().mean((2, 3)), maps

    whole, (logits, maps) = traced(forward)
    head, crossings = extract_head(whole, maps, logits, "layer")
    assert crossings == []
    for count in (1, 5):
        given = torch.randn(count, 3, 8, 8)
        assert torch.allclose(head(given), given.tanh().mean((2, 3)))


def test_what_goes_around_a_layer_becomes_an_input_of_the_head():
    def forward(image):
        maps, around = image * 2, image.exp()
        return (maps + around).mean((2, 3)), maps

    whole, (logits, maps) = traced(forward)
    head, crossings = extract_head(whole, maps, logits, "layer")
    assert len(crossings) == 1
    given, around = torch.randn(2, 2, 3, 8, 8)
    assert torch.allclose(head(given, around), (given + around).mean((2, 3)))


def test_sizes_alone_carry_no_information_about_the_image():
    def forward(image):
        maps = image * 2
        zeros = maps.new_zeros(image.shape[0], 3)
        return zeros + 1, maps

    whole, (logits, maps) = traced(forward)
    assert logits not in descendants(whole.graph, {maps})
    with pytest.raises(ExportRefused, match="the logits do not depend on layer"):
        extract_head(whole, maps, logits, "layer")


def test_a_head_that_takes_much_of_the_image_besides_is_refused():
    def forward(image):
        maps = image * 2
        around = [image + index for index in range(9)]
        return sum((maps * one).mean((2, 3)) for one in around), maps

    whole, (logits, maps) = traced(forward)
    with pytest.raises(ExportRefused, match="9 tensors of the image go around layer"):
        extract_head(whole, maps, logits, "layer")


def test_code_that_fixes_the_batch_is_refused_with_a_remedy():
    def forward(image):
        return image.mean((2, 3)) if len(image) == 2 else image.sum((2, 3)), image

    with pytest.raises(ExportRefused, match=r"x\.shape\[0\] keeps it free"):
        traced(forward)

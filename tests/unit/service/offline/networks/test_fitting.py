"""Constructors' arguments that follow from a checkpoint, and what is told of them."""

import pytest
import torch
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.checkpoints import Checkpoint
from textcam_service.offline.networks.fitting import as_text, build_fitting, side_of
from torch import nn


def network(width=2, depth=1):
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))


def shown_by(module, tensors):
    """Show the depth at once, and the width only when the depth is right."""
    if len(module) != len(tensors) // 2:
        return {"depth": len(tensors) // 2}
    width = len(tensors["0.weight"])
    return {"width": width} if width != len(module[0].weight) else {}


def test_arguments_follow_from_the_weights_one_after_the_other():
    state = network(5, 3).state_dict()
    fitted = build_fitting(Checkpoint("w", state), network, {}, shown_by)
    assert fitted.shown == {"depth": 3, "width": 5}
    assert fitted.notes == ("built with depth=3, width=5, as the checkpoint's weights show",)
    assert torch.equal(fitted.module[2].weight, state["2.weight"])


def test_an_argument_that_is_given_stays_and_the_misfit_is_told():
    checkpoint = Checkpoint("w", network(5, 1).state_dict())
    with pytest.raises(
        ExportRefused, match=r"another shape: 0.weight \(5, 5\) for \(3, 3\).*--mod"
    ):
        build_fitting(checkpoint, network, {"width": 3}, shown_by)


def test_another_form_of_the_network_is_taken_where_it_has_the_names():
    other = nn.ModuleDict({"fused": nn.Linear(2, 2)})
    checkpoint = Checkpoint("w", other.state_dict())
    fitted = build_fitting(checkpoint, network, {}, lambda *_: {}, lambda _: other)
    assert fitted.module is other
    assert fitted.notes == ("reparameterised, as the checkpoint's weights are",)
    fitted = build_fitting(
        Checkpoint("w", network().state_dict()), network, {}, lambda *_: {}, lambda _: other
    )
    assert fitted.notes == ()


def test_a_square_of_tokens_has_a_side():
    assert [side_of(tokens) for tokens in (36, 35, 0, -1)] == [6, None, None, None]
    assert as_text({"a": 1, "b": "x"}) == "a=1, b=x"

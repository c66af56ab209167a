"""Comparison of exported graphs with torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from textcam_service.artefacts.backbone import (
    ACTIVATION_MAPS,
    CLASS_WEIGHTS,
    HEAD_GRADIENT,
    INPUT,
    LOGITS,
)
from textcam_service.offline.export.from_torch.head_vjp import eager_gradients
from textcam_service.offline.export.from_torch.split import Head
from textcam_service.offline.export.numerics import (
    LEAST_SCALE,
    cpu_session,
    relative_difference,
)


def backbone_errors(graph: bytes, eager: nn.Module, images: torch.Tensor) -> tuple[float, float]:
    """Measure the largest relative difference of logits and of maps, in batches of 1 and all.

    Args:
        graph: Graph of the backbone.
        eager: The network as it stands: images -> logits, maps.
        images: (N, 3, h, w).
    """
    session = cpu_session(graph)
    errors = []
    for batch in (images[:1], images):
        with torch.inference_mode():
            wanted = [tensor.numpy() for tensor in eager(batch)]
        found = session.run([LOGITS, ACTIVATION_MAPS], {INPUT: batch.numpy()})
        errors.append([relative_difference(f, w) for f, w in zip(found, wanted, strict=True)])
    logits_error, maps_error = np.max(errors, axis=0).tolist()
    return logits_error, maps_error


def head_errors(
    graph: bytes, head: Head, given: Mapping[str, torch.Tensor], further: Sequence[str] = ()
) -> tuple[float, float]:
    """Measure how closely a head's graph agrees with torch, in batches of 1 and all.

    Args:
        graph: Graph of the head, with gradients if `given` has class weights.
        head: The head as torch runs it.
        given: The graph's inputs, by name.
        further: Names of its further outputs; see head_vjp.eager_gradients.

    Returns:
        The largest relative difference of a logit; and the norm of the difference of gradients,
        of maps, attention or taps, relative to their norm. Single values may differ more: a
        ReLU's input next to 0 may fall on either side.
    """
    session = cpu_session(graph)
    logits_errors, gradient_errors = [0.0], [0.0]
    for count in (1, len(given[ACTIVATION_MAPS])):
        own = {name: tensor[:count] for name, tensor in given.items()}
        feeds = {name: tensor.numpy() for name, tensor in own.items()}
        contexts = [own[name] for name in head.contexts]
        with torch.no_grad():
            wanted = head(own[ACTIVATION_MAPS], *contexts).numpy()
        (logits,) = session.run([LOGITS], feeds)
        logits_errors.append(relative_difference(logits, wanted))
        if CLASS_WEIGHTS in own:
            names = [HEAD_GRADIENT, *further]
            slopes = eager_gradients(head, own[ACTIVATION_MAPS], own[CLASS_WEIGHTS], contexts)
            for found, slope in zip(session.run(names, feeds), slopes, strict=True):
                off = float(np.linalg.norm(found - slope.numpy()))
                gradient_errors.append(off / max(float(slope.norm()), LEAST_SCALE))
    # Unlike Python's max, numpy's lets no nan slip through.
    return float(np.max(logits_errors)), float(np.max(gradient_errors))

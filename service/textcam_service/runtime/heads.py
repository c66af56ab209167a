"""Logits and gradients of a classifier's head: in closed form, or by its ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from textcam_service.artefacts.backbone import (
    ACTIVATION_MAPS,
    CLASS_WEIGHTS,
    GRADIENT,
    LOGITS,
    BackboneManifest,
)
from textcam_service.core.cam import head_row
from textcam_service.core.maps import Maps
from textcam_service.core.types import Float32Array, FloatArray
from textcam_service.runtime.device_tensors import NEEDED
from textcam_service.runtime.output import BackboneOutput
from textcam_service.runtime.session import Session


def linear_logits(maps: Float32Array, weights: Float32Array, bias: Float32Array) -> Float32Array:
    """Compute the logits of a GAP + linear head.

    Args:
        maps: (N, D, H, W).
        weights: (C, D).
        bias: (C,).

    Returns:
        (N, C).
    """
    return np.asarray(maps.mean(axis=(2, 3)) @ weights.T + bias, np.float32)


def linear_gradients(
    shape: tuple[int, ...], class_weights: FloatArray, weights: Float32Array
) -> Float32Array:
    """Compute gradients of scores of a GAP + linear head, which are the same at every position.

    Args:
        shape: (D, H, W) of an image's maps.
        class_weights: (N, C); the scores are class_weights . logits.
        weights: (C, D).

    Returns:
        (N, D, H, W), a read-only view.
    """
    slopes = np.stack([head_row(row, weights) for row in class_weights])
    slopes = (slopes / np.prod(shape[1:])).astype(np.float32)
    return np.broadcast_to(slopes[:, :, None, None], (len(slopes), *shape))


def graph_logits(
    head: Session,
    manifest: BackboneManifest,
    maps: Float32Array,
    output: BackboneOutput,
) -> Float32Array:
    """Run a head's graph on other activation maps in an image's place.

    Args:
        head: Session of the head's graph.
        manifest: Manifest of the backbone.
        maps: (N, D, H, W).
        output: Output for the image, with the head's further inputs.

    Returns:
        (N, C).
    """
    feeds = {ACTIVATION_MAPS: np.ascontiguousarray(maps, np.float32)}
    for name in manifest.head_inputs:
        further = np.asarray(output.further[name])
        feeds[name] = np.broadcast_to(further, (len(maps), *further.shape)).copy()
    if manifest.head_kind == GRADIENT:
        # Weights of 0 skip the gradients; see offline.export.from_torch.conditional_gradient.
        feeds[CLASS_WEIGHTS] = np.zeros((len(maps), len(output.logits)), np.float32)
    (logits,) = head.run([LOGITS], feeds, NEEDED)
    return np.asarray(logits)


def head_inputs(
    outputs: Sequence[BackboneOutput], manifest: BackboneManifest
) -> dict[str, list[Maps]]:
    """Collect the inputs of the head's graph for several images, by name."""
    inputs = {ACTIVATION_MAPS: [output.activation_maps for output in outputs]}
    further = {name: [output.further[name] for output in outputs] for name in manifest.head_inputs}
    return inputs | further


def layer_inputs(
    outputs: Sequence[BackboneOutput], manifest: BackboneManifest
) -> dict[str, list[Maps]]:
    """Collect the inputs of the further layers' graph for several images, by name."""
    inputs = {ACTIVATION_MAPS: [output.layers[0] for output in outputs]}
    further = {
        name: [output.further[name] for output in outputs] for name in manifest.layers_inputs
    }
    return inputs | further


def vjp(
    session: Session,
    inputs: Mapping[str, Sequence[Maps]],
    class_weights: FloatArray,
    names: Sequence[str],
) -> list[Float32Array]:
    """Run a graph that returns vector-Jacobian products.

    Args:
        session: Session of the graph.
        inputs: N of each input, by name.
        class_weights: (N, C) vectors.
        names: Names of the outputs to compute.

    Returns:
        An array (N, ...) per name.
    """
    feeds = {name: np.stack([np.asarray(row) for row in rows]) for name, rows in inputs.items()}
    feeds[CLASS_WEIGHTS] = np.asarray(class_weights, np.float32)
    return list(session.run(list(names), feeds, NEEDED))

"""CAM methods as generators of queries to a network.

A method yields what it needs to know of the network (`Gradient`, `HeadPasses` ...), is sent each
result, and returns `CamTerms`: weights or a map. So a method is pure numpy. Its caller decides how
passes are batched, counted and cut short by a deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeAlias

import numpy as np

from textcam_service.core.maps import Maps
from textcam_service.core.types import Float32Array, Float64Array, FloatArray
from textcam_service.core.vertices import Vertices


class Capability(Enum):
    """Abilities of a backbone that a method may need."""

    LINEAR_HEAD = "a head of global average pooling and one linear layer"
    HEAD = "a head that can run by itself"
    GRADIENT = "a head with gradients"
    LAYERS = "further layers with gradients (textcam export --layer)"
    ATTENTION = "attention over the target layer's tokens, with gradients"


@dataclass(frozen=True)
class Gradient:
    """Query for d(class_weights . logits) / d(activation maps); the result is Maps (D, H, W)."""

    class_weights: Float64Array


@dataclass(frozen=True)
class HeadPasses:
    """Query for the logits (N, C) of other activation maps (N, D, H, W)."""

    activation_maps: Float32Array


@dataclass(frozen=True)
class ImagePasses:
    """Query for the logits (N, C) of other network inputs (N, 3, h, w)."""

    images: Float32Array


@dataclass(frozen=True)
class LayerGradients:
    """Query for gradients at each of MethodInput.layers: a list of (D_l, H_l, W_l)."""

    class_weights: Float64Array


@dataclass(frozen=True)
class AttentionGradients:
    """Query for how the score rises with attention to each position: (L, H, W).

    One map per attention layer of the head: max(0, d score / d attention), averaged over the
    attention's heads and queries.
    """

    class_weights: Float64Array


Query: TypeAlias = Gradient | HeadPasses | ImagePasses | LayerGradients | AttentionGradients


@dataclass(frozen=True)
class MethodInput:
    """Input of a method: one image and the score `class_weights . logits` to be explained.

    Attributes:
        activation_maps: (D, H, W) of the target layer; numpy.asarray() where a method needs all.
        logits: (C,).
        class_weights: (C,); one-hot for a class, +1 and -1 for a contrast.
        image: (3, h, w) the network's input.
        head_weights: (C, D) of a GAP + linear head; None: another head.
        layers: Activation maps (D_l, H_l, W_l) of further layers, the earliest first.
        vertices: Positions of the maps' V vertices; the maps are then (D, V, 1). None: the maps'
            cells lie on a grid over the image.
    """

    activation_maps: Maps
    logits: Float32Array
    class_weights: Float64Array
    image: Float32Array
    head_weights: Float32Array | None = None
    layers: tuple[Maps, ...] = ()
    vertices: Vertices | None = None

    @property
    def cells(self) -> int:
        """H * W."""
        return int(np.prod(self.activation_maps.shape[1:]))

    def on_grid(self, maps: FloatArray) -> FloatArray:
        """Place maps (..., H, W) of the input's cells on a grid over the image."""
        return maps if self.vertices is None else self.vertices.place(maps)

    def score(self, logits: FloatArray) -> Float64Array:
        """Compute the score of other logits: (..., C) -> (...)."""
        return np.asarray(logits @ self.class_weights, np.float64)


@dataclass(frozen=True)
class CamTerms:
    """Result of a method.

    Attributes:
        weights: (D,) or (D, H, W): each channel's term is weights * maps. Scaled so that the
            mean over positions of all terms is in units of the score, where the method has them.
        saliency_map: (H, W), where the method's map is not the plain sum of the terms.
        in_logit_units: See Method.in_logit_units, which sets it.
    """

    weights: FloatArray
    saliency_map: Float32Array | None = None
    in_logit_units: bool = True


QueryGenerator: TypeAlias = Generator[Query, Any, CamTerms]


@dataclass(frozen=True)
class MethodSettings:
    """Parameters of the methods.

    Attributes:
        chunk: Passes in one query of methods that need many.
        seed: Seed of SS-CAM's noise.
        smooth_samples: SS-CAM's noisy copies of each mask.
        smooth_sigma: SS-CAM's standard deviation of the noise.
        finer_gamma: Finer-CAM's weight of the similar classes.
        finer_classes: Number of similar classes of Finer-CAM.
        decom_channels: DecomCAM's channels, those of the highest gradient.
        decom_maps: DecomCAM's sub-maps.
    """

    chunk: int = 16
    seed: int = 0
    smooth_samples: int = 35
    smooth_sigma: float = 2.0
    finer_gamma: float = 0.6
    finer_classes: int = 3
    decom_channels: int = 500
    decom_maps: int = 10


@dataclass(frozen=True)
class Method:
    """A CAM method.

    Attributes:
        name: Name in requests: "grad_cam".
        title: Name in papers: "Grad-CAM".
        algorithm: The generator function; see `queries`.
        needs: Capabilities that the backbone must have.
        complete: True if evidence and bias add up to the logit with a GAP + linear head.
        in_logit_units: True if map and evidence are amounts of the logit: activations times slopes,
            or differences of scores. Else they are on a scale of the method's own (activations
            times a softmax, slopes alone, maps scaled to 1), and only shares mean something. The
            gap, the part of the logit that evidence and bias leave open, then means nothing.
        image_passes: Passes of the whole network beyond the first, by (D, H * W, settings).
        head_passes: Passes of the head, by the same arguments.
        parameters: Names of the MethodSettings that it uses.
    """

    name: str
    title: str
    algorithm: Callable[[MethodInput, MethodSettings], QueryGenerator]
    needs: frozenset[Capability] = frozenset()
    complete: bool = False
    in_logit_units: bool = True
    image_passes: Callable[[int, int, MethodSettings], int] = field(default=lambda *_: 0)
    head_passes: Callable[[int, int, MethodSettings], int] = field(default=lambda *_: 0)
    parameters: tuple[str, ...] = ()

    def queries(self, inputs: MethodInput, settings: MethodSettings) -> QueryGenerator:
        """Generate the method's queries; the caller sends the result of each."""
        terms = yield from self.algorithm(inputs, settings)
        return replace(terms, in_logit_units=self.in_logit_units)


def run_method(queries: QueryGenerator, answer: Callable[[Query], Any]) -> CamTerms:
    """Run a method to its end.

    Args:
        queries: The generator that Method.queries returns.
        answer: Called with each query; returns the result that the query's docstring names.
    """
    try:
        query = next(queries)
        while True:
            query = queries.send(answer(query))
    except StopIteration as end:
        terms: CamTerms = end.value
        return terms

"""What a CAM method is: a conversation that ends in weights or in a map.

A method is a generator. It yields what it needs to know of the network (`Gradient`, `HeadPasses`
...) and is sent the answer; it returns `CamTerms`. So a method is pure numpy, and who drives it
decides how its passes are batched, counted and cut short by a deadline.
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
    """What a method asks of a backbone."""

    LINEAR_HEAD = "a head of global average pooling and one linear layer"
    HEAD = "a head that can run by itself"
    GRADIENT = "a head with gradients"
    LAYERS = "further layers with gradients (textcam export --layer)"
    ATTENTION = "attention over the target layer's tokens, with gradients"


@dataclass(frozen=True)
class Gradient:
    """Ask for d(class_weights . logits) / d(activation maps); answered by Maps (D, H, W)."""

    class_weights: Float64Array


@dataclass(frozen=True)
class HeadPasses:
    """Ask for the logits of other activation maps (N, D, H, W); answered by (N, C)."""

    activation_maps: Float32Array


@dataclass(frozen=True)
class ImagePasses:
    """Ask for the logits of other network inputs (N, 3, h, w); answered by (N, C)."""

    images: Float32Array


@dataclass(frozen=True)
class LayerGradients:
    """Gradients at each of MethodInput.layers; answered by a list of (D_l, H_l, W_l)."""

    class_weights: Float64Array


@dataclass(frozen=True)
class AttentionGradients:
    """Ask how the score rises with attention to each position; answered by (L, H, W).

    One map per attention layer of the head: max(0, d score / d attention), averaged over heads
    and queries.
    """

    class_weights: Float64Array


Query: TypeAlias = Gradient | HeadPasses | ImagePasses | LayerGradients | AttentionGradients


@dataclass(frozen=True)
class MethodInput:
    """What is explained: the score `class_weights . logits` of one image.

    Attributes:
        activation_maps: (D, H, W) of the target layer; numpy.asarray() where a method needs all.
        logits: (C,).
        class_weights: (C,); one-hot for a class, +1 and -1 for a contrast.
        image: (3, h, w) the network's input.
        head_weights: (C, D) of a GAP + linear head; None: another head.
        layers: Activation maps (D_l, H_l, W_l) of further layers, the earliest first; likewise.
        vertices: Where the maps' V vertices lie, the maps then being (D, V, 1); None: the maps'
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
        """Maps (..., H, W) of the subject's cells, to be laid over the image."""
        return maps if self.vertices is None else self.vertices.place(maps)

    def score(self, logits: FloatArray) -> Float64Array:
        """The score of other logits: (..., C) -> (...)."""
        return np.asarray(logits @ self.class_weights, np.float64)


@dataclass(frozen=True)
class CamTerms:
    """What a method found.

    Attributes:
        weights: (D,) or (D, H, W): each channel's term is weights * maps. Scaled so that the
            mean over positions of all terms is in units of the score, where the method has them.
        saliency_map: (H, W), where the method's map is not the plain sum of the terms.
        in_logit_units: As Method.in_logit_units, which settles it.
    """

    weights: FloatArray
    saliency_map: Float32Array | None = None
    in_logit_units: bool = True


QueryGenerator: TypeAlias = Generator[Query, Any, CamTerms]


@dataclass(frozen=True)
class MethodSettings:
    """Numbers of the methods.

    Attributes:
        chunk: Passes asked for at once by methods that need many.
        seed: Of SS-CAM's noise.
        smooth_samples: SS-CAM's noisy copies of each mask.
        smooth_sigma: SS-CAM's standard deviation of the noise.
        finer_gamma: Finer-CAM's weight of the similar classes.
        finer_classes: How many similar classes Finer-CAM looks at.
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
        name: As in requests: "grad_cam".
        title: As in papers: "Grad-CAM".
        conversation: See `steps`.
        needs: What the backbone must offer.
        exact: With a GAP + linear head, evidence and bias add up to the logit.
        in_logit_units: Whether map and evidence are amounts of the logit: activations times
            slopes, or differences of scores. Else they are on a scale of the method's own
            (activations times a softmax, slopes alone, maps scaled to 1), of which only shares
            mean something; the gap, what evidence and bias leave of the logit, then means nothing.
        image_passes: Passes of the whole network beyond the first, by (D, H * W, settings).
        head_passes: Passes of the head, by the same.
        parameters: Which of MethodSettings it obeys.
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

    def steps(self, subject: MethodInput, settings: MethodSettings) -> QueryGenerator:
        """Hold the conversation; what it finds says of which units it is."""
        terms = yield from self.algorithm(subject, settings)
        return replace(terms, in_logit_units=self.in_logit_units)


def run_method(steps: QueryGenerator, answer: Callable[[Query], Any]) -> CamTerms:
    """Hold a method's conversation to its end.

    Args:
        steps: As Method.steps returns them.
        answer: Answers each ask with what its docstring says.
    """
    try:
        ask = next(steps)
        while True:
            ask = steps.send(answer(ask))
    except StopIteration as end:
        terms: CamTerms = end.value
        return terms

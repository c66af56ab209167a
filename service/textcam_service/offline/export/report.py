"""The outcome of an export, for people."""

from __future__ import annotations

from dataclasses import dataclass

from textcam_service.artefacts.backbone import FORWARD, GAP_LINEAR, GRADIENT, NO_HEAD
from textcam_service.core.types import Preprocessing


@dataclass(frozen=True)
class ExportReport:
    """An exported backbone, and how closely it agrees with the original.

    Attributes:
        architecture: Name of the network.
        target_layer: Name of the layer with the activation maps.
        head_kind: See BackboneManifest.head_kind.
        weights_digest: Identity of network, weights, preprocessing and classes.
        logits_error: Largest difference of a logit, relative to the largest logit. Covers the
            whole network, and each head run on its own.
        maps_error: The same for the activation maps.
        gradient_error: Norm of the difference of gradients (of the maps, of further layers, of
            attention), relative to their norm; the largest of them. 0 where no gradients are
            exported, or where they have a closed form.
        maps_shape: (D, H, W), or (D, V, 1) on the vertices of a graph.
        class_count: C.
        without: Reason why there are no gradients; empty if there are some.
        preprocessing: Conversion of pixels to the input.
        notes: See Network.notes.
        multi_label: See BackboneManifest.multi_label.
    """

    architecture: str
    target_layer: str
    head_kind: str
    weights_digest: str
    logits_error: float
    maps_error: float
    gradient_error: float
    maps_shape: tuple[int, int, int]
    class_count: int
    without: str
    preprocessing: Preprocessing
    notes: tuple[str, ...] = ()
    multi_label: bool = False

    def __str__(self) -> str:
        channels, height, width = self.maps_shape
        fed = self.preprocessing
        kinds = {
            GAP_LINEAR: "global average pooling and a linear head",
            GRADIENT: "a head with gradients",
            FORWARD: f"a head without gradients ({self.without}), for gradient-free methods",
            NO_HEAD: f"no head ({self.without}), for methods that need none",
        }
        return (
            f"{self.architecture}, {self.class_count} classes"
            f"{' that do not exclude each other (multi-label)' if self.multi_label else ''}, "
            f"images of {fed.width} x {fed.height} after resizing to {fed.resize} "
            f"({fed.interpolation}, {fed.crop_mode}), {channels} channels of "
            f"{height} x {width} at {self.target_layer}, {kinds[self.head_kind]}, parity "
            f"{self.logits_error:.1e} (logits), {self.maps_error:.1e} (maps) and "
            f"{self.gradient_error:.1e} (gradients), {self.weights_digest}"
            + "".join(f"\n{note}" for note in self.notes)
        )

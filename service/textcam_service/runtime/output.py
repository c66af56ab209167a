"""Output of a backbone for one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from textcam_service.artefacts.backbone import LAYER
from textcam_service.core.maps import Maps
from textcam_service.core.types import Float32Array


@dataclass(frozen=True)
class BackboneOutput:
    """Logits and activation maps of one image.

    Attributes:
        logits: (C,).
        activation_maps: (D, H, W) of the target layer; may stay on a device.
        further: The manifest's further outputs, by name; may stay on a device.
    """

    logits: Float32Array
    activation_maps: Maps
    further: Mapping[str, Maps] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[Maps, ...]:
        """Maps (D_l, H_l, W_l) of the further layers."""
        return tuple(value for name, value in self.further.items() if _is_layer(name))


def _is_layer(name: str) -> bool:
    return name.removeprefix(LAYER).isdigit()

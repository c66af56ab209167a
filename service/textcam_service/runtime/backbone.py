"""The backbone: a network in ONNX graphs, which answers logits, activation maps and gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from textcam_service.artefacts.backbone import (
    ACTIVATION_MAPS,
    ATTENTION,
    CLASS_WEIGHTS,
    GAP_LINEAR,
    GRADIENT,
    HEAD_GRADIENT,
    INPUT,
    LAYER,
    LOGITS,
    NO_HEAD,
    TAP,
    VERTEX_POSITIONS,
    BackboneManifest,
)
from textcam_service.artefacts.files import read_artefact
from textcam_service.artefacts.parity import ParityReport, read_parity
from textcam_service.core.cam import head_row, weighted_maps
from textcam_service.core.maps import Maps
from textcam_service.core.methods import (
    AttentionGradients,
    Capability,
    Gradient,
    HeadPasses,
    ImagePasses,
    LayerGradients,
    Query,
)
from textcam_service.core.types import Crop, Float32Array, FloatArray
from textcam_service.core.vertices import Vertices
from textcam_service.errors import InvalidSettings
from textcam_service.runtime.device_tensors import NEEDED, Buckets, Device, DeviceRow, rows_only
from textcam_service.runtime.providers import FP16, TF32, DeviceOptions
from textcam_service.runtime.sessions import load_sessions


@dataclass(frozen=True)
class BackboneOutput:
    """What a backbone makes of one image.

    Attributes:
        logits: (C,).
        activation_maps: (D, H, W) of the target layer; on a device, where they are kept there.
        further: The manifest's further outputs, by name, likewise.
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


# What the trunk computes in, where a GPU rounds; else the manifest says.
_ROUNDED = {TF32: "tf32", FP16: "float16"}


class Backbone:
    """A verified backbone in onnxruntime sessions.

    Attributes:
        folder: Where it was loaded from.
        manifest: What it is.
        head_weights: (C, D) float32 of a GAP + linear head, else empty.
        head_bias: (C,) float32 likewise.
        execution_provider: Where onnxruntime runs it.
        precision: What the trunk computes in: "float32", "int8", "tf32" or "float16".
        buckets: Sizes that batches are filled up to; none: they are run as they come.
        parity: How closely an int8 backbone explains as the float one it was made from; None:
            it is a float one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        providers: tuple[str, ...] = (),
        threads: int = 0,
        device: DeviceOptions | None = None,
    ) -> None:
        """Load, verify and place a backbone.

        Args:
            folder: As write_backbone wrote it.
            providers: onnxruntime execution providers by preference, or "tensorrt", "cuda",
                "cpu"; empty: CUDA where this build of onnxruntime has it and a device answers,
                else CPU.
            threads: Of the session; 0: as many as this process may use.
            device: How it uses the device; None: DeviceOptions().

        Raises:
            ArtefactMissing: A file is not there.
            ArtefactCorrupt: A digest is another, or the graph does not load.
            InvalidSettings: A provider is not in this build of onnxruntime or does not start, or
                does not compute in the precision that is asked for.
        """
        options = device or DeviceOptions()
        tensors, manifest = read_artefact(folder, "backbone")
        self.folder = folder
        self.manifest = BackboneManifest.from_json(manifest)
        self.head_weights: Float32Array = tensors["head_weights"]
        self.head_bias: Float32Array = tensors["head_bias"]
        if options.precision == FP16 and self.manifest.quantised_from:
            raise InvalidSettings(f"{folder} is an int8 backbone; serve its float form in fp16")
        size = self.manifest.preprocessing
        sessions = load_sessions(folder, manifest, size, providers, threads, options)
        self._session: Any = sessions.backbone
        self._head: Any = sessions.head
        self._layers: Any = sessions.layers
        self._device = sessions.device
        self.execution_provider = sessions.execution_provider
        self.buckets = Buckets(options.buckets if sessions.device else ())
        self.precision = _ROUNDED.get(options.precision, self.manifest.precision)
        self.parity: ParityReport | None = None
        if self.manifest.quantised_from:
            self.parity = read_parity(folder, self.manifest.parity_digest)

    @property
    def is_linear(self) -> bool:
        """Whether the head is global average pooling and one linear layer."""
        return self.manifest.head_kind == GAP_LINEAR

    @property
    def offers(self) -> frozenset[Capability]:
        """What methods may ask of it."""
        kind = self.manifest.head_kind
        found = set()
        if kind == GAP_LINEAR:
            found.add(Capability.LINEAR_HEAD)
        if kind in {GAP_LINEAR, GRADIENT}:
            found.add(Capability.GRADIENT)
        if kind != NO_HEAD:
            found.add(Capability.HEAD)
        if self._layers is not None and Capability.GRADIENT in found:
            found.add(Capability.LAYERS)
        if self.manifest.attention:
            found.add(Capability.ATTENTION)
        return frozenset(found)

    def on_grid(self, crop: Crop) -> Crop:
        """Where the maps' cells lie over the part of an image that the network saw."""
        right, down = self.manifest.grid_shift
        size = self.manifest.preprocessing
        return replace(
            crop,
            shift_x=right * crop.width / size.width,
            shift_y=down * crop.height / size.height,
        )

    def vertices(self, seen: BackboneOutput) -> Vertices | None:
        """Where an image's vertices lie; None: the maps' cells lie on a grid."""
        if not self.manifest.vertices:
            return None
        size = self.manifest.preprocessing
        positions = np.asarray(seen.further[VERTEX_POSITIONS])  # on the host, whatever the maps are
        return Vertices(positions, size.height, size.width)

    def run(self, images: Float32Array) -> tuple[Float32Array, Float32Array]:
        """Run a batch: (N, 3, h, w) -> logits (N, C) and activation maps (N, D, H, W)."""
        logits, maps = self._run([LOGITS, ACTIVATION_MAPS], images)
        return logits, maps

    def logits(self, images: Float32Array) -> Float32Array:
        """Run a batch for its logits only: (N, 3, h, w) -> (N, C)."""
        (logits,) = self._run([LOGITS], images)
        return logits

    def forward(self, images: Float32Array) -> list[BackboneOutput]:
        """Run a batch for all that methods may need: (N, 3, h, w)."""
        names = [LOGITS, ACTIVATION_MAPS, *self.manifest.outputs]
        if self._device is not None:
            parts = [
                self._forward_on_device(self._device, part, names[1:])
                for part in self.buckets.parts(images)
            ]
            return [one for part in parts for one in part]
        outputs = self._session.run(names, {INPUT: images})
        # Copies, so that one image that is still explained does not keep its whole batch.
        each = [[row.copy() for row in array] for array in outputs] if len(images) > 1 else outputs
        return [
            BackboneOutput(logits, maps, dict(zip(self.manifest.outputs, further, strict=True)))
            for logits, maps, *further in zip(*each, strict=True)
        ]

    def warm(self) -> None:
        """Run each bucket once, so that engines are built and kernels are chosen before requests.

        Images, their gradients where the head has a graph of them, and sums of one's maps.
        """
        size, classes = self.manifest.preprocessing, len(self.manifest.class_names)
        for count in self.buckets.sizes:
            seen = self.forward(np.zeros((count, 3, size.height, size.width), np.float32))
            if self.manifest.head_kind == GRADIENT:
                self.gradients(
                    seen, np.ones((count, classes))
                )  # 0 would skip: see export.conditional_gradient
            weighted_maps(np.zeros((1, self.manifest.channel_count)), seen[0].activation_maps)

    def _forward_on_device(
        self, device: Device, images: Float32Array, names: list[str]
    ) -> list[BackboneOutput]:
        """As see(), all but the logits staying on the device."""
        feeds = {INPUT: self.buckets.filled(images)}
        (logits,), values = device.run(self._session, feeds, [LOGITS], names)
        rows = {
            name: device.rows(value, len(images), are_maps=name == ACTIVATION_MAPS)
            for name, value in zip(names, values, strict=True)
        }
        return [
            BackboneOutput(
                logits[index],
                rows[ACTIVATION_MAPS][index],
                {name: rows[name][index] for name in self.manifest.outputs},
            )
            for index in range(len(images))
        ]

    def _run(self, names: list[str], images: Float32Array) -> list[Float32Array]:
        """Outputs of the backbone's graph, here."""
        found = []
        for part in self.buckets.parts(images):
            outputs = self._session.run(names, {INPUT: self.buckets.filled(part)}, NEEDED)
            found.append([own[: len(part)] for own in outputs])
        if len(found) == 1:
            return found[0]
        return [np.concatenate(own) for own in zip(*found, strict=True)]

    def head_logits(self, maps: Float32Array, seen: BackboneOutput) -> Float32Array:
        """The head's logits (N, C) of other activation maps (N, D, H, W) in an image's place."""
        if self.is_linear:
            means = maps.mean(axis=(2, 3))
            return np.asarray(means @ self.head_weights.T + self.head_bias, np.float32)
        assert self._head is not None  # noqa: S101 - Need.HEAD
        feeds = {ACTIVATION_MAPS: np.ascontiguousarray(maps, np.float32)}
        for name in self.manifest.head_inputs:
            one = np.asarray(seen.further[name])
            feeds[name] = np.broadcast_to(one, (len(maps), *one.shape)).copy()
        if (
            self.manifest.head_kind == GRADIENT
        ):  # none asked for: see offline.export.torch.conditional_gradient
            feeds[CLASS_WEIGHTS] = np.zeros((len(maps), len(seen.logits)), np.float32)
        (logits,) = self._head.run([LOGITS], feeds, NEEDED)
        return np.asarray(logits)

    def gradients(
        self, seen: Sequence[BackboneOutput], class_weights: FloatArray
    ) -> Float32Array | list[DeviceRow]:
        """Gradients of scores by activation maps.

        Args:
            seen: N images.
            class_weights: (N, C); the scores are class_weights . logits.

        Returns:
            (N, D, H, W); where maps stay on a device, N that stay there too.
        """
        if self.is_linear:
            shape = seen[0].activation_maps.shape
            slopes = np.stack([head_row(own, self.head_weights) for own in class_weights])
            slopes = (slopes / np.prod(shape[1:])).astype(np.float32)
            return np.broadcast_to(slopes[:, :, None, None], (len(seen), *shape))
        given = self._given(seen)
        rows = rows_only(given)
        if self._device is not None and rows is not None:
            return self._device.gradients(self._head, rows, class_weights, self.buckets)
        return self._pull(self._head, given, class_weights, [HEAD_GRADIENT])[0]

    def attention(self, seen: Sequence[BackboneOutput], class_weights: FloatArray) -> Float32Array:
        """How scores rise with attention to each position: (N, L, H, W)."""
        return self._pull(self._head, self._given(seen), class_weights, [ATTENTION])[0]

    def layer_gradients(
        self, seen: Sequence[BackboneOutput], class_weights: FloatArray
    ) -> list[Float32Array]:
        """Gradients of scores by the further layers' maps: a list of (N, D_l, H_l, W_l)."""
        given = {ACTIVATION_MAPS: [one.layers[0] for one in seen]}
        given |= {n: [one.further[n] for one in seen] for n in self.manifest.layers_inputs}
        taps = [f"{TAP}{index}" for index in range(len(self.manifest.layers) - 1)]
        return self._pull(self._layers, given, class_weights, [HEAD_GRADIENT, *taps])

    def answer(self, ask: Query, seen: BackboneOutput) -> Any:
        """Answer what a method asks about an image; see core.methods.base."""
        if isinstance(ask, HeadPasses):
            return self.head_logits(ask.activation_maps, seen)
        if isinstance(ask, ImagePasses):
            return self.logits(ask.images)
        weights = ask.class_weights[None]
        if isinstance(ask, LayerGradients):
            return [gradient[0] for gradient in self.layer_gradients([seen], weights)]
        if isinstance(ask, AttentionGradients):
            return self.attention([seen], weights)[0]
        return self.gradients([seen], weights)[0]

    def answers_at_once(self, ask: Query) -> bool:
        """Whether an answer takes arithmetic only, and no session."""
        return self.is_linear and isinstance(ask, (Gradient, HeadPasses))

    def _given(self, seen: Sequence[BackboneOutput]) -> dict[str, list[Maps]]:
        """What the head's graph takes of images, by the names of its inputs."""
        given = {ACTIVATION_MAPS: [one.activation_maps for one in seen]}
        return given | {n: [one.further[n] for one in seen] for n in self.manifest.head_inputs}

    @staticmethod
    def _pull(
        session: ort.InferenceSession,
        given: Mapping[str, Sequence[Maps]],
        class_weights: FloatArray,
        wanted: list[str],
    ) -> list[Float32Array]:
        feeds = {name: np.stack([np.asarray(own) for own in rows]) for name, rows in given.items()}
        feeds[CLASS_WEIGHTS] = np.asarray(class_weights, np.float32)
        return list(session.run(wanted, feeds, NEEDED))

    def fingerprint(self) -> Float32Array:
        """Activation scores (D,) of one fixed synthetic image.

        A bank keeps those of the backbone it was built with; a server compares. So bank and
        backbone agree by what they compute, not only by what their manifests say.
        """
        size = self.manifest.preprocessing
        y, x = np.mgrid[0 : size.height, 0 : size.width]
        waves = [np.sin(x / (7 + 5 * c)) * np.cos(y / (11 + 3 * c)) for c in range(3)]
        image = np.asarray(waves, np.float32)[None]
        return np.asarray(self.run(image)[1][0].mean(axis=(1, 2)), np.float32)

"""Classification network in ONNX graphs: logits, activation maps and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from textcam_service.artefacts.backbone import (
    ACTIVATION_MAPS,
    ATTENTION,
    GAP_LINEAR,
    GRADIENT,
    HEAD_GRADIENT,
    INPUT,
    LOGITS,
    NO_HEAD,
    TAP,
    VERTEX_POSITIONS,
    BackboneManifest,
    digest_key,
)
from textcam_service.artefacts.files import read_artefact
from textcam_service.artefacts.parity import ParityReport, read_parity
from textcam_service.core.cam import weighted_maps
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
from textcam_service.runtime.device_tensors import NEEDED, Buckets, Device, DeviceRow, rows_only
from textcam_service.runtime.heads import (
    graph_logits,
    head_inputs,
    layer_inputs,
    linear_gradients,
    linear_logits,
    vjp,
)
from textcam_service.runtime.output import BackboneOutput
from textcam_service.runtime.providers import BF16, FP16, TF32, DeviceOptions
from textcam_service.runtime.sessions import load_sessions

# Precision of the trunk where the runtime rounds; otherwise the manifest's.
_ROUNDED = {TF32: "tf32", FP16: "float16", BF16: "bfloat16"}


class Backbone:
    """A verified backbone in sessions of onnxruntime or OpenVINO.

    Attributes:
        folder: Folder that it was loaded from.
        manifest: Description of the network and its graphs.
        head_weights: (C, D) float32 of a GAP + linear head; else empty.
        head_bias: (C,) float32 of a GAP + linear head; else empty.
        execution_provider: onnxruntime's execution provider of the trunk, or "OpenVINO".
        precision: Precision of the trunk: "float32", "int8", "tf32", "float16" or "bfloat16".
        buckets: Sizes to which batches are padded; without any, batches run as they come.
        graph_digest: Digest of the trunk's graph.
        parity: Agreement of an int8 backbone's explanations with those of the float one it was
            made from, or of reduced precision in OpenVINO on this machine, which the bundle adds;
            else None.
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
            folder: Folder written by write_backbone.
            providers: onnxruntime execution providers by preference, or "tensorrt", "cuda",
                "openvino", "cpu". Empty: CUDA where this build of onnxruntime has it and a device
                answers, else CPU.
            threads: Threads of the session; 0: as many as this process may use.
            device: Use of the device; None: DeviceOptions().

        Raises:
            ArtefactMissing: A file is missing.
            ArtefactCorrupt: A digest does not match, or a graph does not load.
            InvalidSettings: A provider is not in this build of onnxruntime, does not start, or
                does not compute in the requested precision.
        """
        options = device or DeviceOptions()
        tensors, manifest = read_artefact(folder, "backbone")
        self.folder = folder
        self.manifest = BackboneManifest.from_json(manifest)
        self.head_weights: Float32Array = tensors["head_weights"]
        self.head_bias: Float32Array = tensors["head_bias"]
        options.require_form(folder, is_int8=bool(self.manifest.quantized_from))
        size = self.manifest.preprocessing
        sessions = load_sessions(folder, manifest, size, providers, threads, options)
        self._session: Any = sessions.backbone
        self._head: Any = sessions.head
        self._layers: Any = sessions.layers
        self._device = sessions.device
        self.execution_provider = sessions.execution_provider
        self.buckets = Buckets(options.buckets if sessions.device else ())
        self.graph_digest: str = manifest[digest_key("backbone")]
        self.precision = _ROUNDED.get(options.precision, self.manifest.precision)
        self.parity: ParityReport | None = None
        if self.manifest.quantized_from:
            self.parity = read_parity(folder, self.manifest.parity_digest)

    @property
    def is_linear(self) -> bool:
        """Return True if the head is global average pooling and one linear layer."""
        return self.manifest.head_kind == GAP_LINEAR

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Queries that the backbone can answer."""
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
        """Shift a crop so that the maps' cells lie where the network saw them in the image."""
        right, down = self.manifest.grid_shift
        size = self.manifest.preprocessing
        return replace(
            crop,
            shift_x=right * crop.width / size.width,
            shift_y=down * crop.height / size.height,
        )

    def vertices(self, output: BackboneOutput) -> Vertices | None:
        """Return the positions of an image's vertices, or None if the maps lie on a grid."""
        if not self.manifest.vertices:
            return None
        size = self.manifest.preprocessing
        positions = np.asarray(output.further[VERTEX_POSITIONS])  # they stay on no device
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
        """Run a batch (N, 3, h, w) for all outputs that methods may need."""
        names = [LOGITS, ACTIVATION_MAPS, *self.manifest.outputs]
        if self._device is not None:
            parts = [
                self._forward_on_device(self._device, part, names[1:])
                for part in self.buckets.parts(images)
            ]
            return [output for part in parts for output in part]
        outputs = self._session.run(names, {INPUT: images})
        # Copies: an image that is still being explained must not keep its whole batch.
        each = [[row.copy() for row in array] for array in outputs] if len(images) > 1 else outputs
        return [
            BackboneOutput(logits, maps, dict(zip(self.manifest.outputs, further, strict=True)))
            for logits, maps, *further in zip(*each, strict=True)
        ]

    def warm(self) -> None:
        """Run each bucket once, so that engines are built and kernels chosen before requests.

        Runs the images, their gradients if the head has a graph of them, and weighted sums of
        one image's maps.
        """
        size, classes = self.manifest.preprocessing, len(self.manifest.class_names)
        for count in self.buckets.sizes:
            outputs = self.forward(np.zeros((count, 3, size.height, size.width), np.float32))
            if self.manifest.head_kind == GRADIENT:
                # Weights of 0 skip the gradients: see export.from_torch.conditional_gradient.
                self.gradients(outputs, np.ones((count, classes)))
            weighted_maps(np.zeros((1, self.manifest.channel_count)), outputs[0].activation_maps)

    def _forward_on_device(
        self, device: Device, images: Float32Array, names: list[str]
    ) -> list[BackboneOutput]:
        """Run a batch as in forward(); all outputs but the logits stay on the device."""
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
        """Run the trunk and bring its outputs to the host."""
        parts = []
        for part in self.buckets.parts(images):
            outputs = self._session.run(names, {INPUT: self.buckets.filled(part)}, NEEDED)
            parts.append([array[: len(part)] for array in outputs])
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def head_logits(self, maps: Float32Array, output: BackboneOutput) -> Float32Array:
        """Run the head on other activation maps (N, D, H, W) of an image: logits (N, C)."""
        if self.is_linear:
            return linear_logits(maps, self.head_weights, self.head_bias)
        assert self._head is not None  # noqa: S101 - Capability.HEAD
        return graph_logits(self._head, self.manifest, maps, output)

    def gradients(
        self, outputs: Sequence[BackboneOutput], class_weights: FloatArray
    ) -> Float32Array | list[DeviceRow]:
        """Compute gradients of scores by activation maps.

        Args:
            outputs: Outputs for N images.
            class_weights: (N, C); the scores are class_weights . logits.

        Returns:
            (N, D, H, W); if the maps are on a device, N rows that stay there.
        """
        if self.is_linear:
            shape = outputs[0].activation_maps.shape
            return linear_gradients(shape, class_weights, self.head_weights)
        inputs = head_inputs(outputs, self.manifest)
        rows = rows_only(inputs)
        if self._device is not None and rows is not None:
            return self._device.gradients(self._head, rows, class_weights, self.buckets)
        return vjp(self._head, inputs, class_weights, [HEAD_GRADIENT])[0]

    def attention(
        self, outputs: Sequence[BackboneOutput], class_weights: FloatArray
    ) -> Float32Array:
        """Compute how scores rise with attention to each position: (N, L, H, W)."""
        return vjp(self._head, head_inputs(outputs, self.manifest), class_weights, [ATTENTION])[0]

    def layer_gradients(
        self, outputs: Sequence[BackboneOutput], class_weights: FloatArray
    ) -> list[Float32Array]:
        """Compute gradients of scores by the further layers' maps: a list of (N, D_l, H_l, W_l)."""
        taps = [f"{TAP}{index}" for index in range(len(self.manifest.layers) - 1)]
        inputs = layer_inputs(outputs, self.manifest)
        return vjp(self._layers, inputs, class_weights, [HEAD_GRADIENT, *taps])

    def query(self, query: Query, output: BackboneOutput) -> Any:
        """Answer a method's query about an image; see core.methods.base."""
        if isinstance(query, HeadPasses):
            return self.head_logits(query.activation_maps, output)
        if isinstance(query, ImagePasses):
            return self.logits(query.images)
        weights = query.class_weights[None]
        if isinstance(query, LayerGradients):
            return [gradient[0] for gradient in self.layer_gradients([output], weights)]
        if isinstance(query, AttentionGradients):
            return self.attention([output], weights)[0]
        return self.gradients([output], weights)[0]

    def is_closed_form(self, query: Query) -> bool:
        """Return True if a query takes only arithmetic, and no session."""
        return self.is_linear and isinstance(query, (Gradient, HeadPasses))

    def fingerprint(self) -> Float32Array:
        """Compute the activation scores (D,) of one fixed synthetic image.

        A bank keeps those of the backbone it was built with, and loading compares them. So bank
        and backbone agree in what they compute, not only in what their manifests state.
        """
        size = self.manifest.preprocessing
        y, x = np.mgrid[0 : size.height, 0 : size.width]
        waves = [np.sin(x / (7 + 5 * c)) * np.cos(y / (11 + 3 * c)) for c in range(3)]
        image = np.asarray(waves, np.float32)[None]
        return np.asarray(self.run(image)[1][0].mean(axis=(1, 2)), np.float32)

"""The backbone: an ONNX network that answers logits and the target layer's activation maps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from textcam_service.artefact import (
    read_artefact,
    read_file,
    replaced_folder,
    sha256,
    write_artefact,
)
from textcam_service.core.types import Crop, Float32Array, Preprocessing
from textcam_service.errors import ArtefactCorrupt, InvalidSettings

GAP_LINEAR = "gap_linear"
INPUT, LOGITS, ACTIVATION_MAPS = "image", "logits", "activation_maps"


@dataclass(frozen=True)
class BackboneManifest:
    """What a backbone is.

    Attributes:
        architecture: Name of the network.
        target_layer: Name of the layer whose maps are explained.
        head_kind: "gap_linear": global average pooling, then one linear layer.
        weights_digest: Identity of network, weights, preprocessing and classes; does not
            depend on what exported them.
        preprocessing: From pixels to the network's input.
        class_names: C names, in order of index.
        channel_count: D.
        map_height: H.
        map_width: W.
        grid_shift: By how much the maps' cells lie right of and below an even grid over the
            input, in its pixels. Strided convolutions with symmetric padding centre a cell on
            its first pixel, half a cell off.
        exporter: Versions of what exported it, and the largest difference seen.
    """

    architecture: str
    target_layer: str
    head_kind: str
    weights_digest: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    channel_count: int
    map_height: int
    map_width: int
    exporter: Mapping[str, str]
    grid_shift: tuple[float, float] = (0.0, 0.0)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> BackboneManifest:
        """Read the manifest back from JSON values.

        Raises:
            ArtefactCorrupt: A field is missing or malformed.
        """
        try:
            known = BackboneManifest.__dataclass_fields__
            fields = {key: value[key] for key in known if key != "grid_shift"}
            fields["grid_shift"] = tuple(value.get("grid_shift", (0.0, 0.0)))
            given = dict(fields["preprocessing"])
            fields["preprocessing"] = Preprocessing(
                **{**given, "mean": tuple(given["mean"]), "std": tuple(given["std"])}
            )
            fields["class_names"] = tuple(fields["class_names"])
            return BackboneManifest(**fields)
        except (KeyError, TypeError) as error:
            raise ArtefactCorrupt(f"the backbone's manifest lacks a field: {error}") from error


def write_backbone(
    output: Path,
    onnx_model: bytes,
    head_weights: Float32Array,
    head_bias: Float32Array,
    manifest: BackboneManifest,
) -> None:
    """Write a backbone folder at once: backbone.onnx, .safetensors (the head) and .json.

    Args:
        output: The folder; replaced if it is there.
        onnx_model: The serialised graph, INPUT to LOGITS and ACTIVATION_MAPS.
        head_weights: (C, D).
        head_bias: (C,).
        manifest: What it is.
    """
    with replaced_folder(output) as staging:
        (staging / "backbone.onnx").write_bytes(onnx_model)
        tensors = {"head_weights": head_weights, "head_bias": head_bias}
        content = {**asdict(manifest), "onnx_sha256": sha256(onnx_model)}
        write_artefact(staging, "backbone", tensors, content)


class Backbone:
    """A verified backbone in an onnxruntime session.

    Attributes:
        folder: Where it was loaded from.
        manifest: What it is.
        head_weights: (C, D) float32.
        head_bias: (C,) float32.
        execution_provider: Where onnxruntime runs it.
    """

    def __init__(self, folder: Path, *, providers: tuple[str, ...] = (), threads: int = 0) -> None:
        """Load, verify and place a backbone.

        Args:
            folder: As write_backbone wrote it.
            providers: onnxruntime execution providers by preference; empty: CUDA where this
                build of onnxruntime has it and a device answers, else CPU.
            threads: Of the session; 0: as many as this process may use.

        Raises:
            ArtefactMissing: A file is not there.
            ArtefactCorrupt: A digest is another, or the graph does not load.
            InvalidSettings: A provider is not in this build of onnxruntime.
        """
        tensors, manifest = read_artefact(folder, "backbone")
        self.folder = folder
        self.manifest = BackboneManifest.from_json(manifest)
        model = read_file(folder / "backbone.onnx")
        if sha256(model) != manifest["onnx_sha256"]:
            raise ArtefactCorrupt(
                f"{folder}/backbone.onnx does not have the digest that its manifest states; "
                "export it again"
            )
        self.head_weights: Float32Array = tensors["head_weights"]
        self.head_bias: Float32Array = tensors["head_bias"]
        self._session = _session(model, providers, threads)
        self.execution_provider: str = self._session.get_providers()[0]

    def on_grid(self, crop: Crop) -> Crop:
        """Where the maps' cells lie over the part of an image that the network saw."""
        right, down = self.manifest.grid_shift
        size = self.manifest.preprocessing
        return replace(
            crop,
            shift_x=right * crop.width / size.width,
            shift_y=down * crop.height / size.height,
        )

    def run(self, images: Float32Array) -> tuple[Float32Array, Float32Array]:
        """Run a batch: (N, 3, h, w) -> logits (N, C) and activation maps (N, D, H, W)."""
        logits, maps = self._session.run([LOGITS, ACTIVATION_MAPS], {INPUT: images})
        return logits, maps

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


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _session(model: bytes, providers: tuple[str, ...], threads: int) -> ort.InferenceSession:
    available = ort.get_available_providers()
    wanted = providers or tuple(
        name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available
    )
    missing = [name for name in wanted if name not in available]
    if missing:
        raise InvalidSettings(
            f"onnxruntime has no {', '.join(missing)} here, only {', '.join(available)}; "
            "install the extra 'gpu' in place of 'service', or choose another provider"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(model, options, providers=list(wanted))
    except Exception as error:
        raise ArtefactCorrupt(f"onnxruntime cannot load the backbone: {error}") from error

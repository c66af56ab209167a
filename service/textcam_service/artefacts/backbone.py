"""A backbone folder: ONNX graphs, a linear head's arrays and a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from textcam_service.artefacts.files import artefact_files, replaced_folder, sha256, write_artefact
from textcam_service.artefacts.parity import NAME as PARITY
from textcam_service.artefacts.parity import ParityReport, write_parity
from textcam_service.core.types import Float32Array, Preprocessing
from textcam_service.errors import ArtefactCorrupt

GAP_LINEAR, GRADIENT, FORWARD, NO_HEAD = "gap_linear", "gradient", "forward", "none"
INPUT, LOGITS, ACTIVATION_MAPS = "image", "logits", "activation_maps"
CLASS_WEIGHTS, HEAD_GRADIENT, ATTENTION = "class_weights", "gradient", "attention"
LAYER, TAP = "layer_", "tap_"
VERTEX_POSITIONS = "vertex_positions"
# Files of a backbone folder.
FILES = (
    *(f"{name}.onnx" for name in ("backbone", "head", "layers")),
    *artefact_files("backbone"),
    *artefact_files(PARITY),
)
# Names that a manifest may hold in place of those of its fields.
_ALIASES = {"quantised_from": "quantized_from"}


@dataclass(frozen=True)
class BackboneManifest:
    """Description of a backbone.

    Attributes:
        architecture: Name of the network.
        target_layer: Name of the layer with the maps that are explained.
        head_kind: Kind of the part from maps to logits. "gap_linear": global average pooling and
            one linear layer; "gradient": a separate graph with gradients; "forward": a separate
            graph without gradients; "none": it cannot run separately.
        weights_digest: Identity of network, weights, preprocessing and classes; does not
            depend on the exporter.
        preprocessing: Conversion of pixels to the network's input.
        class_names: C names, in order of index.
        channel_count: D.
        map_height: H of the saliency maps.
        map_width: W.
        grid_shift: Offset (right, down) of the maps' cells from an even grid over the input, in
            pixels of the input; measured with the network's own weights.
        exporter: Versions of the exporting packages, and the largest difference found.
        layers: Names of the further layers, in order of computation.
        outputs: Names of the graph's outputs after the logits and the maps.
        head_inputs: Outputs that the head's graph takes in addition to the maps.
        layers_inputs: Outputs that the further layers' graph takes.
        attention: True if the head's graph computes how the score rises with attention.
        vertices: V if the activation maps are (D, V, 1), on the vertices of a graph. They are
            drawn on H x W cells, and VERTEX_POSITIONS (N, V, 2) is among the outputs. 0: the maps
            are (D, H, W).
        quantized_from: weights_digest of the float backbone of an int8 one; empty for a float
            one.
        parity_digest: Digest of an int8 backbone's report of parity with the float one.
        multi_label: True if the classes do not exclude each other. Then the probability of a class
            is the sigmoid of its logit, else it is a softmax over all.
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
    layers: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    head_inputs: tuple[str, ...] = ()
    layers_inputs: tuple[str, ...] = ()
    attention: bool = False
    vertices: int = 0
    quantized_from: str = ""
    parity_digest: str = ""
    multi_label: bool = False

    @property
    def cells(self) -> int:
        """Number of positions of an activation map."""
        return self.vertices or self.map_height * self.map_width

    @property
    def precision(self) -> str:
        """Precision of the trunk: "float32" or "int8"; maps and logits are float32."""
        return "int8" if self.quantized_from else "float32"

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> BackboneManifest:
        """Read the manifest back from JSON values.

        Raises:
            ArtefactCorrupt: A field is missing or malformed.
        """
        try:
            known = BackboneManifest.__dataclass_fields__
            named = {_ALIASES.get(key, key): given for key, given in value.items()}
            fields = {key: named[key] for key in known if key in named}
            for key in ("grid_shift", "layers", "outputs", "head_inputs", "layers_inputs"):
                if key in fields:
                    fields[key] = tuple(fields[key])
            given = dict(fields["preprocessing"])
            fields["preprocessing"] = Preprocessing(
                **{**given, "mean": tuple(given["mean"]), "std": tuple(given["std"])}
            )
            fields["class_names"] = tuple(fields["class_names"])
            return BackboneManifest(**fields)
        except (KeyError, TypeError) as error:
            raise ArtefactCorrupt(f"the backbone's manifest lacks a field: {error}") from error
        except ValueError as error:
            raise ArtefactCorrupt(f"the backbone's manifest is malformed: {error}") from error


@dataclass(frozen=True)
class BackboneGraphs:
    """A backbone's serialised ONNX graphs.

    Attributes:
        backbone: INPUT -> LOGITS, ACTIVATION_MAPS and the manifest's further outputs.
        head: ACTIVATION_MAPS, CLASS_WEIGHTS and the manifest's head_inputs -> LOGITS,
            HEAD_GRADIENT, ATTENTION; without gradients: -> LOGITS. None: not needed, or absent.
        layers: The first further layer's maps, CLASS_WEIGHTS and layers_inputs -> LOGITS,
            HEAD_GRADIENT (of the first), TAP + "0" ... (of the others). None: no further layers.
    """

    backbone: bytes
    head: bytes | None = None
    layers: bytes | None = None


def write_backbone(
    output: Path,
    graphs: BackboneGraphs,
    linear: tuple[Float32Array, Float32Array] | None,
    manifest: BackboneManifest,
    parity: ParityReport | None = None,
) -> None:
    """Write a backbone folder as a whole: .onnx of each graph, .safetensors and .json.

    Args:
        output: The folder; an existing backbone is replaced.
        graphs: Serialised graphs.
        linear: Weights (C, D) and bias (C,) of a GAP + linear head.
        manifest: Description of the backbone.
        parity: Report of an int8 backbone.

    Raises:
        FolderTaken: The folder holds files that do not belong to a backbone.
    """
    weights, bias = linear or (np.zeros((0, 0), np.float32), np.zeros(0, np.float32))
    given = {"backbone": graphs.backbone, "head": graphs.head, "layers": graphs.layers}
    models = {name: model for name, model in given.items() if model is not None}
    with replaced_folder(output, FILES) as staging:
        for name, model in models.items():
            (staging / f"{name}.onnx").write_bytes(model)
        tensors = {"head_weights": weights, "head_bias": bias}
        digests = {digest_key(name): sha256(model) for name, model in models.items()}
        if parity is not None:
            manifest = replace(manifest, parity_digest=write_parity(staging, parity))
        write_artefact(staging, "backbone", tensors, {**asdict(manifest), **digests})


def digest_key(name: str) -> str:
    """Return the manifest's key for the digest of NAME.onnx."""
    return "onnx_sha256" if name == "backbone" else f"{name}_onnx_sha256"

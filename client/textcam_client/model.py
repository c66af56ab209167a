"""What the service says of its models, in Python's terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Provenance:
    """What made the answer, so that it can be made again.

    Attributes:
        model_name: The model.
        model_version: Its version.
        backbone_digest: "sha256:..." of the network.
        bank_digest: "sha256:..." of the concept bank.
        vocabulary_digest: "sha256:..." of the vocabulary.
        service_version: Of the server.
        decoder: What decoded the image: "pillow/JPEG", "raw" ...
        execution_provider: onnxruntime's.
        method: The CAM method.
        parameters: The method's parameters, by name.
        layers: The layers whose maps were used: the target layer, then the further ones of
            integrative_cam; empty from a server that does not tell.
        head_kind: "gap_linear", "gradient", "forward" or "none"; "" from a server that does not
            tell.
    """

    model_name: str
    model_version: str
    backbone_digest: str
    bank_digest: str
    vocabulary_digest: str
    service_version: str
    decoder: str
    execution_provider: str
    method: str
    parameters: Mapping[str, str] = field(hash=False)
    layers: tuple[str, ...] = ()
    head_kind: str = ""


@dataclass(frozen=True)
class ModelSummary:
    """A served model in short."""

    name: str
    version: str
    class_count: int
    phrase_count: int


@dataclass(frozen=True)
class Model:
    """A served model.

    Attributes:
        summary: Name, version and counts.
        class_names: In order of index.
        phrases: The vocabulary, in order of index.
        architecture: Name of the network.
        target_layer: Name of the layer whose maps are explained.
        input_size: (height, width) of the network's input, pixels.
        map_size: (H, W) of the saliency map, cells.
        channel_count: D.
        dead_channel_count: Channels whose scores never varied over the probing set.
        provenance: As every answer of this model has it; `decoder` is empty.
        methods: The CAM methods that it supports; the newer ones that this client does not
            know are left out.
    """

    summary: ModelSummary
    class_names: tuple[str, ...] = field(repr=False)
    phrases: tuple[str, ...] = field(repr=False)
    architecture: str
    target_layer: str
    input_size: tuple[int, int]
    map_size: tuple[int, int]
    channel_count: int
    dead_channel_count: int
    provenance: Provenance
    methods: tuple[str, ...] = ()

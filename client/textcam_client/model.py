"""What the service says of its models, in Python's terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CalibrationBin:
    """Phrases whose probability fell into one range: one line of a reliability table.

    Attributes:
        lower: Of the range, 0..1.
        upper: Of the range; itself not in it.
        probability: Mean probability of the phrases in it.
        observed: The share of them that was true; with probabilities that hold, the same.
        count: How many there were, each phrase counted once for every image.
    """

    lower: float
    upper: float
    probability: float
    observed: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """How well the phrases' probabilities held on the probing images when the bank was built.

    Attributes:
        source: Where the truth came from: "class_table", "labels", "own_predictions" or
            "image_text_scores"; "+" between several.
        images: Probing images that the probabilities were fitted on.
        min_probability: Below it no phrase is said, unless a request names another threshold.
        expected_calibration_error: By how much probability and observed share differ, mean over
            the bins weighted by count; 0 is best.
        bins: The reliability table, from the lowest range up.
    """

    source: str
    images: int
    min_probability: float
    expected_calibration_error: float
    bins: tuple[CalibrationBin, ...] = field(default=(), repr=False)


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
        method: The CAM method: "cam", "grad_cam" ...; a number if this client does not know it.
        parameters: The method's parameters, by name.
        layers: The layers whose maps were used: the target layer, then the further ones of
            integrative_cam; empty from a server that does not tell.
        head_kind: "gap_linear", "gradient", "forward" or "none"; "" from a server that does not
            tell.
        calibration: How the phrases' probabilities were fitted, and how well they held; None: the
            bank has none, and phrases have no probability.
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
    calibration: Calibration | None = None


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
        vocabulary: Its phrases, in order of index.
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
    vocabulary: tuple[str, ...] = field(repr=False)
    architecture: str
    target_layer: str
    input_size: tuple[int, int]
    map_size: tuple[int, int]
    channel_count: int
    dead_channel_count: int
    provenance: Provenance
    methods: tuple[str, ...] = ()

"""Descriptions of models and of the origin of results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CalibrationBin:
    """One line of a reliability table: the phrases with their probability in one range.

    Attributes:
        lower: Lower end of the range, 0..1.
        upper: Upper end of the range; the range ends below it.
        probability: Mean probability of the phrases in it.
        observed: Share of them that was true; equal to `probability` if calibration is perfect.
        count: Number of phrases, each counted once per image.
    """

    lower: float
    upper: float
    probability: float
    observed: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """Quality of the phrases' probabilities on the probing images, measured as the bank was built.

    Attributes:
        source: Origin of the true phrases: "class_table", "labels", "own_predictions" or
            "image_text_scores"; "+" between several.
        images: Probing images that the probabilities were fitted on.
        min_probability: Default threshold: phrases below it are left out.
        expected_calibration_error: Mean of |probability - observed| over the bins, weighted by
            count; 0 is best.
        bins: The reliability table, from the lowest range up.
    """

    source: str
    images: int
    min_probability: float
    expected_calibration_error: float
    bins: tuple[CalibrationBin, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Provenance:
    """Origin of a result, complete enough to compute it again.

    Attributes:
        model_name: The model.
        model_version: Its version.
        backbone_digest: "sha256:..." of the network.
        bank_digest: "sha256:..." of the concept bank.
        vocabulary_digest: "sha256:..." of the vocabulary.
        service_version: Version of the server.
        decoder: Decoder of the image: "pillow/JPEG", "raw" ... It ends in "icc" if an embedded
            colour profile was converted to sRGB, and in "icc ignored" if one was not used.
        execution_provider: onnxruntime's execution provider.
        method: The CAM method: "cam", "grad_cam" ...; a number if this client does not know it.
        parameters: The method's parameters, by name.
        layers: Layers with the maps that were used: the target layer, then the others of
            integrative_cam; empty from older servers.
        head_kind: "gap_linear", "gradient", "forward" or "none"; "" from older servers.
        calibration: Fit and quality of the phrases' probabilities; None: the bank has no
            calibration, and phrases have no probability.
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
    """Name, version and counts of a served model."""

    name: str
    version: str
    class_count: int
    phrase_count: int


@dataclass(frozen=True)
class Model:
    """A served model.

    Attributes:
        summary: Name, version and counts.
        class_names: Names of the classes, in order of index.
        vocabulary: Its phrases, in order of index.
        architecture: Name of the network.
        target_layer: Name of the layer with the maps that are explained.
        input_size: (height, width) of the network's input, pixels.
        map_size: (H, W) of the saliency map, cells.
        channel_count: D.
        dead_channel_count: Channels with constant scores over the probing set.
        provenance: Provenance of all results of this model, with an empty `decoder`.
        methods: Supported CAM methods, without those that this client does not know.
        multi_label: The classes do not exclude each other: several may be present in an image, or
            none. Their probabilities do not add up to 1.
        channel_phrases: D indices into `vocabulary`: the phrase that each channel supports most; -1
            if it supports none. Empty from older servers.
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
    multi_label: bool = False
    channel_phrases: tuple[int, ...] = field(default=(), repr=False)

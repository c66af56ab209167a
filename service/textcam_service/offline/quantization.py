"""Int8 backbones for CPUs, made from float ones and required to explain as they do.

onnxruntime's static quantization: weights per channel, activations in ranges seen on calibration
images. Only what leads to the activation maps is quantized; the head stays float, so that the
evidence still adds up to the logit.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from textcam_service.artefacts.backbone import (
    ACTIVATION_MAPS,
    FILES,
    INPUT,
    BackboneGraphs,
    write_backbone,
)
from textcam_service.artefacts.files import canonical_json, read_file, require_replaceable, sha256
from textcam_service.artefacts.parity import ParityReport
from textcam_service.core.agreement import AgreementThresholds
from textcam_service.core.types import Float32Array
from textcam_service.errors import InvalidSettings, ProbingSetError, QuantizationRefused
from textcam_service.imaging.decoding import prepare
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.dataset import ImageFolder
from textcam_service.offline.evaluation.parity import compare
from textcam_service.runtime.backbone import Backbone

_LAYERS = {"Conv", "Gemm", "MatMul"}

Progress = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True)
class QuantizationSettings:
    """Settings of a quantization.

    Attributes:
        float_layers: Number of the first convolutions and matrix products that stay float, with
            what lies between them. The first layers' rounding affects all later layers.
        reduce_range: Use 7-bit weights, for CPUs without VNNI: their sums of 8-bit products
            overflow.
    """

    float_layers: int = 6
    reduce_range: bool = False


def quantize(
    bundle: ModelBundle,
    calibration: Sequence[Path],
    held_out: Sequence[Path],
    output: Path,
    settings: QuantizationSettings | None = None,
    thresholds: AgreementThresholds | None = None,
    *,
    progress: Progress = lambda _name, _total: lambda _done: None,
) -> ParityReport:
    """Write the int8 form of a bundle's backbone, if it explains as the float one does.

    Args:
        bundle: The float backbone with the bank that will be served.
        calibration: Images that set the ranges of the activations.
        held_out: Other images, which both backbones explain.
        output: Folder of the int8 backbone; an existing backbone is replaced.
        settings: Settings of the quantization.
        thresholds: Agreement that it must reach.
        progress: Called with a step's name and size; what it returns is called as work is done.

    Raises:
        InvalidSettings: The backbone is an int8 one already, or `output` is its own folder.
        FolderTaken: `output` holds anything but a backbone.
        ProbingSetError: Too few images can be read, or some are in both sets.
        QuantizationRefused: onnxruntime cannot quantize the graph, or a threshold is missed;
            nothing is written.
    """
    settings, thresholds = settings or QuantizationSettings(), thresholds or AgreementThresholds()
    own = bundle.backbone
    if own.manifest.quantized_from:
        raise InvalidSettings(f"{own.folder} is an int8 backbone already; give its float form")
    if output.resolve() == own.folder.resolve():
        raise InvalidSettings(f"{output} holds the float backbone, which is kept; give another")
    require_replaceable(output, FILES)
    if {path.resolve() for path in calibration} & {path.resolve() for path in held_out}:
        raise ProbingSetError(
            "images for calibration cannot also be compared; give other images to compare"
        )
    with tempfile.TemporaryDirectory() as folder:
        seen = _inputs(calibration, bundle, progress("calibration", len(calibration)))
        graph, used = quantized_graph(own, seen, settings, Path(folder))
        candidate = _candidate(own, graph, Path(folder) / "candidate")
        told = progress("comparing explanations", len(held_out))
        figures = compare(bundle, replace(bundle, backbone=candidate), held_out, told)
        report = ParityReport(
            figures,
            thresholds,
            bundle.artefact.bank_digest,
            bundle.artefact.vocabulary_digest,
            {**asdict(settings), "images": used, "onnxruntime": ort.__version__},
            candidate.fingerprint(),
        )
        if not figures.meets(thresholds):
            raise QuantizationRefused(
                f"the int8 backbone does not explain as the float one: {report}; nothing was "
                f"written. Keep more layers float (--float-layers above {settings.float_layers}), "
                "calibrate on more images or on images more like those that are served, or serve "
                "the float backbone"
            )
        _write(own, graph, output, report)
    return report


def split(images: Sequence[Path], count: int) -> tuple[list[Path], list[Path]]:
    """Divide images into those for calibration and those for comparison, by a fixed shuffle."""
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    shuffled = [images[index] for index in order]
    return shuffled[:count], shuffled[count:]


def quantized_graph(
    backbone: Backbone,
    inputs: Iterator[Float32Array],
    settings: QuantizationSettings,
    work: Path,
) -> tuple[bytes, int]:
    """Compute the int8 form of a backbone's graph.

    Args:
        backbone: The float one.
        inputs: Network inputs (3, h, w) for the calibration.
        settings: Settings of the quantization.
        work: Folder for temporary files.

    Returns:
        The serialised graph, with float inputs and outputs; and the number of images used.

    Raises:
        ProbingSetError: There is no input.
        QuantizationRefused: onnxruntime cannot quantize the graph.
    """
    prepared, made = work / "prepared.onnx", work / "int8.onnx"
    reader = _Reader(inputs)
    try:
        with _quiet():
            quant_pre_process(backbone.folder / "backbone.onnx", prepared, skip_symbolic_shape=True)
            model = onnx.load(prepared)
            for index, node in enumerate(model.graph.node):
                node.name = f"{node.op_type}_{index}"  # foreign graphs may leave names out
            onnx.save(model, prepared)
            quantization.quantize_static(
                prepared,
                made,
                reader,
                per_channel=True,
                reduce_range=settings.reduce_range,
                # What onnxruntime's CPU kernels are fastest at: uint8 by int8.
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=_float_nodes(model.graph, settings.float_layers),
            )
    except Exception as error:  # whatever the tool may meet in a foreign network
        if not reader.count:
            raise ProbingSetError("none of the calibration images could be read") from error
        raise QuantizationRefused(
            f"onnxruntime cannot quantize {backbone.manifest.architecture}: {error}"
        ) from error
    graph = made.read_bytes()
    if not any(node.op_type == "QuantizeLinear" for node in onnx.load(made).graph.node):
        raise QuantizationRefused(
            f"nothing is left to quantize in {backbone.manifest.architecture}; keep fewer than "
            f"{settings.float_layers} layers float"
        )
    return graph, reader.count


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc] # it ships no types
    """Reader that feeds the tool one input at a time, and counts them."""

    def __init__(self, inputs: Iterator[Float32Array]) -> None:
        self._inputs = inputs
        self.count = 0

    def get_next(self) -> dict[str, Float32Array] | None:
        found = next(self._inputs, None)
        if found is None:
            return None
        self.count += 1
        return {INPUT: found[None]}


def _float_nodes(graph: Any, float_layers: int) -> list[str]:
    """List the names of the nodes that stay float.

    These are the first layers, and all nodes that do not lead to the activation maps.
    """
    makers = {name: node for node in graph.node for name in node.output}
    trunk, wanted = set(), [ACTIVATION_MAPS]
    while wanted:
        node = makers.get(wanted.pop())
        if node is not None and node.name not in trunk:
            trunk.add(node.name)
            wanted += node.input
    kept, layers = [], 0
    for node in graph.node:
        layers += node.op_type in _LAYERS and node.name in trunk
        if layers <= float_layers or node.name not in trunk:
            kept.append(node.name)
    return kept


def _candidate(own: Backbone, graph: bytes, folder: Path) -> Backbone:
    """Load the int8 network under the float one's name, only to be compared."""
    _write(own, graph, folder, None)
    return Backbone(folder, providers=(own.execution_provider,))


def _write(own: Backbone, graph: bytes, output: Path, report: ParityReport | None) -> None:
    """Write the int8 graph with what stays float; without a report, as a float backbone."""
    manifest = own.manifest
    if report is not None:
        source = manifest.weights_digest
        digest = sha256(canonical_json({"quantized_from": source, "graph": sha256(graph)}))
        manifest = replace(manifest, weights_digest=digest, quantized_from=source)
    kept = {
        name: read_file(own.folder / f"{name}.onnx")
        for name in ("head", "layers")
        if (own.folder / f"{name}.onnx").is_file()
    }
    linear = (own.head_weights, own.head_bias) if own.is_linear else None
    write_backbone(output, BackboneGraphs(graph, **kept), linear, manifest, report)


def _inputs(
    paths: Sequence[Path], bundle: ModelBundle, progress: Callable[[int], None]
) -> Iterator[Float32Array]:
    for path in paths:
        for _, image in ImageFolder([path]).read_images():
            yield prepare(image, bundle.backbone.manifest.preprocessing)[0]
        progress(1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tool's prints and warnings from the user; its errors are raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)

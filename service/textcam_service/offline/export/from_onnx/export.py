"""Export of users' ONNX classifiers: choose, split, translate and verify; export.plan writes.

The backbone is split at a named tensor. Its head has no gradients, unless it has a closed form.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from textcam_service.artefacts.backbone import (
    ACTIVATION_MAPS,
    FORWARD,
    GAP_LINEAR,
    INPUT,
    LOGITS,
    NO_HEAD,
)
from textcam_service.artefacts.files import canonical_json, sha256
from textcam_service.core.preprocess import normalize
from textcam_service.core.types import Float32Array, Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.dynamic_batch import (
    OnnxClassifier,
    make_dynamic,
    run_each,
)
from textcam_service.offline.export.from_onnx.embeddings import require_classifier
from textcam_service.offline.export.from_onnx.feeding import FROM_FILE, OnnxInterface
from textcam_service.offline.export.from_onnx.nodes import TOLERANCE, is_close, run_model
from textcam_service.offline.export.from_onnx.reading import OWN, read_onnx
from textcam_service.offline.export.from_onnx.split import (
    closed_form,
    load_head,
    with_maps,
)
from textcam_service.offline.export.from_onnx.target_layer import OnnxSplit, choose_split, split_at
from textcam_service.offline.export.numerics import relative_difference
from textcam_service.offline.export.plan import ExportedHead, ExportPlan, write_export
from textcam_service.offline.export.report import ExportReport
from textcam_service.offline.networks.network import (
    NOTHING_STATED,
    StatedPreprocessing,
    has_names,
    numbered,
    unique_names,
)


def export_onnx(
    path: Path,
    output: Path,
    *,
    preprocessing: StatedPreprocessing = NOTHING_STATED,
    interface: OnnxInterface = FROM_FILE,
    class_names: tuple[str, ...] = (),
    target_layer: str = "",
    multi_label: bool = False,
) -> ExportReport:
    """Make a backbone of an ONNX classifier.

    If the logits are linear in the mean of the maps, the head has a closed form, and all methods
    with gradients work. Otherwise the rest of the graph is the head, without gradients.

    Args:
        path: The model: one input, images (N, 3, h, w) or (N, h, w, 3) of float32 or uint8; one
            output, logits (N, C) or their softmax or sigmoid, which is cut off. N may be fixed: it
            is made free, or, if it is 1 and cannot be, the backbone runs one image of a batch
            after the other.
        output: The backbone's folder; an existing backbone there is replaced.
        preprocessing: See read_onnx.
        interface: Choices about its input and output.
        class_names: C names; empty: those in the file's metadata ("class_names", "names",
            "classes" or "labels": a list, or a mapping by index), else "class 0" ...
        target_layer: Name of a tensor, or of the node that gives it; empty: the last one that
            holds maps, that all of the network passes through, and that has mostly positions that
            matter to the logits.
        multi_label: The classes do not exclude each other; a sigmoid at the end of the file states
            this too.

    Raises:
        ExportRefused: The file is no such model, or cannot be split there, or the result differs
            from it by more than 1e-4.
        FolderTaken: The folder holds anything but a backbone.
    """
    plan = plan_onnx(
        path,
        preprocessing=preprocessing,
        interface=interface,
        class_names=class_names,
        target_layer=target_layer,
        multi_label=multi_label,
    )
    return write_export(plan, output)


def plan_onnx(
    path: Path,
    *,
    preprocessing: StatedPreprocessing = NOTHING_STATED,
    interface: OnnxInterface = FROM_FILE,
    class_names: tuple[str, ...] = (),
    target_layer: str = "",
    multi_label: bool = False,
) -> ExportPlan:
    """Split, translate and verify a classifier; arguments and errors as for export_onnx."""
    file = read_onnx(path, preprocessing, interface)
    pixels = _sample_images(file.preprocessing)
    classifier = make_dynamic(file, pixels)
    names = _class_names(classifier, class_names)
    _check_class_count(classifier)
    multi_label = _is_multi_label(classifier, multi_label)
    if target_layer:
        parts = split_at(classifier, target_layer, pixels)
    else:
        parts = choose_split(classifier, pixels)
    _refuse_probabilities(path, parts.outputs[LOGITS])
    if not classifier.file.ending and not has_names(names):
        require_classifier(classifier.file, parts.outputs[LOGITS])
    logits_error, maps_error = _verify(classifier, parts, pixels)
    target = parts.target.removeprefix(OWN)
    model = file.model
    labels = ["multi_label"] if multi_label else []
    identity = canonical_json([target, names, file.preprocessing.identity(), *labels])
    return ExportPlan(
        architecture=os.fsencode(path.stem).decode(errors="replace"),
        target_layer=target,
        weights_digest=sha256(identity + model.SerializeToString()),
        preprocessing=file.preprocessing,
        class_names=names,
        layout=parts.layout,
        backbone=parts.backbone.SerializeToString(),
        outputs=parts.contexts,
        head=_export_head(parts),
        logits_error=logits_error,
        maps_error=maps_error,
        exporter={
            "onnx": onnx.__version__,
            "onnxruntime": ort.__version__,
            "producer": f"{model.producer_name} {model.producer_version}".strip(),
        },
        notes=file.notes,
        multi_label=multi_label,
    )


def _sample_images(preprocessing: Preprocessing) -> Float32Array:
    """Draw network inputs (3, 3, h, w) from images of noise."""
    size = 3, preprocessing.height, preprocessing.width, 3
    images = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    return np.stack([normalize(image, preprocessing) for image in images])


def _class_names(classifier: OnnxClassifier, stated: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names given, those of the metadata, or numbers; refuse another number of them."""
    names, count = stated or classifier.file.class_names, classifier.class_count
    if names and len(names) != count:
        source = "" if stated else " in its metadata; give others with --classes"
        raise ExportRefused(
            f"{classifier.file.path}: {count} logits, {len(names)} class names{source}"
        )
    return unique_names(names) or numbered(count)


def _check_class_count(classifier: OnnxClassifier) -> None:
    if classifier.class_count < 2:
        raise ExportRefused(
            f"{classifier.file.path} answers {classifier.class_count} logit, but the service takes "
            "a softmax over the classes; give two logits, [0, z] in place of z"
        )


def _is_multi_label(classifier: OnnxClassifier, stated: bool) -> bool:
    ending, path = classifier.file.ending, classifier.file.path
    if stated and "Softmax" in ending:
        raise ExportRefused(
            f"{path} ends in a {ending}: its classes exclude each other; leave out --multi-label"
        )
    return stated or ending == "Sigmoid"


def _refuse_probabilities(path: Path, logits: Float32Array) -> None:
    """Refuse probabilities that no node named Softmax gave."""
    if bool((logits >= 0).all()) and bool(np.abs(logits.sum(axis=1) - 1).max() < TOLERANCE):
        raise ExportRefused(
            f"{path} answers probabilities, but the service takes logits and their softmax "
            "itself; export it without its last softmax"
        )


def _export_head(parts: OnnxSplit) -> ExportedHead:
    """Export the head, in closed form if it has one."""
    if parts.head is None:
        return ExportedHead(NO_HEAD, without=parts.without)
    linear = None if parts.contexts else closed_form(load_head(parts.head, {}), parts.shape)
    if linear is not None:
        weights, bias = linear
        rebuilt = parts.outputs[ACTIVATION_MAPS].mean(axis=(2, 3)) @ weights.T + bias
        if is_close(rebuilt, parts.outputs[LOGITS]):
            return ExportedHead(GAP_LINEAR, linear=linear)
    graph = parts.head.SerializeToString()
    return ExportedHead(FORWARD, graph, parts.contexts, without="an ONNX model has none")


def _verify(
    classifier: OnnxClassifier, parts: OnnxSplit, pixels: Float32Array
) -> tuple[float, float]:
    """Return the largest relative difference (logits, maps) to the file, run image by image.

    Raises:
        ExportRefused: It is too large.
    """
    file = classifier.file
    given = with_maps(file.model, file.logits, parts.target, parts.layout)
    wanted = run_each(file, given, pixels)
    alone = run_model(parts.backbone, file.path, {INPUT: pixels[:1]})
    logits_error, maps_error = (
        max(
            relative_difference(alone[name], own[:1]),
            relative_difference(parts.outputs[name], own),
        )
        for name, own in zip((LOGITS, ACTIVATION_MAPS), wanted, strict=False)
    )
    if not max(logits_error, maps_error) <= TOLERANCE:
        raise ExportRefused(
            f"{file.path}: split for batches of any size, it differs from the results of single "
            f"images by {logits_error:.2g} (logits) and {maps_error:.2g} (activation maps); "
            "export it in evaluation mode, so that no image depends on the others of its batch"
        )
    return logits_error, maps_error

"""Encoder of ModelInfer responses: results to outputs by name, image by image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from textcam.oip import open_inference_pb2 as oip

from textcam_service.core.methods import Method
from textcam_service.errors import ResponseTooLarge
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.engine.cancellation import CancellationToken
from textcam_service.serving.engine.jobs import ExplainJob
from textcam_service.serving.engine.results import ExplainResult, ImageInfo, TargetResult
from textcam_service.serving.grpc.oip.tensors import Array, add_output, numpy_type

# By name: type, and shape for one image.
OutputSpecs: TypeAlias = Mapping[str, tuple[str, tuple[int, ...]]]
_FP32_BYTES = 4


def output_specs(bundle: ModelBundle, phrases: int) -> OutputSpecs:
    """Return the outputs of each image of a model, with `phrases` phrases.

    Each phrase has its share of the logit, `evidence`, which adds up with the rest, bias and gap;
    its effect, `effects`; and the probability that it is true, `phrase_probabilities`, NaN if the
    bank has no calibration. See Phrase in types.proto.
    """
    manifest = bundle.backbone.manifest
    cells, classes = (manifest.map_height, manifest.map_width), (len(bundle.class_names),)
    return {
        "logits": ("FP32", classes),
        "probabilities": ("FP32", classes),
        "class_index": ("INT64", ()),
        "class_name": ("BYTES", ()),
        "saliency_map": ("FP32", cells),
        "phrases": ("BYTES", (phrases,)),
        "evidence": ("FP32", (phrases,)),
        "effects": ("FP32", (phrases,)),
        "phrase_probabilities": ("FP32", (phrases,)),
        "group_maps": ("FP32", (phrases, *cells)),
        "rest_map": ("FP32", cells),
        "rest_evidence": ("FP32", ()),
        "bias": ("FP32", ()),
        "gap": ("FP32", ()),
        "sentence": ("BYTES", ()),
    }


def least_bytes(specs: OutputSpecs, names: Sequence[str], images: int) -> int:
    """Return the bytes that the outputs' numbers alone take in a response."""
    asked = (specs[name] for name in names)
    return images * sum(_FP32_BYTES * math.prod(shape) for kind, shape in asked if kind == "FP32")


def check_bytes(size: int, images: int, max_bytes: int) -> None:
    """Refuse a response that is too large for a message.

    Raises:
        ResponseTooLarge: It is over the limit; the message says what to leave out.
    """
    if size > max_bytes:
        raise ResponseTooLarge(
            f"the outputs of {images} image(s) take {size} bytes, but this server sends messages "
            f"of at most {max_bytes}; send fewer images at a time, or name in 'outputs' only those "
            "that you need",
            field="outputs",
        )


class BatchOutputs:
    """Requested outputs of a batch, one array each, into which results are written once.

    Args:
        names: Names of the requested outputs, in order.
        specs: See output_specs().
        count: Number of images.

    Attributes:
        arrays: Arrays (count, ...) by name; 0 or empty where an image has fewer phrases.
        datatypes: Data types by name.
    """

    def __init__(self, names: Sequence[str], specs: OutputSpecs, count: int) -> None:
        self.datatypes = {name: specs[name][0] for name in names}
        self.arrays: dict[str, Array] = {
            name: _empty((count, *specs[name][1]), specs[name][0]) for name in names
        }

    def encoder(self, index: int) -> RowEncoder:
        """Return the encoder of one image's result."""
        return RowEncoder(self.arrays, index)


class RowEncoder:
    """Writes one image's result into its row of a batch's outputs.

    Args:
        arrays: See BatchOutputs.
        index: Index of the image.
    """

    def __init__(self, arrays: Mapping[str, Array], index: int) -> None:
        self._arrays = arrays
        self._index = index

    def check(self, job: ExplainJob, image: ImageInfo, map_count: int) -> None:
        """Admit any image: check_bytes() has judged the batch as a whole."""

    def encode(self, result: ExplainResult, token: CancellationToken) -> None:
        """Write the outputs of a result with one target."""
        del token
        (explanation,) = result.explanations
        for name, array in self._arrays.items():
            if name in _OF_IMAGE:
                array[self._index] = _OF_IMAGE[name](result, explanation)
            else:
                row = array[self._index]
                for place, value in enumerate(_OF_PHRASES[name](explanation)):
                    row[place] = value


def write_response(
    request: oip.ModelInferRequest, outputs: BatchOutputs, bundle: ModelBundle, method: Method
) -> oip.ModelInferResponse:
    """Encode the response.

    Args:
        request: The request as received; the response has its form of contents, raw or typed.
        outputs: The outputs, with all results written.
        bundle: The model.
        method: The CAM method.
    """
    response = oip.ModelInferResponse(
        model_name=bundle.name, model_version=bundle.version, id=request.id
    )
    for name, value in {
        "backbone_digest": bundle.backbone.manifest.weights_digest,
        "bank_digest": bundle.artefact.bank_digest,
        "vocabulary_digest": bundle.artefact.vocabulary_digest,
        "method": method.name,
    }.items():
        response.parameters[name].string_param = value
    raw = bool(request.raw_input_contents)
    for name, array in outputs.arrays.items():
        add_output(response, name, outputs.datatypes[name], array, raw=raw)
    return response


def _empty(shape: tuple[int, ...], datatype: str) -> Array:
    if datatype == "BYTES":
        return np.full(shape, b"", object)
    return np.zeros(shape, numpy_type(datatype))


# Outputs of an image as a whole.
_OF_IMAGE: Mapping[str, Callable[[ExplainResult, TargetResult], Any]] = {
    "logits": lambda result, _: result.scores.logits,
    "probabilities": lambda result, _: result.scores.probabilities,
    "class_index": lambda _, own: own.target.class_index,
    "class_name": lambda _, own: own.target.class_name.encode(),
    "saliency_map": lambda _, own: own.rationale.saliency_map,
    "rest_map": lambda _, own: own.rationale.rest.saliency_map,
    "rest_evidence": lambda _, own: own.rationale.rest.evidence,
    "bias": lambda _, own: own.rationale.bias,
    "gap": lambda _, own: own.rationale.gap,
    "sentence": lambda _, own: own.sentence.encode(),
}
# Outputs with a value per phrase; an image may have fewer phrases than the output has places.
_OF_PHRASES: Mapping[str, Callable[[TargetResult], Sequence[Any]]] = {
    "phrases": lambda own: [phrase.text.encode() for phrase in own.rationale.phrases],
    "evidence": lambda own: [phrase.evidence for phrase in own.rationale.phrases],
    "effects": lambda own: [phrase.effect for phrase in own.rationale.phrases],
    "phrase_probabilities": lambda own: [
        np.nan if phrase.probability is None else phrase.probability
        for phrase in own.rationale.phrases
    ],
    "group_maps": lambda own: [group.saliency_map for group in own.rationale.groups],
}

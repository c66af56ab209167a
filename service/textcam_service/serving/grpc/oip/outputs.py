"""From answers to a ModelInfer's outputs: an answer's parts by name, image by image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from textcam.oip import open_inference_pb2 as oip
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb

from textcam_service.errors import ResponseTooLarge
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.grpc.explainer.requests import method_name
from textcam_service.serving.grpc.oip.tensors import Array, add_output

# By name: type, and shape for one image.
Outputs: TypeAlias = "dict[str, tuple[str, tuple[int, ...]]]"
_FP32_BYTES = 4


def outputs_of(bundle: ModelBundle, phrases: int) -> Outputs:
    """What there is of each image of a model, with `phrases` phrases.

    Of each phrase there are its share of the logit, `evidence`, which adds up with the rest, bias
    and gap; its effect, `effects`; and how likely it is true, `phrase_probabilities`, NaN where the
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


def least_bytes(outputs: Outputs, names: Sequence[str], images: int) -> int:
    """What the outputs' numbers alone take in an answer."""
    asked = (outputs[name] for name in names)
    return images * sum(_FP32_BYTES * math.prod(shape) for kind, shape in asked if kind == "FP32")


def check_bytes(size: int, images: int, max_bytes: int) -> None:
    """Refuse an answer that gRPC would not send.

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


def respond(
    request: oip.ModelInferRequest,
    names: Sequence[str],
    outputs: Outputs,
    answers: Sequence[pb.ExplainResponse],
    bundle: ModelBundle,
) -> oip.ModelInferResponse:
    """The whole answer.

    Args:
        request: As it came; its form of contents, raw or typed, is the answer's.
        names: Of the outputs that were asked for.
        outputs: See outputs_of().
        answers: Image by image.
        bundle: What answered.
    """
    response = oip.ModelInferResponse(
        model_name=bundle.name, model_version=bundle.version, id=request.id
    )
    provenance = answers[0].provenance
    for name in ("backbone_digest", "bank_digest", "vocabulary_digest"):
        response.parameters[name].string_param = getattr(provenance, name)
    response.parameters["method"].string_param = method_name(provenance.method)
    raw = bool(request.raw_input_contents)
    parts = [_parts(answer, outputs) for answer in answers]
    for name in names:
        kind, _ = outputs[name]
        add_output(response, name, kind, np.stack([part[name] for part in parts]), raw=raw)
    return response


def _parts(answer: pb.ExplainResponse, outputs: Outputs) -> dict[str, Any]:
    """One answer's outputs by name; where fewer phrases were found, the last are empty."""
    (explanation,) = answer.explanations
    ranked = sorted(answer.predictions, key=lambda prediction: prediction.class_index)
    (count,) = outputs["phrases"][1]
    words, (evidence, effects, chances) = np.full(count, b"", object), np.zeros((3, count))
    for place, phrase in enumerate(explanation.phrases):
        words[place] = phrase.text.encode()
        evidence[place] = phrase.evidence
        effects[place] = phrase.effect
        chances[place] = phrase.probability if phrase.HasField("probability") else np.nan
    parts = {
        "logits": np.array([prediction.logit for prediction in ranked]),
        "probabilities": np.array([prediction.probability for prediction in ranked]),
        "class_index": np.int64(explanation.target.class_index),
        "class_name": np.array(explanation.target.class_name.encode(), object),
        "saliency_map": _map(explanation.saliency_map),
        "phrases": words,
        "evidence": evidence,
        "effects": effects,
        "phrase_probabilities": chances,
        "rest_evidence": np.float32(explanation.rest.evidence),
        "bias": np.float32(explanation.bias),
        "gap": np.float32(explanation.gap),
        "sentence": np.array(explanation.sentence.encode(), object),
    }
    if explanation.rest.HasField("saliency_map"):  # else no map but the whole was asked for
        maps = np.zeros(outputs["group_maps"][1], np.float32)
        for place, group in enumerate(explanation.groups):
            maps[place] = _map(group.saliency_map)
        parts |= {"group_maps": maps, "rest_map": _map(explanation.rest.saliency_map)}
    return parts


def _map(tensor: types_pb.Tensor) -> Array:
    return np.frombuffer(tensor.data, "<f4").reshape(tuple(tensor.shape))

"""Between Python's terms and the contract's messages."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from textcam.v1 import explainer_pb2 as pb

from textcam_client import types
from textcam_client.errors import MalformedAnswer, Unavailable, UnsupportedImage
from textcam_client.geometry import Crop, Float32Array, UInt8Array
from textcam_client.images import ImageInput, ImageSource
from textcam_client.options import ClassRef, Contrast, Options, Target, TopK
from textcam_client.view import View

Prepare: TypeAlias = Callable[[ImageInput], tuple[pb.ExplainRequest, ImageSource]]

_HEATMAP_FORMS: Mapping[str, pb.HeatmapForm] = {
    "none": pb.HEATMAP_FORM_NONE,
    "saliency": pb.HEATMAP_FORM_SALIENCY,
    "image": pb.HEATMAP_FORM_IMAGE,
    "overlay": pb.HEATMAP_FORM_OVERLAY,
}
_DTYPES: Mapping[int, Any] = {
    pb.Tensor.D_TYPE_UINT8: np.dtype(np.uint8),
    pb.Tensor.D_TYPE_FLOAT32: np.dtype("<f4"),
}


# --- requests -------------------------------------------------------------------


def request_template(options: Options) -> pb.ExplainRequest:
    """Build a request without its image and id.

    Raises:
        TypeError: The target is of none of the types that name targets.
        ValueError: An option is outside what the contract can carry.
    """
    if options.heatmap not in _HEATMAP_FORMS:
        raise ValueError(f"heatmap is one of {sorted(_HEATMAP_FORMS)}, not {options.heatmap!r}")
    return pb.ExplainRequest(
        model=model_spec(options.model, options.version),
        target=target_message(options.target),
        phrases=options.phrases,
        groups=options.groups,
        heatmap=_HEATMAP_FORMS[options.heatmap],
        predictions=options.predictions,
        method=None if options.method is None else _method_number(options.method),
    )


def _method_number(name: str) -> pb.CamMethod:
    known = {_method_name(number): number for number in pb.CamMethod.values() if number}
    if name not in known:
        raise ValueError(f"method is one of {', '.join(known)}, not {name!r}")
    number: pb.CamMethod = known[name]
    return number


def _method_name(number: int) -> str:
    return str(pb.CamMethod.Name(number)).removeprefix("CAM_METHOD_").lower()


def preparer(options: Options, max_message_bytes: int) -> Prepare:
    """Build what turns an image into a request without an id, and what keeps the image.

    It raises ImageError where the image cannot be read, or is over the message limit.

    Raises:
        TypeError, ValueError: As `request_template`.
    """
    template = request_template(options)

    def prepare(image: ImageInput) -> tuple[pb.ExplainRequest, ImageSource]:
        source = ImageSource(image)
        payload = source.payload()
        size = len(payload) if isinstance(payload, bytes) else payload.nbytes
        if size > max_message_bytes:
            raise UnsupportedImage(
                f"the image takes {size} bytes, over this client's max_message_bytes of "
                f"{max_message_bytes}"
            )
        request = pb.ExplainRequest()
        request.CopyFrom(template)
        if isinstance(payload, bytes):
            request.encoded = payload
        else:
            request.pixels.CopyFrom(pixels_message(payload))
        return request, source

    return prepare


def model_spec(name: str | None, version: str | None) -> pb.ModelSpec:
    """Name a model; None leaves the choice to the server."""
    return pb.ModelSpec(name=name or "", version=version or "")


def target_message(target: Target) -> pb.Target:
    """Turn any form of a target into the contract's."""
    if target is None:
        return pb.Target()
    if isinstance(target, TopK):
        return pb.Target(top_k=pb.Target.TopK(k=target.k))
    if isinstance(target, Contrast):
        pair = {"class": _class_ref(target.target), "against": _class_ref(target.against)}
        return pb.Target(contrast=pb.Target.Contrast(**pair))
    several = isinstance(target, (Sequence, np.ndarray)) and not isinstance(target, (str, bytes))
    chosen: Any = target if several else [target]
    return pb.Target(classes=pb.Target.Classes(classes=[_class_ref(c) for c in chosen]))


def pixels_message(pixels: UInt8Array) -> pb.Tensor:
    """Send (h, w, 3) uint8 pixels as they are."""
    return pb.Tensor(dtype=pb.Tensor.D_TYPE_UINT8, shape=pixels.shape, data=pixels.tobytes())


def _class_ref(given: ClassRef) -> pb.ClassRef:
    if isinstance(given, str):
        return pb.ClassRef(name=given)
    try:
        return pb.ClassRef(index=operator.index(given))
    except TypeError:
        raise TypeError(
            "a target is None, a class index or name, a sequence of those, TopK or Contrast, "
            f"not {given!r}"
        ) from None


# --- answers --------------------------------------------------------------------


def explanation(response: pb.ExplainResponse, source: ImageSource | None) -> types.Explanation:
    """Turn an answer into an Explanation of the image that `source` keeps.

    Raises:
        MalformedAnswer: An array's bytes do not have the length its shape says.
    """
    image_size = (response.image_height, response.image_width)
    given = response.crop
    crop = Crop(given.left, given.top, given.width, given.height, given.shift_x, given.shift_y)
    return types.Explanation(
        predictions=tuple(_prediction(p) for p in response.predictions),
        explanations=tuple(
            _target_explanation(message, image_size, crop, source)
            for message in response.explanations
        ),
        provenance=_provenance(response.provenance),
        crop=crop,
        image_size=image_size,
        request_id=response.request_id,
        stage_seconds=dict(response.stage_seconds),
    )


def models(response: pb.ListModelsResponse) -> tuple[types.ModelSummary, ...]:
    """Turn a list of models."""
    return tuple(_summary(summary) for summary in response.models)


def ready_models(response: pb.ListModelsResponse) -> tuple[types.ModelSummary, ...]:
    """As `models`; a server that serves none is not ready: raises Unavailable."""
    if not response.models:
        raise Unavailable("the server is up but serves no model yet")
    return models(response)


def model(response: pb.GetModelResponse) -> types.Model:
    """Turn a model's description."""
    return types.Model(
        summary=_summary(response.summary),
        class_names=tuple(response.class_names),
        phrases=tuple(response.phrases),
        architecture=response.architecture,
        target_layer=response.target_layer,
        input_size=(response.input_height, response.input_width),
        map_size=(response.map_height, response.map_width),
        channel_count=response.channel_count,
        dead_channel_count=response.dead_channel_count,
        provenance=_provenance(response.provenance),
        methods=tuple(
            _method_name(number) for number in response.methods if number in pb.CamMethod.values()
        ),
    )


def tensor(message: pb.Tensor) -> NDArray[Any]:
    """Turn a Tensor into a read-only array of its shape.

    Raises:
        MalformedAnswer: Type, shape and data do not agree.
    """
    try:
        return np.frombuffer(message.data, _DTYPES[message.dtype]).reshape(tuple(message.shape))
    except (KeyError, ValueError) as error:
        raise MalformedAnswer(
            f"{len(message.data)} bytes are no array of type {message.dtype} and shape "
            f"{list(message.shape)}"
        ) from error


def _target_explanation(
    message: pb.Explanation, image_size: tuple[int, int], crop: Crop, source: ImageSource | None
) -> types.TargetExplanation:
    saliency_map = _saliency_map(message)
    peak = 0.0 if saliency_map is None else float(saliency_map.max())
    view = View(image_size, crop, source, peak)
    phrases = tuple(_phrase(p) for p in message.phrases)
    return types.TargetExplanation(
        target=_prediction(message.target),
        against=_prediction(message.against) if message.HasField("against") else None,
        logit=message.logit,
        bias=message.bias,
        gap=message.gap,
        network_passes=message.network_passes,
        head_passes=message.head_passes,
        saliency_map=saliency_map,
        phrases=phrases,
        groups=tuple(_group(g, _phrase_of(g, phrases), view) for g in message.groups),
        rest=_group(message.rest, None, view),
        sentence=message.sentence,
        server_heatmap=_server_heatmap(message.heatmap),
        server_overlay=message.heatmap.overlay_png or None,
        _view=view,
    )


def _phrase_of(message: pb.SaliencyGroup, phrases: tuple[types.Phrase, ...]) -> types.Phrase:
    if not 0 <= message.phrase_index < len(phrases):
        raise MalformedAnswer(f"a group names phrase {message.phrase_index} of {len(phrases)}")
    return phrases[message.phrase_index]


def _group(
    message: pb.SaliencyGroup, phrase: types.Phrase | None, view: View
) -> types.SaliencyGroup:
    if len(message.channel_ids) % 4:
        raise MalformedAnswer(f"{len(message.channel_ids)} bytes are no int32 channel ids")
    return types.SaliencyGroup(
        phrase=phrase,
        channel_ids=np.frombuffer(message.channel_ids, "<i4"),
        evidence=message.evidence,
        evidence_for=message.evidence_for,
        evidence_against=message.evidence_against,
        saliency_map=_saliency_map(message),
        server_heatmap=_server_heatmap(message.heatmap),
        server_overlay=message.heatmap.overlay_png or None,
        _view=view,
    )


def _saliency_map(message: pb.Explanation | pb.SaliencyGroup) -> Float32Array | None:
    if not message.HasField("saliency_map"):
        return None
    values = tensor(message.saliency_map)
    if values.ndim != 2 or not values.size or values.dtype != np.float32:
        raise MalformedAnswer(f"no float32 map (H, W): {values.dtype} of shape {values.shape}")
    return values


def _server_heatmap(message: pb.Heatmap) -> UInt8Array | None:
    return tensor(message.image) if message.HasField("image") else None


def _prediction(message: pb.Prediction) -> types.Prediction:
    return types.Prediction(
        message.class_index, message.class_name, message.probability, message.logit
    )


def _phrase(message: pb.Phrase) -> types.Phrase:
    return types.Phrase(
        message.text,
        message.vocabulary_index,
        message.score,
        message.similarity,
        message.evidence,
    )


def _provenance(message: pb.Provenance) -> types.Provenance:
    return types.Provenance(
        model_name=message.model_name,
        model_version=message.model_version,
        backbone_digest=message.backbone_digest,
        bank_digest=message.bank_digest,
        vocabulary_digest=message.vocabulary_digest,
        service_version=message.service_version,
        decoder=message.decoder,
        execution_provider=message.execution_provider,
        method=message.method,
        parameters=dict(message.parameters),
    )


def _summary(message: pb.ModelSummary) -> types.ModelSummary:
    return types.ModelSummary(
        message.name, message.version, message.class_count, message.phrase_count
    )

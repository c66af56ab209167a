"""Conversion of Python values to the contract's requests."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb

from textcam_client._arrays import UInt8Array
from textcam_client.errors import UnsupportedImage
from textcam_client.images import ImageInput, ImageSource
from textcam_client.options import ClassRef, Contrast, Options, Target, Targeted, TopK

Prepare: TypeAlias = Callable[["ImageInput | Targeted"], tuple[pb.ExplainRequest, ImageSource]]

_LANES: Mapping[str, types_pb.Lane] = {
    "interactive": types_pb.LANE_INTERACTIVE,
    "audit": types_pb.LANE_AUDIT,
}
_HEATMAP_FORMS: Mapping[str, types_pb.HeatmapForm] = {
    "none": types_pb.HEATMAP_FORM_NONE,
    "saliency": types_pb.HEATMAP_FORM_SALIENCY,
    "image": types_pb.HEATMAP_FORM_IMAGE,
    "overlay": types_pb.HEATMAP_FORM_OVERLAY,
}


PHRASE_KINDS: Mapping[str, types_pb.PhraseKind] = {
    types_pb.PhraseKind.Name(number).removeprefix("PHRASE_KIND_").lower(): number
    for number in types_pb.PhraseKind.values()
    if number
}


def request_template(options: Options) -> pb.ExplainRequest:
    """Build a request without its image and id.

    Raises:
        TypeError: The target has an unsupported type, or `kinds` is a single name.
        ValueError: An option is unknown or does not fit its field of the contract.
    """
    if options.heatmap not in _HEATMAP_FORMS:
        raise ValueError(f"heatmap is one of {sorted(_HEATMAP_FORMS)}, not {options.heatmap!r}")
    if options.lane is not None and options.lane not in _LANES:
        raise ValueError(f"lane is one of {sorted(_LANES)}, not {options.lane!r}")
    return pb.ExplainRequest(
        model=model_spec(options.model, options.version),
        target=target_message(options.target),
        max_phrases=options.max_phrases,
        min_probability=options.min_probability,
        kinds=_kind_numbers(options.kinds or ()),
        repeat_class=options.repeat_class,
        include_groups=options.include_groups,
        heatmap=_HEATMAP_FORMS[options.heatmap],
        prediction_count=options.prediction_count,
        method=None if options.method is None else _method_number(options.method),
        lane=None if options.lane is None else _LANES[options.lane],
        may_degrade=options.may_degrade,
        include_channel_evidence=options.include_channel_evidence,
    )


def _kind_numbers(names: Sequence[str]) -> list[types_pb.PhraseKind]:
    if isinstance(names, str):
        raise TypeError(f"kinds is a list of names; for one write kinds=[{names!r}]")
    for name in names:
        if name not in PHRASE_KINDS:
            raise ValueError(f"a kind is one of {', '.join(PHRASE_KINDS)}, not {name!r}")
    return [PHRASE_KINDS[name] for name in names]


def _method_number(name: str) -> types_pb.CamMethod:
    known = {method_name(number): number for number in types_pb.CamMethod.values() if number}
    if name not in known:
        raise ValueError(f"method is one of {', '.join(known)}, not {name!r}")
    number: types_pb.CamMethod = known[name]
    return number


def method_name(number: int) -> str:
    """Return the name of a CAM method, given its number in the contract: "grad_cam".

    "" for none, and the number itself for a method that this client does not know.
    """
    if number == types_pb.CAM_METHOD_UNSPECIFIED:
        return ""
    if number not in types_pb.CamMethod.values():
        return str(number)
    return str(types_pb.CamMethod.Name(number)).removeprefix("CAM_METHOD_").lower()


def preparer(options: Options, max_message_bytes: int) -> Prepare:
    """Return a function that turns an image into a request without an id, and its source.

    The function raises ImageError if the image cannot be read or is over the message limit, and
    TypeError for an image's own target of an unsupported type.

    Raises:
        TypeError, ValueError: As `request_template`.
    """
    template = request_template(options)

    def prepare(image: ImageInput | Targeted) -> tuple[pb.ExplainRequest, ImageSource]:
        own = image if isinstance(image, Targeted) else None
        source = ImageSource(own.image if own else cast("ImageInput", image))
        payload = source.payload()
        size = len(payload) if isinstance(payload, bytes) else payload.nbytes
        if size > max_message_bytes:
            raise UnsupportedImage(
                f"the image takes {size} bytes, over this client's max_message_bytes of "
                f"{max_message_bytes}"
            )
        request = pb.ExplainRequest()
        request.CopyFrom(template)
        if own is not None:
            request.target.CopyFrom(target_message(own.target))
        if isinstance(payload, bytes):
            request.encoded = payload
        else:
            request.pixels.CopyFrom(pixels_message(payload))
        return request, source.kept(payload)

    return prepare


def model_spec(name: str | None, version: str | None) -> types_pb.ModelSpec:
    """Return a model's name and version; None leaves the choice to the server."""
    return types_pb.ModelSpec(name=name or "", version=version or "")


def target_message(target: Target) -> types_pb.Target:
    """Convert a target of any form."""
    if target is None:
        return types_pb.Target()
    if isinstance(target, TopK):
        return types_pb.Target(top_k=types_pb.Target.TopK(k=target.k))
    if isinstance(target, Contrast):
        pair = types_pb.Target.Contrast(
            target=_class_ref(target.target), reference=_class_ref(target.reference)
        )
        return types_pb.Target(contrast=pair)
    several = isinstance(target, (Sequence, np.ndarray)) and not isinstance(target, (str, bytes))
    chosen: Any = target if several else [target]
    return types_pb.Target(classes=types_pb.Target.Classes(classes=[_class_ref(c) for c in chosen]))


def pixels_message(pixels: UInt8Array) -> types_pb.Tensor:
    """Return (h, w, 3) uint8 pixels as a Tensor."""
    return types_pb.Tensor(
        dtype=types_pb.Tensor.D_TYPE_UINT8, shape=pixels.shape, data=pixels.tobytes()
    )


def _class_ref(given: ClassRef) -> types_pb.ClassRef:
    if isinstance(given, str):
        return types_pb.ClassRef(name=given)
    try:
        return types_pb.ClassRef(index=operator.index(given))
    except TypeError:
        raise TypeError(
            "a target is None, a class index or name, a sequence of those, TopK or Contrast, "
            f"not {given!r}"
        ) from None

"""From Python's terms to the contract's requests."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from textcam.v1 import explainer_pb2 as pb

from textcam_client._heatmaps.geometry import UInt8Array
from textcam_client.errors import UnsupportedImage
from textcam_client.images import ImageInput, ImageSource
from textcam_client.options import ClassRef, Contrast, Options, Target, TopK

Prepare: TypeAlias = Callable[[ImageInput], tuple[pb.ExplainRequest, ImageSource]]

_LANES: Mapping[str, pb.Lane] = {
    "interactive": pb.LANE_INTERACTIVE,
    "audit": pb.LANE_AUDIT,
}
_HEATMAP_FORMS: Mapping[str, pb.HeatmapForm] = {
    "none": pb.HEATMAP_FORM_NONE,
    "saliency": pb.HEATMAP_FORM_SALIENCY,
    "image": pb.HEATMAP_FORM_IMAGE,
    "overlay": pb.HEATMAP_FORM_OVERLAY,
}


PHRASE_KINDS: Mapping[str, pb.PhraseKind] = {
    pb.PhraseKind.Name(number).removeprefix("PHRASE_KIND_").lower(): number
    for number in pb.PhraseKind.values()
    if number
}


def request_template(options: Options) -> pb.ExplainRequest:
    """Build a request without its image and id.

    Raises:
        TypeError: The target is of none of the types that name targets, or `kinds` is one name.
        ValueError: An option is outside what the contract can carry.
    """
    if options.heatmap not in _HEATMAP_FORMS:
        raise ValueError(f"heatmap is one of {sorted(_HEATMAP_FORMS)}, not {options.heatmap!r}")
    if options.lane is not None and options.lane not in _LANES:
        raise ValueError(f"lane is one of {sorted(_LANES)}, not {options.lane!r}")
    return pb.ExplainRequest(
        model=model_spec(options.model, options.version),
        target=target_message(options.target),
        phrases=options.phrases,
        min_probability=options.min_probability,
        kinds=_kind_numbers(options.kinds or ()),
        repeat_class=options.repeat_class,
        groups=options.groups,
        heatmap=_HEATMAP_FORMS[options.heatmap],
        predictions=options.predictions,
        method=None if options.method is None else _method_number(options.method),
        lane=None if options.lane is None else _LANES[options.lane],
        may_degrade=options.may_degrade,
    )


def _kind_numbers(names: Sequence[str]) -> list[pb.PhraseKind]:
    if isinstance(names, str):
        raise TypeError(f"kinds is a list of names, not one: [{names!r}]")
    for name in names:
        if name not in PHRASE_KINDS:
            raise ValueError(f"a kind is one of {', '.join(PHRASE_KINDS)}, not {name!r}")
    return [PHRASE_KINDS[name] for name in names]


def _method_number(name: str) -> pb.CamMethod:
    known = {method_name(number): number for number in pb.CamMethod.values() if number}
    if name not in known:
        raise ValueError(f"method is one of {', '.join(known)}, not {name!r}")
    number: pb.CamMethod = known[name]
    return number


def method_name(number: int) -> str:
    """A CAM method's name, by its number in the contract: "grad_cam"."""
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
        return request, source.kept(payload)

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

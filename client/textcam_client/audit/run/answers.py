"""Answers of the server as records."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
from numpy.typing import NDArray

from textcam_client.audit.errors import AuditStopped
from textcam_client.audit.records.record import PhraseRecord, TargetRecord
from textcam_client.audit.run.pictures.object_masks import MaskUnusable, inside_shares, read_mask
from textcam_client.errors import CallError, ImageError, MalformedResponse, TextCamClientError
from textcam_client.result import ExplainResult
from textcam_client.types import Explanation

_BANKS = "calibration"


def predictions(result: ExplainResult) -> list[tuple[int, float, float]]:
    """Return (class index, probability, logit), the most probable first."""
    return [(one.class_index, one.probability, one.logit) for one in result.predictions]


def target_record(
    result: ExplainResult, floor: float, mask: bytes | None
) -> tuple[TargetRecord, str]:
    """Return the one explanation of an answer, and a sentence why the mask could not be used.

    Args:
        result: The answer.
        floor: Least part of the absolute evidence for a channel to be kept.
        mask: Image file of the object's mask; None: there is none.

    Raises:
        AuditStopped: The server is too old: it returned no channel evidence.
        MalformedResponse: There is not one explanation, or it holds numbers that are none.
    """
    explained = result.explanation
    evidence = explained.channel_evidence
    if evidence is None:
        raise AuditStopped("the server returns no channel evidence: audits need a newer server")
    _require_finite(explained, evidence)
    size = np.abs(evidence)
    kept = np.flatnonzero((size >= floor * size.sum(dtype=np.float64)) & (size > 0))
    inside: list[float | None] = [None] * len(explained.phrases)
    fault = ""
    if mask is not None:
        try:
            shares = inside_shares(explained, read_mask(mask, result.image_size))
            inside = shares or inside  # a degraded answer has no groups
        except MaskUnusable as error:
            fault = str(error)
    phrases = [
        PhraseRecord(
            text=phrase.text,
            vocabulary_index=phrase.vocabulary_index,
            kind=phrase.kind or "",
            probability=phrase.probability,
            evidence=phrase.evidence,
            effect=phrase.effect,
            inside=share,
        )
        for phrase, share in zip(explained.phrases, inside, strict=True)
    ]
    record = TargetRecord(
        class_index=explained.target.class_index,
        reference_index=explained.reference.class_index if explained.reference else None,
        logit=explained.logit,
        bias=explained.bias,
        gap=explained.gap,
        in_logit_units=explained.in_logit_units,
        phrases=phrases,
        rest_evidence=explained.rest.evidence,
        channel_ids=kept.astype(np.int32),
        channel_evidence=evidence[kept],
    )
    return record, fault


def _require_finite(explained: Explanation, evidence: NDArray[np.float32]) -> None:
    numbers = [explained.logit, explained.bias, explained.gap, explained.rest.evidence]
    numbers += [phrase.evidence for phrase in explained.phrases]
    if not (all(map(math.isfinite, numbers)) and np.isfinite(evidence).all()):
        raise MalformedResponse("the explanation holds numbers that are infinite or no numbers")


def digests(result: ExplainResult) -> dict[str, str]:
    """Return the digests of an answer's stages, with that of its evidence."""
    evidence = result.explanation.channel_evidence
    content = b"" if evidence is None else np.ascontiguousarray(evidence, "<f4").tobytes()
    return {**result.digests, "evidence": f"sha256:{hashlib.sha256(content).hexdigest()}"}


def provenance(result: ExplainResult) -> str:
    """Return an answer's origin as JSON; the calibration is the bank's, which it names."""
    origin = {name: value for name, value in vars(result.provenance).items() if name != _BANKS}
    return json.dumps({**origin, "parameters": dict(origin["parameters"])}, sort_keys=True)


def failure_reason(error: TextCamClientError) -> str:
    """Return a short reason for counting."""
    if isinstance(error, CallError):
        return error.reason or str(error.code.name)
    if isinstance(error, ImageError):
        return "IMAGE_UNREADABLE"
    if isinstance(error, MalformedResponse):
        return "MALFORMED_RESPONSE"
    return type(error).__name__.upper()

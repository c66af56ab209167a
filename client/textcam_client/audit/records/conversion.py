"""Conversion of records to rows of the schema, and back."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textcam_client.audit.records.record import PhraseRecord, Record, TargetRecord
from textcam_client.audit.records.schema import SLICE_PREFIX

_STAGES = ("pixels", "activations", "evidence")
_ERROR = "error_"


def row_of(record: Record, class_names: Sequence[str]) -> dict[str, Any]:
    """Return a record as a row of the schema, without its sprite."""
    first = record.predictions[0] if record.predictions else None
    return {
        "index": record.index,
        "row_id": record.row_id,
        "path": record.path,
        "content_digest": record.content_digest,
        "label": record.label,
        "label_index": _or_none(record.label_index),
        "outcome": outcome(record),
        "failure": record.failure,
        "failure_reason": record.failure_reason,
        "predicted_index": first[0] if first else -1,
        "predicted_name": class_names[first[0]] if first else None,
        "predicted_probability": first[1] if first else None,
        "predictions": [
            {"class_index": i, "class_name": class_names[i], "probability": p, "logit": logit}
            for i, p, logit in record.predictions
        ],
        **{f"{SLICE_PREFIX}{name}": value for name, value in record.slices.items()},
        **_target_row(record.target),
        **_error_row(record.error),
        "degradations": list(record.degradations),
        "mask_failure": record.mask_failure,
        **{f"digest_{stage}": record.digests.get(stage) for stage in _STAGES},
        "provenance": record.provenance,
    }


def record_of(row: Mapping[str, Any]) -> Record:
    """Return the record of a row of the schema; without a thumbnail if the row has none."""
    slices = {
        name.removeprefix(SLICE_PREFIX): value or ""
        for name, value in row.items()
        if name.startswith(SLICE_PREFIX)
    }
    wrong = row["error_target_index"] >= 0
    return Record(
        index=row["index"],
        row_id=row["row_id"],
        path=row["path"],
        content_digest=row["content_digest"],
        label=row["label"],
        label_index=_none_if(row["label_index"]),
        slices=slices,
        failure=row["failure"],
        failure_reason=row["failure_reason"],
        predictions=[(p["class_index"], p["probability"], p["logit"]) for p in row["predictions"]],
        target=_target(row, "", None) if row["target_index"] >= 0 else None,
        error=_target(row, _ERROR, row["error_reference_index"]) if wrong else None,
        degradations=row["degradations"],
        mask_failure=row["mask_failure"],
        digests={s: row[f"digest_{s}"] for s in _STAGES if row[f"digest_{s}"] is not None},
        provenance=row["provenance"],
        thumbnail=row.get("thumbnail") or b"",
    )


def outcome(record: Record) -> str:
    """Return "right", "wrong", "unlabelled" or "failed"."""
    if record.failure:
        return "failed"
    if record.label_index is None or not record.predictions:
        return "unlabelled"
    return "right" if record.predictions[0][0] == record.label_index else "wrong"


def _target_row(target: TargetRecord | None) -> dict[str, Any]:
    return {
        "target_index": target.class_index if target else -1,
        "in_logit_units": bool(target and target.in_logit_units),
        **_numbers(target, ""),
    }


def _error_row(error: TargetRecord | None) -> dict[str, Any]:
    return {
        "error_target_index": error.class_index if error else -1,
        "error_reference_index": _or_none(error.reference_index) if error else -1,
        **_numbers(error, _ERROR),
    }


def _numbers(target: TargetRecord | None, prefix: str) -> dict[str, Any]:
    values: dict[str, Any] = {
        "logit": target.logit if target else None,
        "bias": target.bias if target else None,
        "gap": target.gap if target else None,
        "phrases": [vars(phrase) for phrase in target.phrases] if target else [],
        "rest_evidence": target.rest_evidence if target else None,
        "channel_ids": target.channel_ids if target else [],
        "channel_evidence": target.channel_evidence if target else [],
    }
    return {f"{prefix}{name}": value for name, value in values.items()}


def _target(row: Mapping[str, Any], prefix: str, reference: int | None) -> TargetRecord:
    return TargetRecord(
        class_index=row[f"{prefix}target_index"],
        reference_index=reference,
        logit=row[f"{prefix}logit"],
        bias=row[f"{prefix}bias"],
        gap=row[f"{prefix}gap"],
        in_logit_units=row["in_logit_units"],
        phrases=[_phrase(**phrase) for phrase in row[f"{prefix}phrases"]],
        rest_evidence=row[f"{prefix}rest_evidence"],
        channel_ids=np.asarray(row[f"{prefix}channel_ids"], np.int32),
        channel_evidence=np.asarray(row[f"{prefix}channel_evidence"], np.float32),
    )


def _phrase(text: str, kind: str, **numbers: Any) -> PhraseRecord:
    """Return a phrase whose texts are there once, however many records have them."""
    return PhraseRecord(text=sys.intern(text), kind=sys.intern(kind), **numbers)


def _or_none(index: int | None) -> int:
    return -1 if index is None else index


def _none_if(index: int) -> int | None:
    return None if index < 0 else index

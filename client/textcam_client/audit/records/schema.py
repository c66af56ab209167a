"""Schema of records.parquet: plain columns that pandas, polars and DuckDB read alike.

Numbers of classes, sheets and cells are -1 where there is none, since a missing whole number
becomes a float in pandas. Other missing values are null.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

VERSION = "1"
VERSION_KEY = b"textcam.audit.schema"
SLICE_PREFIX = "slice_"

_CLASS = pa.int32()
_NUMBER = pa.float32()
_PREDICTION = pa.struct(
    [
        ("class_index", _CLASS),
        ("class_name", pa.string()),
        ("probability", pa.float64()),
        ("logit", _NUMBER),
    ]
)
_PHRASE = pa.struct(
    [
        ("text", pa.string()),
        ("vocabulary_index", pa.int32()),
        ("kind", pa.string()),
        ("probability", pa.float64()),
        ("evidence", _NUMBER),
        ("effect", _NUMBER),
        ("inside", pa.float64()),
    ]
)
_PHRASES = (
    "what was said, in the order of the sentence: text, vocabulary_index, kind, probability (null: "
    "no calibration), evidence (its share of the logit), effect (evidence of all channels that "
    "support it), inside (share of its map inside the object's mask, null: no mask)"
)
_ROW = [
    ("index", pa.int64(), "place in the data set, from 0"),
    ("row_id", pa.string(), "path below the data set's root, or key of the sample"),
    ("path", pa.string(), "full path or URL of the image"),
    ("content_digest", pa.string(), "sha256 of the image file; empty: it could not be read"),
    ("label", pa.string(), "as the data set has it; null: unlabelled"),
    ("label_index", _CLASS, "class of the label; -1: unlabelled, or unknown to the model"),
    ("outcome", pa.string(), "right, wrong, unlabelled (no label that the model knows) or failed"),
    ("failure", pa.string(), "sentence why there is no answer; empty: there is one"),
    ("failure_reason", pa.string(), "short reason of the failure; empty: there is an answer"),
    ("predicted_index", _CLASS, "the most probable class; -1: no answer"),
    ("predicted_name", pa.string(), "its name; null: no answer"),
    ("predicted_probability", pa.float64(), "its probability; null: no answer"),
    ("predictions", pa.list_(_PREDICTION), "the most probable classes, the most probable first"),
]
_TARGET = [
    ("target_index", _CLASS, "the explained class: the label's, else the predicted; -1: no answer"),
    ("logit", _NUMBER, "the explained number"),
    ("bias", _NUMBER, "its part that belongs to no channel"),
    ("gap", _NUMBER, "its part that the method leaves out"),
    ("in_logit_units", pa.bool_(), "true: evidence is in units of the logit"),
    ("phrases", pa.list_(_PHRASE), _PHRASES),
    ("rest_evidence", _NUMBER, "evidence of the channels that support no phrase that was said"),
    ("channel_ids", pa.list_(pa.int32()), "channels with evidence above the floor, ascending"),
    ("channel_evidence", pa.list_(pa.float32()), "their evidence"),
]
_ERROR = [
    ("error_target_index", _CLASS, "the wrong prediction; -1: right, unlabelled or no answer"),
    ("error_reference_index", _CLASS, "the label's class, with which it is compared; -1 as above"),
    ("error_logit", _NUMBER, "logit of the prediction minus that of the label's class"),
    ("error_bias", _NUMBER, "as bias, of that difference"),
    ("error_gap", _NUMBER, "as gap, of that difference"),
    ("error_phrases", pa.list_(_PHRASE), f"for that difference, {_PHRASES}"),
    ("error_rest_evidence", _NUMBER, "as rest_evidence, of that difference"),
    ("error_channel_ids", pa.list_(pa.int32()), "as channel_ids, of that difference"),
    ("error_channel_evidence", pa.list_(pa.float32()), "as channel_evidence, of that difference"),
]
_ORIGIN = [
    ("degradations", pa.list_(pa.string()), "parts that the server left out"),
    ("mask_failure", pa.string(), "sentence why the mask could not be used; empty: no fault"),
    ("digest_pixels", pa.string(), "digest of the decoded pixels; null: no answer"),
    ("digest_activations", pa.string(), "digest of the rounded activations; null: no answer"),
    ("digest_evidence", pa.string(), "sha256 of the channels' float32 evidence; null: no answer"),
    ("provenance", pa.int32(), "place in the provenances of audit.json"),
]
_SPRITE = [
    ("sheet", pa.int32(), "number of the sheet sprites/NNNN.webp; -1: no thumbnail"),
    ("cell", pa.int32(), "place in it, row by row, ten of 96 x 96 pixels a row; -1: no thumbnail"),
]
_WORK = [
    ("share_key", pa.int64(), "equal for rows that share an answer; 0: none"),
    ("thumbnail", pa.binary(), "JPEG file; empty: none"),
]


def final_schema(slices: Sequence[str]) -> pa.Schema:
    """Return the schema of records.parquet, given the slice columns."""
    return _schema([*_ROW, *_slices(slices), *_TARGET, *_ERROR, *_ORIGIN, *_SPRITE])


def work_schema(slices: Sequence[str]) -> pa.Schema:
    """Return the schema of a run's segments: thumbnails are not on sheets yet."""
    return _schema([*_ROW, *_slices(slices), *_TARGET, *_ERROR, *_ORIGIN, *_WORK])


def _slices(names: Sequence[str]) -> list[tuple[str, pa.DataType, str]]:
    return [
        (f"{SLICE_PREFIX}{name}", pa.string(), f"value of the data set's column {name!r}")
        for name in names
    ]


def _schema(columns: Sequence[tuple[str, pa.DataType, str]]) -> pa.Schema:
    fields = [pa.field(name, kind, metadata={"description": text}) for name, kind, text in columns]
    return pa.schema(fields, metadata={VERSION_KEY: VERSION})

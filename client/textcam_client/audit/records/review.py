"""Review of a finished audit's records: they are those that its description tells of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from textcam_client.audit.records.description import Description

_NUMBERS = ("logit", "bias", "gap", "rest_evidence")
_CLASSES = ("label_index", "predicted_index", "target_index", "error_target_index")
_FILLED = ("index", "row_id", "content_digest", "failure_reason", "in_logit_units", "degradations")
_DIGEST = "^sha256:[0-9a-f]{64}$"


class Unsound(ValueError):
    """Records that no audit writes so."""


class Review:
    """Review of records, batch by batch, before anything is concluded from them.

    Args:
        description: Description of the audit.
    """

    def __init__(self, description: Description) -> None:
        self._rows = description.data.rows
        self._classes = len(description.model.class_names)
        self._phrases = len(description.model.vocabulary)
        self._seen = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Review the next rows.

        Raises:
            Unsound: A value is missing, no number, or names nothing of the model.
        """
        self._require_filled(batch, _FILLED)
        places = np.arange(self._seen, self._seen + batch.num_rows)
        self._require("index", batch["index"].to_numpy() == places, "is not its place")
        for name in (*_CLASSES, "error_reference_index"):
            self._require_range(batch, name, -1, self._classes)
        answered = pc.equal(batch["failure_reason"], "").to_numpy(zero_copy_only=False)
        wrong = batch["error_target_index"].to_numpy() >= 0
        self._require_explained(batch, "", answered)
        self._require_explained(batch, "error_", answered & wrong)
        for name, rows in (("predicted_index", answered), ("error_reference_index", wrong)):
            self._require(name, ~rows | (batch[name].to_numpy() >= 0), "names no class")
        digests = pc.match_substring_regex(batch["content_digest"], _DIGEST)
        digests = digests.to_numpy(zero_copy_only=False)
        self._require("content_digest", ~answered | digests, "is no digest")
        self._seen += batch.num_rows

    def finish(self) -> None:
        """Raise Unsound if there are not as many rows as were audited."""
        if self._seen != self._rows:
            raise Unsound(f"it has {self._seen} rows, and the audit has {self._rows}")

    def _require_explained(
        self, batch: pa.RecordBatch, prefix: str, rows: NDArray[np.bool_]
    ) -> None:
        """Require a class, finite numbers, and phrases of the vocabulary."""
        target = f"{prefix}target_index"
        self._require(target, ~rows | (batch[target].to_numpy() >= 0), "names no class")
        for name in (f"{prefix}{number}" for number in _NUMBERS):
            values = batch[name].to_numpy(zero_copy_only=False)
            self._require(name, ~rows | np.isfinite(values), "is no finite number")
        name = f"{prefix}phrases"
        self._require_filled(batch, (name,))
        owner = pc.list_parent_indices(batch[name]).to_numpy()
        said = batch[name].flatten()
        index = said.field("vocabulary_index")
        known = pc.and_(pc.greater_equal(index, 0), pc.less(index, self._phrases))
        finite = pc.is_finite(said.field("evidence"))
        sound = pc.and_(pc.and_(known, finite), pc.is_valid(said.field("kind")))
        bad = owner[~sound.fill_null(False).to_numpy(zero_copy_only=False)]
        places = np.ones(batch.num_rows, bool)
        places[bad] = False
        self._require(name, places, "holds a phrase that is not the model's, or without evidence")

    def _require_range(self, batch: pa.RecordBatch, name: str, low: int, end: int) -> None:
        self._require_filled(batch, (name,))
        values = batch[name].to_numpy()
        self._require(name, (values >= low) & (values < end), "is no class of the model")

    def _require_filled(self, batch: pa.RecordBatch, names: Sequence[str]) -> None:
        for name in names:
            valid = batch[name].is_valid().to_numpy(zero_copy_only=False)
            self._require(name, valid, "is missing")

    def _require(self, column: str, sound: NDArray[np.bool_], fault: str) -> None:
        if not sound.all():
            row = self._seen + int(np.flatnonzero(~sound)[0])
            raise Unsound(f"{column} of row {row} {fault}")

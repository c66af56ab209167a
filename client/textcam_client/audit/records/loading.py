"""Loading of a finished audit as an EvidenceTable, with memory for its arrays alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from textcam_client.audit.datasets.survey import row_key
from textcam_client.audit.records.description import Description, finished_description
from textcam_client.audit.records.evidence import Contrasts, EvidenceTable
from textcam_client.audit.records.reading import damaged, record_batches
from textcam_client.audit.records.review import Review, Unsound
from textcam_client.audit.records.schema import SLICE_PREFIX
from textcam_client.audit.records.sparse_rows import SparseRows

_TARGET = ("target_index", "logit", "bias", "gap", "rest_evidence", "phrases")
_COLUMNS = (
    *("index", "row_id", "content_digest", "label", "label_index", "failure_reason"),
    *("predicted_index", "in_logit_units", "degradations"),
    *_TARGET,
    *(f"error_{name}" for name in _TARGET),
    "error_reference_index",
)


def load_evidence(folder: Path | str, description: Description | None = None) -> EvidenceTable:
    """Load the evidence of a finished audit.

    Args:
        folder: Output folder of the audit.
        description: Its description; None: read from audit.json.

    Raises:
        OutputRefused: The folder holds no finished audit, one of another schema, or records that
            are not those of its description.
    """
    place = Path(folder)
    if description is None:
        description = finished_description(place)
    loader, review = _Loader(description), Review(description)
    columns = [*_COLUMNS, *(f"{SLICE_PREFIX}{name}" for name in description.data.slices)]
    try:
        for batch in record_batches(place, columns):
            review.add(batch)
            loader.add(batch)
        review.finish()
    except Unsound as error:
        raise damaged(place, str(error)) from error
    return loader.finish()


class _Loader:
    """Arrays that grow by batches of rows."""

    def __init__(self, description: Description) -> None:
        self._description = description
        self._parts: dict[str, list[NDArray[Any]]] = defaultdict(list)
        self._evidence = SparseRows()
        self._error_evidence = SparseRows()
        self._inside = SparseRows()
        self._kinds: dict[int, str] = {}
        self._texts: dict[str, str] = {}
        self._failures: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._in_logit_units = True
        self._rows = 0
        self._answered = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch."""
        self._rows += batch.num_rows
        failed = pc.not_equal(batch["failure_reason"], "")
        self._failures.update(batch["failure_reason"].filter(failed).to_pylist())
        unknown = pc.and_(pc.is_valid(batch["label"]), pc.less(batch["label_index"], 0))
        self._unknown.update(batch["label"].filter(unknown).to_pylist())
        answered = batch.filter(pc.invert(failed))
        self._add_columns(answered)
        self._add_explained(answered, "", self._evidence)
        self._add_inside(answered)
        self._add_errors(answered)
        self._answered += answered.num_rows

    def _add_columns(self, batch: pa.RecordBatch) -> None:
        for name in ("index", "label_index", "predicted_index"):
            self._parts[name].append(batch[name].to_numpy())
        keys = [row_key(row_id) for row_id in batch["row_id"].to_pylist()]
        self._parts["row_key"].append(np.array(keys, np.int64))
        digests = [one.partition(":")[2][:16] for one in batch["content_digest"].to_pylist()]
        groups = np.array([int(one, 16) for one in digests], np.uint64)
        self._parts["content_group"].append(groups.view(np.int64))
        degraded = pc.greater(pc.list_value_length(batch["degradations"]), 0)
        self._parts["degraded"].append(degraded.to_numpy(zero_copy_only=False))
        if batch.num_rows:
            self._in_logit_units &= pc.all(batch["in_logit_units"]).as_py()
        for name in self._description.data.slices:
            values = batch[f"{SLICE_PREFIX}{name}"].to_pylist()
            texts = [self._texts.setdefault(one or "", one or "") for one in values]
            self._parts[f"{SLICE_PREFIX}{name}"].append(np.array(texts, object))

    def _add_explained(self, batch: pa.RecordBatch, prefix: str, into: SparseRows) -> None:
        """Add what is explained, a class or an error, and the evidence of what was said."""
        rows, phrases, index = _said(batch, f"{prefix}phrases")
        evidence = phrases.field("evidence").to_numpy(zero_copy_only=False)
        into.add(batch.num_rows, rows, index, evidence)
        said, first = np.unique(index, return_index=True)
        kinds = phrases.field("kind")
        for phrase, place in zip(said.tolist(), first.tolist(), strict=True):
            self._kinds.setdefault(phrase, kinds[place].as_py())
        names = {"rest": "rest_evidence"}
        for name in ("logit", "bias", "gap", "rest", "target_index"):
            column = batch[f"{prefix}{names.get(name, name)}"]
            self._parts[f"{prefix}{name}"].append(column.to_numpy(zero_copy_only=False))

    def _add_errors(self, batch: pa.RecordBatch) -> None:
        wrong = pc.greater_equal(batch["error_target_index"], 0)
        places = np.flatnonzero(wrong.to_numpy(zero_copy_only=False)) + self._answered
        errors = batch.filter(wrong)
        self._parts["error_rows"].append(places)
        self._parts["error_reference_index"].append(errors["error_reference_index"].to_numpy())
        self._add_explained(errors, "error_", self._error_evidence)

    def _add_inside(self, batch: pa.RecordBatch) -> None:
        if not self._description.data.masks:
            return
        rows, phrases, index = _said(batch, "phrases")
        inside = phrases.field("inside").to_numpy(zero_copy_only=False)
        kept = ~np.isnan(inside)
        self._inside.add(batch.num_rows, rows[kept], index[kept], inside[kept])

    def finish(self) -> EvidenceTable:
        """Return the table of all rows that were added."""
        slices = {
            name: self._joined(f"{SLICE_PREFIX}{name}", object)
            for name in self._description.data.slices
        }
        groups = self._joined("content_group", np.int64)
        model = self._description.model
        concepts = np.array(sorted(self._kinds), np.int64)
        return EvidenceTable(
            index=self._joined("index", np.int64),
            row_key=self._joined("row_key", np.int64),
            content_group=groups,
            label_index=self._joined("label_index", np.int32),
            predicted_index=self._joined("predicted_index", np.int32),
            target_index=self._joined("target_index", np.int32),
            logit=self._joined("logit", np.float32),
            bias=self._joined("bias", np.float32),
            gap=self._joined("gap", np.float32),
            rest=self._joined("rest", np.float32),
            in_logit_units=self._in_logit_units,
            concepts=tuple(concepts.tolist()),
            names=tuple(model.vocabulary[phrase] for phrase in concepts.tolist()),
            kinds=tuple(self._kinds[phrase] for phrase in concepts.tolist()),
            evidence=self._evidence.finish(concepts),
            inside=self._inside.finish(concepts) if self._description.data.masks else None,
            degraded=self._joined("degraded", np.bool_),
            slices=slices,
            contrasts=self._contrasts(concepts),
            class_names=tuple(model.class_names),
            data=self._description.data.name,
            model=model.title,
            row_count=self._rows,
            failures=dict(sorted(self._failures.items())),
            unknown_labels=dict(sorted(self._unknown.items())),
            duplicates=len(groups) - len(np.unique(groups)),
        )

    def _contrasts(self, concepts: NDArray[np.int64]) -> Contrasts:
        return Contrasts(
            rows=self._joined("error_rows", np.int64),
            target_index=self._joined("error_target_index", np.int32),
            reference_index=self._joined("error_reference_index", np.int32),
            logit=self._joined("error_logit", np.float32),
            bias=self._joined("error_bias", np.float32),
            gap=self._joined("error_gap", np.float32),
            rest=self._joined("error_rest", np.float32),
            evidence=self._error_evidence.finish(concepts),
        )

    def _joined(self, name: str, kind: Any) -> NDArray[Any]:
        return np.concatenate([np.zeros(0, kind), *self._parts.pop(name, [])])


def _said(
    batch: pa.RecordBatch, column: str
) -> tuple[NDArray[np.int64], pa.StructArray, NDArray[np.int32]]:
    """Return the row, the phrase and its vocabulary index, of each phrase in a column."""
    lengths = pc.list_value_length(batch[column]).to_numpy()
    phrases = batch[column].flatten()
    index = phrases.field("vocabulary_index").to_numpy()
    return np.repeat(np.arange(batch.num_rows), lengths), phrases, index

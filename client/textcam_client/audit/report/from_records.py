"""Rows of the page, from an audit's records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textcam_client.audit.records.record import Record, TargetRecord
from textcam_client.audit.report.page_data import GroupMap, PagePhrase, PageRow, PageTarget
from textcam_client.audit.report.payload import strongest

_KEPT = 64


class RowsFromRecords:
    """Converter of records.

    Args:
        wanted: Concepts that are kept of each image, however small their evidence.
    """

    def __init__(self, wanted: Iterable[str] = ()) -> None:
        self._wanted = frozenset(wanted)

    def row(self, record: Record, maps: Sequence[GroupMap] = ()) -> PageRow:
        """Return a record as the page shows it, with the maps that are at hand."""
        target = record.target
        return PageRow(
            index=record.index,
            row_id=record.row_id,
            label=record.label,
            label_index=record.label_index,
            failure=record.failure,
            degraded=bool(record.degradations),
            slices={column: value for column, value in record.slices.items() if value},
            predictions=[(index, probability) for index, probability, _ in record.predictions],
            phrases=[
                PagePhrase(own.text, own.evidence, own.probability)
                for own in (target.phrases if target else ())
            ],
            target=self._target(target),
            error=self._target(record.error),
            maps=maps,
        )

    def _target(self, target: TargetRecord | None) -> PageTarget | None:
        if target is None:
            return None
        return PageTarget(
            class_index=target.class_index,
            reference_index=target.reference_index,
            logit=target.logit,
            bias=target.bias + target.gap,
            concepts=self._concepts(target),
        )

    def _concepts(self, target: TargetRecord) -> dict[str, float]:
        """Return the evidence of the strongest phrases that were said."""
        concepts = {phrase.text: phrase.evidence for phrase in target.phrases}
        return strongest(concepts, _KEPT, self._wanted)

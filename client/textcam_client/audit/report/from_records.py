"""Rows of the page, from an audit's records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from textcam_client.audit.records.record import Record, TargetRecord
from textcam_client.audit.report.page_data import GroupMap, PagePhrase, PageRow, PageTarget
from textcam_client.audit.report.payload import strongest

_KEPT = 64


class RowsFromRecords:
    """Converter of records.

    Args:
        vocabulary: The model's phrases, in order of index.
        channel_phrases: The phrase of each channel; -1: none.
        wanted: Concepts that are kept of each image, however small their evidence.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        channel_phrases: Sequence[int],
        wanted: Iterable[str] = (),
    ) -> None:
        self._vocabulary = vocabulary
        self._wanted = frozenset(wanted)
        self._channel_phrases = np.asarray(channel_phrases, dtype=np.int64)

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
        """Return the evidence of the strongest phrases: sums over the channels that are theirs."""
        phrases = self._channel_phrases[np.asarray(target.channel_ids, dtype=np.int64)]
        owned = phrases >= 0
        indices, places = np.unique(phrases[owned], return_inverse=True)
        sums = np.bincount(places, target.channel_evidence[owned], minlength=len(indices))
        found = zip(indices.tolist(), sums.tolist(), strict=True)
        concepts = {self._vocabulary[index]: value for index, value in found}
        return strongest(concepts, _KEPT, self._wanted)

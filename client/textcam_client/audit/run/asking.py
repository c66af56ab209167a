"""Asking the server for each row's explanation, over one stream at a time.

A wrong prediction is a second question: why this class rather than the label's? It goes into the
same stream as soon as the first answer is there, so that nothing waits for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from textcam_client.audit.errors import AuditStopped
from textcam_client.audit.records.description import ModelDescription
from textcam_client.audit.records.record import Record
from textcam_client.audit.rows import Row
from textcam_client.audit.run import answers
from textcam_client.audit.run.labels import Labels
from textcam_client.audit.run.log import RecordLog
from textcam_client.audit.run.pictures.thumbnails import thumbnail
from textcam_client.audit.run.progress import Progress
from textcam_client.audit.run.server import RESUME, Server, is_away, is_final, require_pinned
from textcam_client.audit.run.settings import AuditSettings
from textcam_client.audit.run.slots import Slot, opened, shared
from textcam_client.client import Client
from textcam_client.errors import CallError, MalformedResponse, TextCamClientError
from textcam_client.options import Contrast, Target, Targeted
from textcam_client.result import ExplainResult

# A row that meets an absent server this often, with the server ready in between, may be the cause.
_MOST_ATTEMPTS = 5
# Rows between the oldest that waits for an answer and the newest that was read.
_MOST_PENDING = 512


@dataclass(eq=False)
class _Question:
    slot: Slot
    target: Target

    @property
    def is_contrast(self) -> bool:
        return isinstance(self.target, Contrast)


class Asking:
    """Rows on their way to the log, in order of index.

    Args:
        client: Client of the server.
        server: The server's readiness.
        model: The pinned model.
        log: Takes the records.
        settings: Settings of the run.
        progress: Learns of each finished row.
    """

    def __init__(
        self,
        client: Client,
        server: Server,
        model: ModelDescription,
        log: RecordLog,
        settings: AuditSettings,
        progress: Progress,
    ) -> None:
        self._client = client
        self._server = server
        self._model = model
        self._log = log
        self._settings = settings
        self._progress = progress
        self._labels = Labels(model.class_names)
        self._rows: Iterator[Row] = iter(())
        self._with_masks = False
        self._exhausted = False
        self._pending: deque[Slot] = deque()
        self._asked: deque[_Question] = deque()
        self._again: deque[_Question] = deque()
        self._contrasts: deque[_Question] = deque()

    def run(self, rows: Iterator[Row], *, masks: bool) -> None:
        """Ask for all rows, whose first is the log's next.

        Args:
            rows: The rows.
            masks: Rows may have masks, which need maps.

        Raises:
            AuditStopped: The server was away for too long, refuses, or serves another model.
            OSError: The log cannot be written.
        """
        self._rows, self._with_masks = rows, masks
        while not (self._exhausted and not self._pending):
            error = self._stream()
            if error is not None:
                self._server.wait(error)

    def _stream(self) -> CallError | None:
        """Run one stream; return the error of a server that went away.

        The stream ends, too, where the next questions depend on answers that are not there yet.
        """
        away: CallError | None = None
        with self._client.explain_many(
            self._images(),
            on_error="return",
            concurrency=self._settings.concurrency,
            **self._options(),
        ) as outcomes:
            for outcome in outcomes:
                question = self._asked.popleft()
                if isinstance(outcome, CallError) and self._tries_again(question, outcome):
                    away = outcome
                    break
                self._take(question, outcome)
                self._hand_over()
        self._again.extendleft(reversed(self._asked))
        self._asked.clear()
        self._hand_over()
        return away

    def _options(self) -> dict[str, Any]:
        settings, masks = self._settings, self._with_masks
        return {
            "model": self._model.name,
            "version": self._model.version,
            "method": settings.method,
            "max_phrases": settings.max_phrases,
            "include_channel_evidence": True,
            "include_groups": masks,
            "heatmap": "saliency" if masks else "none",
            "lane": "audit",
            "may_degrade": settings.may_degrade,
            "timeout": settings.timeout_s,
        }

    def _images(self) -> Iterator[Targeted]:
        while True:
            question = self._next_question()
            if question is None:
                return
            self._asked.append(question)
            yield Targeted(question.slot.content, question.target)

    def _next_question(self) -> _Question | None:
        for waiting in (self._again, self._contrasts):
            if waiting:
                return waiting.popleft()
        while len(self._pending) < _MOST_PENDING:
            row = next(self._rows, None)
            if row is None:
                self._exhausted = True
                return None
            slot = self._opened(row)
            self._pending.append(slot)
            if not slot.done:
                index = slot.record.label_index
                return _Question(slot, None if index is None else [index])
            self._hand_over()
        return None

    def _opened(self, row: Row) -> Slot:
        slot = opened(row, self._labels.find(row.label))
        if slot.key:
            first = self._log.keys.setdefault(slot.key, row.index)
            if first != row.index:
                slot.leader = first
                slot.finish(slot.record)
        return slot

    def _tries_again(self, question: _Question, error: CallError) -> bool:
        """Return True if the question is asked again, once the server is ready.

        Raises:
            AuditStopped: All further questions would meet the same error.
        """
        if is_final(error):
            raise AuditStopped(f"the server refuses: {error}; {RESUME}") from error
        if not is_away(error):
            return False
        question.slot.attempts += 1
        if question.slot.attempts >= _MOST_ATTEMPTS:
            return False
        self._again.appendleft(question)
        return True

    def _take(self, question: _Question, outcome: ExplainResult | TextCamClientError) -> None:
        slot = question.slot
        if isinstance(outcome, ExplainResult):
            self._server.answered()
            require_pinned(outcome, self._model)
            try:
                self._answer(question, outcome)
            except MalformedResponse as error:
                outcome = error
        if isinstance(outcome, TextCamClientError):
            slot.finish(_failed(slot.record, outcome, is_contrast=question.is_contrast))

    def _answer(self, question: _Question, result: ExplainResult) -> None:
        slot, floor = question.slot, self._settings.floor
        if question.is_contrast:
            error, _ = answers.target_record(result, floor, slot.mask)
            slot.finish(replace(slot.record, error=error))
            return
        target, mask_fault = answers.target_record(result, floor, slot.mask)
        slot.provenance = answers.provenance(result)
        record = replace(
            slot.record,
            predictions=answers.predictions(result),
            target=target,
            degradations=result.degradations,
            mask_failure=slot.record.mask_failure or mask_fault,
            digests=answers.digests(result),
            thumbnail=thumbnail(slot.content),
        )
        predicted, label = record.predictions[0][0], record.label_index
        if label is None or predicted == label:
            slot.finish(record)
        else:
            slot.record = record
            self._contrasts.append(_Question(slot, Contrast(predicted, label)))

    def _hand_over(self) -> None:
        """Log the rows that are done and whose earlier rows are all logged."""
        while self._pending and self._pending[0].done:
            slot = self._pending.popleft()
            record = slot.record
            if slot.leader is not None:
                record = shared(record, self._log.record(slot.leader))
            elif slot.provenance:
                record = replace(record, provenance=self._log.place_of(slot.provenance))
            self._log.append(record, slot.key)
            self._progress.advance(1)


def _failed(record: Record, error: TextCamClientError, *, is_contrast: bool) -> Record:
    if is_contrast:
        return replace(record, degradations=(*record.degradations, "no_contrast"))
    return replace(record, failure=str(error), failure_reason=answers.failure_reason(error))

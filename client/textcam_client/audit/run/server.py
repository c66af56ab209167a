"""The audited server: its model, and patience while it is away."""

from __future__ import annotations

import time
from collections.abc import Callable

from textcam_client.audit.errors import AuditStopped
from textcam_client.audit.records.description import ModelDescription
from textcam_client.audit.run.progress import Progress
from textcam_client.client import Client
from textcam_client.errors import (
    CallError,
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from textcam_client.model import Model
from textcam_client.result import ExplainResult

# An address may be wrong, which is better reported soon.
_FIRST_CONTACT_S = 30.0
_SLICE_S = 5.0
RESUME = "what is done is safe: run the same command again to go on"


class Server:
    """Server with one pinned version of a model.

    Args:
        client: Client of it.
        patience_s: Seconds that it may be away.
        progress: Shows that it is away.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        client: Client,
        patience_s: float,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._patience_s = patience_s
        self._progress = progress
        self._clock = clock
        self._last_answer = clock()

    def describe(self, name: str | None, version: str | None) -> ModelDescription:
        """Return the model and its version as the server serves them now.

        Raises:
            CallError: The server refuses, or is not there.
            AuditStopped: It is too old for audits.
        """
        try:
            found = self._client.model(name, version)
        except (Unavailable, DeadlineExceeded) as error:
            self._wait_for_start(error)
            found = self._client.model(name, version)
        if not found.channel_phrases:
            raise AuditStopped(
                "the server does not say which phrase each channel supports: audits need a newer "
                "server"
            )
        return _description(found)

    def _wait_for_start(self, error: CallError) -> None:
        self._progress.note(f"the server is not ready ({error}); waiting")
        try:
            self._client.wait_ready(max(0.001, min(self._patience_s, _FIRST_CONTACT_S)))
        except (Unavailable, DeadlineExceeded):
            raise error from None  # which says more

    def answered(self) -> None:
        """Record that an answer has come."""
        self._last_answer = self._clock()

    def wait(self, error: CallError) -> None:
        """Wait until the server is ready again after an error that says it was away.

        Raises:
            AuditStopped: It was away for longer than the patience.
        """
        self._progress.note(f"the server is away ({error}); waiting")
        until = self._last_answer + self._patience_s
        while True:
            left = until - self._clock()
            if left <= 0:
                raise AuditStopped(
                    f"the server was away for {self._patience_s:g} s ({error}); {RESUME}"
                ) from error
            try:
                return self._client.wait_ready(min(left, _SLICE_S))
            except (Unavailable, DeadlineExceeded):
                continue


def is_away(error: Exception) -> bool:
    """Return True for an error of a server that is away, starting, or too busy for now."""
    if isinstance(error, Overloaded):
        return error.retry_after is not None
    return isinstance(error, (Unavailable, DeadlineExceeded, Cancelled))


def is_final(error: Exception) -> bool:
    """Return True for an error that all further requests would meet."""
    if isinstance(error, InvalidRequest):
        return any(violation.field == "max_phrases" for violation in error.violations)
    return isinstance(error, (NotFound, Unauthenticated, PermissionDenied, Unimplemented))


def require_pinned(result: ExplainResult, model: ModelDescription) -> None:
    """Raise AuditStopped if an answer does not come from the audited model."""
    origin = result.provenance
    for part in ("backbone", "bank", "vocabulary"):
        own, other = (getattr(one, f"{part}_digest") for one in (model, origin))
        if own != other:
            raise AuditStopped(
                f"the server now serves another {part} as {model.title}, {other} instead of {own}: "
                "serve the former again and run the same command, or audit into another folder"
            )


def _description(model: Model) -> ModelDescription:
    origin = model.provenance
    return ModelDescription(
        name=model.summary.name,
        version=model.summary.version,
        backbone_digest=origin.backbone_digest,
        bank_digest=origin.bank_digest,
        vocabulary_digest=origin.vocabulary_digest,
        architecture=model.architecture,
        target_layer=model.target_layer,
        class_names=model.class_names,
        vocabulary=model.vocabulary,
        channel_phrases=model.channel_phrases,
    )

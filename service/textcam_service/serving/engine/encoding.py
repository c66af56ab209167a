"""The protocol of encoders: each contract's way to turn results into its own messages."""

from __future__ import annotations

from typing import Protocol, TypeVar

from textcam_service.serving.engine.cancellation import CancellationToken
from textcam_service.serving.engine.jobs import ExplainJob
from textcam_service.serving.engine.results import ExplainResult, ImageInfo

EncodedT_co = TypeVar("EncodedT_co", covariant=True)


class Encoder(Protocol[EncodedT_co]):
    """Encodes the result of a job."""

    def check(self, job: ExplainJob, image: ImageInfo, map_count: int) -> None:
        """Refuse a job if its response cannot fit a message, before the work is done.

        Args:
            job: The job.
            image: The decoded image.
            map_count: Least number of heatmaps in the response.

        Raises:
            ResponseTooLarge: The message says what to leave out.
        """

    def encode(self, result: ExplainResult, token: CancellationToken) -> EncodedT_co:
        """Encode a result; runs in a responding thread.

        Args:
            result: The result.
            token: Checked before each long step, such as a heatmap.

        Raises:
            ResponseTooLarge: The message says what to leave out.
            DeadlineExpired: The result is no longer awaited.
        """


class IdentityEncoder:
    """Hands results over as they are: for warm-ups and canaries."""

    def check(self, job: ExplainJob, image: ImageInfo, map_count: int) -> None:
        """Admit any size."""

    def encode(self, result: ExplainResult, token: CancellationToken) -> ExplainResult:
        """Return the result."""
        del token
        return result

"""Everything that can go wrong, in the domain's words.

A message names the fault and the mend. `reason` is what machines match on; it
goes into google.rpc.ErrorInfo unchanged. serving/status.py holds the one table
from these classes to gRPC codes.
"""

from __future__ import annotations

from typing import ClassVar


class TextCamError(Exception):
    """Root of the product's errors.

    Attributes:
        reason: Stable upper-case identifier of the fault.
        field: Field of the request at fault, in the contract's spelling, or None.
        retry_after_s: Seconds after which another try may succeed, or None.
    """

    reason: ClassVar[str] = "TEXTCAM_ERROR"

    def __init__(
        self, message: str, *, field: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.field = field
        self.retry_after_s = retry_after_s


# --- a request at fault ---------------------------------------------------------


class InvalidRequest(TextCamError):
    """The request cannot be answered as it stands, whatever the server's state."""

    reason = "INVALID_REQUEST"


class InvalidArgument(InvalidRequest):
    """A parameter is outside its range or contradicts another."""

    reason = "INVALID_ARGUMENT"


class UndecodableMessage(InvalidRequest):
    """The request's bytes are no message of the contract."""

    reason = "UNDECODABLE_MESSAGE"


class UnsupportedMethod(InvalidRequest):
    """The model's backbone cannot answer the CAM method."""

    reason = "UNSUPPORTED_METHOD"


class InvalidTensor(InvalidRequest):
    """A tensor's type, shape and data do not agree, or are not what the field takes."""

    reason = "INVALID_TENSOR"


class InvalidImage(InvalidRequest):
    """The image cannot be decoded."""

    reason = "INVALID_IMAGE"


class EmptyImage(InvalidImage):
    """No image bytes at all."""

    reason = "EMPTY_IMAGE"


class UnsupportedImage(InvalidImage):
    """Not an image, or of a format that is not served."""

    reason = "UNSUPPORTED_IMAGE"


class TruncatedImage(InvalidImage):
    """The image file ends early or is damaged."""

    reason = "TRUNCATED_IMAGE"


class AnimatedImage(InvalidImage):
    """More than one frame."""

    reason = "ANIMATED_IMAGE"


class ImageTooLarge(InvalidRequest):
    """Over the byte or the pixel limit."""

    reason = "IMAGE_TOO_LARGE"


class BatchTooLarge(InvalidRequest):
    """More images in one call than the server takes."""

    reason = "BATCH_TOO_LARGE"


class ResponseTooLarge(InvalidRequest):
    """The answer would be over the limit on a message's bytes."""

    reason = "RESPONSE_TOO_LARGE"


# --- who asks ---------------------------------------------------------------------


class AccessRefused(TextCamError):
    """Who asks may not have it."""

    reason = "ACCESS_REFUSED"


class Unauthenticated(AccessRefused):
    """Nobody knows who asks."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(AccessRefused):
    """The caller has no right to the method or the model."""

    reason = "PERMISSION_DENIED"


class RateLimited(AccessRefused):
    """The caller asks more often than they may."""

    reason = "RATE_LIMITED"


# --- a name that is not there -----------------------------------------------------


class NotServed(TextCamError):
    """What was named is not served here."""

    reason = "NOT_SERVED"


class UnknownModel(NotServed):
    """No model of that name."""

    reason = "UNKNOWN_MODEL"


class UnknownVersion(NotServed):
    """The model is served, but not in that version."""

    reason = "UNKNOWN_VERSION"


class UnknownClass(NotServed):
    """The model has no such class."""

    reason = "UNKNOWN_CLASS"


# --- the server's state -----------------------------------------------------------


class QueueFull(TextCamError):
    """The queue before the session is full."""

    reason = "QUEUE_FULL"


class DeadlineUnreachable(QueueFull):
    """By the time of those that wait, the answer would come after the deadline."""

    reason = "DEADLINE_UNREACHABLE"


class ServerBusy(QueueFull):
    """As many requests or bytes are in work as the server takes."""

    reason = "SERVER_BUSY"


class SessionFailed(TextCamError):
    """The work was lost with the part of the server that did it, which starts again."""

    reason = "SESSION_FAILED"


class DeadlineExpired(TextCamError):
    """The caller's deadline passed before the work began."""

    reason = "DEADLINE_EXPIRED"


class ModelLoading(TextCamError):
    """The model is not loaded and warm yet."""

    reason = "MODEL_LOADING"


class ShuttingDown(TextCamError):
    """The server drains and takes no new work."""

    reason = "SHUTTING_DOWN"


# --- artefacts and set-up -----------------------------------------------------------


class ArtefactError(TextCamError):
    """An artefact cannot be used."""

    reason = "ARTEFACT_ERROR"


class ArtefactMissing(ArtefactError):
    """A file of an artefact, or a version in a store, is not there."""

    reason = "ARTEFACT_MISSING"


class ArtefactCorrupt(ArtefactError):
    """An artefact's content does not have the digest its manifest states."""

    reason = "ARTEFACT_CORRUPT"


class BundleMismatch(ArtefactError):
    """Backbone, bank and vocabulary were not made for each other."""

    reason = "BUNDLE_MISMATCH"


class FolderTaken(ArtefactError):
    """A folder that an artefact is to be written to holds something else."""

    reason = "FOLDER_TAKEN"


class VersionExists(ArtefactError):
    """A version that is to be published is there already."""

    reason = "VERSION_EXISTS"


class VersionInUse(ArtefactError):
    """A version that is to be removed is current, or the one to roll back to."""

    reason = "VERSION_IN_USE"


class StoreFailed(ArtefactError):
    """A store cannot be reached, read or written."""

    reason = "STORE_FAILED"


class DriftRefused(ArtefactError):
    """A new version explains too differently from the served one."""

    reason = "DRIFT_REFUSED"


class InvalidSettings(TextCamError):
    """A setting is unknown, malformed or contradicts another."""

    reason = "INVALID_SETTINGS"


class MissingExtra(TextCamError):
    """A command needs packages that the base install leaves out."""

    reason = "MISSING_EXTRA"


# --- the offline half -----------------------------------------------------------------


class ExportRefused(TextCamError):
    """The network cannot be exported, or its export does not compute what it computes."""

    reason = "EXPORT_REFUSED"


class QuantizationRefused(TextCamError):
    """The int8 form of a backbone does not explain as the float one does, or cannot be made."""

    reason = "QUANTIZATION_REFUSED"


class ParityMissed(TextCamError):
    """A device does not explain as the CPU does."""

    reason = "PARITY_MISSED"


class EmbedderError(TextCamError):
    """An embedder cannot be loaded."""

    reason = "EMBEDDER_ERROR"


class ProbingSetError(TextCamError):
    """The probing set cannot serve its purpose."""

    reason = "PROBING_SET_ERROR"


class VocabularyError(TextCamError):
    """A vocabulary file cannot serve its purpose."""

    reason = "VOCABULARY_ERROR"


class InvalidTruth(TextCamError):
    """A truth file cannot serve its purpose."""

    reason = "INVALID_TRUTH"

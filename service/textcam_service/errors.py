"""All errors of the product.

Each message names the fault and the remedy. `reason` identifies the fault for programs, and goes
into google.rpc.ErrorInfo unchanged. serving/status.py holds the single table from these classes to
gRPC codes.
"""

from __future__ import annotations

from typing import ClassVar


class TextCamError(Exception):
    """Base class of the product's errors.

    Attributes:
        reason: Stable upper-case identifier of the fault.
        field: Field of the request at fault, as the contract spells it, or None.
        retry_after_s: Seconds after which a retry may succeed, or None.
    """

    reason: ClassVar[str] = "TEXTCAM_ERROR"

    def __init__(
        self, message: str, *, field: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.field = field
        self.retry_after_s = retry_after_s


# --- the request ----------------------------------------------------------------------


class InvalidRequest(TextCamError):
    """The request is not valid, whatever the server's state."""

    reason = "INVALID_REQUEST"


class InvalidArgument(InvalidRequest):
    """A parameter is out of range or contradicts another."""

    reason = "INVALID_ARGUMENT"


class UndecodableMessage(InvalidRequest):
    """The request's bytes are not a message of the contract."""

    reason = "UNDECODABLE_MESSAGE"


class UnsupportedMethod(InvalidRequest):
    """The model's backbone does not support the CAM method."""

    reason = "UNSUPPORTED_METHOD"


class InvalidTensor(InvalidRequest):
    """A tensor's type, shape and data are inconsistent, or do not fit the field."""

    reason = "INVALID_TENSOR"


class InvalidImage(InvalidRequest):
    """The image cannot be decoded."""

    reason = "INVALID_IMAGE"


class EmptyImage(InvalidImage):
    """The request has no image bytes."""

    reason = "EMPTY_IMAGE"


class UnsupportedImage(InvalidImage):
    """The bytes are not an image, or have an unsupported format."""

    reason = "UNSUPPORTED_IMAGE"


class TruncatedImage(InvalidImage):
    """The image file is truncated or damaged."""

    reason = "TRUNCATED_IMAGE"


class AnimatedImage(InvalidImage):
    """The image has more than one frame."""

    reason = "ANIMATED_IMAGE"


class ImageTooLarge(InvalidRequest):
    """The image is over the byte or the pixel limit."""

    reason = "IMAGE_TOO_LARGE"


class BatchTooLarge(InvalidRequest):
    """The call has more images than the server accepts."""

    reason = "BATCH_TOO_LARGE"


class ResponseTooLarge(InvalidRequest):
    """The response would be over the limit on a message's bytes."""

    reason = "RESPONSE_TOO_LARGE"


# --- the caller -----------------------------------------------------------------------


class AccessRefused(TextCamError):
    """The caller is refused."""

    reason = "ACCESS_REFUSED"


class Unauthenticated(AccessRefused):
    """The caller is not authenticated."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(AccessRefused):
    """The caller has no right to the method or the model."""

    reason = "PERMISSION_DENIED"


class RateLimited(AccessRefused):
    """The caller is over its rate limit."""

    reason = "RATE_LIMITED"


# --- unknown names --------------------------------------------------------------------


class NotServed(TextCamError):
    """The named object is not served here."""

    reason = "NOT_SERVED"


class UnknownModel(NotServed):
    """There is no model of that name."""

    reason = "UNKNOWN_MODEL"


class UnknownVersion(NotServed):
    """The model is served, but not in that version."""

    reason = "UNKNOWN_VERSION"


class UnknownClass(NotServed):
    """The model has no such class."""

    reason = "UNKNOWN_CLASS"


# --- the server's state -----------------------------------------------------------


class QueueFull(TextCamError):
    """The queue for inference is full."""

    reason = "QUEUE_FULL"


class DeadlineUnreachable(QueueFull):
    """With the requests ahead, the response would miss the deadline."""

    reason = "DEADLINE_UNREACHABLE"


class ServerBusy(QueueFull):
    """The server processes its maximum of requests or bytes."""

    reason = "SERVER_BUSY"


class SessionFailed(TextCamError):
    """The request was lost with the inference session, which restarts."""

    reason = "SESSION_FAILED"


class DeadlineExpired(TextCamError):
    """The deadline passed before the response was ready."""

    reason = "DEADLINE_EXPIRED"


class ModelLoading(TextCamError):
    """The model is not loaded and warmed up yet."""

    reason = "MODEL_LOADING"


class ShuttingDown(TextCamError):
    """The server is draining and accepts no new requests."""

    reason = "SHUTTING_DOWN"


# --- artefacts and settings -----------------------------------------------------------


class ArtefactError(TextCamError):
    """An artefact is not usable."""

    reason = "ARTEFACT_ERROR"


class ArtefactMissing(ArtefactError):
    """A file of an artefact, or a version in a store, does not exist."""

    reason = "ARTEFACT_MISSING"


class ArtefactCorrupt(ArtefactError):
    """An artefact's content does not have the digest in its manifest."""

    reason = "ARTEFACT_CORRUPT"


class BundleMismatch(ArtefactError):
    """Backbone, bank and vocabulary do not belong together."""

    reason = "BUNDLE_MISMATCH"


class FolderTaken(ArtefactError):
    """The output folder of an artefact contains other files."""

    reason = "FOLDER_TAKEN"


class VersionExists(ArtefactError):
    """The version to publish exists already."""

    reason = "VERSION_EXISTS"


class VersionInUse(ArtefactError):
    """The version to remove is the current one or the one to roll back to."""

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
    """A command needs packages that are not part of the base install."""

    reason = "MISSING_EXTRA"


# --- offline commands -----------------------------------------------------------------


class ExportRefused(TextCamError):
    """The network cannot be exported, or its export computes something else."""

    reason = "EXPORT_REFUSED"


class QuantizationRefused(TextCamError):
    """The int8 backbone cannot be made, or explains differently from the float one."""

    reason = "QUANTIZATION_REFUSED"


class ParityMissed(TextCamError):
    """A device explains differently from the CPU."""

    reason = "PARITY_MISSED"


class EmbedderError(TextCamError):
    """An embedder cannot be loaded."""

    reason = "EMBEDDER_ERROR"


class ProbingSetError(TextCamError):
    """The probing set is not suitable."""

    reason = "PROBING_SET_ERROR"


class VocabularyError(TextCamError):
    """A vocabulary file is not valid."""

    reason = "VOCABULARY_ERROR"


class InvalidTruth(TextCamError):
    """A truth file is not valid."""

    reason = "INVALID_TRUTH"

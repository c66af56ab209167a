"""The single table from domain errors to gRPC codes, and the error details."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from textcam_service import errors

DOMAIN = "textcam"
# Bytes of UTF-8. Clients accept 8 KiB of trailers. A message is percent-encoded there, up to three
# times its size, and repeated in base64 up to twice.
_MAX_MESSAGE_BYTES = 1024
_ELLIPSIS = " [...] "

# The nearest base class in this table decides; other errors are INTERNAL.
CODES: dict[type[errors.TextCamError], StatusCode] = {
    errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
    errors.AccessRefused: StatusCode.PERMISSION_DENIED,
    errors.Unauthenticated: StatusCode.UNAUTHENTICATED,
    errors.RateLimited: StatusCode.RESOURCE_EXHAUSTED,
    errors.NotServed: StatusCode.NOT_FOUND,
    errors.QueueFull: StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExpired: StatusCode.DEADLINE_EXCEEDED,
    errors.SessionFailed: StatusCode.UNAVAILABLE,
    errors.ModelLoading: StatusCode.UNAVAILABLE,
    errors.ShuttingDown: StatusCode.UNAVAILABLE,
    errors.ArtefactError: StatusCode.FAILED_PRECONDITION,
}


def code_of(error: BaseException) -> StatusCode:
    """Return the gRPC code of an error."""
    for ancestor in type(error).__mro__:
        if ancestor in CODES:
            return CODES[ancestor]
    return StatusCode.INTERNAL


def reason_of(error: BaseException) -> str:
    """Return an error's reason, for machines; INTERNAL for errors hidden from clients."""
    if isinstance(error, errors.TextCamError) and code_of(error) is not StatusCode.INTERNAL:
        return error.reason
    return "INTERNAL"


def status_of(error: BaseException) -> Status:
    """Return the google.rpc.Status of an error.

    Unexpected errors reveal nothing about the server's internals. Long messages lose their middle:
    they begin with the fault, which may quote any text, and end with the remedy.
    """
    code = code_of(error)
    if not isinstance(error, errors.TextCamError) or code is StatusCode.INTERNAL:
        return Status(
            code=StatusCode.INTERNAL.value[0],
            message="internal server error; the server's log has the details",
            details=[_pack(error_details_pb2.ErrorInfo(reason=reason_of(error), domain=DOMAIN))],
        )
    message = _shorten(str(error))
    details = [_pack(error_details_pb2.ErrorInfo(reason=reason_of(error), domain=DOMAIN))]
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=message
        )
        details.append(_pack(error_details_pb2.BadRequest(field_violations=[violation])))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return Status(code=code.value[0], message=message, details=details)


def _shorten(message: str) -> str:
    encoded = message.encode()
    if len(encoded) <= _MAX_MESSAGE_BYTES:
        return message
    kept = (_MAX_MESSAGE_BYTES - len(_ELLIPSIS)) // 2
    # Characters that are cut in two are dropped.
    ends = (encoded[:kept], encoded[-kept:])
    return _ELLIPSIS.join(end.decode(errors="ignore") for end in ends)


def _pack(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed

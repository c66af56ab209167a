"""The one table from the domain's errors to gRPC codes, and their details."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from textcam_service import errors

DOMAIN = "textcam"
# Of UTF-8. Clients take 8 KiB of trailers, where a message is percent-encoded (up to threefold),
# and stands in base64 up to twice.
_LONGEST_MESSAGE = 1024
_LEFT_OUT = " [...] "

# The nearest class in an error's ancestry decides; what is not below stands as INTERNAL.
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
    """The gRPC code that an error is answered with."""
    for ancestor in type(error).__mro__:
        if ancestor in CODES:
            return CODES[ancestor]
    return StatusCode.INTERNAL


def reason_of(error: BaseException) -> str:
    """What machines match on; INTERNAL where callers learn nothing of the inside."""
    if isinstance(error, errors.TextCamError) and code_of(error) is not StatusCode.INTERNAL:
        return error.reason
    return "INTERNAL"


def status_of(error: BaseException) -> Status:
    """The google.rpc.Status that an error is answered with.

    An unexpected error tells the caller nothing of the inside. Of a long message the middle is left
    out: it begins with the fault, which may quote any text, and ends with the mend.
    """
    code = code_of(error)
    if not isinstance(error, errors.TextCamError) or code is StatusCode.INTERNAL:
        return Status(
            code=StatusCode.INTERNAL.value[0],
            message="the server failed to answer; its log holds the reason",
            details=[_pack(error_details_pb2.ErrorInfo(reason=reason_of(error), domain=DOMAIN))],
        )
    message = _bounded(str(error))
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


def _bounded(message: str) -> str:
    encoded = message.encode()
    if len(encoded) <= _LONGEST_MESSAGE:
        return message
    kept = (_LONGEST_MESSAGE - len(_LEFT_OUT)) // 2
    # A character that the cut goes through is left out too.
    ends = (encoded[:kept], encoded[-kept:])
    return _LEFT_OUT.join(end.decode(errors="ignore") for end in ends)


def _pack(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed

"""Errors of the client, as a tree.

TextCamClientError
├── ImageError                the image cannot be sent; nothing was sent
│   ├── UnreadableImage       it, or its file, cannot be read (also an OSError)
│   └── UnsupportedImage      unsupported type, shape or size (also a TypeError)
├── MapsDeclined              the result was requested without this map
├── SeveralTargets            the result has several explanations, not one
├── PictureUnavailable        the explained image cannot be opened again
├── MalformedResponse         the response breaks the contract
├── MethodIgnored             the server used another CAM method than requested
├── ClientClosed              the client is closed
└── CallError                 the call failed: .code, .reason, .request_id, .retry_after
    ├── InvalidRequest        the request is at fault: .violations
    ├── NotFound              no such model, version or class
    ├── Overloaded            a limit of the server or of a message's size
    ├── Unavailable           no server, one that is not ready, or a connection that broke
    ├── DeadlineExceeded      no response in time
    ├── Cancelled
    ├── Unauthenticated
    ├── PermissionDenied
    ├── Unimplemented
    └── ServerError           the server failed
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DOMAIN = "textcam"
_DETAILS_KEY = "grpc-status-details-bin"
# Start of the details that gRPC gives to a call that its peer reset without a status.
_RESET_WORDS = "Received RST_STREAM"
STREAM_RESET = "STREAM_RESET"


class TextCamClientError(Exception):
    """Base class of all errors of this package."""


class ImageError(TextCamClientError):
    """The image cannot be sent. Nothing was sent."""


class UnreadableImage(ImageError, OSError):
    """The image, or its file, cannot be read."""


class UnsupportedImage(ImageError, TypeError):
    """The type, shape or size of the image is not supported."""


class MapsDeclined(TextCamClientError):
    """The result was requested without the map that is needed."""


class SeveralTargets(TextCamClientError):
    """The result has several explanations, so there is no single one."""


class PictureUnavailable(TextCamClientError):
    """The explained image cannot be opened again: gone, changed or never given."""


class MalformedResponse(TextCamClientError):
    """The response breaks the contract."""


class MethodIgnored(TextCamClientError):
    """The server used another CAM method than requested: it is too old to know that method."""


class ClientClosed(TextCamClientError):
    """The client was closed before the call."""


class Violation(NamedTuple):
    """One field of a request at fault.

    Attributes:
        field: The field, in the contract's spelling: "target.top_k.k".
        description: The fault.
    """

    field: str
    description: str


class CallError(TextCamClientError):
    """A call, or one item of a stream, failed.

    Attributes:
        code: grpc.StatusCode.
        reason: Stable identifier of the fault, such as "UNKNOWN_CLASS"; "" if the service
            itself did not report the failure.
        request_id: Id of the failed request; "" if it had none.
        retry_after: Seconds until the next try, as the server suggests; None: no suggestion.
        violations: Fields of the request at fault.
    """

    usual_code: ClassVar[Any] = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: Any = None,
        reason: str = "",
        request_id: str = "",
        retry_after: float | None = None,
        violations: Iterable[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code or self.usual_code
        self.reason = reason
        self.request_id = request_id
        self.retry_after = retry_after
        self.violations = tuple(Violation(*violation) for violation in violations)


class InvalidRequest(CallError):
    """The request is at fault; `violations` names the fields."""

    usual_code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(CallError):
    """No such model, version or class."""

    usual_code = grpc.StatusCode.NOT_FOUND


class Overloaded(CallError):
    """A limit was hit: the server's queue, with `retry_after`, or a message's size, without."""

    usual_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(CallError):
    """No server could be reached, or it is not ready."""

    usual_code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(CallError):
    """No response came within the timeout."""

    usual_code = grpc.StatusCode.DEADLINE_EXCEEDED


class Cancelled(CallError):
    """The call was cancelled, its client was closed, or its run was interrupted."""

    usual_code = grpc.StatusCode.CANCELLED


class Unauthenticated(CallError):
    """The server does not know the caller."""

    usual_code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(CallError):
    """The caller may not do this."""

    usual_code = grpc.StatusCode.PERMISSION_DENIED


class Unimplemented(CallError):
    """The server has no such method."""

    usual_code = grpc.StatusCode.UNIMPLEMENTED


class ServerError(CallError):
    """The server failed unexpectedly."""

    usual_code = grpc.StatusCode.INTERNAL


ERROR_OF_CODE: dict[Any, type[CallError]] = {
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNKNOWN: ServerError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: InvalidRequest,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequest,
    grpc.StatusCode.ABORTED: ServerError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.INTERNAL: ServerError,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: ServerError,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
}

_CODES_OF_RESETS = (grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL)
_CODE_OF_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def from_status(status: status_pb2.Status, request_id: str = "") -> CallError:
    """Turn a google.rpc.Status into the error of its code; ignore unknown details."""
    code = _CODE_OF_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
    parts: dict[str, Any] = {}
    for detail in status.details:
        # The code and the message still stand without a garbled detail.
        with contextlib.suppress(DecodeError):
            parts.update(_read_detail(detail))
    return ERROR_OF_CODE.get(code, ServerError)(
        status.message or code.name, code=code, request_id=request_id, **parts
    )


def _read_detail(detail: Any) -> dict[str, Any]:
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry_info = error_details_pb2.RetryInfo()
    if detail.Unpack(info) and info.domain == _DOMAIN:
        return {"reason": info.reason}
    if detail.Unpack(bad_request):
        return {"violations": [(v.field, v.description) for v in bad_request.field_violations]}
    if detail.Unpack(retry_info):
        delay = retry_info.retry_delay
        return {"retry_after": delay.seconds + delay.nanos * 1e-9}
    return {}


def from_rpc_error(rpc_error: Any, request_id: str = "") -> CallError:
    """Turn a grpc.RpcError, of the sync or the asyncio API, into the error of its code.

    If a proxy loses its server, it resets the call: gRPC reports CANCELLED or INTERNAL. A server
    that stops before it accepts the call gives CANCELLED without details. In both cases the caller
    did not cancel and no server responded, so both become Unavailable, which is tried again.
    """
    code = rpc_error.code()
    details = rpc_error.details() or ""
    dropped = code is grpc.StatusCode.CANCELLED and details in ("", "CANCELLED")
    if dropped or (code in _CODES_OF_RESETS and details.startswith(_RESET_WORDS)):
        return Unavailable(
            f"the connection to the server broke: {details or code.name}",
            reason=STREAM_RESET,
            request_id=request_id,
        )
    status = status_pb2.Status()
    for key, value in rpc_error.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            status = _parsed_status(value)
    # The call's own code and message win: the details are an annotation of them.
    status.code = code.value[0]
    status.message = details or status.message
    return from_status(status, request_id)


def _parsed_status(data: Any) -> status_pb2.Status:
    try:
        return status_pb2.Status.FromString(data)
    except (DecodeError, TypeError):
        return status_pb2.Status()

"""From gRPC's statuses to the error tree."""

from __future__ import annotations

import pickle
from dataclasses import replace

import grpc
import pytest
import textcam_client
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from textcam_client import (
    CallError,
    InvalidRequest,
    NotFound,
    Overloaded,
    Retry,
    ServerError,
    Unavailable,
)
from textcam_client._base import PATIENT
from textcam_client.errors import ERROR_OF_CODE, from_rpc_error, from_status


class FailedCall(grpc.RpcError):
    """What a call raises: the parts that sync and asyncio errors share."""

    def __init__(self, code, details, metadata):
        self._parts = code, details, metadata

    def code(self):
        return self._parts[0]

    def details(self):
        return self._parts[1]

    def trailing_metadata(self):
        return self._parts[2]


def packed(*details):
    result = []
    for detail in details:
        result.append(any_pb2.Any())
        result[-1].Pack(detail)
    return result


def test_every_code_but_ok_has_its_class():
    assert set(ERROR_OF_CODE) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


@pytest.mark.parametrize("code", sorted(ERROR_OF_CODE, key=lambda code: code.value[0]))
def test_a_scripted_failure_arrives_as_the_class_of_its_code(code, server, png):
    server.fail_with(code, "SOME_REASON", message="why")
    with server.client(retry=None) as client, pytest.raises(CallError, match=r"^why$") as caught:
        client.explain(png, request_id="r-7")
    error = caught.value
    assert type(error) is ERROR_OF_CODE[code]
    assert (error.code, error.reason, error.request_id) == (code, "SOME_REASON", "r-7")
    assert isinstance(error.__cause__, grpc.RpcError)


async def test_the_asyncio_client_reads_the_same_details(server, png):
    server.fail_with(
        "RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after=1.25, violations=[("image", "bad")]
    )
    async with server.async_client(retry=None) as client:
        with pytest.raises(Overloaded) as caught:
            await client.explain(png, request_id="r-8")
    error = caught.value
    assert (error.reason, error.request_id, error.retry_after) == ("QUEUE_FULL", "r-8", 1.25)
    assert error.violations == (("image", "bad"),)
    assert error.violations[0].field == "image"


def test_every_violation_is_kept_in_order():
    fields = [
        error_details_pb2.BadRequest.FieldViolation(field=f, description=d)
        for f, d in (("phrases", "1 .. 8"), ("target.top_k.k", "1 .. 5"))
    ]
    details = packed(error_details_pb2.BadRequest(field_violations=fields))
    error = from_status(status_pb2.Status(code=3, message="no", details=details))
    assert isinstance(error, InvalidRequest)
    assert error.violations == (("phrases", "1 .. 8"), ("target.top_k.k", "1 .. 5"))


def test_reasons_of_other_domains_are_not_ours():
    details = packed(error_details_pb2.ErrorInfo(reason="QUOTA", domain="gateway.example"))
    assert from_status(status_pb2.Status(code=8, details=details)).reason == ""


def test_unknown_and_garbled_details_are_passed_over():
    garbled = any_pb2.Any(
        type_url="type.googleapis.com/google.rpc.BadRequest", value=b"\xff\xff\xff"
    )
    good = packed(error_details_pb2.ErrorInfo(reason="UNKNOWN_MODEL", domain="textcam"))
    other = any_pb2.Any(type_url="type.googleapis.com/some.Other", value=b"x")
    status = status_pb2.Status(code=5, message="gone", details=[garbled, other, *good])
    error = from_status(status)
    assert isinstance(error, NotFound)
    assert error.reason == "UNKNOWN_MODEL"


@pytest.mark.parametrize("metadata", [None, (), (("grpc-status-details-bin", b"\xff\xfe"),)])
def test_absent_or_garbled_metadata_leaves_code_and_message(metadata):
    error = from_rpc_error(FailedCall(grpc.StatusCode.INTERNAL, "broken", metadata))
    assert type(error) is ServerError
    assert (str(error), error.code, error.reason) == ("broken", grpc.StatusCode.INTERNAL, "")


@pytest.mark.parametrize("code", [grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL])
def test_a_call_that_a_proxy_reset_is_unavailable_and_tried_again(code):
    reset = FailedCall(code, "Received RST_STREAM with error code 8", ())
    error = from_rpc_error(reset, "r-9")
    assert (type(error), error.reason, error.request_id) == (Unavailable, "STREAM_RESET", "r-9")
    assert Retry().delay_after(error, 1) is not None
    own = from_rpc_error(FailedCall(code, "Locally cancelled by application!", ()))
    assert type(own) is ERROR_OF_CODE[code]


@pytest.mark.parametrize("words", ["", "CANCELLED"])
def test_a_call_that_a_stopping_server_dropped_is_unavailable_and_tried_again(words):
    error = from_rpc_error(FailedCall(grpc.StatusCode.CANCELLED, words, ()))
    assert (type(error), error.reason) == (Unavailable, "STREAM_RESET")
    assert Retry().delay_after(error, 1) is not None


@pytest.mark.parametrize("multiplier", [2.0, 2])
def test_a_wait_for_a_server_outlasts_any_number_of_tries(multiplier):
    policy = replace(PATIENT, multiplier=multiplier)
    for attempt in (1024, 1025, 100_000):
        delay = policy.delay_after(Unavailable("down"), attempt)
        assert policy.max_backoff / 2 <= delay <= policy.max_backoff


def test_the_calls_code_wins_over_that_of_the_details():
    status = status_pb2.Status(code=3, message="inner").SerializeToString()
    failed = FailedCall(grpc.StatusCode.NOT_FOUND, "outer", (("grpc-status-details-bin", status),))
    error = from_rpc_error(failed)
    assert (type(error), str(error)) == (NotFound, "outer")


def test_a_code_that_does_not_exist_yet_is_a_server_error():
    assert type(from_status(status_pb2.Status(code=99, message="?"))) is ServerError


def test_errors_survive_pickling_with_all_their_parts():
    error = Overloaded("full", reason="QUEUE_FULL", request_id="r", retry_after=0.5)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is Overloaded
    assert vars(copy) == vars(error)
    assert str(copy) == "full"


def test_each_class_has_a_usual_code_that_maps_back_to_it():
    for name in textcam_client.__all__:
        value = getattr(textcam_client, name)
        if isinstance(value, type) and issubclass(value, CallError) and value is not CallError:
            assert ERROR_OF_CODE[value("x").code] is value

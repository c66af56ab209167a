"""The table from errors to gRPC codes, walked."""

import grpc
import pytest
from google.rpc import error_details_pb2
from textcam_service import errors
from textcam_service.serving.status import CODES, code_of, status_of

ALL = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, errors.TextCamError)
]
OFFLINE = {
    "TextCamError",
    "InvalidSettings",
    "MissingExtra",
    "ExportRefused",
    "QuantizationRefused",
    "ParityMissed",
    "EmbedderError",
    "ProbingSetError",
    "VocabularyError",
    "InvalidTruth",
}


def details(status, kind):
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            return message
    return None


@pytest.mark.parametrize("error", ALL)
def test_every_error_a_request_can_meet_has_a_code(error):
    expected_internal = error.__name__ in OFFLINE
    assert (code_of(error("x")) is grpc.StatusCode.INTERNAL) == expected_internal


def test_details_name_reason_field_and_delay():
    status = status_of(errors.QueueFull("busy", field="image", retry_after_s=0.25))
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    info = details(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("QUEUE_FULL", "textcam")
    violation = details(status, error_details_pb2.BadRequest).field_violations[0]
    assert (violation.field, violation.description) == ("image", "busy")
    assert details(status, error_details_pb2.RetryInfo).retry_delay.nanos == 250_000_000


def test_an_unexpected_error_tells_nothing_of_the_inside():
    status = status_of(RuntimeError("secret path"))
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert "secret" not in status.message


@pytest.mark.parametrize("letter", ["x", "\N{LATIN SMALL LETTER E WITH ACUTE}", "\N{SAUROPOD}"])
@pytest.mark.parametrize("shift", ["", "s", "so"])
def test_of_a_long_message_the_middle_is_left_out_between_characters(letter, shift):
    status = status_of(
        errors.UnknownModel(f"no{shift} '{letter * 9999}' here, only 'm'", field="f")
    )
    assert 1010 < len(status.message.encode()) <= 1024
    begin, end = status.message.split(" [...] ")
    assert begin.strip(letter) == f"no{shift} '"
    assert end.strip(letter) == "' here, only 'm'"
    violation = details(status, error_details_pb2.BadRequest).field_violations[0]
    assert violation.description == status.message


def test_a_message_that_fits_stays_whole():
    assert status_of(errors.UnknownModel("x" * 1024)).message == "x" * 1024


def test_the_table_names_only_domain_errors():
    assert all(issubclass(error, errors.TextCamError) for error in CODES)

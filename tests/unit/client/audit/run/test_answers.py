"""Answers as records."""

import hashlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from textcam_client import Contrast, ImageError, InvalidRequest, MalformedResponse
from textcam_client.audit.errors import AuditStopped
from textcam_client.audit.run import answers
from textcam_client.testing import serve_in_memory

PIXELS = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture(scope="module")
def client():
    with serve_in_memory() as server, server.client() as connected:
        yield connected


def test_channels_below_the_floor_are_left_out(client):
    result = client.explain(PIXELS, include_channel_evidence=True)
    evidence = result.channel_evidence
    whole, _ = answers.target_record(result, 0.0, None)
    assert whole.channel_evidence.sum() == pytest.approx(result.logit - result.bias, abs=1e-4)
    some, _ = answers.target_record(result, 0.05, None)
    expected = np.flatnonzero(np.abs(evidence) >= 0.05 * np.abs(evidence).sum())
    assert 0 < len(expected) < len(evidence)
    assert some.channel_ids.tolist() == expected.tolist()
    assert some.channel_evidence.tolist() == evidence[expected].tolist()


def test_a_contrast_names_both_classes(client):
    result = client.explain(PIXELS, target=Contrast(3, 1), include_channel_evidence=True)
    record, _ = answers.target_record(result, 0.001, None)
    assert (record.class_index, record.reference_index) == (3, 1)
    assert [one.text for one in record.phrases] == [one.text for one in result.phrases]


def test_an_unusable_mask_is_told_and_the_rest_kept(client):
    result = client.explain(PIXELS, include_channel_evidence=True)
    record, fault = answers.target_record(result, 0.001, b"no mask")
    assert "cannot be decoded" in fault
    assert {one.inside for one in record.phrases} == {None}


def test_a_server_without_channel_evidence_is_too_old(client):
    with pytest.raises(AuditStopped, match="newer server"):
        answers.target_record(client.explain(PIXELS), 0.001, None)


@pytest.mark.parametrize("change", [{"logit": math.nan}, {"bias": math.inf}])
def test_an_answer_whose_numbers_are_none_is_malformed(client, change):
    result = client.explain(PIXELS, include_channel_evidence=True)
    bad = replace(result, explanations=[replace(result.explanation, **change)])
    with pytest.raises(MalformedResponse, match="infinite or no numbers"):
        answers.target_record(bad, 0.001, None)


def test_digests_include_the_evidence(client):
    result = client.explain(PIXELS, include_channel_evidence=True)
    found = answers.digests(result)
    assert set(found) == {"pixels", "activations", "evidence"}
    content = result.channel_evidence.astype("<f4").tobytes()
    assert found["evidence"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert json.loads(answers.provenance(result))["model_name"] == "fake"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InvalidRequest("x", reason="TRUNCATED_IMAGE"), "TRUNCATED_IMAGE"),
        (InvalidRequest("x"), "INVALID_ARGUMENT"),
        (ImageError("x"), "IMAGE_UNREADABLE"),
        (MalformedResponse("x"), "MALFORMED_RESPONSE"),
    ],
)
def test_failures_have_short_reasons(error, reason):
    assert answers.failure_reason(error) == reason

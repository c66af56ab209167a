"""Results as messages of the contract."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from small_results import IMAGE, job, result
from textcam.v1 import types_pb2 as types_pb
from textcam_service.errors import DeadlineExpired, ResponseTooLarge
from textcam_service.serving.engine.cancellation import CancellationToken
from textcam_service.serving.engine.jobs import Degradation, HeatmapForm
from textcam_service.serving.grpc.explainer import responses
from textcam_service.serving.grpc.explainer.responses import ResponseEncoder, add_timings

TOKEN = CancellationToken(None)


MODEL = SimpleNamespace(
    name="m",
    version="1",
    backbone=SimpleNamespace(manifest=SimpleNamespace(weights_digest="sha256:b")),
    artefact=SimpleNamespace(bank_digest="sha256:c", vocabulary_digest="sha256:v"),
)


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """Provenances that were encoded; their content is of the bundle, which integration covers."""
    encoded = []

    def stand_in(bundle, method):
        encoded.append((bundle.version, method.name))
        return types_pb.Provenance(head_kind=method.name, model_version=bundle.version)

    monkeypatch.setattr(responses, "provenance_message", stand_in)
    return encoded


def encode(max_bytes=2**20, **changes):
    return ResponseEncoder(max_bytes).encode(result(bundle=MODEL, **changes), TOKEN)


def test_a_result_is_encoded_with_its_maps_and_what_made_it():
    response = encode(job=job(request_id="seven", prediction_count=2))
    assert response.request_id == "seven"
    assert [own.class_name for own in response.predictions] == ["cat", "dog"]
    assert (response.image_height, response.image_width) == (IMAGE.height, IMAGE.width)
    assert (response.provenance.head_kind, response.provenance.decoder) == ("cam", "raw")
    (explanation,) = response.explanations
    assert [phrase.text for phrase in explanation.phrases] == ["whiskers", "sofa"]
    assert [group.phrase_index for group in explanation.groups] == [0, 1]
    assert explanation.sentence == "a cat"
    whole = np.frombuffer(explanation.saliency_map.data, "<f4").reshape(2, 3)
    np.testing.assert_array_equal(whole, np.arange(6).reshape(2, 3))
    assert list(explanation.groups[1].channel_ids) == [2]


def test_what_a_job_declines_is_left_out():
    response = encode(job=job(include_groups=False, heatmap=HeatmapForm.NONE))
    (explanation,) = response.explanations
    assert not explanation.groups
    assert explanation.phrases
    assert not explanation.HasField("saliency_map")
    assert not explanation.rest.HasField("saliency_map")
    assert explanation.rest.evidence == 0.5


def test_degradations_are_named():
    response = encode(degradations=(Degradation.NO_GROUPS, Degradation.FEWER_TARGETS))
    assert list(response.degradations) == [
        types_pb.DEGRADATION_NO_GROUPS,
        types_pb.DEGRADATION_FEWER_TARGETS,
    ]


def test_heatmaps_that_cannot_fit_are_refused_before_the_work_and_before_the_first_is_drawn():
    large = job(heatmap=HeatmapForm.IMAGE)
    encoder = ResponseEncoder(4 * IMAGE.height * IMAGE.width)
    encoder.check(large, IMAGE, large.min_map_count)
    encoder.check(large, IMAGE, 4)
    with pytest.raises(ResponseTooLarge):
        encoder.check(large, IMAGE, 5)
    three = ResponseEncoder(3 * IMAGE.height * IMAGE.width)
    with pytest.raises(ResponseTooLarge, match=r"1 target\(s\) of a 400 x 300") as refused:
        three.encode(result(bundle=MODEL, job=large), TOKEN)  # the whole, two groups and the rest
    assert refused.value.field == "heatmap"


def test_a_response_over_the_limit_is_refused_with_room_for_a_streams_envelope():
    size = encode().ByteSize()
    assert encode(size + 1024).ByteSize() == size
    with pytest.raises(ResponseTooLarge, match="fewer targets"):
        encode(size + 1023)


def test_a_response_that_is_no_longer_awaited_ends_at_its_next_heatmap():
    token = CancellationToken(None)
    token.cancel()
    with pytest.raises(DeadlineExpired):
        ResponseEncoder(2**20).encode(
            result(bundle=MODEL, job=job(heatmap=HeatmapForm.IMAGE)), token
        )
    assert ResponseEncoder(2**20).encode(result(bundle=MODEL), token)


def test_stages_are_added_last():
    response = encode()
    add_timings(response, {"decode": 0.5, "encode": 1.25})
    assert response.timings.decode.ToTimedelta().total_seconds() == 0.5
    assert response.timings.encode.ToTimedelta().total_seconds() == 1.25
    assert not response.timings.HasField("queue")


def test_provenance_is_encoded_once_for_each_model_and_method(made):
    encoder, other = ResponseEncoder(2**20), SimpleNamespace(**vars(MODEL) | {"version": "2"})
    for bundle in (MODEL, other, MODEL):
        for image in (IMAGE, replace(IMAGE, decoder="pillow/PNG")):
            response = encoder.encode(result(bundle=bundle, image=image), TOKEN)
            assert response.provenance.model_version == bundle.version
            assert response.provenance.decoder == image.decoder
    assert made == [("1", "cam"), ("2", "cam")]

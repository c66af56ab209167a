"""The made-up explainer keeps the contract: evidence adds up, models are found, pages follow."""

from __future__ import annotations

import grpc
import pytest
from client_samples import make_png
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_client.testing._checks import Refused
from textcam_client.testing._explainer import FakeExplainer

CLASSES = ("cat", "dog", "bird")
PHRASES = ("whiskers", "wing", "a red ball")
PNG = make_png(0)


@pytest.fixture(scope="module")
def explainer():
    return FakeExplainer(["m"], "2", CLASSES, PHRASES)


def explain(explainer, **options):
    return explainer.explain(pb.ExplainRequest(encoded=PNG, **options))


def contrast():
    refs = [types_pb.ClassRef(name=name) for name in ("cat", "dog")]
    return types_pb.Target(contrast=types_pb.Target.Contrast(target=refs[0], reference=refs[1]))


@pytest.mark.parametrize("target", [types_pb.Target(), contrast()], ids=["class", "contrast"])
def test_groups_rest_and_bias_add_up_to_the_logit(explainer, target):
    (made,) = explain(explainer, target=target, min_probability=0.01).explanations
    assert made.groups
    total = sum(group.evidence for group in made.groups) + made.rest.evidence + made.bias
    assert total == pytest.approx(made.logit, abs=1e-4)
    if made.HasField("reference"):
        assert made.logit == pytest.approx(made.target.logit - made.reference.logit, abs=1e-4)
        assert "Cat rather than dog, because of" in made.sentence
    else:
        assert made.logit == pytest.approx(made.target.logit, abs=1e-4)


def test_predictions_come_from_the_most_probable_and_targets_follow_them(explainer):
    target = types_pb.Target(top_k=types_pb.Target.TopK(k=2))
    response = explain(explainer, target=target, prediction_count=3)
    chances = [prediction.probability for prediction in response.predictions]
    assert chances == sorted(chances, reverse=True)
    assert [e.target.class_index for e in response.explanations] == [
        p.class_index for p in response.predictions[:2]
    ]
    assert not explain(explainer, prediction_count=0).predictions


def test_groups_are_left_out_on_request(explainer):
    (made,) = explain(explainer, include_groups=False, min_probability=0.01).explanations
    assert made.phrases
    assert not made.groups


def test_a_method_that_is_not_served_is_refused(explainer):
    with pytest.raises(Refused, match="'m' supports cam") as caught:
        explain(explainer, method=types_pb.CAM_METHOD_GRAD_CAM)
    assert caught.value.reason == "UNSUPPORTED_METHOD"


def test_models_are_found_by_name_and_version_or_must_be_named():
    several = FakeExplainer(["b", "a"], "2", CLASSES, PHRASES)
    assert several.find_model(types_pb.ModelSpec(name="b", version="2")) == "b"
    for spec, reason in (
        ({}, "INVALID_ARGUMENT"),
        ({"name": "c"}, "UNKNOWN_MODEL"),
        ({"name": "a", "version": "1"}, "UNKNOWN_VERSION"),
    ):
        with pytest.raises(Refused) as caught:
            several.find_model(types_pb.ModelSpec(**spec))
        assert caught.value.reason == reason
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


def test_an_error_lists_only_some_of_many_models():
    many = FakeExplainer([f"m{index}" for index in range(9)], "1", CLASSES, PHRASES)
    with pytest.raises(Refused) as caught:
        many.find_model(types_pb.ModelSpec(name="x"))
    assert str(caught.value).endswith("'m4' ...")


def test_pages_of_models_follow_each_other_to_the_end():
    served = FakeExplainer(["c", "a", "b"], "1", CLASSES, PHRASES)
    first = served.list_models(pb.ListModelsRequest(page_size=2))
    assert [model.name for model in first.models] == ["a", "b"]
    last = served.list_models(pb.ListModelsRequest(page_token=first.next_page_token))
    assert [model.name for model in last.models] == ["c"]
    assert not last.next_page_token


def test_a_description_has_the_provenance_of_results_without_a_decoder(explainer):
    described = explainer.describe(pb.GetModelRequest())
    assert tuple(described.class_names) == CLASSES
    assert described.summary.phrase_count == len(PHRASES)
    own = explain(explainer).provenance
    assert own.decoder == "pillow/PNG"
    own.decoder = ""
    assert described.provenance == own

"""Calibrated phrases over gRPC on loopback: what requests may ask of them, what is answered."""

import grpc
import numpy as np
import pytest
from model_callers import picture, publish, served
from small_models import add_supports, write_model
from textcam.oip import open_inference_pb2 as oip
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_client.errors import from_rpc_error
from textcam_service.core.rationale.settings import RationaleSettings, WordSettings
from textcam_service.core.types import PHRASE_KINDS
from textcam_service.errors import InvalidSettings
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.registry.loading import word_settings
from textcam_service.settings import read_settings
from textcam_service.store.models import ModelStore

KINDS = ("part", "colour", "", "part", "colour", "", "part", "colour", "")
# Every class's name, to the bank.
REPEATS = (1, 3, 5, 7)
SEEDS = range(12)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of two models: one with supports and kinds, and one without either."""
    folder = tmp_path_factory.mktemp("calibrated")
    models = ModelStore(folder / "store")
    known = add_supports(write_model(folder / "known", 0), KINDS, REPEATS)
    publish(models, known, "1", "known")
    publish(models, write_model(folder / "plain", 0), "1", "plain")
    return folder / "store"


async def ask(caller, seed=0, name="known", **options):
    request = pb.ExplainRequest(
        model=types_pb.ModelSpec(name=name), encoded=picture(seed), **options
    )
    return await caller.explainer.Explain(request, timeout=60)


async def said(caller, **options):
    """Phrases of a few images, in one list."""
    options.setdefault("max_phrases", 9)
    answers = [await ask(caller, seed, **options) for seed in SEEDS]
    return [phrase for answer in answers for phrase in answer.explanations[0].phrases]


async def refused(caller, **options):
    """Message of a refusal, and its field, which is one."""
    with pytest.raises(grpc.aio.AioRpcError) as found:
        await ask(caller, **options)
    assert found.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = from_rpc_error(found.value).violations
    return found.value.details(), violation.field


async def test_answers_have_probabilities_effects_kinds_and_relative_maps(store):
    async with served(store) as caller:
        found = await said(caller)
        assert len(found) > 2
        for phrase in found:
            assert phrase.HasField("probability")
            assert RationaleSettings().min_probability <= phrase.probability <= 1
            kind = KINDS[phrase.vocabulary_index] or "unspecified"
            assert types_pb.PhraseKind.Name(phrase.kind) == f"PHRASE_KIND_{kind.upper()}"
        assert [phrase.effect for phrase in found] != [phrase.evidence for phrase in found]
        answer = await ask(caller, 1, min_probability=0.0)
        (explanation,) = answer.explanations
        assert len(explanation.groups) == len(explanation.phrases) >= 2
        for group in explanation.groups:
            assert group.relative_map.shape == explanation.saliency_map.shape
        assert not explanation.rest.HasField("relative_map")
        parts = [*explanation.groups, explanation.rest]
        total = explanation.bias + explanation.gap + sum(part.evidence for part in parts)
        assert total == pytest.approx(explanation.logit, rel=1e-4, abs=1e-4)
        assert all(f"{p.text} ({p.probability:.0%} likely, share " in explanation.sentence
                   for p in explanation.phrases)  # fmt: skip


async def test_relative_maps_are_left_out_with_the_other_maps(store):
    async with served(store) as caller:
        without = await ask(caller, 1, min_probability=0.0, heatmap=types_pb.HEATMAP_FORM_NONE)
        assert without.explanations[0].groups
        assert not any(g.HasField("relative_map") for g in without.explanations[0].groups)
        declined = await ask(caller, 1, min_probability=0.0, include_groups=False)
        assert not declined.explanations[0].groups
        assert len(declined.explanations[0].phrases) >= 2


async def test_a_requests_threshold_goes_before_the_banks(store):
    async with served(store) as caller:
        counts = []
        for least in (0.0, 0.6, 0.75, 0.9, 1.0):
            found = await said(caller, min_probability=least)
            assert all(phrase.probability >= least for phrase in found)
            counts.append(len(found))
        assert counts == sorted(counts, reverse=True)
        assert counts[0] > counts[2] > counts[-1] == 0
        assert counts[3] <= len(await said(caller)) <= counts[1]
        answer = await ask(caller, min_probability=1.0)
        assert "none of the words that may be said is likely enough" in (
            answer.explanations[0].sentence
        )
        assert answer.explanations[0].rest.evidence == pytest.approx(
            answer.explanations[0].logit - answer.explanations[0].bias, rel=1e-4
        )


@pytest.mark.parametrize("least", [float("nan"), -0.1, 1.5, float("inf")])
@pytest.mark.parametrize("name", ["known", "plain"])
async def test_a_probability_that_is_none_is_refused(name, least, store):
    async with served(store) as caller:
        message, field = await refused(caller, name=name, min_probability=least)
    assert (message, field) == (f"min_probability is from 0 to 1, not {least:g}", "min_probability")


async def test_a_threshold_without_a_calibration_is_refused_unless_it_is_none(store):
    async with served(store) as caller:
        message, field = await refused(caller, name="plain", min_probability=0.5)
        assert field == "min_probability"
        assert message.startswith("the phrases of model 'plain' have no probabilities: its bank")
        assert (await ask(caller, name="plain", min_probability=0.0)).explanations[0].phrases
        plain = await ask(caller, name="plain")
        assert not plain.provenance.HasField("calibration")
        assert not any(p.HasField("probability") for p in plain.explanations[0].phrases)


async def test_only_kinds_that_were_asked_for_are_said(store):
    async with served(store) as caller:
        wanted = [types_pb.PHRASE_KIND_PART, types_pb.PHRASE_KIND_SCENE]
        found = await said(caller, kinds=wanted, min_probability=0.0)
        assert {phrase.kind for phrase in found} == {types_pb.PHRASE_KIND_PART}
        # That no phrase is of a kind is no error.
        assert await said(caller, kinds=[types_pb.PHRASE_KIND_SCENE], min_probability=0.0) == []


@pytest.mark.parametrize("number", [0, 99, -1])
async def test_an_unknown_kind_is_refused_with_those_there_are(number, store):
    async with served(store) as caller:
        message, field = await refused(caller, kinds=[types_pb.PHRASE_KIND_PART, number])
    assert field == "kinds"
    assert message == f"there is no kind of phrases {number}; there are {', '.join(PHRASE_KINDS)}"


async def test_kinds_of_a_vocabulary_that_says_none_are_refused(store):
    async with served(store) as caller:
        message, field = await refused(caller, name="plain", kinds=[types_pb.PHRASE_KIND_PART])
    assert (message, field) == (
        "the vocabulary of model 'plain' has no kinds of phrases; leave kinds out",
        "kinds",
    )


async def test_a_kind_that_no_phrase_has_is_no_error_by_embeddings_either(store):
    async with served(store, direction="lda") as caller:
        answer = await ask(caller, kinds=[types_pb.PHRASE_KIND_SCENE])
        assert not answer.explanations[0].phrases
        parts = await said(caller, kinds=[types_pb.PHRASE_KIND_PART])
        assert {phrase.kind for phrase in parts} == {types_pb.PHRASE_KIND_PART}


async def test_the_classs_name_is_repeated_where_it_is_asked_for(store):
    async with served(store) as caller:
        plain = {phrase.vocabulary_index for phrase in await said(caller)}
        repeated = {phrase.vocabulary_index for phrase in await said(caller, repeat_class=True)}
    assert plain & {*REPEATS} == set()
    assert repeated & {*REPEATS}


async def test_provenance_says_how_probabilities_were_calibrated(store):
    async with served(store) as caller:
        found = (await ask(caller)).provenance
        model = await caller.explainer.GetModel(
            pb.GetModelRequest(model=types_pb.ModelSpec(name="known")), timeout=60
        )
    calibration = found.calibration
    assert (calibration.source, calibration.images) == ("labels", 77)
    assert calibration.min_probability == RationaleSettings().min_probability
    assert calibration.expected_calibration_error == pytest.approx(0.05 * 30 / 40)
    rows = [(b.lower, b.upper, b.probability, b.observed, b.count) for b in calibration.bins]
    assert rows == [(0.7, 0.8, 0.75, 0.7, 30), (0.9, 1.0, 0.95, 0.95, 10)]
    assert found.parameters["rationale.wording"] == "supports"
    assert model.provenance.calibration == calibration


async def test_the_servers_threshold_goes_before_the_banks(store):
    async with served(store, min_probability=0.95) as caller:
        surer = await said(caller)
        answer = await ask(caller)
        assert len(await said(caller, min_probability=0.75)) > len(surer)
    assert all(phrase.probability >= 0.95 for phrase in surer)
    assert answer.provenance.calibration.min_probability == 0.95
    assert answer.provenance.parameters["rationale.min_probability"] == "0.95"


async def test_direction_lda_serves_the_papers_words_of_every_bank(store):
    async with served(store, direction="lda", min_probability=0.9) as caller:
        known = [await ask(caller, seed) for seed in SEEDS]
        plain = [await ask(caller, seed, name="plain") for seed in SEEDS]
        message, field = await refused(caller, min_probability=0.5)
        model = await caller.explainer.GetModel(
            pb.GetModelRequest(model=types_pb.ModelSpec(name="known")), timeout=60
        )
    # The same channel embeddings, and so the same words.
    assert [a.explanations[0].sentence for a in known] == [
        a.explanations[0].sentence for a in plain
    ]
    assert not any(a.provenance.HasField("calibration") for a in (*known, model))
    assert known[0].provenance.parameters["rationale.wording"] == "embeddings"
    assert (field, "or is served by embeddings" in message) == ("min_probability", True)


async def test_without_supports_words_are_what_they_are_with_direction_lda(store):
    async with served(store) as caller:
        before = [(await ask(caller, s, name="plain")).explanations[0] for s in SEEDS]
    async with served(store, direction="lda") as caller:
        after = [(await ask(caller, s, name="plain")).explanations[0] for s in SEEDS]
    assert [e.SerializeToString(deterministic=True) for e in before] == [
        e.SerializeToString(deterministic=True) for e in after
    ]


def test_settings_reach_the_bundle(tmp_path):
    folder = add_supports(write_model(tmp_path, 0))
    given = "m", folder / "backbone", folder / "bank"
    assert ModelBundle.load(*given).settings == RationaleSettings(prior=0.0)
    settings = read_settings({"direction": "lda"})
    assert word_settings(settings) == WordSettings("embeddings")
    bundle = ModelBundle.load(*given).with_words(word_settings(settings))
    assert (bundle.settings.wording, bundle.calibration) == ("embeddings", None)
    sure = ModelBundle.load(*given).with_words(
        word_settings(read_settings({"min_probability": 0.5}))
    )
    assert (sure.settings.wording, sure.settings.min_probability) == ("supports", 0.5)
    assert word_settings(read_settings({})) == WordSettings()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"direction": "words"}, "direction: .* 'supports' or 'lda'"),
        ({"min_probability": 1.5}, "min_probability: .* less than or equal to 1"),
        ({"min_probability": "nan"}, "min_probability"),
        (
            {"direction": "lda", "min_probability": 0.5},
            "needs the probabilities of",
        ),
    ],
)
def test_settings_of_words_that_are_none_are_refused(given, words):
    with pytest.raises(InvalidSettings, match=words):
        read_settings(given)


async def infer(caller, name, seeds, phrases):
    images = [picture(seed) for seed in seeds]
    given = oip.ModelInferRequest.InferInputTensor(
        name="image",
        datatype="BYTES",
        shape=[len(images)],
        contents=oip.InferTensorContents(bytes_contents=images),
    )
    request = oip.ModelInferRequest(model_name=name, inputs=[given])
    request.parameters["max_phrases"].int64_param = phrases
    answer = await caller.inference.ModelInfer(request, timeout=60)
    kinds = {"BYTES": "bytes_contents", "FP32": "fp32_contents", "INT64": "int64_contents"}
    return {
        each.name: np.array(getattr(each.contents, kinds[each.datatype])).reshape(each.shape)
        for each in answer.outputs
    }


async def test_open_inference_answers_the_same_words_with_probabilities_and_effects(store):
    async with served(store) as caller:
        found = await infer(caller, "known", SEEDS, 4)
        own = [(await ask(caller, seed, max_phrases=4)).explanations[0] for seed in SEEDS]
        plain = await infer(caller, "plain", [0], 2)
    for row, explanation in enumerate(own):
        empty = 4 - len(explanation.phrases)
        texts = [phrase.text.encode() for phrase in explanation.phrases]
        assert found["phrases"][row].tolist() == texts + [b""] * empty
        for name, field in {
            "evidence": "evidence",
            "effects": "effect",
            "phrase_probabilities": "probability",
        }.items():
            values = [getattr(phrase, field) for phrase in explanation.phrases] + [0.0] * empty
            assert found[name][row] == pytest.approx(values, rel=1e-5), name
        assert found["sentence"][row].decode() == explanation.sentence
    sums = found["evidence"].sum(axis=1) + found["rest_evidence"] + found["bias"] + found["gap"]
    np.testing.assert_allclose(sums, found["logits"].max(axis=1), rtol=1e-4)
    assert {len(explanation.phrases) for explanation in own} - {4}
    assert np.isnan(plain["phrase_probabilities"]).all()
    assert np.isfinite(plain["effects"]).all()

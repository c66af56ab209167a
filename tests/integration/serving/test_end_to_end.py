"""Photographs through the client to a real server process and back."""

import asyncio
import hashlib
import io
import json
import signal
import subprocess
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from processes import BANK, TEXTCAM, running
from prometheus_client.parser import text_string_to_metric_families
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc as pb_grpc
from textcam_client import AsyncClient, Client, Contrast, InvalidRequest, NotFound, TopK
from textcam_client.errors import CallError
from textcam_service.imaging.resampling import RESAMPLER
from textcam_service.model.bundle import ModelBundle

LARGE = np.zeros((2000, 1201, 3), np.uint8)


@pytest.fixture(scope="module")
def client(server):
    with Client(server.address, timeout=60) as made:
        yield made


def accounts(explanation):
    parts = [*explanation.groups, explanation.rest]
    total = explanation.bias + sum(part.evidence for part in parts)
    assert total == pytest.approx(explanation.logit, rel=1e-4, abs=1e-4)
    maps = sum(part.saliency_map.astype(float) for part in parts)
    np.testing.assert_allclose(maps, explanation.saliency_map, rtol=1e-4, atol=1e-3)
    mean = explanation.saliency_map.mean(dtype=float)
    assert mean == pytest.approx(explanation.logit - explanation.bias, rel=1e-3)


def test_photographs_are_explained_and_the_phrases_account_for_the_logit(client, photos):
    for path in photos:
        answer = client.explain(path, target=TopK(3))
        assert len(answer.explanations) == 3
        assert answer.image_size == Image.open(path).size[::-1]
        for explanation in answer.explanations:
            accounts(explanation)
            texts = [phrase.text for phrase in explanation.phrases]
            assert len(texts) == len(set(texts)) <= 5
            assert all(text in explanation.sentence for text in texts)
        assert answer.explanations[0].phrases  # of less probable classes there may be none
        assert answer.provenance.bank_digest.startswith("sha256:")
        assert answer.provenance.layers == ("_swish",)
        assert answer.provenance.head_kind == "gap_linear"


def test_the_cat_is_explained_by_words_for_cats(client, photos):
    answer = client.explain(photos[0])
    assert "cat" in answer.predictions[0].class_name
    words = " ".join(phrase.text for phrase in answer.phrases)
    assert any(word in words for word in ("cat", "kitten", "feline", "whisker", "fur"))


def test_a_contrast_accounts_for_the_difference_of_logits(client, photos):
    plain = client.explain(photos[0], target=["tabby", "lynx"])
    first, second = plain.explanations
    contrast = client.explain(photos[0], target=Contrast("tabby", "lynx"))
    accounts(contrast)
    assert contrast.logit == pytest.approx(first.logit - second.logit, abs=1e-3)
    difference = first.saliency_map - second.saliency_map
    np.testing.assert_allclose(contrast.saliency_map, difference, atol=1e-3)


def test_channel_evidence_accounts_for_the_logit_by_the_phrases_of_the_model(client, photos):
    model = client.model()
    phrases = np.array(model.channel_phrases)
    assert phrases.shape == (model.channel_count,)
    assert -1 <= phrases.min() <= phrases.max() < len(model.vocabulary)
    plain, answer = (
        client.explain(photos[0], include_channel_evidence=asked) for asked in (False, True)
    )
    assert plain.channel_evidence is None
    assert not plain.digests
    assert answer.channel_evidence.sum() + answer.bias == pytest.approx(answer.logit, abs=1e-3)
    for group in answer.groups:
        own = answer.channel_evidence[group.channel_ids].sum()
        assert own == pytest.approx(group.evidence, abs=1e-3)


def test_digests_name_the_stage_in_which_two_images_differ(client, photos):
    def digests(image):
        return client.explain(image, include_channel_evidence=True).digests

    pixels = np.asarray(Image.open(photos[1]).convert("RGB"))
    assert digests(photos[1]) == digests(pixels)
    assert digests(pixels)["pixels"] == "sha256:" + hashlib.sha256(pixels.tobytes()).hexdigest()
    unseen = pixels.copy()
    unseen[0, 0] ^= 1  # outside the crop
    assert digests(unseen)["pixels"] != digests(pixels)["pixels"]
    assert digests(unseen)["activations"] == digests(pixels)["activations"]
    assert digests(255 - pixels)["activations"] != digests(pixels)["activations"]


def test_path_bytes_pil_and_array_are_the_same_image(client, photos):
    image = Image.open(photos[1]).convert("RGB")
    forms = [photos[1], photos[1].read_bytes(), image, np.asarray(image)]
    answers = [client.explain(form) for form in forms]
    for answer in answers[1:]:
        assert answer.sentence == answers[0].sentence
    assert answers[0].provenance.decoder == "pillow/PNG"
    assert answers[3].provenance.decoder == "raw"
    assert answers[0].provenance.parameters["resampler"] == RESAMPLER


def test_heatmap_forms(client, photos):
    local = client.explain(photos[0]).heatmap()
    image = client.explain(photos[0], heatmap="image")
    assert np.abs(image.server_heatmap.astype(float) / 255 - local).max() <= 1.01 / 255
    overlay = client.explain(photos[0], heatmap="overlay")
    assert overlay.server_overlay.startswith(b"\x89PNG")
    none = client.explain(photos[0], heatmap="none", include_groups=False)
    assert none.saliency_map is None
    assert len(none.groups) == 0


def test_a_large_jpeg_is_decoded_reduced_and_answered_in_its_own_pixels(client, photos):
    large = Image.open(photos[0]).convert("RGB").resize((1536, 1536))
    file = io.BytesIO()
    large.save(file, "JPEG", quality=90)
    saliency = client.explain(file.getvalue())
    overlay = client.explain(file.getvalue(), heatmap="overlay", include_groups=False)
    raw = client.explain(np.asarray(Image.open(file)))
    assert saliency.provenance.decoder == overlay.provenance.decoder == "pillow/JPEG 1:2"
    assert raw.provenance.decoder == "raw"
    assert saliency.image_size == raw.image_size == (1536, 1536)
    assert saliency.crop == raw.crop
    # The form asked for changes nothing else, and the drawing has every pixel.
    one, drawn, whole = (answer.explanations[0] for answer in (saliency, overlay, raw))
    assert drawn.logit == pytest.approx(one.logit, abs=1e-4)
    assert Image.open(io.BytesIO(drawn.server_overlay)).size == (1536, 1536)
    assert saliency.predictions[0].class_name == raw.predictions[0].class_name
    assert one.logit == pytest.approx(whole.logit, abs=0.5)
    assert np.corrcoef(one.saliency_map.ravel(), whole.saliency_map.ravel())[0, 1] > 0.99


def test_the_answer_does_not_depend_on_the_batch(server, photos):
    with Client(server.address, timeout=60) as client:
        alone = [client.explain(path) for path in photos]
        with ThreadPoolExecutor(16) as callers:
            crowd = list(callers.map(client.explain, photos * 6))
    for place, answer in enumerate(crowd):
        together, single = answer.explanations[0], alone[place % len(photos)]
        assert [p.text for p in together.phrases] == [p.text for p in single.phrases]
        assert np.abs(together.heatmap() - single.heatmap()).max() <= 1 / 255


def test_streams_keep_order_and_one_bad_item_does_not_harm_the_rest(client, photos):
    images = [*photos, b"no image", *photos]
    answers = list(client.explain_many(images, on_error="return"))
    assert isinstance(answers[4], InvalidRequest)
    assert answers[4].reason == "UNSUPPORTED_IMAGE"
    for place in range(4):
        one, other = answers[place].explanations[0], answers[place + 5].explanations[0]
        assert one.sentence == other.sentence


async def test_the_async_client_answers_the_same(server, client, photos):
    async with AsyncClient(server.address, timeout=60) as other:
        answers = await asyncio.gather(*(other.explain(path) for path in photos))
    for path, answer in zip(photos, answers, strict=True):
        expected = client.explain(path).sentence
        assert answer.sentence == expected


@pytest.mark.parametrize(
    ("options", "error", "reason", "field"),
    [
        ({"image": b"\0\0"}, InvalidRequest, "UNSUPPORTED_IMAGE", "encoded"),
        (
            {"image": LARGE},
            InvalidRequest,
            "IMAGE_TOO_LARGE",
            "pixels",
        ),
        ({"model": "other"}, NotFound, "UNKNOWN_MODEL", "model.name"),
        ({"version": "9"}, NotFound, "UNKNOWN_VERSION", "model.version"),
        ({"target": "unicorn"}, NotFound, "UNKNOWN_CLASS", "target.classes.classes[0].name"),
        ({"target": 1000}, NotFound, "UNKNOWN_CLASS", "target.classes.classes[0].index"),
        ({"target": TopK(99)}, InvalidRequest, "INVALID_ARGUMENT", "target.top_k.k"),
        ({"max_phrases": 99}, InvalidRequest, "INVALID_ARGUMENT", "max_phrases"),
    ],
)
def test_a_bad_request_gets_its_own_error_and_the_server_serves_on(
    client, photos, options, error, reason, field
):
    image = options.pop("image", photos[0])
    with pytest.raises(error) as refused:
        client.explain(image, **options)
    assert refused.value.reason == reason
    assert [violation.field for violation in refused.value.violations] == [field]
    assert client.explain(photos[0]).predictions


def test_a_method_number_that_the_server_does_not_know_is_answered_by_those_it_does(server, photos):
    request = pb.ExplainRequest(encoded=photos[0].read_bytes())
    request.MergeFromString(b"\x68\x63")  # method = 99, as of a newer contract
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as refused:
        pb_grpc.ExplainerServiceStub(channel).Explain(request, timeout=30)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details().startswith(
        "this server knows no CAM method of number 99 in the contract; model 'photos' supports cam,"
    )


def test_an_oversized_message_is_refused(client, photos):
    with pytest.raises(CallError):
        client.explain(b"\0" * 9_000_000)
    assert client.explain(photos[0]).predictions


def test_models_are_described(client):
    model = client.model()
    assert len(model.class_names) == 1000
    assert len(model.vocabulary) >= 800
    assert [summary.name for summary in client.models()] == ["photos"]


def scrape(server):
    with urllib.request.urlopen(server.metrics) as page:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(page.read().decode())
            for sample in family.samples
        }


def test_metrics_count_what_happened(server, client, photos):
    name = "textcam_requests_total"
    good = (name, (("code", "OK"), ("method", "Explain")))
    bad = (name, (("code", "INVALID_ARGUMENT"), ("method", "Explain")))
    before = scrape(server)
    client.explain(photos[0])
    with pytest.raises(InvalidRequest):
        client.explain(b"x")
    after = scrape(server)
    assert after[good] - before.get(good, 0) == 1
    assert after[bad] - before.get(bad, 0) == 1
    for stage in ("decode", "queue", "inference", "attribution", "rationale", "encode"):
        count = ("textcam_stage_duration_seconds_count", (("stage", stage),))
        assert after[count] - before[count] == 1
    assert any(key[0] == "textcam_bundle_info" for key in after)
    assert after["textcam_queue_depth_images", ()] == 0


def health_of(address, service=""):
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status


def test_sigterm_finishes_work_in_flight_and_exits_cleanly(photos, backbone_folder):
    with running("--max-batch", "2") as own, Client(own.address, timeout=60) as client:
        assert health_of(own.address) == health_pb2.HealthCheckResponse.SERVING
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(client.explain(photos[0])))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        own.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(30)
        assert own.process.wait(30) == 0
        assert len(answers) == 6


def test_the_command_line_explains_and_draws(server, photos, tmp_path):
    done = subprocess.run(
        [
            TEXTCAM,
            "explain",
            *photos[:2],
            "--server",
            server.address,
            "--output",
            tmp_path,
            "--json",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["image"] for line in lines] == [str(path) for path in photos[:2]]
    for name in ("chelsea.png", "coffee.png"):
        assert min(Image.open(tmp_path / name).size) > 300


def test_the_packaged_bank_fits_the_exported_backbone(backbone_folder):
    bundle = ModelBundle.load("photos", backbone_folder, BANK)
    assert bundle.artefact.bank.channel_embeddings.shape == (1280, 384)
    assert "bank build" in bundle.artefact.bank.parameters["command"]


def test_a_request_under_pressure_is_answered_smaller_if_it_allows_and_says_so(photos):
    crowded = ("--max-queue", "16", "--max-batch", "1")
    with running(*crowded) as slow, Client(slow.address, timeout=60) as client:
        options = {"target": TopK(3), "lane": "audit", "may_degrade": True}
        answers = list(client.explain_many([photos[0]] * 32, concurrency=16, **options))
        whole = client.explain(photos[0], target=TopK(3), may_degrade=True)
    found = {answer.degradations for answer in answers}
    assert found & {("no_groups",), ("no_groups", "fewer_targets")}
    for answer in answers:
        assert len(answer.explanations) == (1 if "fewer_targets" in answer.degradations else 3)
        groups = answer.explanations[0].groups
        assert bool(groups) == ("no_groups" not in answer.degradations)
    assert (whole.degradations, len(whole.explanations)) == ((), 3)

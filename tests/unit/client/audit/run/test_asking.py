"""Asking for each row over streams."""

from collections import Counter

import numpy as np
import pytest
from audit_runs import audited, picture, plant
from textcam_client.audit.datasets.dataset import DataOptions
from textcam_client.audit.datasets.opening import open_data_set
from textcam_client.audit.errors import AuditStopped
from textcam_client.audit.records.reading import read_records
from textcam_client.audit.run import asking
from textcam_client.retry import Retry
from textcam_client.testing import serve_in_memory


@pytest.fixture
def server():
    with serve_in_memory() as running:
        yield running


@pytest.fixture
def client(server):
    with server.client(retry=Retry(attempts=2, initial_backoff=0.01), timeout=10) as connected:
        yield connected


def asked(server):
    return Counter(request.encoded for request in server.requests)


def test_each_label_is_explained_and_each_wrong_prediction_contrasted(server, client, tmp_path):
    audited(client, plant(tmp_path / "data", 30), tmp_path / "out")
    records = list(read_records(tmp_path / "out"))
    assert [one.index for one in records] == list(range(30))
    for one in records:
        own = client.explain(one.path, target=[one.label_index], include_channel_evidence=True)
        predicted = own.predictions[0].class_index
        assert (one.target.class_index, one.target.logit) == (one.label_index, own.logit)
        assert one.target.channel_evidence.sum() == pytest.approx(own.logit - own.bias, abs=0.02)
        assert (one.error is not None) == (predicted != one.label_index)
        if one.error is not None:
            expected = own.predictions[0].logit - own.logit
            assert one.error.logit == pytest.approx(expected, abs=1e-4)
            pair = (one.error.class_index, one.error.reference_index)
            assert pair == (predicted, one.label_index)
    assert any(one.error for one in records)


def test_requests_go_to_the_audit_lane_without_maps(server, client, tmp_path):
    audited(client, plant(tmp_path / "data", 3), tmp_path / "out")
    request = server.requests[0]
    assert request.include_channel_evidence
    assert not request.include_groups
    assert (request.lane, request.heatmap, request.model.version) == (2, 1, "1")


def test_an_unknown_label_explains_the_most_probable_class(client, tmp_path):
    data = plant(tmp_path / "data", 4, ["zebra"])
    audited(client, data, tmp_path / "out")
    for one in read_records(tmp_path / "out"):
        assert (one.label, one.label_index, one.error) == ("zebra", None, None)
        assert one.target.class_index == one.predictions[0][0]


def test_equal_files_are_asked_once_for_each_target(server, client, tmp_path):
    for folder in ("tabby cat", "daisy", "zebra"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            picture(0).save(tmp_path / "data" / folder / name)
    audited(client, tmp_path / "data", tmp_path / "out", segment_rows=1)
    records = list(read_records(tmp_path / "out"))
    targets = Counter(str(request.target) for request in server.requests)
    assert set(targets.values()) == {1}
    assert [one.row_id for one in records] == [
        f"{folder}/{name}"
        for folder in ("daisy", "tabby cat", "zebra")
        for name in ("a.png", "b.png")
    ]
    for first, second in zip(records[::2], records[1::2], strict=True):
        assert first.content_digest == second.content_digest
        assert (first.label, first.predictions) == (second.label, second.predictions)
        assert np.array_equal(first.target.channel_evidence, second.target.channel_evidence)


def test_many_equal_files_in_a_row_wait_for_the_first(server, client, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "_MOST_PENDING", 8)
    (tmp_path / "data").mkdir()
    for index in range(40):
        picture(index // 20).save(tmp_path / "data" / f"{index:02d}.png")
    server.latency = 0.05
    audited(client, tmp_path / "data", tmp_path / "out")
    assert len(list(read_records(tmp_path / "out"))) == 40
    assert len(server.requests) == 2


def test_broken_images_are_failures_and_the_others_go_on(client, tmp_path):
    data = plant(tmp_path / "data", 6)
    (data / "daisy" / "0001.png").write_bytes(b"no image")
    (data / "daisy" / "0003.png").write_bytes(b"")
    (data / "daisy" / "0005.png").unlink()
    (data / "daisy" / "0005.png").symlink_to(tmp_path / "gone")
    audited(client, data, tmp_path / "out")
    failures = {one.row_id: one for one in read_records(tmp_path / "out") if one.failure}
    assert {name: one.failure_reason for name, one in failures.items()} == {
        "daisy/0001.png": "UNSUPPORTED_IMAGE",
        "daisy/0003.png": "EMPTY_IMAGE",
        "daisy/0005.png": "IMAGE_UNREADABLE",
    }
    assert failures["daisy/0005.png"].failure == "cannot read the image: No such file or directory"


def test_masks_give_the_share_of_each_phrase_inside(client, tmp_path):
    data = plant(tmp_path / "data", 3)
    for path in data.rglob("*.png"):
        mask = tmp_path / "masks" / path.relative_to(data)
        mask.parent.mkdir(parents=True, exist_ok=True)
        # Everything is object; the last has another shape.
        picture(0).point(lambda _: 255).resize((32, 32 if "0002" in path.name else 24)).save(mask)
    (tmp_path / "masks" / "daisy" / "0001.png").unlink()
    masked = open_data_set(str(data), DataOptions(masks=str(tmp_path / "masks")))
    audited(client, masked, tmp_path / "out")
    missing, whole, other = read_records(tmp_path / "out")
    assert {phrase.inside for phrase in whole.target.phrases} == {1.0}
    assert missing.mask_failure.startswith("cannot read the mask: there is no mask")
    assert "32 x 32 pixels, and the image 32 x 24" in other.mask_failure
    assert {phrase.inside for one in (missing, other) for phrase in one.target.phrases} == {None}


def test_a_refused_contrast_leaves_a_marked_record(server, client, tmp_path, monkeypatch):
    data = plant(tmp_path / "data", 2, ["zebra"])
    monkeypatch.setattr(asking.Labels, "find", lambda *_: 9)
    server.latency = lambda request: _refuse_contrasts(server, request)
    audited(client, data, tmp_path / "out", concurrency=1)
    marked = [one.degradations for one in read_records(tmp_path / "out")]
    assert ["no_contrast"] in marked


def _refuse_contrasts(server, request):
    if request.target.WhichOneof("of") == "contrast":
        server.fail_with("INVALID_ARGUMENT", "REFUSED")
    return 0


def test_a_server_that_fails_for_a_while_loses_no_row(server, client, tmp_path):
    server.fail_with("UNAVAILABLE", "NOT_READY", times=12)
    server.break_stream(after=3)
    audited(client, plant(tmp_path / "data", 20), tmp_path / "out")
    assert not any(one.failure for one in read_records(tmp_path / "out"))


def test_an_image_that_never_gets_an_answer_is_a_failure(server, client, tmp_path):
    data = plant(tmp_path / "data", 3, ["zebra"])
    killer = (data / "zebra" / "0001.png").read_bytes()

    def latency(request):
        if request.encoded == killer:
            server.fail_with("UNAVAILABLE", "CRASHED")
        return 0

    server.latency = latency
    audited(client, data, tmp_path / "out", concurrency=1)
    reasons = [one.failure_reason for one in read_records(tmp_path / "out")]
    assert reasons == ["", "CRASHED", ""]


def test_a_refusal_of_every_request_stops_at_once(server, client, tmp_path):
    audited(client, plant(tmp_path / "first", 1), tmp_path / "one")
    server.latency = lambda _: server.fail_with("UNAUTHENTICATED", "EXPIRED") or 0
    with pytest.raises(AuditStopped, match=r"the server refuses.*run the same command again"):
        audited(client, plant(tmp_path / "data", 9), tmp_path / "out")

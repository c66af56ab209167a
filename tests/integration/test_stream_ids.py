"""Items of a stream without an id of their own: refused, counted and logged as any other."""

import logging

from model_callers import picture, publish, served
from small_models import write_model
from textcam.v1 import explainer_pb2 as pb
from textcam_service.model_store import ModelStore

REFUSED = {"method": "ExplainStream", "code": "INVALID_ARGUMENT"}


async def test_items_without_an_id_of_their_own_are_counted_and_logged(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    store = ModelStore(tmp_path / "store")
    publish(store, write_model(tmp_path / "made", 0), "1")
    sent = [pb.ExplainRequest(request_id=name, encoded=picture(0)) for name in ("1", "", "1", "2")]
    async with served(store.root, log_format="json") as caller:
        items = (pb.ExplainStreamRequest(request=request) for request in sent)
        answers = [answer async for answer in caller.explainer.ExplainStream(items, timeout=60)]
        refused = [answer for answer in answers if answer.HasField("error")]
        assert sorted(answer.request_id for answer in refused) == ["", "1"]
        assert caller.metric("textcam_requests_total", **REFUSED) == 2
        assert caller.metric("textcam_request_duration_seconds_count", **REFUSED) == 2
        answered = {"method": "ExplainStream", "code": "OK"}
        assert caller.metric("textcam_requests_total", **answered) == 2
    lines = [record.request for record in caplog.records if record.name == "textcam.access"]
    told = [line for line in lines if line["code"] == "INVALID_ARGUMENT"]
    assert sorted(line.get("request_id", "") for line in told) == ["", "1"]
    for line in told:
        assert line["reason"] == "INVALID_ARGUMENT"
        assert line["request_bytes"] in {request.ByteSize() for request in sent}
    assert len(lines) == 4

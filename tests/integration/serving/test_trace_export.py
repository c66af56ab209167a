"""Traces and logs where something fails or drains, and settings of the exporter."""

import re
import signal
import socket
import subprocess
import sys
import time

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from processes import BACKBONE, BANK, TEXTCAM, running
from pydantic import ValidationError
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam.v1 import types_pb2 as types_pb
from textcam_service.errors import MissingExtra
from textcam_service.serving.grpc.contract import METHOD_NAMES
from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.serving.telemetry.tracers import make_tracer
from textcam_service.settings import ServerSettings
from traces import PATIENCE_S, answered, attributes, batches, lines

_FAILING = """
import asyncio, sys
from textcam_service.runtime.backbone import Backbone
from textcam_service.serving.telemetry.logs import set_up_logs
from textcam_service.serving.process import serve
from textcam_service.settings import ServerSettings

forward = Backbone.forward

def fail(self, images):
    if (images == images[0, :, :1, :1]).all() and (images != 0).all():
        raise RuntimeError("the session failed\\nin two lines")
    return forward(self, images)

Backbone.forward = fail
settings = ServerSettings(
    backbone=sys.argv[1], bank=sys.argv[2], port=0, metrics_port=-1, log_format="json",
    otlp_endpoint=sys.argv[3],
)
set_up_logs(settings)
asyncio.run(serve(settings, lambda server: print(server.port, flush=True)))
"""


def test_a_failure_is_told_of_with_its_traceback_and_traced_to_its_batch(
    backbone_folder, receiver, tmp_path
):
    log = tmp_path / "stderr"
    command = [sys.executable, "-c", _FAILING, BACKBONE, BANK, receiver.endpoint]
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            address = f"127.0.0.1:{int(process.stdout.readline())}"
            white = types_pb.Tensor(
                dtype=types_pb.Tensor.D_TYPE_UINT8, shape=[64, 64, 3], data=b"\xff" * (64 * 64 * 3)
            )
            with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as raised:
                explainer_pb2_grpc.ExplainerServiceStub(channel).Explain(
                    pb.ExplainRequest(request_id="l-failed", pixels=white)
                )
            assert raised.value.code() is grpc.StatusCode.INTERNAL
            line = answered(log, request_id="l-failed")
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
    assert (line["code"], line["reason"]) == ("INTERNAL", "INTERNAL")
    (failure,) = [line for line in lines(log) if "exception" in line]
    assert failure["level"] == "ERROR"
    assert "l-failed" in failure["message"]
    assert "in two lines" in failure["exception"]
    span = receiver.of_request("l-failed")
    assert span.status.code == Status.STATUS_CODE_ERROR
    (batch,) = [
        batch for batch in batches(receiver.spans) if batch.links[0].span_id == span.span_id
    ]
    assert batch.status.code == Status.STATUS_CODE_ERROR


def test_workers_trace_and_log_for_themselves_and_flush_when_they_drain(
    backbone_folder, receiver, photos, tmp_path, monkeypatch
):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")  # nothing goes out but at the end
    log, encoded = tmp_path / "stderr", photos[0].read_bytes()
    flags = ("--workers", "2", "--otlp-endpoint", receiver.endpoint, "--log-format", "json")
    with log.open("w") as stderr, running(*flags, stderr=stderr) as started:
        for number in range(16):
            # A connection of its own for each, so that the kernel deals them out.
            with grpc.insecure_channel(
                started.address, [("grpc.use_local_subchannel_pool", 1)]
            ) as channel:
                explainer_pb2_grpc.ExplainerServiceStub(channel).Explain(
                    pb.ExplainRequest(request_id=f"w{number}", encoded=encoded)
                )
        early = [s for s in receiver.spans if attributes(s).get("textcam.request_id") == "w0"]
    assert early == []
    told = [answered(log, request_id=f"w{number}") for number in range(16)]
    assert len({line["process"] for line in told}) == 2
    assert started.process.pid not in {line["process"] for line in told}
    for number, line in enumerate(told):
        assert receiver.of_request(f"w{number}").trace_id.hex() == line["trace_id"]
    pids = {resource["process.pid"] for resource in receiver.resources}
    assert {line["process"] for line in told} <= pids


@pytest.mark.parametrize("fault", ["nobody listens", "nobody answers"])
def test_a_broken_collector_harms_nothing(backbone_folder, photos, tmp_path, monkeypatch, fault):
    """Small queues, so that spans are lost at once; requests and the drain go on."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    log, encoded = tmp_path / "stderr", photos[0].read_bytes()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if fault == "nobody answers":
            silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        flags = ("--otlp-endpoint", endpoint, "--log-format", "json")
        with log.open("w") as stderr, running(*flags, stderr=stderr) as started:
            with grpc.insecure_channel(started.address) as channel:
                explain = explainer_pb2_grpc.ExplainerServiceStub(channel).Explain
                for number in range(20):
                    request = pb.ExplainRequest(request_id=f"b{number}", encoded=encoded)
                    assert len(explain(request).predictions) == 5
            began = time.monotonic()
            started.process.send_signal(signal.SIGTERM)
            assert started.process.wait(PATIENCE_S) == 0
            assert time.monotonic() - began < 15
    codes = [line["code"] for line in lines(log) if line["logger"] == "textcam.access"]
    assert codes == ["OK"] * 20
    assert any("dropping" in line["message"] for line in lines(log))


def test_that_share_of_the_requests_is_traced_which_the_setting_says(receiver):
    tracer = make_tracer(
        ServerSettings(otlp_endpoint=receiver.endpoint, trace_sample_ratio=0.25), METHOD_NAMES
    )
    try:
        records = [RequestRecord("Explain") for _ in range(2000)]
        for record in records:
            tracer.begin(record, ())
        traced = sum(record.span is not None for record in records)
        assert 400 < traced < 600
    finally:
        tracer.close()


def test_an_endpoint_without_the_extra_is_refused_with_the_mend(monkeypatch):
    monkeypatch.delitem(sys.modules, "textcam_service.serving.telemetry.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'textcam-service[tracing]'")):
        make_tracer(ServerSettings(otlp_endpoint="http://collector:4317"), METHOD_NAMES)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("otlp_endpoint", "collector:4317"),
        ("otlp_endpoint", "http://collector:4318/v1/traces"),
        ("trace_sample_ratio", "1.5"),
        ("log_format", "xml"),
    ],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(ValidationError, match=setting):
        ServerSettings(**{setting: value})
    ended = subprocess.run(
        [TEXTCAM, "serve", f"--{setting.replace('_', '-')}", value],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    assert setting in ended.stderr
    assert "Traceback" not in ended.stderr

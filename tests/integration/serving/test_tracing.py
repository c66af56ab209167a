"""Spans and JSON lines of a server's requests; an OTLP receiver takes the spans on loopback."""

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from known import SIGNER, entry, jwt_flags, public, signed, write_callers
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from processes import running
from textcam.oip import open_inference_pb2 as oip
from textcam.oip import open_inference_pb2_grpc
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam.v1 import types_pb2 as types_pb
from traces import answered, attributes, batches

STAGES = ["decode", "queue", "inference", "attribution", "rationale", "encode"]
EXPLAIN = "textcam.v1.ExplainerService/Explain"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "Bearer of-a-secret"


@pytest.fixture(scope="module")
def traced(backbone_folder, receiver, tmp_path_factory):
    """A server that traces to the receiver and logs JSON, both from its start."""
    log = tmp_path_factory.mktemp("log") / "stderr"
    flags = ("--otlp-endpoint", receiver.endpoint, "--log-format", "json", "--max-delay-ms", "20")
    with (
        pytest.MonkeyPatch.context() as environment,
        log.open("w") as stderr,
    ):
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        environment.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=tested")
        with running(*flags, stderr=stderr) as started:
            started.log = log
            yield started


@pytest.fixture
def stub(traced):
    with grpc.insecure_channel(traced.address) as channel:
        yield explainer_pb2_grpc.ExplainerServiceStub(channel)


def seconds(span):
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9


def stage_seconds(answer):
    return {stage.name: spent.ToNanoseconds() / 1e9 for stage, spent in answer.timings.ListFields()}


def test_requests_and_batches_make_the_tree_that_the_answers_tell_of(traced, receiver, photos):
    """Concurrent requests: six stages each, and exactly one batch, which is linked both ways."""
    encoded = [photo.read_bytes() for photo in photos]

    def ask(number):
        request = pb.ExplainRequest(request_id=f"c{number}", encoded=encoded[number % 4])
        with grpc.insecure_channel(traced.address) as channel:
            return explainer_pb2_grpc.ExplainerServiceStub(channel).Explain(request)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(24)))
    spans = {answer.request_id: receiver.of_request(answer.request_id) for answer in answers}
    of_batch = {link.span_id: batch for batch in batches(receiver.spans) for link in batch.links}
    assert len({span.trace_id for span in spans.values()}) == 24
    for answer in answers:
        span, told = spans[answer.request_id], stage_seconds(answer)
        children = receiver.children(span)
        assert (span.name, span.kind) == (EXPLAIN, Span.SPAN_KIND_SERVER)
        assert not span.parent_span_id
        assert sorted(children) == sorted(told) == sorted(STAGES)
        assert {child.trace_id for child in children.values()} == {span.trace_id}
        for stage in told:
            assert seconds(children[stage]) == pytest.approx(told[stage], abs=2e-6)
        starts = [children[stage].start_time_unix_nano for stage in STAGES]
        assert starts == sorted(starts)
        assert span.start_time_unix_nano <= starts[0]
        assert children["encode"].end_time_unix_nano <= span.end_time_unix_nano
        batch, line = of_batch[span.span_id], answered(traced.log, request_id=answer.request_id)
        assert [link.span_id for link in children["inference"].links] == [batch.span_id]
        # Two clocks are set against each other for each span anew, hence the millisecond.
        begins = batch.start_time_unix_nano - children["inference"].start_time_unix_nano
        assert abs(begins) < 1e6
        assert seconds(batch) == pytest.approx(told["inference"], abs=2e-6)
        assert attributes(batch)["textcam.execution_provider"] == "CPUExecutionProvider"
        assert line["trace_id"] == span.trace_id.hex()
        said = attributes(span)
        assert said["rpc.system.name"] == "grpc"
        assert said["rpc.method"] == EXPLAIN
        assert said["rpc.response.status_code"] == "OK"
        assert said["textcam.model"] == answer.provenance.model_name
        assert said["textcam.version"] == answer.provenance.model_version
        assert said["textcam.cam_method"] == "cam"
        size = attributes(batch)["textcam.batch.size"]
        assert size == len(batch.links) == line["batch_size"] == said["textcam.batch.size"]
    links = Counter(link.span_id for batch in batches(receiver.spans) for link in batch.links)
    assert {links[span.span_id] for span in spans.values()} == {1}
    assert max(attributes(batch)["textcam.batch.size"] for batch in of_batch.values()) > 1
    assert receiver.resources[-1]["service.name"] == "textcam"
    assert receiver.resources[-1]["deployment.environment.name"] == "tested"


def test_a_callers_trace_is_continued_and_its_choice_obeyed(stub, traced, receiver, photos):
    def ask(request_id, flags):
        request = pb.ExplainRequest(request_id=request_id, encoded=photos[0].read_bytes())
        stub.Explain(request, metadata=[("traceparent", f"00-{TRACE}-{PARENT}-{flags}")])

    ask("t-unsampled", "00")
    ask("t-sampled", "01")
    span = receiver.of_request("t-sampled")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert answered(traced.log, request_id="t-unsampled")["trace_id"] == TRACE
    known = {attributes(span).get("textcam.request_id") for span in receiver.spans}
    assert "t-unsampled" not in known


def test_items_of_streams_and_images_of_tensors_are_requests_too(stub, traced, receiver, photos):
    items = [
        pb.ExplainStreamRequest(
            request=pb.ExplainRequest(request_id=f"s{place}", encoded=photo.read_bytes())
        )
        for place, photo in enumerate(photos)
    ]
    metadata = [("traceparent", f"00-{TRACE}-{'5' * 16}-01")]
    assert len(list(stub.ExplainStream(iter(items), metadata=metadata))) == 4
    for place in range(4):
        span = receiver.of_request(f"s{place}")
        assert span.name == "textcam.v1.ExplainerService/ExplainStream"
        assert span.parent_span_id.hex() == "5" * 16
        assert answered(traced.log, request_id=f"s{place}")["lane"] == "audit"
    image = oip.ModelInferRequest.InferInputTensor(
        name="image",
        datatype="BYTES",
        shape=[1],
        contents=oip.InferTensorContents(bytes_contents=[photos[0].read_bytes()]),
    )
    with grpc.insecure_channel(traced.address) as channel:
        infer = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        infer(
            oip.ModelInferRequest(model_name="photos", inputs=[image]),
            metadata=[("traceparent", f"00-{TRACE}-{'6' * 16}-01")],
        )
        (span,) = receiver.wait_for(
            lambda spans: [span for span in spans if span.parent_span_id.hex() == "6" * 16]
        )
        assert span.name == "inference.GRPCInferenceService/ModelInfer"
        with pytest.raises(grpc.RpcError):
            infer(oip.ModelInferRequest(model_name="photos"))
    line = answered(traced.log, method="ModelInfer", code="INVALID_ARGUMENT")
    assert line["reason"] == "INVALID_TENSOR"


def test_a_line_tells_who_asked_for_what_and_how_it_went(stub, traced, photos):
    request = pb.ExplainRequest(request_id="l-ok", encoded=photos[0].read_bytes())
    answer = stub.Explain(request, metadata=[("authorization", SECRET)])
    line = answered(traced.log, request_id="l-ok")
    assert line["level"] == "INFO"
    assert line["process"] == traced.process.pid
    assert line["method"] == "Explain"
    assert line["code"] == "OK"
    assert "reason" not in line
    assert line["model"] == answer.provenance.model_name
    assert line["version"] == answer.provenance.model_version
    assert line["cam_method"] == "cam"
    assert line["lane"] == "interactive"
    assert line["request_bytes"] == request.ByteSize()
    assert (line["image_width"], line["image_height"]) == (answer.image_width, answer.image_height)
    assert list(line["stage_seconds"]) == STAGES
    for stage, spent in stage_seconds(answer).items():
        assert line["stage_seconds"][stage] == pytest.approx(spent, abs=1e-6)
    assert sum(line["stage_seconds"].values()) <= line["seconds"]


def test_a_line_tells_why_a_request_was_refused(stub, traced, receiver, photos):
    for request in (
        pb.ExplainRequest(request_id="l-image", encoded=b"no image"),
        pb.ExplainRequest(
            request_id="l-model", model=types_pb.ModelSpec(name="another"), encoded=b"-"
        ),
    ):
        with pytest.raises(grpc.RpcError):
            stub.Explain(request)
    line = answered(traced.log, request_id="l-image")
    assert (line["code"], line["reason"]) == ("INVALID_ARGUMENT", "UNSUPPORTED_IMAGE")
    assert list(line["stage_seconds"]) == ["decode"]
    assert "batch_size" not in line
    line = answered(traced.log, request_id="l-model")
    assert (line["code"], line["reason"]) == ("NOT_FOUND", "UNKNOWN_MODEL")
    assert "another" not in json.dumps(line)
    span = receiver.of_request("l-image")
    assert attributes(span)["error.type"] == "UNSUPPORTED_IMAGE"
    assert span.status.code == Status.STATUS_CODE_UNSET, "the caller's fault is no server's error"


def test_a_caller_who_left_is_told_of_with_what_was_done(stub, traced, receiver, photos):
    request = pb.ExplainRequest(
        request_id="l-left", encoded=photos[0].read_bytes(), method=types_pb.CAM_METHOD_SCORE_CAM
    )
    asked = stub.Explain.future(request)
    time.sleep(1.0)  # of the many seconds that a pass for each of 1280 channels takes
    asked.cancel()
    line = answered(traced.log, request_id="l-left")
    assert line["code"] == "CANCELLED"
    assert list(line["stage_seconds"]) == ["decode", "queue", "inference", "attribution"]
    assert line["seconds"] < 10
    span = receiver.of_request("l-left")
    assert attributes(span)["rpc.response.status_code"] == "CANCELLED"
    assert set(receiver.children(span)) == {"decode", "queue", "inference", "attribution"}


def test_neither_lines_nor_spans_tell_secrets(stub, traced, receiver, photos):
    """Runs by itself too; the whole log and all spans so far are looked through."""
    request = pb.ExplainRequest(request_id="l-quiet", encoded=photos[0].read_bytes())
    stub.Explain(request, metadata=[("authorization", SECRET), ("x-note", SECRET)])
    receiver.of_request("l-quiet")
    answered(traced.log, request_id="l-quiet")
    assert SECRET not in traced.log.read_text()
    assert not any(SECRET in str(span) for span in receiver.spans)


def test_lines_and_spans_name_the_caller_and_never_the_token(
    backbone_folder, receiver, photos, tmp_path
):
    """By token and by JWT, with every contract, answered or refused; who is unknown has no name."""
    log, callers, token = tmp_path / "stderr", tmp_path / "callers.json", "textcam_" + "Tq5" * 15
    write_callers(callers, [entry("audit", token, models=["photos"])])
    by_jwt = signed(sub="alice@example.com")
    flags = ("--callers", str(callers), *jwt_flags(tmp_path / "keys", [public(SIGNER, "rsa")]))
    more = ("--log-format", "json", "--otlp-endpoint", receiver.endpoint)
    image = photos[0].read_bytes()

    def metadata(secret):
        return [("authorization", f"Bearer {secret}")]

    with (
        log.open("w") as stderr,
        running(*flags, *more, stderr=stderr) as served,
        grpc.insecure_channel(served.address) as channel,
    ):
        stub = explainer_pb2_grpc.ExplainerServiceStub(channel)
        stub.Explain(
            pb.ExplainRequest(request_id="n-token", encoded=image), metadata=metadata(token)
        )
        stub.Explain(
            pb.ExplainRequest(request_id="n-jwt", encoded=image), metadata=metadata(by_jwt)
        )
        item = pb.ExplainRequest(request_id="n-item", encoded=image)
        list(
            stub.ExplainStream(
                iter([pb.ExplainStreamRequest(request=item)]), metadata=metadata(token)
            )
        )
        stub.ListModels(pb.ListModelsRequest(), metadata=metadata(token))
        other = pb.ExplainRequest(request_id="n-denied", model=types_pb.ModelSpec(name="x"))
        infer = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        for call, request, secret in (
            (stub.Explain, other, token),
            (infer, oip.ModelInferRequest(model_name="photos"), token),
            (stub.GetModel, pb.GetModelRequest(), "unknown"),
        ):
            with pytest.raises(grpc.RpcError):
                call(request, metadata=metadata(secret))
        for request_id, name in (
            ("n-token", "caller audit"),
            ("n-jwt", "subject alice@example.com"),
            ("n-item", "caller audit"),
            ("n-denied", "caller audit"),
        ):
            assert answered(log, request_id=request_id)["caller"] == name
            assert attributes(receiver.of_request(request_id))["enduser.id"] == name
        for method in ("ListModels", "ModelInfer"):
            assert answered(log, method=method)["caller"] == "caller audit"
        assert "caller" not in answered(log, method="GetModel", code="UNAUTHENTICATED")
    for secret in (token, by_jwt, by_jwt.rpartition(".")[2]):
        assert secret not in log.read_text()
        assert not any(secret in str(span) for span in receiver.spans)

"""What quotes callers' text says so in words, however long the text: trailers have a bound."""

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from model_callers import Caller, picture, publish, served
from small_models import write_model
from textcam.oip import open_inference_pb2 as oip
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_service.store.models import ModelStore

TEXTS = {"ascii": "x" * 100_000, "percent": "%" * 100_000, "wide": "\N{SAUROPOD}" * 100_000}
# Some clients take no more than what gRPC's own begins to refuse at.
LIMITS = [(f"grpc.{limit}_metadata_size", 8192) for limit in ("max", "absolute_max")]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    store = ModelStore(folder / "store")
    publish(store, write_model(folder / "made", 0), "1")
    return store.root


def explain(**fields):
    return "explainer", "Explain", pb.ExplainRequest(encoded=picture(0), **fields)


def infer(name="m", outputs=(), **parameters):
    image = oip.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])
    image.contents.bytes_contents.append(picture(0))
    wanted = oip.ModelInferRequest.InferRequestedOutputTensor
    request = oip.ModelInferRequest(
        model_name=name, inputs=[image], outputs=[wanted(name=output) for output in outputs]
    )
    for key, value in parameters.items():
        request.parameters[key].string_param = value
    return "inference", "ModelInfer", request


def calls(text):
    """Calls that are refused in words that quote the text; reason, and what to do instead."""
    target = types_pb.Target(
        classes=types_pb.Target.Classes(classes=[types_pb.ClassRef(name=text)])
    )
    yield explain(model=types_pb.ModelSpec(name=text)), "UNKNOWN_MODEL", "only 'm'"
    yield (
        explain(model=types_pb.ModelSpec(version=text)),
        "UNKNOWN_VERSION",
        "leave the version empty",
    )
    yield explain(target=target), "UNKNOWN_CLASS", "GetModel"
    yield explain(request_id=text), "INVALID_ARGUMENT", "at most 128"
    got = pb.GetModelRequest(model=types_pb.ModelSpec(name=text))
    yield ("explainer", "GetModel", got), "UNKNOWN_MODEL", "only 'm'"
    yield infer(text), "UNKNOWN_MODEL", "only 'm'"
    yield infer(outputs=[text]), "INVALID_ARGUMENT", "sentence"
    yield infer(**{text: "1"}), "INVALID_ARGUMENT", "'method' (string)"
    yield infer(**{"class": text}), "UNKNOWN_CLASS", "GetModel"
    yield infer(method=text), "INVALID_ARGUMENT", "there is no CAM method"
    for kind in (oip.ModelReadyRequest, oip.ModelMetadataRequest):
        method = kind.DESCRIPTOR.name.removesuffix("Request")
        yield ("inference", method, kind(name=text)), "UNKNOWN_MODEL", "only 'm'"


async def refusal(caller, call):
    service, method, request = call
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await getattr(getattr(caller, service), method)(request, timeout=20)
    return refused.value


@pytest.mark.parametrize("kind", TEXTS)
async def test_a_refusal_that_quotes_a_long_text_reaches_the_caller_whole(root, kind):
    async with (
        served(root) as served_by,
        grpc.aio.insecure_channel(f"127.0.0.1:{served_by.server.port}", LIMITS) as channel,
    ):
        for call, reason, mend in calls(TEXTS[kind]):
            error = await refusal(Caller(served_by.server, channel), call)
            status = rpc_status.from_call(error)
            info, violations = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            for packed in status.details:
                _ = packed.Unpack(info) or packed.Unpack(violations)
            assert info.reason == reason
            assert mend in error.details()
            (violation,) = violations.field_violations
            assert error.details().endswith(violation.description)

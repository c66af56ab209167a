"""The one way of requests: recorded, authorised, leased, admitted, called."""

import asyncio
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from textcam_service.errors import InvalidArgument, RateLimited, ServerBusy, UnknownModel
from textcam_service.serving.dataplane import DataPlane, RpcRequest
from textcam_service.serving.engine.jobs import ModelRef
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.settings import ServerSettings

REQUEST = RpcRequest("Explain", ModelRef("m"), request_id="x" * 200, size=7)


class Models:
    """A registry of the model "m"; `steps` notes what it and its caller were asked for."""

    def __init__(self):
        self.steps = []
        self.current = [SimpleNamespace(name=name) for name in ("hidden", "m")]

    def resolve_name(self, name, can_see):
        return name or "m"

    @contextmanager
    def lease(self, ref, can_see):
        if ref.name != "m":
            raise UnknownModel("no such model", field="model.name")
        self.steps.append("lease")
        yield SimpleNamespace(bundle="the bundle")
        self.steps.append("release")


class Access:
    """Rights and rates; `error` is raised in place of a model's admission."""

    caller, error = "someone", None

    def __init__(self, steps):
        self._steps = steps

    def authorize_model(self, model, images, *, named):
        self._steps.append(("charge", model, images, named))
        if self.error:
            raise self.error

    def can_see(self, model):
        return model != "hidden"


class Traces:
    def __init__(self):
        self.ended = []

    def begin(self, record, metadata):
        record.trace_id = dict(metadata).get("traceparent", "")

    def end(self, record):
        self.ended.append(record)


@pytest.fixture
def plane():
    models, metrics, traces = Models(), Metrics(), Traces()
    access = Access(models.steps)
    made = DataPlane(models, ServerSettings(max_concurrent=2), metrics, access, traces)
    return SimpleNamespace(
        it=made, steps=models.steps, access=access, ended=traces.ended, metrics=metrics
    )


def counted(plane, rpc, code):
    labels = {"method": rpc, "code": code}
    return plane.metrics.registry.get_sample_value("textcam_requests_total", labels) or 0


async def test_a_request_is_charged_leased_called_and_recorded(plane):
    async def call(engine, record):
        plane.steps.append("call")
        return engine.bundle, record.caller

    assert await plane.it.handle(REQUEST, call) == ("the bundle", "someone")
    assert plane.steps == [("charge", "m", 1, True), "lease", "call", "release"]
    (record,) = plane.ended
    assert (record.code, record.reason, record.request_bytes) == ("OK", "", 7)
    assert record.request_id == "x" * 128
    assert record.seconds > 0
    assert counted(plane, "Explain", "OK") == 1


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (InvalidArgument("wrong"), "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        (ValueError("a secret"), "INTERNAL", "INTERNAL"),
    ],
)
async def test_an_error_is_recorded_and_raised(plane, error, code, reason, caplog):
    async def call(engine, record):
        raise error

    with pytest.raises(type(error)):
        await plane.it.handle(REQUEST, call)
    (record,) = plane.ended
    assert (record.code, record.reason) == (code, reason)
    unexpected = plane.metrics.registry.get_sample_value("textcam_unexpected_errors_total")
    assert unexpected == ("a secret" in caplog.text) == (code == "INTERNAL")
    with plane.it.admission.admit(0, 2):
        pass  # its place was given back


@pytest.mark.parametrize(("in_s", "code"), [(60, "CANCELLED"), (0, "DEADLINE_EXCEEDED")])
async def test_a_client_that_leaves_and_one_out_of_time_are_told_apart(plane, in_s, code):
    async def call(engine, record):
        await asyncio.sleep(60)

    request = RpcRequest("Explain", ModelRef("m"), deadline=time.monotonic() + in_s)
    task = asyncio.create_task(plane.it.handle(request, call))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [record.code for record in plane.ended] == [code]


async def test_access_comes_before_the_model_and_admission_last(plane):
    plane.access.error = RateLimited("too often")
    with pytest.raises(RateLimited):
        await plane.it.handle(RpcRequest("Explain", ModelRef("other")), None)
    plane.access.error = None
    with pytest.raises(UnknownModel):
        await plane.it.handle(RpcRequest("Explain", ModelRef("other")), None)
    with plane.it.admission.admit(0, 2), pytest.raises(ServerBusy):
        await plane.it.handle(REQUEST, None)
    assert [record.reason for record in plane.ended] == [
        "RATE_LIMITED",
        "UNKNOWN_MODEL",
        "SERVER_BUSY",
    ]


async def test_a_part_of_a_batch_is_recorded_but_neither_charged_nor_admitted(plane):
    async def call(engine, record):
        return engine

    with plane.it.admission.admit(0, 2):
        assert await plane.it.handle_part(REQUEST, "an engine", call) == "an engine"
    assert plane.steps == []
    assert [record.code for record in plane.ended] == ["OK"]


def test_a_rejected_request_is_charged_and_recorded_even_if_the_server_is_full(plane):
    error = InvalidArgument("no id", field="request.request_id")
    with plane.it.admission.admit(0, 2):
        assert plane.it.reject(REQUEST, error) is error
    assert plane.steps[0] == ("charge", "m", 1, True)
    plane.access.error = RateLimited("too often")
    assert plane.it.reject(REQUEST, error) is plane.access.error
    assert [record.reason for record in plane.ended] == ["INVALID_ARGUMENT", "RATE_LIMITED"]


def test_calls_without_images_are_counted_by_how_they_end(plane):
    with plane.it.counted("GetModel"):
        assert plane.it.model(ModelRef()) == "the bundle"
    assert plane.steps[0] == ("charge", "m", 0, False)
    with pytest.raises(UnknownModel), plane.it.counted("GetModel"):
        plane.it.model(ModelRef("other"))
    with plane.it.failures_counted("ModelInfer"):
        pass
    assert [counted(plane, "GetModel", code) for code in ("OK", "NOT_FOUND")] == [1, 1]
    assert counted(plane, "ModelInfer", "OK") == 0
    assert plane.ended == []


def test_only_models_that_the_caller_may_see_are_listed(plane):
    assert [bundle.name for bundle in plane.it.visible_models()] == ["m"]

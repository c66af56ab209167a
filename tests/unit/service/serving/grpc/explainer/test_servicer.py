"""The explainer's methods: lanes, pages, and errors as statuses."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from small_models import load_model, write_model
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_service.errors import QueueFull, UnknownModel
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.engine.jobs import ModelRef
from textcam_service.serving.grpc.explainer.servicer import ExplainerServicer
from textcam_service.settings import ServerSettings


class Aborted(Exception):
    """The end of a call with a status."""


class Context:
    """A call's context: 5 seconds left, and metadata."""

    def invocation_metadata(self):
        return (("traceparent", "t"),)

    def time_remaining(self):
        return 5.0

    async def abort_with_status(self, status):
        raise Aborted(status.code.name, status.details)


class Calls:
    """Explains at once; `error` fails all."""

    def __init__(self):
        self.asked, self.error = [], None

    async def explain(self, message, request, lane):
        self.asked.append((request, lane))
        if self.error:
            raise self.error
        return pb.ExplainResponse(request_id=message.request_id)


class Plane:
    """Models "a" and "b" of one bundle, and counts of calls that explain nothing."""

    def __init__(self, bundle):
        self.counts, self.bundles = [], bundle
        self.admission = SimpleNamespace(add_undelivered=lambda *_: None)

    @contextmanager
    def counted(self, rpc):
        yield
        self.counts.append(rpc)

    def visible_models(self):
        return self.bundles

    def model(self, ref: ModelRef):
        for bundle in self.bundles:
            if bundle.name == ref.name:
                return bundle
        raise UnknownModel(f"no model {ref.name!r}", field="model.name")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = write_model(tmp_path_factory.mktemp("model"), 0)
    return [load_model(folder, name, "1") for name in "ab"]


@pytest.fixture
def servicer(bundles):
    made = ExplainerServicer(Plane(bundles), ServerSettings())
    made._calls = Calls()
    return made


async def test_an_image_is_explained_in_the_interactive_lane_within_the_deadline(servicer):
    response = await servicer.Explain(pb.ExplainRequest(request_id="r"), Context())
    assert response.request_id == "r"
    ((request, lane),) = servicer._calls.asked
    assert lane is Lane.INTERACTIVE
    assert (request.rpc, request.metadata) == ("Explain", (("traceparent", "t"),))
    assert request.deadline is not None


async def test_a_failure_ends_the_call_with_its_status(servicer):
    servicer._calls.error = QueueFull("come again", retry_after_s=1)
    with pytest.raises(Aborted) as caught:
        await servicer.Explain(pb.ExplainRequest(), Context())
    assert caught.value.args == ("RESOURCE_EXHAUSTED", "come again")


async def test_items_of_a_stream_are_explained_in_the_audit_lane(servicer):
    async def items():
        for own in ("x", "y"):
            yield pb.ExplainStreamRequest(request=pb.ExplainRequest(request_id=own))

    found = [each async for each in servicer.ExplainStream(items(), Context())]
    assert {each.request_id for each in found} == {"x", "y"}
    assert {lane for _, lane in servicer._calls.asked} == {Lane.AUDIT}


async def test_models_are_listed_by_pages_that_are_counted(servicer):
    first = await servicer.ListModels(pb.ListModelsRequest(page_size=1), Context())
    assert [model.name for model in first.models] == ["a"]
    asked = pb.ListModelsRequest(page_token=first.next_page_token)
    last = await servicer.ListModels(asked, Context())
    assert [model.name for model in last.models] == ["b"]
    assert last.next_page_token == ""
    assert servicer._dataplane.counts == ["ListModels"] * 2


async def test_a_page_that_cannot_be_is_refused(servicer):
    with pytest.raises(Aborted) as caught:
        await servicer.ListModels(pb.ListModelsRequest(page_size=-1), Context())
    assert caught.value.args[0] == "INVALID_ARGUMENT"


async def test_a_model_is_described_or_not_found(servicer):
    asked = pb.GetModelRequest(model=types_pb.ModelSpec(name="b"))
    described = await servicer.GetModel(asked, Context())
    assert (described.summary.name, len(described.class_names)) == ("b", 5)
    with pytest.raises(Aborted) as caught:
        await servicer.GetModel(pb.GetModelRequest(model=types_pb.ModelSpec(name="c")), Context())
    assert caught.value.args == ("NOT_FOUND", "no model 'c'")

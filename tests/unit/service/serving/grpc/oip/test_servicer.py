"""The Open Inference Protocol's methods: readiness, metadata, and batches of images."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from small_models import CLASSES, load_model, write_model
from textcam.oip import open_inference_pb2 as oip
from textcam_service.errors import ModelLoading, TruncatedImage, UnknownModel
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.grpc.oip.servicer import OpenInferenceServicer
from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.settings import ServerSettings
from textcam_service.version import __version__


class Aborted(Exception):
    """The end of a call with a status."""


class Context:
    def invocation_metadata(self):
        return ()

    def time_remaining(self):
        return None

    async def abort_with_status(self, status):
        raise Aborted(status.code.name, status.details)


class Engine:
    """Notes the images that it is given; those that are b"bad" fail."""

    def __init__(self, bundle):
        self.bundle, self.images, self.lanes = bundle, [], set()

    def max_concurrency(self, method):
        return 2

    async def explain(self, job, encoder, deadline, lane, record):
        self.images.append(job.image)
        self.lanes.add(lane)
        if job.image == b"bad":
            raise TruncatedImage("the file ends early")


class Plane:
    """The data plane of one model, "m"; `loading` while it is not there yet."""

    def __init__(self, engine):
        self.engine, self.counts, self.admitted, self.sizes = engine, [], [], []
        self.loading = False
        self.models = SimpleNamespace(versions=lambda name: ("1",))
        self.admission = self

    @contextmanager
    def counted(self, rpc):
        yield
        self.counts.append(rpc)

    @contextmanager
    def failures_counted(self, rpc, request_id=""):
        yield

    @contextmanager
    def lease(self, ref, images):
        self.model(ref)
        yield self.engine

    @contextmanager
    def admit(self, size, places):
        self.admitted.append(places)
        yield

    def model(self, ref):
        if self.loading:
            raise ModelLoading("not yet")
        if ref.name != "m":
            raise UnknownModel("no such model", field="model.name")
        return self.engine.bundle

    async def handle_part(self, call, engine, work):
        self.sizes.append(call.size)
        await work(engine, RequestRecord("ModelInfer"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_model(write_model(tmp_path_factory.mktemp("model"), 0), "m", "1")


@pytest.fixture
def plane(bundle):
    return Plane(Engine(bundle))


@pytest.fixture
def servicer(plane):
    return OpenInferenceServicer(plane, ServerSettings(), lambda name: name in ("", "m"))


def batch(*images, model="m"):
    tensor = oip.ModelInferRequest.InferInputTensor(
        name="image",
        datatype="BYTES",
        shape=[len(images)],
        contents=oip.InferTensorContents(bytes_contents=images),
    )
    return oip.ModelInferRequest(model_name=model, id="seven", inputs=[tensor])


async def test_probes_are_answered_and_not_counted(servicer, plane):
    assert (await servicer.ServerLive(None, None)).live
    assert (await servicer.ServerReady(None, None)).ready
    assert plane.counts == []


async def test_a_model_is_ready_loading_or_unknown(servicer, plane):
    asked = oip.ModelReadyRequest(name="m")
    assert (await servicer.ModelReady(asked, Context())).ready
    plane.loading = True
    assert not (await servicer.ModelReady(asked, Context())).ready
    plane.loading = False
    with pytest.raises(Aborted) as caught:
        await servicer.ModelReady(oip.ModelReadyRequest(name="x"), Context())
    assert caught.value.args == ("NOT_FOUND", "no such model")


async def test_metadata_name_the_server_and_the_tensors_of_a_model(servicer):
    server = await servicer.ServerMetadata(None, None)
    assert (server.name, server.version) == ("textcam", __version__)
    model = await servicer.ModelMetadata(oip.ModelMetadataRequest(name="m"), Context())
    assert [(own.name, list(own.shape)) for own in model.inputs] == [
        ("image", [-1]),
        ("pixels", [-1, -1, -1, 3]),
    ]
    shapes = {own.name: list(own.shape) for own in model.outputs}
    assert shapes["logits"] == [-1, CLASSES]
    assert shapes["phrases"] == [-1, -1]
    assert list(model.versions) == ["1"]


async def test_a_batch_is_admitted_once_and_each_image_explained(servicer, plane):
    response = await servicer.ModelInfer(batch(b"a", b"bb", b"ccc"), Context())
    assert sorted(plane.engine.images) == [b"a", b"bb", b"ccc"]
    assert plane.engine.lanes == {Lane.INTERACTIVE}
    assert plane.admitted == [2]
    assert sorted(plane.sizes) == [1, 2, 3]
    assert (response.id, response.model_name) == ("seven", "m")
    assert {output.shape[0] for output in response.outputs} == {3}


async def test_the_first_image_that_fails_fails_the_call_by_its_place(servicer):
    with pytest.raises(Aborted) as caught:
        await servicer.ModelInfer(batch(b"a", b"bad", b"bad"), Context())
    assert caught.value.args == ("INVALID_ARGUMENT", "image 1 of 3: the file ends early")


async def test_an_unknown_model_is_refused_before_any_image(servicer, plane):
    with pytest.raises(Aborted) as caught:
        await servicer.ModelInfer(batch(b"a", model="x"), Context())
    assert caught.value.args[0] == "NOT_FOUND"
    assert plane.engine.images == []

"""Several models and callers with rights to some: what each may use, and what each may know of."""

from contextlib import asynccontextmanager

import grpc
import pytest
from known import entry, write_callers
from model_callers import picture, publish, served
from small_models import write_model
from textcam.oip import open_inference_pb2 as oip
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_service.store.models import ModelStore

# By caller: the models that they may use.
RIGHTS = {"one": ["ash"], "two": ["birch"], "gone": ["ash", "cedar"], "all": ["*"], "none": ["oak"]}
DENIED = grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("made"), 0)


def shown(caller):
    return (("authorization", f"Bearer {caller * 20}"),)


@asynccontextmanager
async def guarded(folder, made, *names, **settings):
    """A server of these models that knows the callers of RIGHTS."""
    store, callers = ModelStore(folder / "store"), folder / "callers.json"
    for name in names:
        publish(store, made, "1", name)
    entries = [entry(name, name * 20, models=models) for name, models in RIGHTS.items()]
    write_callers(callers, entries)
    async with served(store.root, callers=callers, **settings) as calls:
        yield calls


def ways(calls, name, version=""):
    """Each method that takes a model, by its name: how to call it."""
    spec = types_pb.ModelSpec(name=name, version=version)
    image = oip.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])
    image.contents.bytes_contents.append(picture(0))
    infer = oip.ModelInferRequest(model_name=name, model_version=version, inputs=[image])
    named = {"name": name, "version": version}
    return {
        "Explain": (calls.explainer.Explain, pb.ExplainRequest(model=spec, encoded=picture(0))),
        "GetModel": (calls.explainer.GetModel, pb.GetModelRequest(model=spec)),
        "ModelInfer": (calls.inference.ModelInfer, infer),
        "ModelReady": (calls.inference.ModelReady, oip.ModelReadyRequest(**named)),
        "ModelMetadata": (calls.inference.ModelMetadata, oip.ModelMetadataRequest(**named)),
    }


async def refusals(calls, caller, name, version=""):
    """By method, the code and the words by which a call was refused."""
    found = {}
    for method, (call, request) in ways(calls, name, version).items():
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(request, metadata=shown(caller), timeout=60)
        found[method] = refused.value.code(), refused.value.details()
    return found


async def item(calls, caller, name=""):
    """The answer to the one item of a stream."""
    own = pb.ExplainRequest(request_id="1", model=types_pb.ModelSpec(name=name), encoded=picture(0))
    requests = iter([pb.ExplainStreamRequest(request=own)])
    answers = calls.explainer.ExplainStream(requests, metadata=shown(caller), timeout=60)
    (answer,) = [answer async for answer in answers]
    return answer


async def test_an_empty_name_obeys_the_rights_to_the_model_that_it_means(tmp_path, made):
    """Nor does the refusal tell which model that is."""
    async with guarded(tmp_path, made, "birch") as calls:
        for method, (code, said) in (await refusals(calls, "one", "")).items():
            assert code is DENIED, method
            assert "birch" not in said
        error = (await item(calls, "one")).error
        assert error.code == DENIED.value[0]
        assert "birch" not in error.message
        assert calls.metric("textcam_denied_total", reason="PERMISSION_DENIED") == 6
        assert calls.metric("textcam_images_decoded_total", decoder="pillow/PNG") == 0
        for call, request in ways(calls, "").values():
            await call(request, metadata=shown("two"), timeout=60)
        assert (await item(calls, "two")).response.provenance.model_name == "birch"
        assert calls.metric("textcam_images_decoded_total", decoder="pillow/PNG") == 3


async def test_a_list_shows_what_its_caller_may_use(tmp_path, made):
    async with guarded(tmp_path, made, "ash", "birch", "cedar") as calls:
        for caller, names in {
            "one": ["ash"],
            "two": ["birch"],
            "gone": ["ash", "cedar"],
            "all": ["ash", "birch", "cedar"],
            "none": [],
        }.items():
            request = pb.ListModelsRequest()
            listed = await calls.explainer.ListModels(request, metadata=shown(caller))
            assert [model.name for model in listed.models] == names


async def test_rights_are_by_model_where_several_are_served(tmp_path, made):
    async with guarded(tmp_path, made, "ash", "birch") as calls:
        for caller, own, other in (("one", "ash", "birch"), ("two", "birch", "ash")):
            for call, request in ways(calls, own).values():
                await call(request, metadata=shown(caller), timeout=60)
            assert (await item(calls, caller, own)).response.provenance.model_name == own
            assert (await item(calls, caller, other)).error.code == DENIED.value[0]
            # A model that is not there is refused as one that is; so is a version of it.
            for name, version in ((other, ""), (other, "2"), ("oak", "")):
                for code, said in (await refusals(calls, caller, name, version)).values():
                    fault = f"this caller has no right to the model '{name}'"
                    assert (code, said) == (DENIED, f"{fault}; ask the operator to grant it")


async def test_errors_name_no_model_that_the_caller_may_not_use(tmp_path, made):
    async with guarded(tmp_path, made, "ash", "birch") as calls:
        for caller, known in (
            ("one", ": name one of 'ash'"),
            ("all", ": name one of 'ash', 'birch'"),
            ("none", ": name one"),
        ):
            for code, said in (await refusals(calls, caller, "")).values():
                assert code is grpc.StatusCode.INVALID_ARGUMENT
                assert said == f"several models are served{known}"
        for caller, name, known in (
            ("gone", "cedar", ", only 'ash'"),
            ("none", "oak", ""),
            ("all", "cedar", ", only 'ash', 'birch'"),
        ):
            for code, said in (await refusals(calls, caller, name)).values():
                assert code is grpc.StatusCode.NOT_FOUND
                assert said == f"no model '{name}' is served here{known}"


async def test_health_confirms_no_name_where_models_are_for_some(tmp_path, made):
    """It is answered to whoever asks."""
    async with guarded(tmp_path, made, "ash", "birch") as calls:
        assert await calls.healthy()
        for name in ("ash", "oak"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await calls.healthy(f"textcam.model/{name}")
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_pages_of_models_hold_what_the_caller_may_know_of(tmp_path, made):
    async with guarded(tmp_path, made, "ash", "birch", "cedar") as calls:

        async def page(caller, **given):
            listed = await calls.explainer.ListModels(
                pb.ListModelsRequest(page_size=1, **given), metadata=shown(caller), timeout=60
            )
            return [model.name for model in listed.models], listed.next_page_token

        first, token = await page("gone")
        assert (first, await page("gone", page_token=token)) == (["ash"], (["cedar"], ""))
        assert (await page("all", page_token=token))[0] == ["birch"]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await page("all", page_token="junk")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        counted = {"method": "ListModels", "code": "INVALID_ARGUMENT"}
        assert calls.metric("textcam_requests_total", **counted) == 1

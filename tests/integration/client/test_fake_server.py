"""textcam_client.testing's server takes and refuses what the real one does, in the same terms."""

from __future__ import annotations

import asyncio
import io
import struct
import threading
from collections.abc import Callable, Iterator

import grpc
import icc_profiles
import numpy as np
import pytest
from model_callers import publish, served
from PIL import Image, ImageCms
from small_models import write_model
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam.v1 import types_pb2 as types_pb
from textcam_client._convert.requests import PHRASE_KINDS
from textcam_client.errors import from_rpc_error
from textcam_client.testing import _bank, _checks, _explainer, serve_in_memory
from textcam_service.core.types import PHRASE_KINDS as KINDS_SERVED
from textcam_service.serving.engine import jobs
from textcam_service.serving.grpc.explainer import pagination
from textcam_service.settings import ServerSettings
from textcam_service.store.models import ModelStore

NAMES = ("crane", "Crane", "sparrow", "Owl ", "gull")
PHRASES = tuple(f"phrase {index}" for index in range(9))
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
IMAGE = Image.fromarray(PIXELS)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def tensor(
    shape: tuple[int, ...], data: bytes, dtype: int = types_pb.Tensor.D_TYPE_UINT8
) -> types_pb.Tensor:
    return types_pb.Tensor(dtype=dtype, shape=shape, data=data)


def classes(*given: int | str) -> types_pb.Target:
    return types_pb.Target(classes=types_pb.Target.Classes(classes=[ref(one) for one in given]))


def contrast(target: types_pb.ClassRef, reference: types_pb.ClassRef) -> types_pb.Target:
    return types_pb.Target(contrast=types_pb.Target.Contrast(target=target, reference=reference))


def ref(given: int | str) -> types_pb.ClassRef:
    return (
        types_pb.ClassRef(name=given) if isinstance(given, str) else types_pb.ClassRef(index=given)
    )


def top(k: int) -> types_pb.Target:
    return types_pb.Target(top_k=types_pb.Target.TopK(k=k))


PNG, JPEG = encoded(IMAGE, "PNG"), encoded(IMAGE, "JPEG")
FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (50, 40))]}
# Refused by the size that its header names.
LARGE = JPEG.replace(struct.pack(">HH", 40, 50), struct.pack(">HH", 8000, 8000))
ADOBE = icc_profiles.of_primaries(*icc_profiles.WIDE["Adobe RGB"])
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MALFORMED_EXIF = (
    b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHI4s", 256, 2, 4, b"abc\0") + bytes(4)
)

OPTIONS = {
    "nothing": {},
    "no phrases": {"max_phrases": 0},
    "the most phrases": {"max_phrases": 20},
    "too many phrases": {"max_phrases": 21},
    "fewer than no predictions": {"prediction_count": -1},
    "no predictions": {"prediction_count": 0},
    "all predictions": {"prediction_count": 5000},
    "no classes": {"target": classes()},
    "all classes": {"target": classes(*range(5))},
    "too many classes": {"target": classes(*range(5), 0)},
    "a class twice": {"target": classes(1, 1)},
    "no top": {"target": top(0)},
    "the most at the top": {"target": top(5)},
    "too many at the top": {"target": top(6)},
    "a negative class": {"target": classes(0, -1)},
    "a class too far": {"target": classes(5)},
    "a class by name": {"target": classes("Gull", "owl")},
    "names differing in case": {"target": classes("crane", "Crane", "CRANE")},
    "an unknown name": {"target": classes("crane", "stork")},
    "an empty name": {"target": classes("")},
    "a class of neither": {"target": contrast(ref(0), types_pb.ClassRef())},
    "a contrast": {"target": contrast(ref("sparrow"), ref(0))},
    "a contrast of one": {"target": contrast(ref(1), ref("Crane"))},
    "a contrast with none": {"target": contrast(ref(1), ref("stork"))},
    "the longest id": {"request_id": "x" * 128},
    "too long an id": {"request_id": "x" * 129},
    "no heatmap": {"heatmap": types_pb.HEATMAP_FORM_NONE},
    "no groups": {"include_groups": False},
    "an unknown heatmap": {"heatmap": 9},
    "an unknown lane": {"lane": 9},
    "an unknown method": {"method": 999},
    "no least probability": {"min_probability": 0},
    "a least probability": {"min_probability": 0.5},
    "too low a probability": {"min_probability": -0.1},
    "too high a probability": {"min_probability": 1.1},
    "a probability that is no number": {"min_probability": float("nan")},
    "kinds": {"kinds": [types_pb.PHRASE_KIND_PART]},
    "an unknown kind": {"kinds": [99]},
    "a kind that is unset": {"kinds": [0]},
    "repeats": {"repeat_class": True},
    "another model": {"model": types_pb.ModelSpec(name="other")},
    "another version": {"model": types_pb.ModelSpec(name="m", version="7")},
}
IMAGES = {
    "jpeg": JPEG,
    "webp": encoded(IMAGE, "WEBP"),
    "malformed exif": encoded(IMAGE, "JPEG", exif=MALFORMED_EXIF),
    "adobe rgb": encoded(IMAGE, "PNG", icc_profile=ADOBE),
    "srgb": encoded(IMAGE, "JPEG", icc_profile=SRGB),
    "damaged profile": encoded(IMAGE, "WEBP", icc_profile=ADOBE[:200]),
    "avif": encoded(IMAGE, "AVIF"),
    "animated avif": encoded(IMAGE, "AVIF", **FRAMES),
    "cut avif": encoded(IMAGE, "AVIF")[:-40],
    "jpeg 2000": encoded(IMAGE, "JPEG2000"),
    "gif": encoded(IMAGE, "GIF"),
    "bmp": encoded(IMAGE, "BMP"),
    "nothing": b"",
    "junk": b"hello",
    "animated png": encoded(IMAGE, "PNG", **FRAMES),
    "animated webp": encoded(IMAGE, "WEBP", **FRAMES),
    "cut png": PNG[: len(PNG) // 2],
    "cut jpeg": JPEG[: len(JPEG) // 2],
    "cut header": PNG[:20],
    "64 megapixels": LARGE,
    "too many bytes": JPEG + bytes(20 * 2**20),
    "pixels": tensor((40, 50, 3), PIXELS.tobytes()),
    "grey pixels": tensor((40, 50), bytes(2000)),
    "no pixels": tensor((0, 50, 3), b""),
    "too few pixels": tensor((40, 50, 3), bytes(5)),
    "float pixels": tensor((1, 1, 3), bytes(12), types_pb.Tensor.D_TYPE_FLOAT32),
}
REQUESTS = {
    **{name: pb.ExplainRequest(encoded=PNG, **given) for name, given in OPTIONS.items()},
    **{
        f"image: {name}": pb.ExplainRequest(encoded=given)
        if isinstance(given, bytes)
        else pb.ExplainRequest(pixels=given)
        for name, given in IMAGES.items()
    },
    "image: none": pb.ExplainRequest(),
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real server of a small model; it has a thread for its loop."""
    folder = tmp_path_factory.mktemp("real")
    publish(ModelStore(folder / "store"), write_model(folder / "made", 0, class_names=NAMES), "1")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    serving = served(folder / "store")
    caller = asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(60)
    try:
        yield f"127.0.0.1:{caller.server.port}"
    finally:
        leave = serving.__aexit__(None, None, None)
        asyncio.run_coroutine_threadsafe(leave, loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def fake() -> Iterator[str]:
    # As the real one's: its bank has no calibration, its vocabulary no kinds.
    with serve_in_memory(
        model="m", class_names=NAMES, vocabulary=PHRASES, calibrated=False
    ) as server:
        yield server.address


def outcome(address: str, ask: Callable[[explainer_pb2_grpc.ExplainerServiceStub], object]):
    """Code, reason and fields of a refusal; else what the answer consists of."""
    limit = [("grpc.max_send_message_length", 2**26)]
    with grpc.insecure_channel(address, options=limit) as channel:
        try:
            return ask(explainer_pb2_grpc.ExplainerServiceStub(channel))
        except grpc.RpcError as error:
            refusal = from_rpc_error(error)
            fields = [violation.field for violation in refusal.violations]
            return type(refusal).__name__, refusal.reason, fields


def consists_of(response: pb.ExplainResponse, request: pb.ExplainRequest) -> dict[str, object]:
    named = request.target.WhichOneof("of") in ("classes", "contrast")
    return {
        "predictions": len(response.predictions),
        "size": (response.image_height, response.image_width),
        "decoder": response.provenance.decoder,
        "targets": [
            (
                target.target.class_index if named else None,
                target.reference.class_index if target.HasField("reference") else None,
                target.HasField("saliency_map"),
                target.rest.HasField("saliency_map"),
                bool(target.groups),
            )
            for target in response.explanations
        ],
    }


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_answered_or_refused_by_the_fake_as_by_the_real_server(name, real, fake):
    request = REQUESTS[name]

    def ask(stub):
        return consists_of(stub.Explain(request, timeout=60), request)

    assert outcome(fake, ask) == outcome(real, ask)


@pytest.mark.parametrize(
    "spec", [types_pb.ModelSpec(name="other"), types_pb.ModelSpec(version="7")], ids=str
)
def test_a_model_that_is_not_there_is_refused_alike(spec, real, fake):
    def ask(stub):
        return stub.GetModel(pb.GetModelRequest(model=spec), timeout=60)

    refusal = outcome(fake, ask)
    assert refusal[0] == "NotFound"
    assert refusal == outcome(real, ask)


@pytest.mark.parametrize(
    "given",
    [{}, {"page_size": 1}, {"page_size": 5000}, {"page_size": -1}, {"page_token": "junk"}],
    ids=str,
)
def test_models_are_listed_alike(given, real, fake):
    def ask(stub):
        response = stub.ListModels(pb.ListModelsRequest(**given), timeout=60)
        return [model.name for model in response.models], response.next_page_token

    assert outcome(fake, ask) == outcome(real, ask)


def test_the_fakes_limits_are_the_real_servers_by_default():
    settings = ServerSettings()
    assert tuple(PHRASE_KINDS) == KINDS_SERVED
    assert settings.max_phrases == _checks.MAX_PHRASES
    assert settings.max_targets == _checks.MAX_TARGETS
    assert settings.max_image_bytes == _checks.MAX_IMAGE_BYTES
    assert settings.max_image_pixels == _checks.MAX_IMAGE_PIXELS
    assert pagination.DEFAULT_PAGE_SIZE == _checks.DEFAULT_PAGE_SIZE
    assert pagination.MAX_PAGE_SIZE == _checks.MAX_PAGE_SIZE
    assert settings.default_phrases == _bank.DEFAULT_PHRASES
    assert jobs.DEFAULT_PREDICTIONS == _explainer.DEFAULT_PREDICTIONS
    assert jobs.MAX_REQUEST_ID == _checks.MAX_REQUEST_ID

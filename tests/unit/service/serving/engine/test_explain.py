"""The way of a request: its stages, and where it ends early."""

import asyncio
import io
import threading
import time

import icc_profiles
import numpy as np
import pytest
from PIL import Image
from small_models import load_model, write_model
from textcam_service.errors import DeadlineExpired, InvalidArgument
from textcam_service.serving.engine.encoding import IdentityEncoder
from textcam_service.serving.engine.engine import Engine
from textcam_service.serving.telemetry.metric_definitions import STAGES
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.settings import ServerSettings

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
DIRECT = IdentityEncoder()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_model(write_model(tmp_path_factory.mktemp("model"), 1), version="7")


@pytest.fixture
async def started(bundle):
    engines = []

    async def make(**settings):
        engine = Engine(bundle, ServerSettings(decode_threads=2, **settings), Metrics())
        engines.append(engine)
        await engine.start()
        return engine

    yield make
    for engine in engines:
        await engine.close(5)


def sample(engine, name, **labels):
    return engine._flow._metrics.registry.get_sample_value(name, labels) or 0


async def test_a_record_notes_stages_and_only_clients_requests_are_counted(started):
    engine = await started()
    job = engine.default_job(PIXELS)
    await engine.explain(job, DIRECT)
    stage = {"stage": "rationale"}
    assert sample(engine, "textcam_stage_duration_seconds_count", **stage) == 0
    record = RequestRecord("Explain")
    await engine.explain(job, DIRECT, record=record)
    assert tuple(record.stages) == STAGES
    assert (record.model, record.version, record.cam_method) == ("small", "7", "cam")
    assert (record.image_width, record.image_height, record.batch_size) == (50, 40, 1)
    assert sample(engine, "textcam_stage_duration_seconds_count", **stage) == 1
    assert sample(engine, "textcam_images_decoded_total", decoder="raw") == 1


@pytest.mark.parametrize(("used", "note"), [(True, "icc"), (False, "icc ignored")])
async def test_profiles_are_converted_unless_the_setting_is_off(started, used, note):
    engine = await started(colour_profiles=used)
    adobe = icc_profiles.of_primaries(*icc_profiles.WIDE["Adobe RGB"])
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG", icc_profile=adobe)
    image = (await engine.explain(engine.default_job(file.getvalue()), DIRECT)).image
    assert (image.decoder, image.use_profile) == (f"pillow/PNG {note}", used)


class SlowEncoder(IdentityEncoder):
    """Encodes until its token ends it."""

    def __init__(self):
        self.began, self.ended = threading.Event(), threading.Event()

    def encode(self, result, token):
        self.began.set()
        try:
            while True:
                token.raise_if_cancelled()
                time.sleep(0.001)
        finally:
            self.ended.set()


async def test_an_encoder_ends_with_its_deadline(started):
    engine = await started()
    encoder, job = SlowEncoder(), engine.default_job(PIXELS)
    with pytest.raises(DeadlineExpired):
        await engine.explain(job, encoder, deadline=time.monotonic() + 0.3)
    assert sample(engine, "textcam_expired_total") == 1


async def test_an_encoder_ends_when_its_request_is_cancelled(started):
    engine = await started()
    encoder = SlowEncoder()
    task = asyncio.create_task(engine.explain(engine.default_job(PIXELS), encoder))
    await asyncio.to_thread(encoder.began.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(encoder.ended.wait, 10)


class FullEncoder(IdentityEncoder):
    """Has room for no map at all."""

    def check(self, job, image, map_count):
        raise InvalidArgument(f"{map_count} maps of {image.width} x {image.height}")


async def test_an_encoder_refuses_before_inference(started):
    engine = await started()
    before = sample(engine, "textcam_batch_size_images_count")
    with pytest.raises(InvalidArgument, match="2 maps of 50 x 40"):
        await engine.explain(engine.default_job(PIXELS), FullEncoder())
    assert sample(engine, "textcam_batch_size_images_count") == before

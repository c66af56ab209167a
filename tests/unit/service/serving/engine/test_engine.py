"""The engine of a small model: jobs in, results out."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from small_models import CLASSES, SIDE, load_model, write_model
from textcam_service.core.methods import METHODS
from textcam_service.errors import InvalidArgument, InvalidSettings, ServerBusy
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.engine.encoding import IdentityEncoder
from textcam_service.serving.engine.engine import Engine
from textcam_service.serving.engine.jobs import Contrast, HeatmapForm, TopK
from textcam_service.serving.telemetry.metrics import Metrics
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


async def test_a_job_becomes_a_result_of_the_models_own_arrays(started, bundle):
    engine = await started()
    job = replace(engine.default_job(PIXELS), target=TopK(2), prediction_count=3)
    result = await engine.explain(job, DIRECT)
    assert (result.job, result.bundle, result.degradations) == (job, bundle, ())
    assert (result.image.height, result.image.width, result.image.decoder) == (40, 50, "raw")
    assert result.scores.logits.shape == (CLASSES,)
    assert len(result.predictions) == 3
    assert [own.target for own in result.explanations] == result.predictions[:2]
    for own in result.explanations:
        rationale = own.rationale
        assert rationale.saliency_map.shape == (SIDE // 4, SIDE // 4)
        shares = sum(phrase.evidence for phrase in rationale.phrases) + rationale.rest.evidence
        assert rationale.bias + rationale.gap + shares == pytest.approx(own.target.logit, rel=1e-4)
        assert own.target.class_name in own.sentence


async def test_a_contrast_explains_a_difference_of_logits(started):
    engine = await started()
    result = await engine.explain(
        replace(engine.default_job(PIXELS), target=Contrast(1, 2)), DIRECT
    )
    (own,) = result.explanations
    assert (own.target.class_index, own.reference.class_index) == (1, 2)
    assert own.rationale.logit == pytest.approx(own.target.logit - own.reference.logit)


async def test_methods_of_many_passes_are_counted_and_bounded(started):
    engine = await started(max_long_requests=1)
    job = replace(engine.default_job(PIXELS), method=METHODS["score_cam"])
    assert engine.max_concurrency(job.method) == 1
    assert engine.max_concurrency(METHODS["cam"]) > 1
    first = asyncio.create_task(engine.explain(job, DIRECT))
    await asyncio.sleep(0)
    with pytest.raises(ServerBusy):
        await engine.explain(job, DIRECT)
    (own,) = (await first).explanations
    assert own.network_passes > 1


async def test_more_passes_than_are_allowed_are_refused_before_the_work(started):
    engine = await started(max_passes=20)
    job = replace(engine.default_job(PIXELS), method=METHODS["score_cam"])
    assert (await engine.explain(job, DIRECT)).explanations
    with pytest.raises(InvalidArgument, match=r"24 passes for 2 target\(s\)") as refused:
        await engine.explain(replace(job, target=TopK(2)), DIRECT)
    assert refused.value.field == "method"


async def test_settings_under_which_no_image_can_be_explained_stop_the_start(bundle):
    settings = ServerSettings(max_image_pixels=10, decode_threads=1)
    engine = Engine(bundle, settings, Metrics())
    with pytest.raises(InvalidSettings, match="no image can be explained with these settings"):
        await engine.start()
    await engine.close(0)


async def test_under_pressure_a_job_that_allows_it_is_smaller(started):
    engine = await started(max_queue=4)
    job = replace(engine.default_job(PIXELS), heatmap=HeatmapForm.IMAGE, may_degrade=True)
    with engine._batcher.admit(None, Lane.INTERACTIVE), engine._batcher.admit(None):
        waiting = asyncio.create_task(engine.explain(job, DIRECT))
        await asyncio.sleep(0.05)
    result = await waiting
    assert result.job.heatmap is HeatmapForm.SALIENCY
    assert [own.value for own in result.degradations] == ["smaller_maps", "no_groups"]
    assert sample(engine, "textcam_degraded_total", step="no_groups") == 1

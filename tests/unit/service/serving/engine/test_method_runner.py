"""CAM methods beside other requests: plans, bounds, chunks and deadlines."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from small_models import CHANNELS, CLASSES, SIDE, load_model, write_model
from textcam_service.core.methods import METHODS
from textcam_service.errors import DeadlineExpired, InvalidArgument, ServerBusy
from textcam_service.model.explainer import method_input
from textcam_service.serving.batching.deadlines import BatchLimits
from textcam_service.serving.engine.method_runner import MethodPlan, MethodRunner
from textcam_service.serving.engine.targets import ClassScores
from textcam_service.serving.telemetry.metrics import Metrics

SCORE, CAM = METHODS["score_cam"], METHODS["cam"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_model(write_model(tmp_path_factory.mktemp("model"), 1))


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
async def runner(bundle, metrics):
    with ThreadPoolExecutor(1) as session, ThreadPoolExecutor(1) as workers:
        made = MethodRunner(bundle.backbone, session, workers, BatchLimits(4), 1, metrics)
        await made.start()
        yield made
        await made.drain(5)


@pytest.fixture
def inputs(bundle):
    """The most probable class of an image of noise, with the network's output."""
    image = np.random.default_rng(0).standard_normal((3, SIDE, SIDE)).astype(np.float32)
    (output,) = bundle.backbone.forward(image[None])
    top = ClassScores(output.logits, bundle.class_names).most_probable(1)[0]
    return method_input(bundle, output, image, top, None), output


def test_a_method_of_arithmetic_runs_inline_and_one_of_many_passes_is_long(runner):
    assert runner.plan(CAM) is MethodPlan.INLINE
    assert runner.plan(METHODS["hires_cam"]) is MethodPlan.INLINE  # the head is linear
    assert runner.plan(SCORE) is MethodPlan.LONG


def test_passes_are_counted_by_target_before_they_are_made(runner):
    runner.check_passes(SCORE, 2, 2 * CHANNELS)
    runner.check_passes(CAM, CLASSES, 0)
    with pytest.raises(InvalidArgument, match=r"up to 36 passes for 3 target\(s\)"):
        runner.check_passes(SCORE, 3, 3 * CHANNELS - 1)


def test_only_requests_of_many_passes_are_bounded(runner, metrics):
    with runner.reserve(MethodPlan.LONG):
        with runner.reserve(MethodPlan.INLINE), runner.reserve(MethodPlan.SESSION):
            pass
        with pytest.raises(ServerBusy) as busy, runner.reserve(MethodPlan.LONG):
            pass
    assert busy.value.retry_after_s > 0
    with runner.reserve(MethodPlan.LONG):
        pass
    rejected = metrics.registry.get_sample_value(
        "textcam_rejected_total", {"reason": "SERVER_BUSY"}
    )
    assert rejected == 1


async def test_a_run_is_what_the_method_finds_at_once_and_its_passes_are_counted(
    runner, bundle, inputs, metrics
):
    given, output = inputs
    result = await runner.run(SCORE, given, output, None)
    alone = runner.run_inline(SCORE, given, output)
    np.testing.assert_allclose(result.terms.weights, alone.terms.weights, rtol=1e-4)
    assert result.network_passes >= CHANNELS
    counted = metrics.registry.get_sample_value(
        "textcam_method_passes_total", {"method": "score_cam"}
    )
    assert counted == result.network_passes


async def test_a_deadline_ends_a_method_between_two_chunks(runner, inputs, metrics):
    given, output = inputs
    with pytest.raises(DeadlineExpired, match="after 0 passes of Score-CAM; allow more time"):
        await runner.run(SCORE, given, output, time.monotonic() - 1)
    assert metrics.registry.get_sample_value("textcam_expired_total") == 1


async def test_requests_take_turns_chunk_by_chunk(runner, inputs, bundle, monkeypatch):
    """None of several that run at a time waits until another is done."""
    given, output = inputs
    query, turns = type(bundle.backbone).query, []

    def noted(self, asked, seen):
        turns.append(id(seen))
        return query(self, asked, seen)

    monkeypatch.setattr(type(bundle.backbone), "query", noted)
    (other,) = bundle.backbone.forward(given.image[None])
    await asyncio.gather(*(runner.run(SCORE, given, one, None) for one in (output, other)))
    chunks = len(turns) // 2
    assert chunks >= 3
    assert set(turns[:chunks]) == {id(output), id(other)}

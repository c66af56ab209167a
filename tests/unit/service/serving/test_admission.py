"""Admission of requests: bounds, and the wait for the end of work."""

import asyncio
import contextlib

import pytest
from textcam_service.errors import ServerBusy, ShuttingDown
from textcam_service.serving.admission import AdmissionControl
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.settings import ServerSettings

LIMIT = 4096


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def admission(metrics):
    return AdmissionControl(ServerSettings(max_concurrent=3, max_bytes_in_work=LIMIT), metrics)


def in_flight(metrics):
    return metrics.registry.get_sample_value("textcam_requests_in_flight")


def test_places_are_held_while_work_lasts_and_given_back_however_it_ends(admission, metrics):
    with contextlib.suppress(KeyError), admission.admit(10, concurrency=3):
        assert in_flight(metrics) == 3
        with pytest.raises(ServerBusy) as busy, admission.admit(0):
            pass
        assert busy.value.retry_after_s > 0
        raise KeyError
    assert in_flight(metrics) == 0
    with admission.admit(10):
        assert in_flight(metrics) == 1
    rejected = metrics.registry.get_sample_value(
        "textcam_rejected_total", {"reason": ServerBusy.reason}
    )
    assert rejected == 1


def test_bytes_of_requests_and_of_undelivered_responses_are_bounded_together(admission):
    with (
        admission.admit(LIMIT),
        pytest.raises(ServerBusy, match="4,096 bytes"),
        admission.admit(1),
    ):
        pass
    admission.add_undelivered(1, LIMIT)
    with pytest.raises(ServerBusy), admission.admit(1):
        pass
    admission.add_undelivered(-1, -LIMIT)
    with admission.admit(LIMIT):
        pass


async def test_a_drain_refuses_new_work_and_waits_for_what_is_in_work_or_undelivered(admission):
    with admission.admit(1):
        admission.add_undelivered(1, 0)
        admission.stop()
        with pytest.raises(ShuttingDown), admission.admit(1):
            pass
        drained = asyncio.create_task(admission.drained(10))
    await asyncio.sleep(0)
    assert not drained.done()
    admission.add_undelivered(-1, 0)
    await asyncio.wait_for(drained, 1)


async def test_a_drain_waits_no_longer_than_it_may(admission):
    with admission.admit(1):
        await asyncio.wait_for(admission.drained(0.01), 1)

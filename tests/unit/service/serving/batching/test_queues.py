"""Admission and order of the queues, by hand and under simulated overload."""

import math

import pytest
from batchers import latency_of
from batchers import queue_item as item
from textcam_service.errors import (
    DeadlineUnreachable,
)
from textcam_service.serving.batching.deadlines import BatchLimits
from textcam_service.serving.batching.queues import Queues
from textcam_service.serving.batching.scheduling import Lane


@pytest.mark.parametrize("deadline", [math.inf, 3600.0])
def test_items_with_near_deadlines_pass_one_without_for_a_minute_at_most(deadline):
    """At full load: each second four come that are due in 30 s, and four are taken."""
    queues = Queues(BatchLimits(max_batch=4), latency_of(_4=1.0))
    patient = item(deadline)
    queues.add(patient)
    for now in range(100):
        for _ in range(4):
            queues.add(item(now + 30.0, admitted=now))
        if patient in queues.take(now):
            break
    assert now == 30  # from when the others' deadlines were a minute after it came


def overloaded(share=0.2, audits=16):
    """Twenty seconds of 300 items a second, due after 0.3 s, on a session that can do 133.

    And audits that always wait. What came of them: done in time, late, refused; audit items done.
    """
    costs = latency_of(**{f"_{size}": 0.02 + 0.005 * size for size in range(1, 9)})
    queues = Queues(BatchLimits(max_batch=8, audit_share=share), costs)
    for _ in range(audits):
        queues.add(item(math.inf))
    now = arrival = 0.0
    done = late = refused = audited = 0
    while now < 20:
        batch = queues.take(now)
        end = now + costs.of(len(batch)) if batch else arrival
        queues.deadlines.idle_at = end if batch else None
        while arrival <= end:
            for waiting in [one for one in queues if one.deadline <= arrival]:
                queues.discard(waiting)
                late += 1
            try:
                queues.deadlines.check(arrival + 0.3, Lane.INTERACTIVE, arrival)
                queues.add(item(arrival + 0.3, Lane.INTERACTIVE, arrival))
            except DeadlineUnreachable:
                refused += 1
            arrival += 1 / 300
        for one in batch:
            if one.lane is Lane.AUDIT:
                audited += 1
                queues.add(item(math.inf, admitted=end))
            elif end <= one.deadline + 1e-9:
                done += 1
            else:
                late += 1
        queues.deadlines.idle_at, now = None, end
    return done, late, refused, audited


def test_under_overload_what_is_admitted_is_done_in_time_and_no_room_is_wasted():
    done, late, refused, _ = overloaded(audits=0)
    assert late == 0
    assert done > 0.9 * 20 * 133
    assert refused == pytest.approx(20 * 300 - done, abs=64)


def test_under_overload_the_audit_lane_has_its_share_and_makes_nobody_late():
    done, late, _, audited = overloaded()
    assert late == 0
    assert 0.17 < audited / (done + audited) < 0.23
    assert done + audited > 0.9 * 20 * 133

"""Admission and order of the queues, by hand and under simulated overload."""

import math
from types import SimpleNamespace

import pytest
from batchers import latency_of
from textcam_service.errors import (
    DeadlineUnreachable,
)
from textcam_service.serving.batching.deadlines import BatchLimits
from textcam_service.serving.batching.queues import Queues
from textcam_service.serving.batching.scheduling import Lane


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        ({"max_batch": 0}, "max_batch is 0; give a whole number of at least 1"),
        ({"max_batch": 2.5}, "max_batch is 2.5; give a whole number"),
        ({"max_queue": -3}, "max_queue is -3; give a whole number of at least 1"),
        ({"max_delay_s": -0.1}, "max_delay_s is -0.1; give finite seconds, 0 or more"),
        ({"max_delay_s": math.inf}, "max_delay_s is inf"),
        ({"max_delay_s": math.nan}, "max_delay_s is nan"),
    ],
)
def test_limits_out_of_range_are_refused_with_the_mend(limits, fault):
    with pytest.raises(ValueError, match=fault):
        BatchLimits(**limits)


def test_the_least_limits_are_allowed():
    BatchLimits(max_batch=1, max_delay_s=0, max_queue=1)


def item(deadline, lane=Lane.AUDIT, admitted=0.0):
    return SimpleNamespace(deadline=deadline, lane=lane, admitted=admitted, is_ready=True)


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


def test_an_item_without_a_deadline_makes_no_other_late():
    queues = Queues(BatchLimits(max_batch=1), latency_of(_1=100.0))
    queues.add(item(101.0))
    queues.deadlines.check(math.inf, Lane.AUDIT, now=0.5)
    queues.add(item(math.inf, admitted=0.5))
    assert [queues.take(1.0)[0].deadline for _ in range(2)] == [101.0, math.inf]


def test_an_audit_item_is_admitted_by_what_is_left_or_by_its_share():
    queues = Queues(BatchLimits(max_batch=4, audit_share=0.25), latency_of(_4=1.0))
    for _ in range(12):
        queues.add(item(math.inf, Lane.INTERACTIVE))
    queues.deadlines.check(1.0, Lane.AUDIT, now=0.0)  # a quarter of the first full batch
    with pytest.raises(DeadlineUnreachable):
        queues.deadlines.check(0.9, Lane.AUDIT, now=0.0)
    without_share = Queues(BatchLimits(max_batch=4, audit_share=0.0), latency_of(_4=1.0))
    for _ in range(12):
        without_share.add(item(math.inf, Lane.INTERACTIVE))
    without_share.deadlines.check(4.0, Lane.AUDIT, now=0.0)
    with pytest.raises(DeadlineUnreachable):
        without_share.deadlines.check(3.9, Lane.AUDIT, now=0.0)


def test_an_item_that_makes_its_batch_too_long_for_another_is_refused():
    """Else those at the brim would all be late by those that came after them."""
    queues = Queues(BatchLimits(max_batch=4), latency_of(_1=0.4, _2=0.6, _3=0.8, _4=1.0))
    queues.add(item(0.7, Lane.INTERACTIVE))
    queues.deadlines.check(0.9, Lane.INTERACTIVE, now=0.0)
    queues.add(item(0.9, Lane.INTERACTIVE))
    with pytest.raises(DeadlineUnreachable, match=r"another request.* would be 0\.100 s too late"):
        queues.deadlines.check(1.0, Lane.INTERACTIVE, now=0.0)
    queues.add(item(0.3, Lane.INTERACTIVE))  # late in any case: not for the next one's sake
    with pytest.raises(DeadlineUnreachable, match=r"the response would be 0\.500 s too late"):
        queues.deadlines.check(0.5, Lane.INTERACTIVE, now=0.0)


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

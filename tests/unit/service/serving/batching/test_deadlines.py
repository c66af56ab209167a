"""Limits, and admission by deadline, by hand."""

import math

import pytest
from batchers import latency_of
from batchers import queue_item as item
from textcam_service.errors import DeadlineUnreachable
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

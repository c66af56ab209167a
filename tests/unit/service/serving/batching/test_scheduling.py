"""Earliest deadline first: costs, finish times and the choice of a batch, by hand."""

import math
from types import SimpleNamespace

import pytest
from textcam_service.errors import DeadlineUnreachable
from textcam_service.serving.batching.queues import BatchLimits, Queues
from textcam_service.serving.batching.scheduling import (
    BatchLatency,
    Lane,
    ResponseLatency,
    choose_batch,
    completion_times,
)


def cost(**seconds):
    made = BatchLatency()
    for name, value in seconds.items():
        made.observe(int(name[1:]), value)
    return made


def due(*deadlines):
    return [SimpleNamespace(deadline=deadline) for deadline in deadlines]


def test_a_cost_is_guessed_then_what_three_in_four_did_not_exceed():
    made = BatchLatency(guess_s=0.5)
    assert (made.of(4), made.of(0)) == (0.5, 0)
    for seconds in (1.0, 9.0, 1.2):
        made.observe(4, seconds)
    assert made.of(4) == 1.2  # one slow batch does not count
    for seconds in (1.1, 1.3, 1.4, 1.5, 9.0, 1.6):
        made.observe(4, seconds)
    assert made.of(4) == 1.6


def test_a_cost_follows_a_machine_that_has_become_slower():
    made = cost(_1=1.0)
    for _ in range(5):
        made.observe(1, 3.0)
    for _ in range(4):
        made.observe(1, 3.2)
    assert made.of(1) == 3.2


def test_costs_between_measured_sizes_are_linear_above_in_proportion_below_the_smallest():
    made = cost(_2=1.0, _4=2.0)
    assert [made.of(size) for size in (1, 3, 8)] == [1.0, 1.5, 4.0]


def test_an_inference_is_due_so_long_before_the_deadline_as_answers_of_its_kind_took():
    times = ResponseLatency()
    assert times.due("overlay", 10.0, 0.0) == 10.0  # nothing is known
    for seconds in (3.0, 2.0, 40.0):
        times.observe("overlay", seconds)
    assert times.due("overlay", 10.0, 0.0) == 7.0
    assert times.due("none", 10.0, 0.0) == 10.0


def test_half_the_time_that_is_left_is_the_inferences_whatever_answers_took():
    times = ResponseLatency()
    times.observe("overlay", 40.0)
    assert times.due("overlay", 10.0, 9.0) == 9.5
    assert times.due("overlay", 10.0, 11.0) == 10.0  # passed, and not by more


def test_a_machine_whose_answers_have_become_quicker_is_believed():
    times = ResponseLatency()
    for seconds in (*[5.0] * 32, *[1.0] * 24):
        times.observe("overlay", seconds)
    assert times.due("overlay", 100.0, 0.0) == 99.0


def test_answers_that_are_late_all_the_same_add_doubt_and_those_that_are_not_take_it_away():
    times = ResponseLatency()
    times.observe("map", 1.0)
    for _ in range(2):
        times.ended(late=True, turn_s=2.0)
    assert times.due("map", 100.0, 0.0) == pytest.approx(98.2)
    for _ in range(100):
        times.ended(late=True, turn_s=2.0)  # more than a turn is not doubted
    assert times.due("map", 100.0, 0.0) == pytest.approx(97.0)
    for _ in range(200):
        times.ended(late=False, turn_s=2.0)
    assert 97.5 < times.due("map", 100.0, 0.0) < 98.0  # slowly
    for _ in range(5000):
        times.ended(late=False, turn_s=2.0)
    assert times.due("map", 100.0, 0.0) == pytest.approx(99.0, abs=1e-3)


def test_a_slow_spell_is_forgotten_where_smaller_batches_show_that_it_is_over():
    """What is predicted to be slow is not admitted, and would never be seen to be quick again."""
    costs = cost(_8=8.0)
    costs.observe(4, 0.5)
    assert [costs.of(size) for size in (4, 5, 8, 9)] == [0.5, 1.0, 1.0, 1.5]
    costs.observe(2, 2.0)  # a slow one since says nothing good of others
    assert [costs.of(size) for size in (2, 4, 8)] == [2.0, 0.5, 1.0]
    for _ in range(9):
        costs.observe(8, 6.0)
    assert [costs.of(size) for size in (4, 8)] == [0.5, 6.0]


def test_finish_times_go_batch_by_batch():
    costs = cost(_1=1.0, _2=1.5)
    assert completion_times(5, 10.0, costs, 2) == [11.5, 11.5, 13.0, 13.0, 14.0]
    assert completion_times(0, 10.0, costs, 2) == []
    # One of the second batch's places is the audit lane's, and of the third's.
    assert completion_times(5, 10.0, costs, 2, 9, 0.5) == [11.5, 11.5, 13.0, 14.5, 15.5]
    # There is but one audit item.
    assert completion_times(5, 10.0, costs, 2, 1, 0.5) == [11.5, 11.5, 13.0, 14.5, 14.5]
    # In a batch that is not full there is room for both.
    assert completion_times(1, 10.0, costs, 2, 9, 0.5, 1.0) == [11.0]


@pytest.mark.parametrize(
    ("interactive", "audit", "owed", "chosen"),
    [
        ((9, 9), (9, 9, 9), 0, (2, 2)),  # what is left
        ((9,) * 6, (9, 9), 0, (4, 0)),  # interactive first
        ((9,) * 6, (9, 9), 1.6, (3, 1)),  # the share, whole items
        ((9,) * 6, (), 3, (4, 0)),
        ((), (9,) * 6, 0, (0, 4)),
        # One left behind would be done at 1.4, two at 1.6.
        ((1, 1, 1, 1.3), (9,), 1, (4, 0)),
        ((1, 1, 1, 1.4), (9,), 1, (3, 1)),
        ((1, 1, 1.5, 2), (9, 9), 2, (3, 1)),
        # The last one is late in any case: it does not keep the audit lane's share.
        ((1, 1, 1, 0.9, 2), (9,), 1, (3, 1)),
        # Alone it is done at 0.4, in time for 0.5; with one more at 0.6.
        ((0.5,), (9,), 0, (1, 0)),
        ((0.6,), (9, 9, 9), 0, (1, 1)),
        # Late anyway: nothing is gained by holding others back.
        ((0.1,), (9,), 0, (1, 1)),
    ],
)
def test_the_choice_of_a_batch(interactive, audit, owed, chosen):
    costs = cost(_1=0.4, _2=0.6, _3=0.8, _4=1.0)
    assert choose_batch(due(*interactive), due(*audit), 0.0, costs, 4, owed) == chosen


def item(deadline, lane=Lane.AUDIT, admitted=0.0):
    return SimpleNamespace(deadline=deadline, lane=lane, admitted=admitted, is_ready=True)


@pytest.mark.parametrize("deadline", [math.inf, 3600.0])
def test_items_with_near_deadlines_pass_one_without_for_a_minute_at_most(deadline):
    """At full load: each second four come that are due in 30 s, and four are taken."""
    queues = Queues(BatchLimits(max_batch=4), cost(_4=1.0))
    patient = item(deadline)
    queues.add(patient)
    for now in range(100):
        for _ in range(4):
            queues.add(item(now + 30.0, admitted=now))
        if patient in queues.take(now):
            break
    assert now == 30  # from when the others' deadlines were a minute after it came


def test_an_item_without_a_deadline_makes_no_other_late():
    queues = Queues(BatchLimits(max_batch=1), cost(_1=100.0))
    queues.add(item(101.0))
    queues.require(math.inf, Lane.AUDIT, now=0.5)
    queues.add(item(math.inf, admitted=0.5))
    assert [queues.take(1.0)[0].deadline for _ in range(2)] == [101.0, math.inf]


def test_a_batch_is_no_longer_than_its_nearest_deadline_whatever_stands_first():
    costs = cost(_1=0.4, _2=0.6, _3=0.8, _4=1.0)
    assert choose_batch(due(math.inf, 0.6), due(9, 9), 0.0, costs, 4, 0) == (2, 0)


def test_an_audit_item_is_admitted_by_what_is_left_or_by_its_share():
    queues = Queues(BatchLimits(max_batch=4, audit_share=0.25), cost(_4=1.0))
    for _ in range(12):
        queues.add(item(math.inf, Lane.INTERACTIVE))
    queues.require(1.0, Lane.AUDIT, now=0.0)  # a quarter of the first full batch
    with pytest.raises(DeadlineUnreachable):
        queues.require(0.9, Lane.AUDIT, now=0.0)
    without_share = Queues(BatchLimits(max_batch=4, audit_share=0.0), cost(_4=1.0))
    for _ in range(12):
        without_share.add(item(math.inf, Lane.INTERACTIVE))
    without_share.require(4.0, Lane.AUDIT, now=0.0)
    with pytest.raises(DeadlineUnreachable):
        without_share.require(3.9, Lane.AUDIT, now=0.0)


def test_an_item_that_makes_its_batch_too_long_for_another_is_refused():
    """Else those at the brim would all be late by those that came after them."""
    queues = Queues(BatchLimits(max_batch=4), cost(_1=0.4, _2=0.6, _3=0.8, _4=1.0))
    queues.add(item(0.7, Lane.INTERACTIVE))
    queues.require(0.9, Lane.INTERACTIVE, now=0.0)
    queues.add(item(0.9, Lane.INTERACTIVE))
    with pytest.raises(DeadlineUnreachable, match=r"another's answer would come 0\.100 s too late"):
        queues.require(1.0, Lane.INTERACTIVE, now=0.0)
    queues.add(item(0.3, Lane.INTERACTIVE))  # late in any case: not for the next one's sake
    with pytest.raises(DeadlineUnreachable, match=r"the answer would come 0\.500 s too late"):
        queues.require(0.5, Lane.INTERACTIVE, now=0.0)


def overloaded(share=0.2, audits=16):
    """Twenty seconds of 300 items a second, due after 0.3 s, on a session that can do 133.

    And audits that always wait. What came of them: done in time, late, refused; audit items done.
    """
    costs = cost(**{f"_{size}": 0.02 + 0.005 * size for size in range(1, 9)})
    queues = Queues(BatchLimits(max_batch=8, audit_share=share), costs)
    for _ in range(audits):
        queues.add(item(math.inf))
    now = arrival = 0.0
    done = late = refused = audited = 0
    while now < 20:
        batch = queues.take(now)
        end = now + costs.of(len(batch)) if batch else arrival
        queues.free_at = end if batch else None
        while arrival <= end:
            for waiting in [one for one in queues if one.deadline <= arrival]:
                queues.discard(waiting)
                late += 1
            try:
                queues.require(arrival + 0.3, Lane.INTERACTIVE, arrival)
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
        queues.free_at, now = None, end
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

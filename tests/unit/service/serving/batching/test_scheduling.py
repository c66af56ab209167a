"""Completion times and the choice of a batch, by hand."""

import math
from types import SimpleNamespace

import pytest
from batchers import latency_of
from textcam_service.serving.batching.scheduling import choose_batch, completion_times


def due(*deadlines):
    return [SimpleNamespace(deadline=deadline) for deadline in deadlines]


def test_finish_times_go_batch_by_batch():
    costs = latency_of(_1=1.0, _2=1.5)
    assert completion_times(5, 10.0, costs, 2) == [11.5, 11.5, 13.0, 13.0, 14.0]
    assert completion_times(0, 10.0, costs, 2) == []
    # One of the second batch's places is the audit lane's, and of the third's.
    assert completion_times(5, 10.0, costs, 2, 9, 0.5) == [11.5, 11.5, 13.0, 14.5, 15.5]
    # There is but one audit item.
    assert completion_times(5, 10.0, costs, 2, 1, 0.5) == [11.5, 11.5, 13.0, 14.5, 14.5]
    # In a batch that is not full there is room for both.
    assert completion_times(1, 10.0, costs, 2, 9, 0.5, 1.0) == [11.0]


@pytest.mark.parametrize(
    ("interactive", "audit", "deficit", "chosen"),
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
def test_the_choice_of_a_batch(interactive, audit, deficit, chosen):
    costs = latency_of(_1=0.4, _2=0.6, _3=0.8, _4=1.0)
    assert choose_batch(due(*interactive), due(*audit), 0.0, costs, 4, deficit) == chosen


def test_a_batch_is_no_longer_than_its_nearest_deadline_whatever_stands_first():
    costs = latency_of(_1=0.4, _2=0.6, _3=0.8, _4=1.0)
    assert choose_batch(due(math.inf, 0.6), due(9, 9), 0.0, costs, 4, 0) == (2, 0)

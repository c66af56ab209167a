"""Estimates of batches' and responses' latency."""

import pytest
from batchers import latency_of
from textcam_service.serving.batching.latency import BatchLatency, ResponseLatency


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
    made = latency_of(_1=1.0)
    for _ in range(5):
        made.observe(1, 3.0)
    for _ in range(4):
        made.observe(1, 3.2)
    assert made.of(1) == 3.2


def test_costs_between_measured_sizes_are_linear_above_in_proportion_below_the_smallest():
    made = latency_of(_2=1.0, _4=2.0)
    assert [made.of(size) for size in (1, 3, 8)] == [1.0, 1.5, 4.0]


def test_an_inference_is_due_so_long_before_the_deadline_as_answers_of_its_kind_took():
    times = ResponseLatency()
    assert times.inference_deadline("overlay", 10.0, 0.0) == 10.0  # nothing is known
    for seconds in (3.0, 2.0, 40.0):
        times.observe("overlay", seconds)
    assert times.inference_deadline("overlay", 10.0, 0.0) == 7.0
    assert times.inference_deadline("none", 10.0, 0.0) == 10.0


def test_half_the_time_that_is_left_is_the_inferences_whatever_answers_took():
    times = ResponseLatency()
    times.observe("overlay", 40.0)
    assert times.inference_deadline("overlay", 10.0, 9.0) == 9.5
    assert times.inference_deadline("overlay", 10.0, 11.0) == 10.0  # passed, and not by more


def test_a_machine_whose_answers_have_become_quicker_is_believed():
    times = ResponseLatency()
    for seconds in (*[5.0] * 32, *[1.0] * 24):
        times.observe("overlay", seconds)
    assert times.inference_deadline("overlay", 100.0, 0.0) == 99.0


def test_answers_that_are_late_all_the_same_add_doubt_and_those_that_are_not_take_it_away():
    times = ResponseLatency()
    times.observe("map", 1.0)
    for _ in range(2):
        times.record_outcome(late=True, cycle_s=2.0)
    assert times.inference_deadline("map", 100.0, 0.0) == pytest.approx(98.2)
    for _ in range(100):
        times.record_outcome(late=True, cycle_s=2.0)  # more than a turn is not doubted
    assert times.inference_deadline("map", 100.0, 0.0) == pytest.approx(97.0)
    for _ in range(200):
        times.record_outcome(late=False, cycle_s=2.0)
    assert 97.5 < times.inference_deadline("map", 100.0, 0.0) < 98.0  # slowly
    for _ in range(5000):
        times.record_outcome(late=False, cycle_s=2.0)
    assert times.inference_deadline("map", 100.0, 0.0) == pytest.approx(99.0, abs=1e-3)


def test_a_slow_spell_is_forgotten_where_smaller_batches_show_that_it_is_over():
    """What is predicted to be slow is not admitted, and would never be seen to be quick again."""
    costs = latency_of(_8=8.0)
    costs.observe(4, 0.5)
    assert [costs.of(size) for size in (4, 5, 8, 9)] == [0.5, 1.0, 1.0, 1.5]
    costs.observe(2, 2.0)  # a slow one since says nothing good of others
    assert [costs.of(size) for size in (2, 4, 8)] == [2.0, 0.5, 1.0]
    for _ in range(9):
        costs.observe(8, 6.0)
    assert [costs.of(size) for size in (4, 8)] == [0.5, 6.0]

"""Work in threads: results in order, few items at a time, and errors."""

import threading
import time

import pytest
from textcam_service.offline.threads import in_threads


def test_results_come_in_the_order_of_the_items():
    def slower_first(number):
        time.sleep(0.02 if number % 4 == 1 else 0)
        return number**2

    assert list(in_threads(slower_first, range(20), 4)) == [number**2 for number in range(20)]
    assert list(in_threads(slower_first, [])) == []
    assert list(in_threads(slower_first, [3])) == [9]


def test_items_are_done_side_by_side_and_a_single_one_by_the_caller():
    both = threading.Barrier(2, timeout=10)

    def meets(_):
        both.wait()
        return threading.current_thread()

    assert threading.main_thread() not in [*in_threads(meets, range(4), 2)]
    assert [*in_threads(lambda _: threading.current_thread(), [1])] == [threading.main_thread()]


def test_few_items_are_taken_before_their_turn():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = in_threads(lambda number: number, items(), 2)
    for number in range(10):
        assert next(results) == number
        assert len(taken) <= number + 1 + 2
    results.close()
    assert len(taken) < 20


def test_an_error_reaches_the_caller_at_its_place_and_ends_the_work():
    done = []

    def fails_at_five(number):
        if number == 5:
            raise ValueError("five")
        done.append(number)
        return number

    results = in_threads(fails_at_five, range(1000), 2)
    found = []
    with pytest.raises(ValueError, match="five"):
        found.extend(results)
    assert found == [0, 1, 2, 3, 4]
    assert len(done) < 20

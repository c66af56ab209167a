"""The order of work on the server's threads."""

import threading
from concurrent.futures import CancelledError

import pytest
from textcam_service.serving.engine.executors import PriorityExecutor


@pytest.fixture
def threads():
    made = PriorityExecutor(1)
    yield made
    made.shutdown()


def test_answers_go_before_what_waits_to_be_decoded_and_each_in_turn(threads):
    free, done = threading.Event(), []
    blocking = threads.decoding.submit(free.wait, 10)
    waiting = [threads.decoding.submit(done.append, f"image {place}") for place in range(3)]
    waiting += [threads.responding.submit(done.append, f"answer {place}") for place in range(3)]
    assert not done
    free.set()
    for future in (blocking, *waiting):
        future.result(10)
    assert done == ["answer 0", "answer 1", "answer 2", "image 0", "image 1", "image 2"]


def test_work_that_nobody_waits_for_is_not_begun_and_the_rest_is(threads):
    free, done = threading.Event(), []
    threads.decoding.submit(free.wait, 10)
    left = threads.decoding.submit(done.append, "left")
    stays = threads.decoding.submit(done.append, "stays")
    assert left.cancel()
    free.set()
    stays.result(10)
    assert done == ["stays"]
    with pytest.raises(CancelledError):
        left.result(0)


def test_what_work_raises_goes_to_who_waits_for_it_and_the_thread_lives_on(threads):
    failed = threads.responding.submit(int, "no number")
    with pytest.raises(ValueError, match="no number"):
        failed.result(10)
    assert threads.responding.submit(int, "7", base=8).result(10) == 7


def test_after_the_end_no_work_is_taken_but_what_waits_is_done():
    threads, free = PriorityExecutor(1), threading.Event()
    threads.decoding.submit(free.wait, 10)
    waits = threads.decoding.submit(int, "5")
    threads.shutdown()
    with pytest.raises(RuntimeError):
        threads.responding.submit(int, "6")
    free.set()
    assert waits.result(10) == 5

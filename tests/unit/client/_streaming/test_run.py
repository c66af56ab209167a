"""Retries, deadlines and broken streams of explain_many, sync and asyncio."""

from __future__ import annotations

import threading
import time

import pytest
from client_samples import make_pixels
from client_streams import images_of, widths
from textcam_client import (
    DeadlineExceeded,
    Overloaded,
    Retry,
    ServerError,
    Unavailable,
)
from textcam_client.testing import serve_in_memory


def test_a_full_queue_is_tried_again_for_the_item_alone(many, server):
    server.fail_with("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after=0.05, times=2)
    answers = many(server, images_of(6))
    assert widths(answers) == [20, 21, 22, 23, 24, 25]
    assert len(server.requests) == 8
    assert server.streams == 1
    ids = [request.request_id for request in server.requests]
    assert len(set(ids)) == 8


def test_a_rate_is_waited_for_though_many_items_are_refused_again_and_again(many, server):
    server.fail_with("RESOURCE_EXHAUSTED", "RATE_LIMITED", retry_after=0.02, times=140)
    settings = {"retry": Retry(), "timeout": 30.0}
    answers = many(server, images_of(40), settings=settings, concurrency=32, on_error="return")
    assert widths(answers) == [20 + i for i in range(40)]
    assert len(server.requests) == 180


def test_items_are_tried_again_by_the_rules_of_single_calls(many, server):
    server.fail_with("INTERNAL", "BUG")
    server.fail_with("RESOURCE_EXHAUSTED", "NO_HINT")
    server.fail_with("UNAVAILABLE", "SHUTTING_DOWN")
    answers = many(server, images_of(4), concurrency=1, on_error="return")
    assert widths(answers) == ["BUG", "NO_HINT", 22, 23]
    assert isinstance(answers[0], ServerError)
    assert len(server.requests) == 5


@pytest.mark.parametrize("_", range(4))
def test_a_broken_stream_is_taken_up_by_a_new_one(many, server, _):
    """Again and again: grpc.aio forgets the status where a write meets the end of a stream."""
    server.break_stream("UNAVAILABLE", after=5)
    server.break_stream("UNAVAILABLE", after=0)
    answers = many(server, images_of(16), concurrency=4)
    assert widths(answers) == [20 + i for i in range(16)]
    assert server.streams == 3


def test_a_server_that_is_away_longer_than_four_tries_loses_no_item(many, server):
    server.break_stream("UNAVAILABLE", after=5)
    server.break_stream("UNAVAILABLE", times=7)
    settings = {"retry": Retry(initial_backoff=0.01), "timeout": 30.0}
    answers = many(server, images_of(16), settings=settings, on_error="return")
    assert widths(answers) == [20 + i for i in range(16)]
    assert server.streams == 9


def test_a_stream_that_ends_too_early_is_taken_up_as_well(many, server):
    server.break_stream("OK", after=2)
    assert widths(many(server, images_of(6), concurrency=3)) == [20 + i for i in range(6)]


def test_streams_that_keep_breaking_spend_the_retry_budget_of_each_item(many, server):
    server.break_stream("UNAVAILABLE", times=3)
    settings = {"retry": Retry(attempts=3, initial_backoff=0.01)}
    answers = many(server, images_of(2), settings=settings, concurrency=1, on_error="return")
    assert isinstance(answers[0], Unavailable)
    assert widths(answers[1:]) == [21]
    assert server.streams == 4


def test_a_stream_that_fails_otherwise_fails_what_it_carried_and_only_that(many, server):
    server.break_stream("INTERNAL", after=1)
    answers = many(server, images_of(3), concurrency=1, on_error="return")
    assert isinstance(answers[1], ServerError)
    assert widths([answers[0], answers[2]]) == [20, 22]


def test_no_server_is_unavailable_for_each_item(many, server):
    class Nowhere:
        client = staticmethod(lambda **kw: type(server).client(gone, **kw))
        async_client = staticmethod(lambda **kw: type(server).async_client(gone, **kw))

    with serve_in_memory() as gone:
        pass
    answers = many(Nowhere, images_of(3), settings={"retry": None}, on_error="return")
    assert [type(answer) for answer in answers] == [Unavailable] * 3


def test_a_message_over_the_servers_limit_fails_its_item_alone(many):
    with serve_in_memory(max_message_bytes=20_000) as server:
        images = images_of(7)
        images[3] = make_pixels(100, 100)
        answers = many(server, images, on_error="return")
    assert isinstance(answers[3], Overloaded)
    assert answers[3].retry_after is None
    assert widths(answers[:3] + answers[4:]) == [20, 21, 22, 24, 25, 26]


def test_an_item_that_is_not_answered_in_time_fails_alone(many, server):
    server.latency = lambda request: 60.0 if request.pixels.shape[1] == 21 else 0.0
    start = time.monotonic()
    answers = many(server, images_of(5), settings={"timeout": 2.0}, on_error="return")
    assert time.monotonic() - start < 30
    assert isinstance(answers[1], DeadlineExceeded)
    assert widths(answers[:1] + answers[2:]) == [20, 22, 23, 24]


def test_items_that_expire_take_no_other_from_the_stream(many, server):
    """Images 1 and 2 are never answered; image 4, a second younger, is once they were given up."""
    given_up = threading.Event()

    def latency(request) -> float:
        width = request.pixels.shape[1]
        if width == 24:
            given_up.wait(20)
        return {20: 1.0, 21: 30.0, 22: 30.0}.get(width, 0.0)

    def images():
        yield from images_of(5)
        given_up.set()
        yield from images_of(8)[5:]

    server.latency = latency
    settings = {"timeout": 2.0}
    answers = many(server, images(), settings=settings, concurrency=4, on_error="return")
    assert [type(answer) for answer in answers[1:3]] == [DeadlineExceeded] * 2
    assert widths(answers[:1] + answers[3:]) == [20, 23, 24, 25, 26, 27]
    assert server.streams == 1
    assert len(server.requests) == 8


def test_a_long_run_may_take_longer_than_the_timeout_of_an_item(many, server, clock):
    def latency(_) -> float:
        clock.put_forward(9)
        return 0.1

    server.latency = latency
    answers = many(server, images_of(6), concurrency=1, timeout=20)
    assert widths(answers) == [20 + i for i in range(6)]


def test_images_that_are_long_in_coming_do_not_make_others_expire(many, server, clock):
    """All but the first are refused while the fourth image takes 100 seconds to come."""
    coming = threading.Event()

    def latency(request) -> float:
        if request.pixels.shape[1] != 20:
            coming.wait(20)
        return 0.0

    def images():
        yield from images_of(3)
        server.fail_with("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after=0.01, times=2)
        coming.set()
        clock.put_forward(100.0)
        yield from images_of(4)[3:]

    server.latency = latency
    settings = {"timeout": 20.0}
    answers = many(server, images(), settings=settings, concurrency=3, on_error="return")
    assert widths(answers) == [20, 21, 22, 23]

"""Early ends of explain_many: closing, interruptions, dropped iterators."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from client_samples import eventually, make_png
from client_streams import images_of, is_first, widths
from textcam_client import (
    Cancelled,
    ClientClosed,
    Retry,
    UnsupportedImage,
)


@pytest.fixture
def slow_caller(server, clock):
    """Called with the first answer: all others are refused while the caller takes 100 seconds."""
    taken = threading.Event()

    def latency(request) -> float:
        if request.pixels.shape[1] != 20:
            taken.wait(20)
        return 0.0

    def looks_at(answer) -> None:
        assert answer.image_size == (10, 20)
        server.fail_with("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after=0.01, times=3)
        taken.set()
        clock.put_forward(100.0)

    server.latency = latency
    return looks_at


def client_threads() -> set[threading.Thread]:
    """Threads that are not the server's."""
    return {t for t in threading.enumerate() if not t.name.startswith("textcam-fake")}


def leave(client, server, how):
    images = (make_png(seed) for seed in range(100))

    def all_sent() -> bool:
        """Whether grpc's own thread has nothing left to send, and so sleeps."""
        return eventually(lambda: len(server.requests) == 9)

    if how == "break":
        for _ in client.explain_many(images):
            assert all_sent()
            break
    elif how == "close":
        answers = client.explain_many(images)
        next(answers)
        assert all_sent()
        answers.close()
        with pytest.raises(StopIteration):
            next(answers)
    elif how == "with":
        with client.explain_many(images) as answers:
            next(answers)
            assert all_sent()
    elif how == "error":
        try:
            for _ in client.explain_many([make_png(0), None, make_png(1)]):
                pass
        except UnsupportedImage:
            pass
    else:
        answers = client.explain_many(images)
        next(answers)
        assert all_sent()
        del answers


@pytest.fixture(params=["in flight", "between streams"])
def waiting_server(request, server):
    """A server and what says that it has left a run waiting for long."""
    if request.param == "in flight":
        server.latency = 30.0
        return lambda: len(server.requests) == 4
    server.break_stream(after=0)
    return lambda: server.streams == 1 and server.open_streams == 0


SLOW = {"timeout": 600.0, "retry": Retry(initial_backoff=60.0, max_backoff=60.0)}


def test_a_slow_caller_does_not_make_others_expire(server, slow_caller):
    with server.client(timeout=20.0) as client:
        answers = client.explain_many(images_of(4), concurrency=3, on_error="return")
        slow_caller(next(answers))
        assert widths(answers) == [21, 22, 23]


@pytest.mark.parametrize("how", ["break", "close", "with", "error", "drop"])
def test_leaving_early_cancels_the_stream_and_leaves_no_thread(server, how):
    server.latency = lambda request: 0.0 if is_first(request) else 30.0
    client = server.client()
    client.models()
    before = client_threads()
    gc.disable()  # it must not take a collection to stop the stream
    try:
        leave(client, server, how)
        assert server.streams == 1
        assert eventually(lambda: server.open_streams == 0)
        assert eventually(lambda: client_threads() <= before), client_threads() - before
    finally:
        gc.enable()
    client.close()


def test_a_run_that_ends_leaves_no_thread(server):
    client = server.client()
    client.models()
    before = client_threads()
    assert len(list(client.explain_many(images_of(20)))) == 20
    assert eventually(lambda: client_threads() <= before)
    client.close()


def test_closing_the_client_ends_a_run_with_an_error(server):
    server.latency = 0.01
    client = server.client()
    answers = client.explain_many(images_of(50), on_error="return")
    next(answers)
    client.close()
    with pytest.raises(ClientClosed):
        list(answers)
    # Said once: a loop that passes errors over has an end.
    assert list(answers) == []


def test_a_run_is_closed_while_another_thread_waits_for_it(server, waiting_server):
    with server.client(**SLOW) as client, ThreadPoolExecutor(1) as pool:
        answers = client.explain_many(images_of(4))
        waiting = pool.submit(next, answers)
        assert eventually(waiting_server)
        answers.close()
        with pytest.raises(Cancelled, match="this run was closed"):
            waiting.result(timeout=20)
        answers.close()
    assert eventually(lambda: server.open_streams == 0)


async def test_a_run_is_closed_while_another_task_waits_for_it(server, waiting_server):
    async with server.async_client(**SLOW) as client:
        answers = client.explain_many(images_of(4))
        waiting = asyncio.create_task(anext(answers))
        assert await asyncio.to_thread(eventually, waiting_server)
        await answers.close()
        with pytest.raises(Cancelled, match="this run was closed"):
            await asyncio.wait_for(waiting, 20)
        await answers.close()
    assert eventually(lambda: server.open_streams == 0)


def test_a_run_is_closed_by_its_own_images(server):
    def images():
        yield from images_of(2)
        answers.close()
        yield from images_of(2)

    with server.client() as client:
        answers = client.explain_many(images())
        with pytest.raises(Cancelled, match="this run was closed"):
            next(answers)


def test_a_run_that_was_interrupted_does_not_look_complete(server):
    def images():
        yield from images_of(3)
        # As Ctrl-C while the run waits.
        raise KeyboardInterrupt

    with server.client() as client:
        answers = client.explain_many(images(), concurrency=2)
        assert next(answers).image_size == (10, 20)
        with pytest.raises(KeyboardInterrupt):
            next(answers)
        for _ in range(2):
            with pytest.raises(Cancelled, match=r"interrupted \(KeyboardInterrupt\)"):
                next(answers)


@pytest.mark.parametrize("error", [RuntimeError("the disk is gone"), None])
def test_a_run_that_came_to_its_end_stays_there(server, error):
    def images():
        yield from images_of(3)
        if error:
            raise error

    with server.client() as client:
        answers = client.explain_many(images())
        assert len([next(answers) for _ in range(3)]) == 3
        with pytest.raises(type(error) if error else StopIteration):
            next(answers)
        with pytest.raises(StopIteration):
            next(answers)

"""explain_many, sync and asyncio, against a loopback server."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from client_samples import QUICK, eventually, make_pixels, make_png
from PIL import Image
from textcam_client import (
    CallError,
    Cancelled,
    ClientClosed,
    DeadlineExceeded,
    InvalidRequest,
    MapsDeclined,
    Overloaded,
    Retry,
    ServerError,
    TopK,
    Unavailable,
    UnreadableImage,
    UnsupportedImage,
)
from textcam_client._streaming.aio_call import AsyncStream
from textcam_client._transport.peer import Peer
from textcam_client.testing import serve_in_memory


class Sync:
    """Runs explain_many of a Client to its end."""

    def run(self, server, images, *, settings=None, **options):
        with server.client(**{"retry": QUICK, "timeout": 5.0, **(settings or {})}) as client:
            return list(client.explain_many(images, **options))


class Aio:
    """Runs explain_many of an AsyncClient to its end."""

    def run(self, server, images, *, settings=None, **options):
        async def collected():
            merged = {"retry": QUICK, "timeout": 5.0, **(settings or {})}
            async with server.async_client(**merged) as client:
                return [answer async for answer in client.explain_many(images, **options)]

        return asyncio.run(collected())


@pytest.fixture(params=[Sync, Aio])
def many(request):
    return request.param().run


def backwards(request) -> float:
    """The later of eight, the sooner answered."""
    return 0.005 * (8 - int(request.request_id.split("-")[1].split(".")[0]) % 8)


def is_first(request) -> bool:
    """Return True for the first image's request, retries included."""
    return request.request_id.rpartition("-")[2].split(".")[0] == "0"


def widths(answers) -> list[int | str]:
    return [a.reason if isinstance(a, CallError) else a.image_size[1] for a in answers]


def images_of(count: int) -> list[np.ndarray]:
    """Each known by its width."""
    return [make_pixels(10, 20 + i, i) for i in range(count)]


def test_answers_come_in_the_order_of_the_images_though_the_server_answers_otherwise(many, server):
    server.latency = backwards
    answers = many(server, images_of(24))
    assert widths(answers) == [20 + i for i in range(24)]
    assert server.streams == 1
    assert 2 <= server.peak_in_flight <= 8


def test_streamed_and_single_answers_are_the_same(many, server):
    images = [make_png(seed) for seed in range(3)]
    answers = many(server, images, target=TopK(2), max_phrases=3)
    with server.client() as client:
        for image, answer in zip(images, answers, strict=True):
            alone = client.explain(image, target=TopK(2), max_phrases=3)
            assert alone.predictions == answer.predictions
            assert len(answer.explanations) == 2
            for ours, theirs in zip(alone.explanations, answer.explanations, strict=True):
                assert ours.phrases == theirs.phrases
                np.testing.assert_array_equal(ours.saliency_map, theirs.saliency_map)
            assert answer.explanations[0].overlay().size == (32, 24)


def test_options_hold_for_every_item(many, server):
    answers = many(server, images_of(3), heatmap="none", prediction_count=2)
    for answer in answers:
        assert len(answer.predictions) == 2
        with pytest.raises(MapsDeclined):
            answer.explanations[0].heatmap()


def test_no_images_are_no_answers_and_no_stream(many, server):
    assert many(server, []) == []
    assert server.streams == 0


@pytest.mark.parametrize("concurrency", [1, 3])
def test_images_are_pulled_and_sent_no_further_ahead_than_the_concurrency(server, concurrency):
    together = threading.Barrier(concurrency)
    pulled = 0

    def latency(request) -> float:
        if request.pixels.shape[1] < 20 + concurrency:
            together.wait(20)
        return 0.0

    server.latency = latency

    def images():
        nonlocal pulled
        for image in images_of(20):
            pulled += 1
            yield image

    with server.client() as client:
        seen = 0
        for answer in client.explain_many(images(), concurrency=concurrency):
            seen += 1
            assert answer.image_size[1] == 19 + seen
            assert pulled == min(20, seen + concurrency)
    assert seen == 20
    assert server.peak_in_flight == concurrency


async def test_async_images_are_pulled_no_further_ahead_either(server):
    pulled = 0

    async def images():
        nonlocal pulled
        for image in images_of(10):
            pulled += 1
            await asyncio.sleep(0)
            yield image

    async with server.async_client() as client:
        seen = 0
        async for answer in client.explain_many(images(), concurrency=3):
            seen += 1
            assert answer.image_size[1] == 19 + seen
            assert pulled <= min(10, seen + 3)
    assert seen == 10
    assert server.peak_in_flight <= 3


async def test_no_answer_waits_for_the_next_image(server):
    """Each image but the first comes of the answer to the one before it."""
    queue: asyncio.Queue = asyncio.Queue()
    task_of_image = []

    async def images():
        while (image := await queue.get()) is not None:
            task_of_image.append(asyncio.current_task())
            yield image

    async def widths_in_turn(client) -> list[int]:
        first, *others = images_of(3)
        queue.put_nowait(first)
        seen = []
        async for answer in client.explain_many(images()):
            seen.append(answer.image_size[1])
            queue.put_nowait(others.pop(0) if others else None)
        return seen

    async with server.async_client() as client:
        assert await asyncio.wait_for(widths_in_turn(client), 20) == [20, 21, 22]
    # A generator may hold a timeout or a group, which are one task's.
    assert len(set(task_of_image)) == 1


async def test_a_run_that_waits_for_an_image_may_be_closed(server):
    asked = asyncio.Event()

    async def images():
        asked.set()
        await asyncio.Event().wait()
        yield

    before = asyncio.all_tasks()
    async with server.async_client() as client:
        answers = client.explain_many(images())
        waiting = asyncio.create_task(anext(answers))
        await asked.wait()
        await answers.close()
        with pytest.raises(Cancelled, match="this run was closed"):
            await asyncio.wait_for(waiting, 20)
    assert asyncio.all_tasks() <= before


async def test_images_that_are_cancelled_do_not_look_complete(server):
    async def images():
        yield make_png(0)
        raise asyncio.CancelledError

    async with server.async_client() as client:
        answers = client.explain_many(images())
        with pytest.raises(asyncio.CancelledError):
            await anext(answers)
        with pytest.raises(Cancelled, match="interrupted"):
            await anext(answers)


def test_nothing_is_pulled_before_the_first_answer_is_asked_for(server):
    def images():
        pytest.fail("pulled")
        yield

    with server.client() as client:
        client.explain_many(images())


@pytest.mark.parametrize(
    "image",
    [
        "cat.jpg",
        Path("cat.jpg"),
        b"x",
        bytearray(b"x"),
        make_pixels(),
        Image.fromarray(make_pixels()),
    ],
)
def test_one_image_is_not_taken_for_many(many, server, image):
    with pytest.raises(TypeError, match=r"an iterable of images, not one image .*put it in a list"):
        many(server, image)
    assert server.requests == []


def test_an_array_of_images_is_many(many, server):
    assert widths(many(server, np.stack([make_pixels(10, 20, i) for i in range(3)]))) == [20] * 3


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("metod", "no option 'metod': did you mean 'method'"),
        ("phrase", "no option 'phrase': did you mean 'max_phrases'"),
        ("request_id", "no option 'request_id': the options are target, max_phrases, "),
    ],
)
def test_a_misspelt_option_is_named_with_the_nearest(many, server, option, words):
    with pytest.raises(TypeError, match=words):
        many(server, [make_png(0)], **{option: "cam"})


# --- errors of items ------------------------------------------------------------


def test_failed_items_are_returned_in_their_places(many, server, tmp_path):
    images = [*images_of(2), b"not an image", tmp_path / "nowhere.png", None, *images_of(1)]
    answers = many(server, images, on_error="return")
    kinds = [type(answer).__name__ for answer in answers]
    assert kinds == [
        "ExplainResult",
        "ExplainResult",
        "InvalidRequest",
        "UnreadableImage",
        "UnsupportedImage",
        "ExplainResult",
    ]
    assert answers[2].reason == "UNSUPPORTED_IMAGE"
    assert answers[2].violations[0].field == "encoded"
    assert answers[2].request_id == server.requests[2].request_id
    assert len(server.requests) == 4


def test_a_raised_error_stands_in_its_items_place_and_the_next_call_goes_on(server, tmp_path):
    images = [make_png(0), b"not an image", tmp_path / "nowhere.png", make_png(1)]
    with server.client() as client:
        answers = client.explain_many(images)
        assert next(answers).image_size == (24, 32)
        with pytest.raises(InvalidRequest):
            next(answers)
        with pytest.raises(UnreadableImage):
            next(answers)
        assert next(answers).image_size == (24, 32)
        with pytest.raises(StopIteration):
            next(answers)
    assert server.streams == 1


async def test_an_async_raised_error_lets_the_next_call_go_on_too(server):
    async with server.async_client() as client:
        answers = client.explain_many([make_png(0), None, make_png(1)])
        assert await anext(answers)
        with pytest.raises(UnsupportedImage):
            await anext(answers)
        assert await anext(answers)
        with pytest.raises(StopAsyncIteration):
            await anext(answers)


def test_what_the_images_iterable_raises_comes_after_the_answers_before_it(many, server):
    got = []

    def images():
        yield from images_of(5)
        raise RuntimeError("the disk is gone")

    def run():
        got.extend(many(server, images(), on_error="return"))

    with pytest.raises(RuntimeError, match="the disk is gone"):
        run()
    assert len(server.requests) == 5
    assert eventually(lambda: server.open_streams == 0)


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


# --- broken streams -------------------------------------------------------------


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


# --- deadlines ------------------------------------------------------------------


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


class Clock:
    """A monotonic clock that can be put forward; stands in for the module `time`."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def put_forward(self, seconds: float) -> None:
        self._ahead += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("textcam_client._streaming.sync.time", clock)
    monkeypatch.setattr("textcam_client._streaming.aio.time", clock)
    monkeypatch.setattr("textcam_client._streaming.run.time", clock)
    return clock


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


def test_a_slow_caller_does_not_make_others_expire(server, slow_caller):
    with server.client(timeout=20.0) as client:
        answers = client.explain_many(images_of(4), concurrency=3, on_error="return")
        slow_caller(next(answers))
        assert widths(answers) == [21, 22, 23]


async def test_a_slow_async_caller_does_not_make_others_expire(server, slow_caller):
    async with server.async_client(timeout=20.0) as client:
        answers = client.explain_many(images_of(4), concurrency=3, on_error="return")
        slow_caller(await anext(answers))
        assert widths([answer async for answer in answers]) == [21, 22, 23]


# --- leaving early --------------------------------------------------------------


def client_threads() -> set[threading.Thread]:
    """Threads that are not the server's."""
    return {t for t in threading.enumerate() if not t.name.startswith("textcam-fake")}


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


async def test_leaving_early_cancels_the_async_stream_and_leaves_no_task(server):
    server.latency = lambda request: 0.0 if is_first(request) else 30.0
    async with server.async_client() as client:
        await client.models()
        before = asyncio.all_tasks()
        async with client.explain_many(images_of(20)) as answers:
            assert (await anext(answers)).image_size == (10, 20)
        assert await asyncio.to_thread(eventually, lambda: server.open_streams == 0)
        assert asyncio.all_tasks() <= before


async def test_a_cancelled_task_cancels_its_stream(server):
    server.latency = 30.0

    async def run():
        async with server.async_client() as client:
            return [answer async for answer in client.explain_many(images_of(20))]

    task = asyncio.create_task(run())
    assert await asyncio.to_thread(eventually, lambda: server.open_streams == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(eventually, lambda: server.open_streams == 0)


async def test_a_cancellation_that_comes_with_an_answer_is_obeyed():
    """asyncio.wait_for swallows it on Python 3.10 and 3.11."""
    calls = []

    class Call:
        """A call whose answer comes when the test says so."""

        def __init__(self):
            self.answered = asyncio.Event()
            calls.append(self)

        def add_done_callback(self, _):
            pass

        def cancel(self):
            pass

        async def __aiter__(self):
            await self.answered.wait()
            # What awaits the answer is awake, and so is to run, when the cancellation comes.
            asyncio.get_running_loop().call_soon(waiting.cancel)
            yield "answer"
            await asyncio.Event().wait()

    stream = AsyncStream(lambda _: Call(), Peer(""), asyncio.Event())
    waiting = asyncio.create_task(stream.receive(30.0))
    await asyncio.sleep(0)
    calls[0].answered.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await stream.receive(0.0) == "answer"
    await stream.close()


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


async def test_closing_the_async_client_ends_a_run_with_an_error(server):
    server.latency = 0.01
    client = server.async_client()
    answers = client.explain_many(images_of(50), on_error="return")
    await anext(answers)
    await client.close()
    start = time.monotonic()
    with pytest.raises(ClientClosed):
        async for _ in answers:
            pass
    assert time.monotonic() - start < 10


@pytest.fixture(params=["in flight", "between streams"])
def waiting_server(request, server):
    """A server and what says that it has left a run waiting for long."""
    if request.param == "in flight":
        server.latency = 30.0
        return lambda: len(server.requests) == 4
    server.break_stream(after=0)
    return lambda: server.streams == 1 and server.open_streams == 0


SLOW = {"timeout": 600.0, "retry": Retry(initial_backoff=60.0, max_backoff=60.0)}


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


async def test_a_run_whose_wait_was_cancelled_does_not_look_complete(server):
    server.latency = lambda request: 0.0 if is_first(request) else 30.0
    async with server.async_client() as client:
        answers = client.explain_many(images_of(4))
        await anext(answers)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(answers), 0.05)
        for _ in range(2):
            with pytest.raises(Cancelled, match=r"interrupted \(CancelledError\)"):
                await anext(answers)
        await answers.close()


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


# --- arguments ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"concurrency": 0}, ValueError, "at least 1"),
        ({"on_error": "ignore"}, ValueError, "'raise' or 'return'"),
        ({"heatmap": "jet"}, ValueError, "heatmap is one of"),
        ({"timeout": 0}, ValueError, "above 0"),
        ({"target": 1.5}, TypeError, "a target is"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
def test_bad_options_are_refused_at_the_call(server, options, error, words):
    for client in (server.client(), server.async_client()):
        with pytest.raises(error, match=words):
            client.explain_many([], **options)


def test_two_runs_may_share_a_client(server):
    with server.client() as client:
        one, other = client.explain_many(images_of(9)), client.explain_many(images_of(9))
        for ours, theirs in zip(one, other, strict=True):
            assert ours.image_size == theirs.image_size
            assert ours.request_id != theirs.request_id
    assert server.streams == 2

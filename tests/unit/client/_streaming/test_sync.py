"""explain_many, sync and asyncio, against a loopback server."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from client_samples import eventually, make_pixels, make_png
from client_streams import backwards, images_of, is_first, widths
from PIL import Image
from textcam_client import (
    Cancelled,
    InvalidRequest,
    MapsDeclined,
    TopK,
    UnreadableImage,
)


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
            answer.heatmap()


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

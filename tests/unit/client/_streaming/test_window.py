"""The window of a streamed run, without a stream."""

from __future__ import annotations

import weakref

import pytest
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from textcam.v1 import explainer_pb2 as pb
from textcam_client import (
    DeadlineExceeded,
    MalformedResponse,
    Overloaded,
    Retry,
    Unavailable,
    UnsupportedImage,
)
from textcam_client._streaming.window import Window
from textcam_client._transport.peer import Peer
from textcam_client.images import ImageSource

STEADY = Retry(attempts=3, initial_backoff=1.0, multiplier=2.0, max_backoff=100.0)


def filled(count: int, timeout: float = 10.0, retry: Retry = STEADY) -> Window:
    window = Window(count, retry, timeout, "run", Peer(""))
    for _ in range(count):
        window.add(pb.ExplainRequest(encoded=b"x"), ImageSource(b"x"), 0.0)
    return window


def ids(messages) -> list[str]:
    return [message.request.request_id for message in messages]


def good(request_id: str) -> pb.ExplainStreamResponse:
    response = pb.ExplainResponse(request_id=request_id)
    return pb.ExplainStreamResponse(request_id=request_id, response=response)


def bad(request_id: str, code: int) -> pb.ExplainStreamResponse:
    return pb.ExplainStreamResponse(request_id=request_id, error=status_pb2.Status(code=code))


def later(request_id: str, seconds: float, code: int = 8) -> pb.ExplainStreamResponse:
    """A refusal that says when to come back."""
    delay = Duration()
    delay.FromNanoseconds(round(seconds * 1e9))
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    error = status_pb2.Status(code=code, message="come back later", details=[detail])
    return pb.ExplainStreamResponse(request_id=request_id, error=error)


def test_items_leave_in_the_order_they_came_whatever_the_order_of_answers():
    window = filled(3)
    assert ids(window.launch(0.0)) == ["run-0", "run-1", "run-2"]
    for name in ("run-2", "run-0"):
        window.receive(good(name), 1.0)
    assert window.pop().request_id == "run-0"
    assert not window.head_done
    window.receive(good("run-1"), 1.0)
    assert [window.pop().request_id for _ in range(2)] == ["run-1", "run-2"]
    assert len(window) == 0


def test_a_full_window_has_room_again_when_its_head_has_left():
    window = filled(2)
    assert not window.has_room
    window.launch(0.0)
    window.receive(good("run-1"), 0.0)
    assert not window.has_room
    window.receive(good("run-0"), 0.0)
    window.pop()
    assert window.has_room


def test_nothing_is_sent_twice_and_unknown_answers_are_passed_over():
    window = filled(1)
    window.launch(0.0)
    assert window.launch(5.0) == []
    window.receive(good("run-9"), 0.0)
    assert not window.head_done


def test_a_broken_stream_sends_the_unanswered_again_under_new_ids_after_a_backoff():
    window = filled(2)
    window.launch(0.0)
    window.receive(good("run-0"), 0.0)
    window.broken(Unavailable("gone"), 1.0)
    assert 0.5 <= window.seconds_to_next(1.0) <= 1.0
    assert window.launch(1.4) == []
    assert ids(window.launch(2.0)) == ["run-1.2"]


def test_each_item_fails_for_itself_when_its_attempts_are_spent():
    window = filled(2, timeout=100)
    for attempt in range(3):
        now = 10.0 * attempt
        window.launch(now)
        window.broken(Unavailable("gone"), now)
    errors = [window.pop(), window.pop()]
    assert [error.request_id for error in errors] == ["run-0.3", "run-1.3"]
    assert errors[0] is not errors[1]


def test_a_stream_whose_server_drains_is_left_once_all_that_it_took_is_answered():
    window = filled(3)
    first, second, _ = ids(window.launch(0.0))
    window.receive(bad(first, 14), 1.0)
    window.add(pb.ExplainRequest(encoded=b"x"), ImageSource(b"x"), 1.0)
    assert window.launch(1.0) == []
    assert not window.leaves_stream(1.0)
    window.receive(good(second), 1.5)
    window.receive(bad("run-2", 14), 1.5)
    assert window.leaves_stream(1.5)
    assert not window.leaves_stream(1.5)
    assert ids(window.launch(5.0)) == ["run-0.2", "run-2.2", "run-3"]


def test_a_retry_that_would_come_after_the_deadline_is_not_waited_for():
    window = filled(1, timeout=2.0)
    window.launch(0.0)
    window.broken(Unavailable("gone"), 1.9)
    assert isinstance(window.pop(), Unavailable)


def test_a_hint_holds_the_whole_window_back_and_half_as_much_is_sent_after_it():
    window = Window(8, Retry(), 100.0, "run", Peer(""))
    for _ in range(7):
        window.add(pb.ExplainRequest(), ImageSource(b""), 0.0)
    for name in ids(window.launch(0.0))[1:]:
        window.receive(later(name, 2.0), 1.0)
    window.add(pb.ExplainRequest(), ImageSource(b""), 1.0)
    assert window.launch(2.99) == []
    assert 2.0 <= window.seconds_to_next(1.0) <= 3.5
    # run-0 is in flight still, and four may be.
    assert ids(window.launch(5.0)) == ["run-1.2", "run-2.2", "run-3.2"]
    window.receive(good("run-0"), 5.0)
    assert ids(window.launch(5.0)) == ["run-4.2"]


@pytest.mark.parametrize("code", [8, 14])
def test_items_that_are_told_to_come_back_do_so_until_their_deadline(code):
    window = filled(2, timeout=100.0, retry=Retry())
    now = 0.0
    while not window.head_done:
        for name in ids(window.launch(now)):
            window.receive(later(name, 1.0, code), now)
        window.leaves_stream(now)
        assert now < 100
        now += max(window.seconds_to_next(now), 0.01)
    assert now > 97
    assert window.pop().retry_after == 1.0


def test_a_hint_past_an_items_deadline_ends_it_and_holds_no_other_back():
    window = filled(2, timeout=10.0, retry=Retry())
    first, _ = ids(window.launch(0.0))
    window.receive(later(first, 100.0), 1.0)
    assert window.pop().retry_after == 100.0
    window.add(pb.ExplainRequest(), ImageSource(b""), 1.0)
    assert ids(window.launch(1.0)) == ["run-2"]


def test_windows_that_were_refused_together_do_not_come_back_together():
    times = set()
    for _ in range(20):
        window = filled(1, timeout=100.0, retry=Retry())
        window.launch(0.0)
        window.receive(later("run-0", 1.0), 0.0)
        times.add(window.seconds_to_next(0.0))
    assert max(times) - min(times) > 0.1


def test_what_is_answered_quickens_a_slowed_window_up_to_its_capacity():
    window = filled(4, timeout=1000.0, retry=Retry())
    for name in ids(window.launch(0.0)):
        window.receive(later(name, 1.0), 0.0)
    sent = []
    for step in range(60):
        now = 10.0 + step
        launched = ids(window.launch(now))
        sent.append(len(launched))
        for name in launched:
            window.receive(good(name), now)
        while window.head_done:
            window.pop()
        while window.has_room:
            window.add(pb.ExplainRequest(), ImageSource(b""), now)
    assert sent[0] == 2
    assert sent[-1] == 4
    assert sent == sorted(sent)


def test_a_server_that_never_answered_is_given_up_soon_and_one_that_did_is_waited_for():
    peer = Peer("")
    for has_responded, patience in ((False, 4), (True, 50)):
        peer.has_responded = has_responded
        window = Window(1, Retry(), 1000.0, "run", peer)
        window.add(pb.ExplainRequest(), ImageSource(b""), 0.0)
        for attempt in range(patience):
            assert not window.head_done, attempt
            assert window.launch(10.0 * attempt)
            window.broken(Unavailable("nobody"), 10.0 * attempt)
        assert window.head_done is not has_responded


def staggered(count: int, retry: Retry = STEADY) -> Window:
    """Items that were sent at once; each has a second longer than the one before it, from 10 on."""
    window = Window(count, retry, 10.0, "run", Peer(""))
    for number in range(count):
        window.add(pb.ExplainRequest(encoded=b"x"), ImageSource(b"x"), float(number))
    window.launch(float(count))
    return window


def test_one_expired_item_fails_and_the_others_stay_on_the_stream():
    window = staggered(4)
    assert window.seconds_to_next(5.0) == 5.0
    window.expire(9.9)
    assert not window.head_done
    window.expire(10.0)
    assert isinstance(window.pop(), DeadlineExceeded)
    assert not window.leaves_stream(10.0)
    assert window.launch(10.0) == []
    for name in ("run-1", "run-2", "run-3"):
        window.receive(good(name), 10.5)
        assert window.pop().request_id == name


def test_an_item_that_was_given_up_takes_room_until_the_server_answers_it():
    window = staggered(4)
    window.expire(10.0)
    window.pop()
    window.add(pb.ExplainRequest(), ImageSource(b""), 10.0)
    assert window.launch(10.0) == []
    window.receive(good("run-0"), 10.5)
    assert ids(window.launch(10.5)) == ["run-4"]


def test_the_time_of_others_is_not_the_items():
    window = filled(1)
    window.launch(0.0)
    window.receive(later("run-0", 1.0), 50.0)
    assert window.head_done

    window = filled(1)
    window.launch(0.0)
    window.postpone(50.0)
    window.receive(later("run-0", 1.0), 50.0)
    assert ids(window.launch(52.0)) == ["run-0.2"]
    window.expire(59.9)
    assert not window.head_done
    window.expire(60.0)
    assert window.head_done


def test_a_stream_with_nothing_but_given_up_items_is_left():
    window = staggered(2)
    window.receive(good("run-1"), 5.0)
    window.expire(10.0)
    window.pop()
    window.pop()
    window.add(pb.ExplainRequest(), ImageSource(b""), 10.0)
    assert window.leaves_stream(10.0)
    assert not window.leaves_stream(10.0)
    assert ids(window.launch(10.0)) == ["run-2"]


def test_a_stream_that_given_up_items_fill_is_left_and_the_others_recalled_at_no_cost():
    window = staggered(4, Retry(attempts=1))
    window.expire(11.0)
    assert not window.leaves_stream(11.0)
    window.expire(12.0)
    assert window.leaves_stream(12.0)
    assert [isinstance(window.pop(), DeadlineExceeded) for _ in range(3)] == [True] * 3
    assert ids(window.launch(12.0)) == ["run-3.2"]
    window.receive(good("run-3.2"), 12.5)
    assert window.pop().request_id == "run-3.2"


def test_a_given_up_item_may_be_what_broke_the_stream_by_its_size():
    window = staggered(2, Retry(attempts=1))
    window.expire(10.0)
    window.broken(Overloaded("message too large"), 10.5)
    assert ids(window.launch(10.5)) == ["run-1.2"]


def test_what_expires_while_it_waits_for_a_retry_leaves_the_stream_alone():
    window = filled(1, timeout=2.0)
    window.launch(0.0)
    window.receive(bad("run-0", 14), 0.5)
    assert window.leaves_stream(0.5)
    window.expire(2.0)
    assert isinstance(window.pop(), DeadlineExceeded)
    assert not window.leaves_stream(2.0)


def test_a_stream_that_breaks_by_size_is_searched_for_the_item_at_fault():
    window = filled(3, retry=Retry(attempts=1))
    window.launch(0.0)
    window.broken(Overloaded("message too large"), 0.0)
    assert ids(window.launch(0.0)) == ["run-0.2"]
    assert window.launch(0.0) == []
    assert window.seconds_to_next(0.0) == 10.0
    window.receive(good("run-0.2"), 0.0)
    assert ids(window.launch(0.0)) == ["run-1.2"]
    window.broken(Overloaded("message too large"), 0.0)
    assert ids(window.launch(0.0)) == ["run-2.2"]
    window.receive(good("run-2.2"), 0.0)
    outcomes = [window.pop() for _ in range(3)]
    assert [isinstance(outcome, Overloaded) for outcome in outcomes] == [False, True, False]


def test_an_item_that_cannot_be_sent_holds_its_place():
    window = Window(3, STEADY, 10.0, "run", Peer(""))
    window.add(pb.ExplainRequest(), ImageSource(b""), 0.0)
    window.add_failed(UnsupportedImage("no image"))
    assert ids(window.launch(0.0)) == ["run-0"]
    window.receive(good("run-0"), 0.0)
    window.pop()
    assert isinstance(window.pop(), UnsupportedImage)


def test_an_answer_without_response_or_error_is_an_error():
    window = filled(1, retry=Retry(attempts=1))
    window.launch(0.0)
    window.receive(pb.ExplainStreamResponse(request_id="run-0"), 0.0)
    assert isinstance(window.pop(), MalformedResponse)


def test_a_window_without_capacity_is_refused():
    with pytest.raises(ValueError, match="concurrency is at least 1"):
        Window(0, STEADY, 1.0, "run", Peer(""))


def test_an_image_that_failed_is_let_go_while_it_waits_for_those_before_it():
    window = Window(2, Retry(attempts=1), 10.0, "run", Peer(""))
    window.add(pb.ExplainRequest(), ImageSource(b""), 0.0)
    source = ImageSource(b"")
    gone = weakref.ref(source)
    window.add(pb.ExplainRequest(), source, 0.0)
    del source
    window.launch(0.0)
    assert gone() is not None
    window.receive(bad("run-1", 3), 0.0)
    assert gone() is None

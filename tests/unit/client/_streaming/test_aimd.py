"""The limit of items in flight grows slowly and is halved by rejections."""

from __future__ import annotations

import pytest
from textcam_client._streaming.aimd import AimdLimiter


def test_a_round_of_rejections_halves_the_limit_once():
    limiter = AimdLimiter(8)
    limiter.decrease(1.0, launched=0.0, now=10.0)
    limiter.decrease(1.0, launched=9.0, now=11.0)  # sent before the first decrease
    assert limiter.room(0, 20.0) == 4
    limiter.decrease(1.0, launched=15.0, now=21.0)
    assert limiter.room(0, 30.0) == 2


def test_a_round_of_responses_allows_one_item_more_up_to_the_capacity():
    limiter = AimdLimiter(4)
    limiter.decrease(0.0, launched=0.0, now=0.0)
    assert limiter.room(0, 1.0) == 2
    for _ in range(3):
        limiter.increase()
    assert limiter.room(0, 1.0) == 3
    for _ in range(100):
        limiter.increase()
    assert limiter.room(1, 1.0) == 3


@pytest.mark.parametrize("hint", [0.0, 2.0])
def test_nothing_is_sent_during_a_pause_of_the_hint_and_up_to_half_more(hint):
    limiter = AimdLimiter(8)
    wait = limiter.decrease(hint, launched=0.0, now=5.0)
    shortest = max(hint, 0.02)
    assert shortest <= wait <= 1.5 * shortest
    assert limiter.room(0, 5.0 + 0.99 * shortest) == 0
    assert limiter.room(0, 5.0 + wait) == 4

"""Token buckets of callers."""

import pytest
from textcam_service.errors import RateLimited
from textcam_service.serving.auth.authentication import EVERYTHING, Principal
from textcam_service.serving.auth.rate_limits import RateLimiter


def caller(name="a", rate=2.0, burst=4):
    return Principal(name, EVERYTHING, EVERYTHING, rate, burst)


@pytest.fixture
def rates():
    now = [100.0]
    made = RateLimiter(lambda: now[0])

    def charge(seconds, count, **who):
        now[0] += seconds
        made.charge(caller(**who), count)

    return charge


def wait_of(refused):
    return refused.value.retry_after_s


def test_a_burst_passes_and_then_the_rate(rates):
    """2 per second, 4 at once."""
    for _ in range(4):
        rates(0, 1)
    with pytest.raises(RateLimited) as refused:
        rates(0.25, 1)
    assert wait_of(refused) == pytest.approx(0.25)
    rates(0.25, 1)
    with pytest.raises(RateLimited):
        rates(0.1, 1)


def test_a_pause_saves_up_no_more_than_the_burst(rates):
    rates(0, 4)
    rates(1000, 4)
    with pytest.raises(RateLimited):
        rates(0, 1)


def test_a_batch_beyond_the_burst_passes_when_the_bucket_is_full_and_is_waited_for(rates):
    rates(0, 10)
    with pytest.raises(RateLimited) as refused:
        rates(0, 1)
    # 6 in debt: 1 more is there after (6 + 1) / 2 seconds.
    assert wait_of(refused) == pytest.approx(3.5)
    rates(3.5, 1)


def test_one_callers_rate_is_not_anothers_and_0_is_none(rates):
    rates(0, 4, name="a")
    rates(0, 4, name="b")
    rates(0, 1000, name="c", rate=0.0)
    rates(0, 1000, name="c", rate=0.0)
    with pytest.raises(RateLimited):
        rates(0, 1, name="a")


def test_callers_are_remembered_up_to_a_number():
    made = RateLimiter(lambda: 0.0)
    for number in range(20_000):
        made.charge(caller(str(number)), 1)
    assert len(made._levels) == 10_000
    assert "19999" in made._levels

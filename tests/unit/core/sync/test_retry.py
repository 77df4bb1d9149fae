"""When to retry: waits double, a breaker opens, one trial decides."""

import pytest

from epochal._core.sync.retry import Breaker
from epochal.jobs import Circuit, RetryPolicy


def test_waits_double_up_to_a_cap():
    breaker = Breaker(RetryPolicy(first_s=1.0, most_s=5.0, after=10, rest_s=60.0))
    assert [breaker.record_failure() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_success_forgets_the_failures():
    breaker = Breaker(RetryPolicy(first_s=1.0, most_s=5.0, after=3))
    breaker.record_failure(), breaker.record_failure()
    breaker.record_success()
    assert breaker.record_failure() == 1.0
    assert breaker.failures == 1


def test_an_open_breaker_rests_and_lets_one_trial_through():
    breaker = Breaker(RetryPolicy(first_s=1.0, after=2, rest_s=30.0))
    assert breaker.record_failure() == 1.0
    assert breaker.record_failure() == 30.0
    assert breaker.state is Circuit.OPEN
    breaker.begin()
    assert breaker.state is Circuit.HALF_OPEN
    assert breaker.record_failure() == 30.0
    assert breaker.state is Circuit.OPEN
    breaker.begin()
    breaker.record_success()
    assert breaker.state is Circuit.CLOSED


def test_a_thousand_failures_overflow_nothing():
    breaker = Breaker(RetryPolicy(first_s=1.0, most_s=5.0, after=5000))
    assert {breaker.record_failure() for _ in range(2000)} == {1.0, 2.0, 4.0, 5.0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_s": -1.0},
        {"after": 0},
        {"first_s": 9.0, "most_s": 1.0},
        {"rest_s": float("nan")},
        {"most_s": float("nan")},
    ],
)
def test_an_impossible_policy_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        RetryPolicy(**wrong)


def test_a_cancelled_trial_is_still_to_come():
    breaker = Breaker(RetryPolicy(after=1))
    breaker.record_failure()
    breaker.begin()
    breaker.cancel()
    assert breaker.state is Circuit.OPEN
    breaker.record_success()
    breaker.cancel()
    assert breaker.state is Circuit.CLOSED

"""When to try again: pauses double, a breaker opens, one trial decides."""

import pytest

from epochal.jobs import Circuit, RetryPolicy
from epochal.jobs.retry import Breaker


def test_pauses_double_up_to_a_cap():
    breaker = Breaker(RetryPolicy(first_s=1.0, most_s=5.0, after=10, rest_s=60.0))
    assert [breaker.failed() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_success_forgets():
    breaker = Breaker(RetryPolicy(first_s=1.0, most_s=5.0, after=3))
    breaker.failed(), breaker.failed()
    breaker.succeeded()
    assert breaker.failed() == 1.0
    assert breaker.failures == 1


def test_it_opens_rests_and_lets_one_trial_through():
    breaker = Breaker(RetryPolicy(first_s=1.0, after=2, rest_s=30.0))
    assert breaker.failed() == 1.0
    assert breaker.failed() == 30.0
    assert breaker.state is Circuit.OPEN
    breaker.begin()
    assert breaker.state is Circuit.HALF_OPEN
    assert breaker.failed() == 30.0
    assert breaker.state is Circuit.OPEN
    breaker.begin()
    breaker.succeeded()
    assert breaker.state is Circuit.CLOSED


def test_a_thousand_failures_overflow_nothing():
    breaker = Breaker(RetryPolicy(first_s=1.0, most_s=5.0, after=5000))
    assert {breaker.failed() for _ in range(2000)} == {1.0, 2.0, 4.0, 5.0}


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
def test_impossible_patience_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        RetryPolicy(**wrong)


def test_a_trial_that_did_not_come_about_is_still_to_be_made():
    breaker = Breaker(RetryPolicy(after=1))
    breaker.failed()
    breaker.begin()
    breaker.gave_up()
    assert breaker.state is Circuit.OPEN
    breaker.succeeded()
    breaker.gave_up()
    assert breaker.state is Circuit.CLOSED

"""When a connection is left alone, for how long, and that one call finds out whether it is well again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.breaker import COOLDOWN_MAX_S, COOLDOWN_S, IN_A_ROW, PROBE_S, WINDOW_S, Breaker

WAITS = st.none() | st.floats(0, 10_000)
STEPS = st.lists(
    st.tuples(st.floats(0, 40), st.sampled_from(["ask", "succeeded", "failed"]), WAITS), min_size=1, max_size=120
)


def opened(at: float = 0.0, retry_after_s: float | None = None) -> Breaker:
    breaker = Breaker()
    for _ in range(IN_A_ROW):
        breaker.failed(at, retry_after_s)
    return breaker


def test_it_opens_after_five_failures_in_a_row_and_not_before() -> None:
    breaker = Breaker()
    for _ in range(IN_A_ROW - 1):
        breaker.failed(0.0)
    assert breaker.allows(0.0)
    breaker.failed(0.0)
    assert not breaker.allows(0.0)
    assert breaker.retry_in(0.0) == COOLDOWN_S


def test_a_success_begins_the_row_anew() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(IN_A_ROW - 1):
            breaker.failed(0.0)
        for _ in range(2 * IN_A_ROW):
            breaker.succeeded(0.0)
    assert breaker.state == "closed"


@pytest.mark.parametrize(("calls", "opens"), [(18, False), (20, True)])
def test_it_opens_when_half_of_twenty_calls_fail(calls: int, opens: bool) -> None:
    breaker = Breaker()
    for number in range(calls):
        (breaker.failed if number % 2 else breaker.succeeded)(0.0)
    assert (breaker.state == "open") == opens


def test_less_than_half_is_borne() -> None:
    breaker = Breaker()
    for number in range(300):
        (breaker.failed if number % 5 in (1, 3) else breaker.succeeded)(number / 100)
    assert breaker.state == "closed"


def test_what_failed_longer_ago_than_the_window_counts_no_more() -> None:
    breaker = Breaker()
    for number in range(18):
        (breaker.failed if number % 2 else breaker.succeeded)(0.0)
    breaker.succeeded(WINDOW_S)
    breaker.failed(WINDOW_S)
    assert breaker.state == "closed"
    breaker = Breaker()
    for number in range(18):
        (breaker.failed if number % 2 else breaker.succeeded)(0.0)
    breaker.succeeded(WINDOW_S - 1)
    breaker.failed(WINDOW_S - 1)
    assert breaker.state == "open"


def test_after_the_cooldown_one_call_goes_through_and_decides() -> None:
    breaker = opened()
    assert not breaker.allows(COOLDOWN_S - 0.1)
    assert breaker.allows(COOLDOWN_S)
    assert not breaker.allows(COOLDOWN_S)
    breaker.succeeded(COOLDOWN_S + 1)
    assert (breaker.state, breaker.retry_in(COOLDOWN_S + 1)) == ("closed", 0.0)
    assert breaker.allows(COOLDOWN_S + 1) and breaker.allows(COOLDOWN_S + 1)


def test_each_failed_probe_doubles_the_cooldown_up_to_five_minutes_and_a_success_ends_that() -> None:
    breaker, now, cooldowns = opened(), 0.0, []
    for _ in range(7):
        cooldowns.append(breaker.retry_in(now))
        now += breaker.retry_in(now)
        assert breaker.allows(now)
        breaker.failed(now)
    assert cooldowns == [10.0, 20.0, 40.0, 80.0, 160.0, COOLDOWN_MAX_S, COOLDOWN_MAX_S]
    now += breaker.retry_in(now)
    assert breaker.allows(now)
    breaker.succeeded(now)
    for _ in range(IN_A_ROW):
        breaker.failed(now)
    assert breaker.retry_in(now) == COOLDOWN_S


def test_a_probe_that_says_nothing_more_is_followed_by_another() -> None:
    breaker = opened()
    assert breaker.allows(COOLDOWN_S)
    assert not breaker.allows(COOLDOWN_S + PROBE_S - 1)
    assert breaker.allows(COOLDOWN_S + PROBE_S)


def test_a_success_of_a_call_that_began_before_does_not_close_it() -> None:
    breaker = opened()
    breaker.succeeded(1.0)
    assert not breaker.allows(1.0)


@pytest.mark.parametrize(
    ("asked_for", "left_alone"), [(3.0, COOLDOWN_S), (45.0, 45.0), (86_400.0, COOLDOWN_MAX_S), (None, COOLDOWN_S)]
)
def test_it_is_left_alone_for_as_long_as_the_provider_asks_for(asked_for: float | None, left_alone: float) -> None:
    assert opened(7.0, asked_for).retry_in(7.0) == left_alone
    breaker = opened(7.0)
    breaker.failed(7.0, asked_for)  # of a call that was under way when it opened
    assert breaker.retry_in(7.0) == left_alone


def test_the_longest_cooldown_is_never_told_as_a_hair_more() -> None:
    assert opened(212.7277101136214, COOLDOWN_MAX_S).retry_in(212.7277101136214) == COOLDOWN_MAX_S


def test_one_refusal_that_asks_for_time_opens_nothing_for_the_other_models_of_the_connection() -> None:
    breaker = Breaker()
    breaker.failed(0.0, 60.0)
    assert breaker.allows(0.0)


@given(STEPS)
def test_it_never_stays_shut_for_longer_than_the_longest_cooldown_nor_opens_without_a_failure(
    steps: list[tuple[float, str, float | None]],
) -> None:
    breaker, now = Breaker(), 0.0
    for pause, step, retry_after_s in steps:
        now += pause
        before = breaker.state
        if step == "ask":
            wait = breaker.retry_in(now)
            assert breaker.allows(now) == (wait == 0.0)
            if before != "closed" and wait == 0.0:
                assert not breaker.allows(now), "one probe at a time"
        elif step == "succeeded":
            breaker.succeeded(now)
            assert breaker.state == ("open" if before == "open" else "closed")
        else:
            breaker.failed(now, retry_after_s)
            if before == "half-open":
                assert breaker.state == "open"
        assert 0.0 <= breaker.retry_in(now) <= COOLDOWN_MAX_S
        if before == "closed" and step != "failed":
            assert breaker.state == "closed"
    assert breaker.allows(now + COOLDOWN_MAX_S)


def test_what_it_remembers_of_many_calls_is_little() -> None:
    breaker = Breaker()
    for number in range(50_000):
        breaker.succeeded(number / 500)
    assert len(breaker._seconds) <= WINDOW_S + 1

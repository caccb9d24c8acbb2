"""Limits per minute: never more than the maximum in any sixty seconds, and no longer a wait than that asks for."""

from copy import deepcopy
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.cast import NOON, ORGANIZATION, SOMEBODY
from tollhouse.core.rate import Rate, Rates, RateTake, rate_id
from tollhouse.core.refusals import LimitExceeded

MINUTE = timedelta(seconds=60)
RATE_ID = rate_id(SOMEBODY, "", None)
gaps = st.integers(0, 45_000_000) | st.integers(58_000_000, 62_000_000)  # microseconds
maxima = st.integers(1, 6)


def take(maximum: int, rate: UUID = RATE_ID, **about: str) -> RateTake:
    return RateTake(rate, SOMEBODY, maximum, "organization", **about)


def passes(rates: Rates, now: datetime, maximum: int) -> bool:
    """Whether a request passes; if so it is counted."""
    try:
        rates.check([take(maximum)], now)
    except LimitExceeded:
        return False
    rates.count([take(maximum)], now)
    return True


def refusal(rates: Rates, now: datetime, *takes: RateTake) -> LimitExceeded:
    """The refusal, after checking that it changed nothing."""
    before = deepcopy(rates)
    with pytest.raises(LimitExceeded) as refused:
        rates.check(takes, now)
    assert rates == before
    return refused.value


def most_in_a_minute(moments: list[datetime]) -> int:
    """The most that lie in any sixty seconds, of moments in their order."""
    return max((sum(one <= other < one + MINUTE for other in moments) for one in moments), default=0)


@given(maxima, st.lists(gaps, max_size=60))
def test_no_sixty_seconds_see_more_than_the_maximum(maximum: int, between: list[int]) -> None:
    rates, now = Rates(), NOON
    passed: list[datetime] = []
    for gap in between:
        now += timedelta(microseconds=gap)
        if passes(rates, now, maximum):
            passed.append(now)
    assert most_in_a_minute(passed) <= maximum


@given(maxima, st.lists(gaps, max_size=60))
def test_nobody_is_refused_who_has_the_maximum_neither_in_sixty_one_seconds(maximum: int, between: list[int]) -> None:
    """The second in which a request began counts whole: that is the price of remembering no moments."""
    rates, now = Rates(), NOON
    passed: list[datetime] = []
    for gap in between:
        now += timedelta(microseconds=gap)
        recent = sum(now - one < MINUTE + timedelta(seconds=1) for one in passed)
        admitted = passes(rates, now, maximum)
        assert admitted or recent >= maximum
        if admitted:
            passed.append(now)


@given(maxima, st.lists(gaps, min_size=1, max_size=40), st.integers(0, 10_000_000))
def test_a_refused_request_passes_at_the_moment_that_it_was_told_and_not_before(
    maximum: int, between: list[int], early: int
) -> None:
    rates, now = Rates(), NOON
    for gap in between:
        now += timedelta(microseconds=gap)
        if passes(rates, now, maximum):
            continue
        told = refusal(rates, now, take(maximum))
        assert told.resets_at is not None and told.retry_after_s is not None
        assert now < told.resets_at <= now + timedelta(seconds=61)
        before = max(now, told.resets_at - timedelta(microseconds=1 + early))
        assert not passes(deepcopy(rates), before, maximum)
        assert passes(deepcopy(rates), told.resets_at, maximum)
        assert 1 <= told.retry_after_s <= 60
        if told.retry_after_s < 60:
            assert passes(deepcopy(rates), now + timedelta(seconds=told.retry_after_s), maximum)


@given(maxima, st.lists(st.tuples(st.integers(0, 20), st.integers(0, 40)), max_size=60))
def test_a_clock_that_steps_back_lets_no_more_through(maximum: int, steps: list[tuple[int, int]]) -> None:
    """Real time goes on, by which sixty seconds are counted here; the clock lags behind it ever more."""
    rates, now, lag = Rates(), NOON, timedelta()
    passed: list[datetime] = []
    for gap, back in steps:
        now += timedelta(seconds=gap)
        lag += timedelta(seconds=back)
        if passes(rates, now - lag, maximum):
            passed.append(now)
    assert most_in_a_minute(passed) <= maximum
    for rate in rates.by_id.values():
        kept = [second for second, _ in rate.seconds]
        assert kept == sorted(set(kept))


def test_a_boundary_of_the_clocks_minute_is_no_way_around_it() -> None:
    rates, late = Rates(), NOON + timedelta(seconds=59)
    assert [passes(rates, late, 3) for _ in range(4)] == [True, True, True, False]
    assert not passes(rates, NOON + timedelta(seconds=61), 3)
    assert not passes(rates, late + timedelta(seconds=60), 3)
    assert passes(rates, late + timedelta(seconds=61), 3)


def test_what_is_older_than_a_minute_is_forgotten() -> None:
    rate = Rate(SOMEBODY)
    for second in range(500):
        rate.count(NOON + timedelta(seconds=second))
        assert len(rate.seconds) <= 61
    assert rate.used(NOON + timedelta(seconds=499)) == 61
    assert rate.used(NOON + timedelta(seconds=600)) == 0


def test_a_refusal_names_the_limit_and_a_short_wait() -> None:
    rates = Rates()
    rates.count([take(1)], NOON)
    told = refusal(rates, NOON + timedelta(seconds=20), take(1, capability="drawing"))
    free_at = NOON + timedelta(seconds=61)
    assert told.details() == {
        "scope": "organization",
        "meter": "requests",
        "period": "minute",
        "limit": 1,
        "used": 1,
        "remaining": 0,
        "resets_at": free_at,
        "capability": "drawing",
    }
    assert (told.code, told.status, told.retry_after_s, told.should_retry) == ("rate_limit_exceeded", 429, 41, True)
    assert [(hint.kind, hint.at) for hint in told.hints()] == [("wait", free_at), ("upgrade", None)]


def test_a_maximum_of_nothing_is_refused_for_good() -> None:
    told = refusal(Rates(), NOON, take(0, model_id="small"))
    assert (told.resets_at, told.retry_after_s, told.should_retry) == (None, None, False)
    assert told.details()["model_id"] == "small"
    assert [hint.kind for hint in told.hints()] == ["upgrade"]


def test_of_several_rates_the_first_that_is_full_is_the_reason_and_none_is_counted() -> None:
    rates, other = Rates(), rate_id(SOMEBODY, "drawing", None)
    rates.count([take(1)], NOON)
    assert refusal(rates, NOON, take(9, other), take(1)).limit == 1
    assert rates.changed == {RATE_ID}
    assert other not in rates.by_id


def test_whatever_a_rate_is_about_makes_it_another_one() -> None:
    rates, rule = Rates(), UUID(int=9)
    ids = {rate_id(SOMEBODY, "", None), rate_id(SOMEBODY, "drawing", None), rate_id(SOMEBODY, "", rule)}
    ids.add(rate_id(ORGANIZATION, "", None))
    assert len(ids) == 4
    rates.count([take(1)], NOON)
    rates.check([take(1, rate_id(SOMEBODY, "", rule))], NOON)


@given(st.lists(st.integers(0, 59), min_size=2, max_size=12), st.data())
def test_after_a_limit_was_lowered_a_request_passes_at_the_moment_that_it_was_told_and_not_before(
    seconds: list[int], data: st.DataObject
) -> None:
    rates, now = Rates(), NOON + timedelta(seconds=59)
    for second in sorted(seconds):
        rates.count([take(99)], NOON + timedelta(seconds=second))
    lowered = data.draw(st.integers(1, len(seconds)))
    told = refusal(rates, now, take(lowered))
    assert told.resets_at is not None
    assert not passes(deepcopy(rates), told.resets_at - timedelta(microseconds=1), lowered)
    assert passes(rates, told.resets_at, lowered)


def test_a_request_is_never_held_it_was_made() -> None:
    rates = Rates()
    rates.count([take(1)], NOON)
    assert refusal(rates, NOON, take(1)).reserved == 0


def test_where_nothing_was_asked_for_within_the_minute_the_next_request_passes_now() -> None:
    rate = Rate(SOMEBODY)
    assert rate.free_at(NOON, 1) == NOON
    rate.count(NOON)
    assert rate.free_at(NOON + timedelta(seconds=61), 1) == NOON + timedelta(seconds=61)


def test_a_rate_that_was_written_by_an_earlier_version_is_found_again() -> None:
    assert rate_id(ORGANIZATION, "drawing", None) == UUID("18687ebb-cb3c-e383-9dae-cd2870d8c5ce")
    assert rate_id(ORGANIZATION, "", UUID(int=40)) == UUID("b8561958-199d-476f-ab0a-8ca2a0e7b97f")


def test_a_second_is_kept_once_however_many_ask_in_it_and_when_the_clock_steps_back() -> None:
    rate, start = Rate(SOMEBODY), int(NOON.timestamp())
    for second in (0, 0, 5, 5, 5, 3, 5, 6):
        rate.count(NOON + timedelta(seconds=second))
    assert rate.seconds == [(start, 2), (start + 5, 5), (start + 6, 1)]


@pytest.mark.parametrize(
    ("milliseconds", "wait"), [(1, 60), (1_000, 60), (1_001, 60), (59_000, 2), (60_000, 1), (60_999, 1)]
)
def test_the_wait_is_told_in_whole_seconds_rounded_up_and_never_above_a_minute(milliseconds: int, wait: int) -> None:
    rates = Rates()
    rates.count([take(1)], NOON)
    assert refusal(rates, NOON + timedelta(milliseconds=milliseconds), take(1)).retry_after_s == wait

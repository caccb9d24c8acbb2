"""Limits: a counter keeps what is used and what is reserved apart, and is never passed by a reservation."""

from copy import deepcopy
from datetime import datetime, timedelta
from typing import get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.cast import NOON, ORGANIZATION, SOMEBODY, moments
from tollhouse.core.period import Kind, start_of
from tollhouse.core.quota import Counter, Meter, Take, Windows, counter
from tollhouse.core.refusals import LimitExceeded, QuotaExceeded

kinds = st.sampled_from(get_args(Kind))


def take(meter: Meter, amount: int | None, maximum: int | None, kind: Kind = "day", model_id: str = "") -> Take:
    about = counter(SOMEBODY, meter, kind, NOON, model_id)
    return Take(about, amount, maximum, "user")


@given(kinds, moments, moments)
def test_two_moments_share_a_window_exactly_when_they_share_its_start(kind: Kind, one: datetime, two: datetime) -> None:
    same = counter(SOMEBODY, "messages", kind, one).window_id == counter(SOMEBODY, "messages", kind, two).window_id
    assert same == (start_of(kind, one) == start_of(kind, two))


def test_whatever_a_counter_is_about_makes_it_another_window() -> None:
    counters = [
        counter(SOMEBODY, "messages", "day", NOON),
        counter(UUID(int=9), "messages", "day", NOON),
        counter(SOMEBODY, "tokens", "day", NOON),
        counter(SOMEBODY, "messages", "month", NOON),
        counter(SOMEBODY, "messages", "day", NOON + timedelta(days=1)),
        counter(SOMEBODY, "messages", "day", NOON, "small"),
        counter(SOMEBODY, "messages", "day", NOON, "", "small"),
        counter(SOMEBODY, "messages", "day", NOON, "", "", UUID(int=40)),
        counter(SOMEBODY, "messages", "day", NOON, "", "", UUID(int=41)),
        counter(SOMEBODY, "messages", "day", NOON, "small", "", UUID(int=40)),
    ]
    assert len({one.window_id for one in counters}) == len(counters)
    assert counter(SOMEBODY, "messages", "day", NOON) == Counter(SOMEBODY, "messages", "day", start_of("day", NOON))


@given(st.integers(0, 40), st.lists(st.integers(0, 9), max_size=30))
def test_a_window_is_filled_up_to_its_limit_and_never_past_it(maximum: int, amounts: list[int]) -> None:
    windows, total = Windows(), 0
    for amount in amounts:
        wanted = [take("messages", amount, maximum)]
        if total + amount <= maximum:
            windows.check(wanted, 0, 0)
            windows.reserve(wanted, 0, 0)
            total += amount
        else:
            with pytest.raises(LimitExceeded) as refused:
                windows.check(wanted, 0, 0)
            assert refused.value.remaining == maximum - total
    assert sum(window.reserved for window in windows.by_id.values()) == total


def test_a_check_that_fails_changes_no_window() -> None:
    windows = Windows()
    windows.reserve([take("messages", 3, 5)], 0, 0)
    before = deepcopy(windows)
    with pytest.raises(LimitExceeded):
        windows.check([take("messages", 1, 5), take("tokens", 6, 5)], 0, 0)
    assert windows == before


def test_what_is_used_and_what_is_reserved_both_count() -> None:
    windows, message = Windows(), take("messages", 1, 3)
    for _ in range(3):
        windows.reserve([message], 0, 0)
    windows.settle(message.counter.window_id, 1, 1)
    with pytest.raises(LimitExceeded) as refused:
        windows.check([message], 0, 0)
    assert (refused.value.used, refused.value.reserved, refused.value.remaining) == (1, 2, 0)
    windows.settle(message.counter.window_id, 1, 0)
    windows.check([message], 0, 0)


def test_what_was_used_counts_even_when_it_is_more_than_the_limit() -> None:
    windows, tokens = Windows(), take("tokens", 10, 10)
    windows.reserve([tokens], 0, 0)
    windows.settle(tokens.counter.window_id, 10, 25)
    window = windows.by_id[tokens.counter.window_id]
    assert (window.used, window.reserved) == (25, 0)
    with pytest.raises(QuotaExceeded) as refused:
        windows.check([take("tokens", 0, 10)], 0, 0)
    assert refused.value.remaining == 0


def test_a_counter_without_a_limit_counts_and_never_refuses() -> None:
    windows, message = Windows(), take("messages", 10**15, None)
    windows.check([message], 0, 0)
    windows.reserve([message], 0, 0)
    windows.check([message], 0, 0)
    assert windows.by_id[message.counter.window_id].reserved == 10**15


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 9))
def test_tokens_are_taken_as_many_as_the_call_has_and_the_rest_as_it_says(
    maximum: int, tokens: int, messages: int
) -> None:
    windows, of_tokens, of_messages = Windows(), take("tokens", None, maximum), take("messages", messages, None)
    if tokens > maximum:
        with pytest.raises(QuotaExceeded):
            windows.check([of_messages, of_tokens], tokens, 0)
        return
    windows.check([of_messages, of_tokens], tokens, 0)
    windows.reserve([of_messages, of_tokens], tokens, 0)
    found = {one.counter.meter: one.reserved for one in windows.by_id.values() if one.counter is not None}
    assert found == {"messages": messages, "tokens": tokens}


def test_a_refusal_names_the_limit_what_is_left_and_when_it_resets() -> None:
    windows, message = Windows(), take("messages", 1, 2, "day", "small")
    windows.reserve([message, message], 0, 0)
    with pytest.raises(LimitExceeded) as refused:
        windows.check([message], 0, 0)
    midnight = start_of("day", NOON) + timedelta(days=1)
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.details() == {
        "scope": "user",
        "meter": "messages",
        "period": "day",
        "limit": 2,
        "used": 0,
        "remaining": 0,
        "resets_at": midnight,
        "model_id": "small",
    }
    assert [(hint.kind, hint.at) for hint in refused.value.hints()] == [("wait", midnight), ("upgrade", None)]
    assert "it resets at 2026-03-11 00:00 UTC" in str(refused.value)


def test_tokens_have_a_code_of_their_own_and_a_lifetime_has_no_reset() -> None:
    windows, tokens = Windows(), take("tokens", 3, 2, "lifetime")
    with pytest.raises(QuotaExceeded) as refused:
        windows.check([tokens], 0, 0)
    assert refused.value.code == "quota_exceeded"
    assert refused.value.details()["resets_at"] is None
    assert "model_id" not in refused.value.details()
    assert [hint.kind for hint in refused.value.hints()] == ["upgrade"]
    assert "resets" not in str(refused.value)


def test_a_minutes_limit_invites_a_retry_and_a_longer_one_forbids_it() -> None:
    windows = Windows()
    cases: list[tuple[Kind, int | None, bool]] = [("minute", 60, True), ("day", None, False), ("lifetime", None, False)]
    for kind, wait, invited in cases:
        with pytest.raises(QuotaExceeded) as refused:
            windows.check([take("tokens", 3, 2, kind)], 0, 0)
        assert (refused.value.retry_after_s, refused.value.should_retry) == (wait, invited)


def test_a_refusal_names_the_capability_that_it_is_about() -> None:
    about = counter(ORGANIZATION, "requests", "day", NOON, capability="drawing")
    with pytest.raises(LimitExceeded) as refused:
        Windows().check([Take(about, 1, 0, "organization")], 0, 0)
    assert (refused.value.details()["capability"], refused.value.code) == ("drawing", "rate_limit_exceeded")
    assert "limit of 0 requests of 'drawing' per day for this organization" in str(refused.value)


def test_only_windows_that_changed_are_written() -> None:
    windows = Windows()
    one, two = take("messages", 1, 5), take("tokens", 1, 5)
    windows.reserve([one, two], 0, 0)
    assert windows.changed == {one.counter.window_id, two.counter.window_id}
    windows.changed.clear()
    windows.check([one, two], 0, 0)
    assert windows.changed == set()
    windows.settle(one.counter.window_id, 1, 1)
    assert windows.changed == {one.counter.window_id}


@pytest.mark.parametrize(
    ("about", "window_id"),
    [
        (counter(SOMEBODY, "messages", "day", NOON, "small"), "01ae35a8-4154-ce24-c992-95e8025be50a"),
        (counter(ORGANIZATION, "tokens", "month", NOON), "0118ac34-8015-2532-f840-26fa0ff8747d"),
        (counter(ORGANIZATION, "requests", "day", NOON, "", "drawing"), "b28019c2-edd6-f36e-242c-27e6fc10ab9b"),
        (
            counter(ORGANIZATION, "messages", "week", NOON, limit_id=UUID(int=40)),
            "deeea997-3e85-08d2-c4de-4ab4a82652a8",
        ),
    ],
    ids=["model", "all", "capability", "rule"],
)
def test_a_window_that_was_written_by_an_earlier_version_is_found_again(about: Counter, window_id: str) -> None:
    assert about.window_id == UUID(window_id)


def test_a_window_of_credits_takes_what_the_call_reserves_of_them_and_one_of_tokens_its_tokens() -> None:
    windows, of_credits, of_tokens = Windows(), take("credits", None, 50), take("tokens", None, 50)
    windows.check([of_credits, of_tokens], 40, 50)
    windows.reserve([of_credits, of_tokens], 40, 50)
    assert [windows.by_id[one.counter.window_id].reserved for one in (of_credits, of_tokens)] == [50, 40]
    with pytest.raises(LimitExceeded) as refused:
        windows.check([of_credits], 0, 1)
    assert (type(refused.value), refused.value.meter, refused.value.remaining) == (LimitExceeded, "credits", 0)
    windows.settle(of_credits.counter.window_id, 50, 20)
    windows.check([of_credits], 0, 30)


def test_the_room_for_credits_is_that_of_the_tightest_limit_and_may_be_below_zero() -> None:
    windows = Windows()
    wide, tight, counting = take("credits", None, 100), take("credits", None, 30, "month"), take("credits", None, None)
    assert windows.room([take("tokens", None, 5), counting], "credits") is None
    assert windows.room([wide, tight], "credits") == 30
    windows.reserve([tight], 0, 20)
    assert windows.room([wide, tight], "credits") == 10
    windows.settle(tight.counter.window_id, 20, 45)
    assert windows.room([wide, tight], "credits") == -15

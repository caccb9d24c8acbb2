"""Limits: a counter keeps what is used and what is reserved apart, and is never passed by a reservation."""

from copy import deepcopy
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.cast import NOON, ORGANIZATION, SOMEBODY, moments
from tollhouse.core.errors import LimitExceeded, QuotaExceeded
from tollhouse.core.period import Kind, start_of
from tollhouse.core.quota import Counter, Meter, Take, Windows, counter

kinds = st.sampled_from(["day", "week", "month", "lifetime"])


def take(meter: Meter, amount: int, maximum: int | None, kind: Kind = "day", model_id: str = "") -> Take:
    about = counter(SOMEBODY, meter, kind, NOON, model_id)
    return Take(about, about.window_id, amount, maximum, "user")


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
    ]
    assert len({one.window_id for one in counters}) == len(counters)
    assert counter(SOMEBODY, "messages", "day", NOON) == Counter(SOMEBODY, "messages", "day", start_of("day", NOON))


@given(st.integers(0, 40), st.lists(st.integers(0, 9), max_size=30))
def test_a_window_is_filled_up_to_its_limit_and_never_past_it(maximum: int, amounts: list[int]) -> None:
    windows, total = Windows(), 0
    for amount in amounts:
        wanted = [take("messages", amount, maximum)]
        if total + amount <= maximum:
            windows.check(ORGANIZATION, wanted)
            windows.reserve(ORGANIZATION, wanted)
            total += amount
        else:
            with pytest.raises(LimitExceeded) as refused:
                windows.check(ORGANIZATION, wanted)
            assert refused.value.remaining == maximum - total
    assert sum(window.reserved for window in windows.by_id.values()) == total


def test_a_check_that_fails_changes_no_window() -> None:
    windows = Windows()
    windows.reserve(ORGANIZATION, [take("messages", 3, 5)])
    before = deepcopy(windows)
    with pytest.raises(LimitExceeded):
        windows.check(ORGANIZATION, [take("messages", 1, 5), take("tokens", 6, 5)])
    assert windows == before


def test_what_is_used_and_what_is_reserved_both_count() -> None:
    windows, message = Windows(), take("messages", 1, 3)
    for _ in range(3):
        windows.reserve(ORGANIZATION, [message])
    windows.settle(ORGANIZATION, message.window_id, 1, 1)
    with pytest.raises(LimitExceeded) as refused:
        windows.check(ORGANIZATION, [message])
    assert (refused.value.used, refused.value.reserved, refused.value.remaining) == (1, 2, 0)
    windows.settle(ORGANIZATION, message.window_id, 1, 0)
    windows.check(ORGANIZATION, [message])


def test_what_was_used_counts_even_when_it_is_more_than_the_limit() -> None:
    windows, tokens = Windows(), take("tokens", 10, 10)
    windows.reserve(ORGANIZATION, [tokens])
    windows.settle(ORGANIZATION, tokens.window_id, 10, 25)
    window = windows.by_id[ORGANIZATION, tokens.window_id]
    assert (window.used, window.reserved) == (25, 0)
    with pytest.raises(QuotaExceeded) as refused:
        windows.check(ORGANIZATION, [take("tokens", 0, 10)])
    assert refused.value.remaining == 0


def test_a_counter_without_a_limit_counts_and_never_refuses() -> None:
    windows, message = Windows(), take("messages", 10**15, None)
    windows.check(ORGANIZATION, [message])
    windows.reserve(ORGANIZATION, [message])
    windows.check(ORGANIZATION, [message])
    assert windows.by_id[ORGANIZATION, message.window_id].reserved == 10**15


def test_organisations_do_not_share_a_window() -> None:
    windows, message = Windows(), take("messages", 1, 1)
    windows.reserve(ORGANIZATION, [message])
    windows.check(UUID(int=99), [message])


def test_a_refusal_names_the_limit_what_is_left_and_when_it_resets() -> None:
    windows, message = Windows(), take("messages", 1, 2, "day", "small")
    windows.reserve(ORGANIZATION, [message, message])
    with pytest.raises(LimitExceeded) as refused:
        windows.check(ORGANIZATION, [message])
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
        windows.check(ORGANIZATION, [tokens])
    assert refused.value.code == "quota_exceeded"
    assert refused.value.details()["resets_at"] is None
    assert "model_id" not in refused.value.details()
    assert [hint.kind for hint in refused.value.hints()] == ["upgrade"]
    assert "resets" not in str(refused.value)


def test_only_windows_that_changed_are_written() -> None:
    windows = Windows()
    one, two = take("messages", 1, 5), take("tokens", 1, 5)
    windows.reserve(ORGANIZATION, [one, two])
    assert windows.changed == {(ORGANIZATION, one.window_id), (ORGANIZATION, two.window_id)}
    windows.changed.clear()
    windows.check(ORGANIZATION, [one, two])
    assert windows.changed == set()
    windows.settle(ORGANIZATION, one.window_id, 1, 1)
    assert windows.changed == {(ORGANIZATION, one.window_id)}

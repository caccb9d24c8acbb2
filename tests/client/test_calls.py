"""What is sent, and what is refused before anything is."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.client import AsyncClient, Client, Usage, calls
from tollhouse.client.calls import Charge, Wanted, read_charge, read_credits
from tollhouse.client.settings import BASE_URL, read_settings
from tollhouse.core.money import format_credits, parse_credits


def body(call: calls.Call[Any]) -> Any:
    assert call.body is not None
    return json.loads(call.body)


def reserve(capability: str | None = None, key: str | None = "k1", **wanted: Any) -> calls.Call[Any]:
    return calls.reserve(capability, key, cast(Wanted, wanted))


@given(st.integers(0, 10**16))
def test_any_credits_arrive_to_the_last_micro(micros: int) -> None:
    for value in (Decimal(micros).scaleb(-6), Decimal(micros).scaleb(-6).normalize(), format_credits(micros)):
        sent = body(calls.settle("r1", read_charge(value, None)))["credits"]
        assert sent == format_credits(micros)
        assert parse_credits(sent) == micros


@pytest.mark.parametrize("value", [0.1, True, b"1", [1]])
def test_credits_that_are_not_exact_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="credits are exact"):
        read_credits(value)


@pytest.mark.parametrize("value", ["", "two", "1,5", "NaN", "-1", Decimal("Infinity"), -1])
def test_credits_that_are_no_amount_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="credits are a"):
        read_credits(value)


def test_credits_finer_than_a_micro_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="ROUND_CEILING"):
        read_credits(Decimal(1) / 3)


def test_a_reservation_says_what_it_is_for_and_nothing_that_was_not_given() -> None:
    asked = reserve("question_generation", quality="enhanced", user="u_1", metadata={"a": [1, None]}, ttl_seconds=None)
    assert (asked.method, asked.path) == ("POST", "/api/credits/reservations")
    assert asked.headers == {"content-type": "application/json", "idempotency-key": "k1"}
    named = {"capability": "question_generation", "quality": "enhanced", "user": "u_1", "metadata": {"a": [1, None]}}
    assert body(asked) == named
    assert body(reserve(model="gpt-4o", input_tokens=0, ttl_seconds=60)) == {
        "model": "gpt-4o",
        "input_tokens": 0,
        "ttl_seconds": 60,
    }
    assert body(reserve(credits=Decimal("1E+2"))) == {"credits": "100"}


@pytest.mark.parametrize("wanted", [{}, {"credits": 1, "model": "m"}, {"quality": "fast"}])
def test_a_reservation_for_nothing_or_for_two_things_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="in one way"):
        reserve(**wanted)
    with pytest.raises(TypeError, match="in one way"):
        reserve("polish", model="m")


def test_a_misspelt_word_is_refused_by_its_name() -> None:
    with pytest.raises(TypeError, match=r"unknown: qualty\. Known are quality"):
        reserve("polish", qualty="fast")


def test_metadata_that_json_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        reserve("polish", metadata={"x": float("nan")})
    with pytest.raises(TypeError):
        reserve("polish", metadata={"x": object()})


def test_each_reservation_without_a_key_has_a_key_of_its_own() -> None:
    keys = {reserve("polish", None).headers["idempotency-key"] for _ in range(100)}
    assert len(keys) == 100
    assert len({calls.run("polish", {}, None, None, None).headers["idempotency-key"] for _ in range(100)}) == 100


@pytest.mark.parametrize("key", ["", "a\nb", "ä", "x" * 256])
def test_a_key_that_no_header_carries_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="idempotency_key"):
        reserve("polish", key)


def test_usage_leaves_out_what_is_not_known_and_keeps_an_explicit_zero() -> None:
    charge = read_charge(None, Usage(7, 0, cached_input_tokens=0))
    assert body(calls.settle("r1", charge)) == {
        "usage": {"input_tokens": 7, "output_tokens": 0, "cached_input_tokens": 0}
    }


@pytest.mark.parametrize("figures", [(1, 2.0), ("1", 2), (True, 2), (None, 2)])
def test_usage_takes_whole_numbers(figures: tuple[Any, Any]) -> None:
    with pytest.raises(TypeError, match="whole number"):
        Usage(*figures)


def test_usage_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="output_tokens is below 0"):
        Usage(1, -1)


def test_usage_whose_parts_are_more_than_the_whole_is_refused() -> None:
    for parts in ({"cached_input_tokens": 2}, {"reasoning_tokens": 2}):
        with pytest.raises(ValueError, match="and cannot be more"):
            Usage(1, 1, **parts)


@pytest.mark.parametrize("given_both", [(None, None), (1, Usage(1, 1))])
def test_a_charge_is_said_in_one_way(given_both: Any) -> None:
    with pytest.raises(TypeError, match="one of the two"):
        read_charge(*given_both)
    with pytest.raises(TypeError, match=r"tollhouse\.client\.Usage"):
        read_charge(None, {"input_tokens": 1})  # type: ignore[arg-type]


def test_a_charge_shows_itself_as_it_is_written_in_a_call() -> None:
    assert str(Charge(credits=Decimal("1E+1"))) == "credits='10'"
    assert str(Charge(usage=Usage(1, 2))) == (
        "usage=Usage(input_tokens=1, output_tokens=2, cached_input_tokens=None, reasoning_tokens=None)"
    )


def test_an_id_stays_inside_its_part_of_the_path() -> None:
    assert calls.reservation("../x?y#z").path == "/api/credits/reservations/..%2Fx%3Fy%23z"
    assert calls.reservation(UUID(int=1)).path.endswith("/00000000-0000-0000-0000-000000000001")
    for nothing in ("", ".", ".."):
        with pytest.raises(ValueError, match="is no id"):
            calls.reservation(nothing)
        with pytest.raises(ValueError, match="is no id"):
            calls.run(nothing, {}, None, None, None)


def test_the_ledger_is_asked_for_by_aware_times() -> None:
    since = datetime(2026, 1, 31, 12, tzinfo=UTC)
    path = calls.transactions("expiry", since, None, 5, None).path
    assert path == "/api/credits/transactions?type=expiry&from=2026-01-31T12%3A00%3A00%2B00%3A00&limit=5"
    with pytest.raises(ValueError, match="no time zone"):
        calls.transactions(None, None, since.replace(tzinfo=None), None, None)


# ------------------------------------------------------------------------------------------------------------ settings


def settings(environment: dict[str, str], key: str | None = None, url: str | None = None) -> tuple[str, str]:
    found = read_settings(key, url, 1, 1, 1, environment)
    return found.headers["authorization"], found.base_url


def test_the_environment_says_who_calls_and_where_unless_the_caller_does() -> None:
    environment = {"TOLLHOUSE_API_KEY": "th_1", "TOLLHOUSE_URL": "https://credits.example/toll/"}
    assert settings(environment) == ("Bearer th_1", "https://credits.example/toll")
    assert settings(environment, "th_2", "http://[::1]:9") == ("Bearer th_2", "http://[::1]:9")
    assert settings({"TOLLHOUSE_API_KEY": "th_1", "TOLLHOUSE_URL": ""}) == ("Bearer th_1", BASE_URL)


@pytest.mark.parametrize("key", [None, "", "th test", "th_1\n", "schlüssel"])
def test_a_key_that_is_missing_or_broken_is_refused_and_never_shown(key: str | None) -> None:
    with pytest.raises(ValueError, match="API key") as refused:
        settings({}, key)
    assert not key or key not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["localhost:8400", "//host", "ftp://host", "http://", "http://me:secret@host", "http://h?x=1", "http://h#x",
     "http://h:port", "http://["],
)  # fmt: skip
def test_an_address_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="base_url is the address") as refused:
        settings({}, "th_1", url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["timeout", "retry_for", "settle_for"])
def test_a_time_that_is_none_is_refused_by_its_name(name: str) -> None:
    for seconds in (0, -1, float("inf"), float("nan")):
        times: dict[str, Any] = {"timeout": 1, "retry_for": 1, "settle_for": 1, name: seconds}
        with pytest.raises(ValueError, match=name):
            read_settings("th_1", None, **times)


async def test_a_client_does_not_show_its_key() -> None:
    with Client("th_secret") as client:
        assert repr(client) == "Client('http://127.0.0.1:8400')"
    async with AsyncClient("th_secret", "http://h/") as client:
        assert repr(client) == "AsyncClient('http://h')"

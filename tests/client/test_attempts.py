"""What an answer means, and whether a call is sent again."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.client import calls, errors
from tollhouse.client.answers import Hint, Renewal
from tollhouse.client.attempts import LEAST_ATTEMPT_S, Done, Lost, Reply, Wait, attempt_s, judge
from tollhouse.client.calls import Call, Charge, Wanted
from tollhouse.client.errors import FieldError, TollhouseError, Unavailable
from tollhouse.client.settings import Patience

BALANCE = calls.balance()
RESERVE = calls.reserve("polish", None, Wanted())
SETTLE = calls.settle("r1", Charge(credits=Decimal(1)))
RELEASE = calls.release("r1", "no use")
RENEW = calls.renew("r1", 60)
RUN = calls.run("polish", {}, None, None, None)
PATIENT = Patience(10.0, 60.0)
LOST = Lost(httpx.ReadError("reset"))


def reply(status: int, code: str | None = "some_code", headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
    """An answer; with code None it is not Tollhouse's."""
    problem = {"status": status, "detail": "It is so.", "code": code, "request_id": "r-1", "errors": []}
    body = b"<html>" if code is None else msgspec.json.encode(problem | more)
    return Reply(status, headers or {}, body)


def after(call: Call[Any], outcome: Reply | Lost, tries: int = 1, elapsed_s: float = 0, chance: float = 0) -> Any:
    return judge(call, outcome, tries, elapsed_s, PATIENT, chance)


def error_of(answer: Reply) -> TollhouseError:
    with pytest.raises(TollhouseError) as raised:
        judge(BALANCE, answer, 1, 0, Patience(1, None), 0)
    return raised.value


REPEATED = {
    "balance": (BALANCE, {502, 503, 504}),
    "reserve": (RESERVE, {502, 503, 504}),
    "settle": (SETTLE, {500, 502, 503, 504}),
    "release": (RELEASE, {500, 502, 503, 504}),
    "renew": (RENEW, {500, 502, 503, 504}),
    "run": (RUN, {503}),
}


@pytest.mark.parametrize("name", REPEATED)
def test_a_call_is_repeated_after_what_may_pass_and_after_nothing_else(name: str) -> None:
    call, repeated = REPEATED[name]
    for status in (300, 301, 307, 400, 401, 402, 403, 404, 408, 409, 413, 415, 422, 425, 429, 500, 501, 502, 503, 504):
        for code in ("some_code", None):
            if status in repeated:
                assert isinstance(after(call, reply(status, code)), Wait), status
            else:
                with pytest.raises(TollhouseError):
                    after(call, reply(status, code))
    assert isinstance(after(call, LOST), Wait)


@pytest.mark.parametrize("call", [RESERVE, RUN])
def test_a_call_that_still_runs_is_waited_for_and_another_conflict_is_not(call: Call[Any]) -> None:
    assert after(call, reply(409, "conflict", {"retry-after": "1"})) == Wait(1)
    with pytest.raises(errors.Conflict):
        after(call, reply(409, "conflict"))


def test_what_the_server_says_is_in_vain_is_not_repeated() -> None:
    for answer in (reply(503, headers={"x-should-retry": "false"}), reply(503, "model_not_connected")):
        with pytest.raises(Unavailable):
            after(RESERVE, answer)


def test_a_call_of_one_attempt_is_not_repeated() -> None:
    for outcome in (LOST, reply(503)):
        with pytest.raises(Unavailable):
            judge(RENEW, outcome, 1, 0, Patience(1, None), 0)


def test_the_server_may_ask_for_a_longer_wait_but_not_beyond_the_end() -> None:
    full = reply(503, headers={"retry-after": "7"})
    assert after(RESERVE, full) == Wait(7)
    assert after(RESERVE, full, elapsed_s=59) == Wait(1)
    for unread in ("Fri, 31 Dec 1999 23:59:59 GMT", "-1", "1e9", "½", ""):
        assert after(RESERVE, reply(503, headers={"retry-after": unread})).seconds < 1


@given(st.integers(1, 10_000), st.floats(0, 59), st.floats(0, 1, exclude_max=True))
def test_a_wait_grows_to_a_limit_and_never_passes_the_end(tries: int, elapsed_s: float, chance: float) -> None:
    wait = after(SETTLE, LOST, tries, elapsed_s, chance).seconds
    assert 0 < wait <= min(5, 0.1 * 2 ** min(tries - 1, 10), 60 - elapsed_s)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1, exclude_max=True)), min_size=1),
    st.sampled_from([LOST, reply(503), reply(503, headers={"retry-after": "100"})]),
    st.sampled_from([SETTLE, RUN]),
)
def test_all_attempts_together_end_in_time(
    course: list[tuple[float, float]], outcome: Reply | Lost, call: Call[Any]
) -> None:
    """However long each attempt takes of what it may, and however the waits fall."""
    elapsed_s, tries = 0.0, 0
    while True:
        share, chance = course[tries % len(course)]
        took = attempt_s(call, PATIENT, elapsed_s)
        assert took >= LEAST_ATTEMPT_S
        elapsed_s += took * share
        tries += 1
        try:
            step = judge(call, outcome, tries, elapsed_s, PATIENT, chance)
        except Unavailable:
            break
        assert isinstance(step, Wait)
        elapsed_s += step.seconds
    assert 60 <= elapsed_s <= 60 + LEAST_ATTEMPT_S + 1e-6


def test_an_ordinary_attempt_is_short_and_that_of_a_run_has_all_the_time() -> None:
    assert (attempt_s(SETTLE, PATIENT, 0), attempt_s(SETTLE, PATIENT, 55)) == (10, 5)
    assert (attempt_s(RUN, PATIENT, 0), attempt_s(RUN, PATIENT, 55)) == (60, 5)
    assert attempt_s(RENEW, Patience(10, None), 1000) == 10


# ------------------------------------------------------------------------------------------------------------- answers


def test_an_answer_is_exact_aware_and_passes_over_what_it_does_not_know() -> None:
    body = b'{"id":"r1","expires_at":"2026-01-31T12:00:00Z","later":{"a":[1]}}'
    assert after(RENEW, Reply(200, {}, body)) == Done(Renewal("r1", datetime(2026, 1, 31, 12, tzinfo=UTC)))
    settled = b'{"id":"r1","status":"settled","charged":"0.1","variance":"-0.9","balance":"12.345678"}'
    found = after(SETTLE, Reply(200, {}, settled)).answer
    assert (found.charged, found.variance, found.balance) == (Decimal("0.1"), Decimal("-0.9"), Decimal("12.345678"))
    assert (found.late, found.replayed) == (False, False)
    assert after(SETTLE, Reply(200, {"idempotent-replayed": "true"}, settled)).answer.replayed


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"null", b"\xff", b'{"id":"r1"}', b'{"id":"r1","expires_at":"2026-01-31T12:00:00"}',
     b'{"id":1,"expires_at":"2026-01-31T12:00:00Z"}', b"[" * 100_000],
)  # fmt: skip
def test_an_answer_that_is_none_says_so_and_where_to_look(body: bytes) -> None:
    with pytest.raises(errors.UnknownAnswer, match=r"Check base_url") as raised:
        after(RENEW, Reply(200, {"x-request-id": "r-9"}, body))
    assert (raised.value.status, raised.value.request_id, raised.value.code) == (200, "r-9", "unknown_answer")
    assert len(str(raised.value)) < 1000


def test_a_redirect_is_not_followed_but_told() -> None:
    error = error_of(Reply(308, {"location": "https://elsewhere/"}, b""))
    assert isinstance(error, errors.UnknownAnswer)
    assert "https://elsewhere/" in str(error)


KINDS = [
    (400, "invalid_request", errors.BadRequest),
    (401, "invalid_api_key", errors.Unauthenticated),
    (402, "insufficient_credits", errors.InsufficientCredits),
    (402, "trial_expired", errors.TollhouseError),
    (403, "capability_denied", errors.CapabilityDenied),
    (403, "model_locked", errors.Forbidden),
    (404, "not_found", errors.NotFound),
    (409, "conflict", errors.Conflict),
    (413, "invalid_request", errors.BadRequest),
    (422, "idempotency_mismatch", errors.BadRequest),
    (429, "rate_limit_exceeded", errors.LimitReached),
    (429, "quota_exceeded", errors.LimitReached),
    (500, "internal_error", errors.TollhouseError),
    (503, "overloaded", errors.Unavailable),
    (429, "provider_error", errors.ProviderFailed),
    (502, "provider_broke", errors.ProviderFailed),
    (502, "invalid_answer", errors.ProviderFailed),
]


@pytest.mark.parametrize(("status", "code", "kind"), KINDS)
def test_every_refusal_is_its_kind_of_error(status: int, code: str, kind: type[TollhouseError]) -> None:
    error = error_of(reply(status, code, title="x", type="urn:x"))
    assert type(error) is kind
    assert (error.code, error.status, error.detail, error.request_id) == (code, status, "It is so.", "r-1")
    assert error.details == {}
    assert str(error) == f"It is so. ({code}, request r-1)"


def test_a_refusal_carries_what_the_server_said() -> None:
    figures: dict[str, Any] = {
        "required": "3.5",
        "spendable": "1",
        "reserved": "0.25",
        "resets_at": "2026-02-01T00:00:00Z",
    }
    hints = [{"kind": "top_up"}, {"kind": "wait", "at": "2026-02-01T00:00:00Z", "new": 1}, {"kindly": 1}, 7]
    fields = [{"location": "body", "field": "credits", "message": "is required"}]
    error = error_of(reply(402, "insufficient_credits", hints=hints, errors=fields, **figures))
    assert isinstance(error, errors.InsufficientCredits)
    resets_at = datetime(2026, 2, 1, tzinfo=UTC)
    assert (error.required, error.spendable, error.reserved) == (Decimal("3.5"), Decimal(1), Decimal("0.25"))
    assert error.resets_at == resets_at
    assert error.hints == (Hint("top_up"), Hint("wait", at=resets_at))
    assert error.fields == (FieldError("body", "credits", "is required"),)
    assert error.details == figures


def test_a_limit_says_which_it_is_and_when_it_ends() -> None:
    figures = {"scope": "person", "meter": "requests", "period": "minute", "limit": 5, "used": 4, "remaining": 1}
    error = error_of(reply(429, "rate_limit_exceeded", {"retry-after": "42"}, **figures, resets_at=None))
    assert isinstance(error, errors.LimitReached)
    found = {name: getattr(error, name) for name in figures}
    assert found == figures
    assert (error.retry_after, error.resets_at) == (42.0, None)


def test_an_answer_that_did_not_fit_says_what_it_cost() -> None:
    unfit = error_of(reply(502, "invalid_answer", credits_used="0.5"))
    assert isinstance(unfit, errors.ProviderFailed) and unfit.credits_used == Decimal("0.5")
    failed = error_of(reply(502, "provider_error"))
    assert isinstance(failed, errors.ProviderFailed) and failed.credits_used is None


def test_a_refusal_in_a_shape_that_nobody_promised_is_still_a_refusal() -> None:
    error = error_of(reply(402, "insufficient_credits", hints="none", errors={}, required=[1], resets_at="soon"))
    assert isinstance(error, errors.InsufficientCredits)
    assert (error.hints, error.fields, error.required, error.resets_at, error.spendable) == ((), (), None, None, None)


def test_an_error_page_of_something_between_is_told_from_a_refusal() -> None:
    error = error_of(Reply(502, {"retry-after": "3"}, b"<html>Bad Gateway"))
    assert isinstance(error, Unavailable)
    assert "Bad Gateway" in str(error) and error.retry_after == 3
    assert isinstance(error_of(Reply(404, {}, b"<html>no such page")), errors.UnknownAnswer)
    assert isinstance(error_of(Reply(403, {}, b'{"message":"go away"}')), errors.UnknownAnswer)


def test_no_answer_tells_how_often_and_why() -> None:
    with pytest.raises(Unavailable, match=r"No answer after 3 attempts in 61\.0 s: ReadError: reset") as raised:
        after(SETTLE, LOST, 3, 61)
    assert raised.value.__cause__ is LOST.why
    assert (raised.value.status, raised.value.code) == (None, "no_answer")


def test_every_error_travels_between_processes() -> None:
    """As a job queue's errors do."""
    limited = error_of(reply(429, "rate_limit_exceeded", {"retry-after": "42"}, limit=5, hints=[{"kind": "wait"}]))
    copy = pickle.loads(pickle.dumps(limited))  # noqa: S301
    assert type(copy) is type(limited) and copy.__dict__ == limited.__dict__ and str(copy) == str(limited)
    unsettled = errors.Unsettled("open", reservation_id="r1", credits=Decimal("0.5"), failure=TollhouseError("x"))
    copy = pickle.loads(pickle.dumps(unsettled))  # noqa: S301
    assert (copy.reservation_id, copy.credits, str(copy)) == ("r1", Decimal("0.5"), str(unsettled))

"""Refusals: the code and status of each, what it says beside them, and what would help."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.core.cast import CREDIT, NOON
from tollhouse.core import errors, refusals
from tollhouse.core.errors import Hint, TollhouseError
from tollhouse.core.refusals import LimitExceeded, format_price

LATER = NOON + timedelta(hours=12)
CALL = UUID(int=101)
MODULES = {errors.__name__, refusals.__name__}


def every_kind(kind: type[TollhouseError] = TollhouseError) -> set[type[TollhouseError]]:
    return {kind}.union(*(every_kind(one) for one in kind.__subclasses__() if one.__module__ in MODULES))


def full(kind: type[LimitExceeded] = LimitExceeded, **changes: Any) -> LimitExceeded:
    """Nine of ten messages of the day are used, and the tenth is held."""
    usual: dict[str, Any] = {
        "scope": "user", "meter": "messages", "period": "day", "limit": 10, "used": 9, "reserved": 1, "resets_at": LATER
    }  # fmt: skip
    return kind(**usual | changes)


REFUSALS: list[tuple[TollhouseError, str, int, int | None, bool]] = [
    (errors.Unauthenticated("No."), "invalid_api_key", 401, None, True),
    (errors.Forbidden("No."), "forbidden", 403, None, True),
    (errors.ProofRequired("No."), "proof_required", 403, None, True),
    (errors.BadRequest("No."), "invalid_request", 400, None, True),
    (errors.BadRequest("No.", status=413), "invalid_request", 413, None, True),
    (errors.NotFound("No."), "not_found", 404, None, True),
    (refusals.ModelNotAllowed("large", ("small",)), "model_not_allowed", 403, None, True),
    (errors.Conflict("No."), "conflict", 409, None, True),
    (errors.StillRunning("No."), "conflict", 409, 1, True),
    (errors.Mismatch("No."), "idempotency_mismatch", 422, None, True),
    (errors.Overloaded("No."), "overloaded", 503, 1, True),
    (refusals.ModelNotFound("small"), "model_not_found", 404, None, True),
    (refusals.ModelDisabled("small"), "model_disabled", 403, None, True),
    (refusals.NotConnected("small", "openai"), "model_not_connected", 503, None, True),
    (refusals.CapabilityDenied("drawing", None, "free", None), "capability_denied", 403, None, True),
    (refusals.ModelLocked("large", 299), "model_locked", 403, None, True),
    (refusals.TrialExpired("large", 299, 2), "trial_expired", 402, None, True),
    (refusals.PriceUnknown("small"), "price_unknown", 403, None, True),
    (refusals.InsufficientCredits(2, 1, 0, LATER), "insufficient_credits", 402, None, True),
    (full(), "rate_limit_exceeded", 429, None, False),
    (full(period="minute", retry_after_s=41), "rate_limit_exceeded", 429, 41, True),
    (full(refusals.QuotaExceeded, meter="tokens"), "quota_exceeded", 429, None, False),
    (errors.TooManyTries(41), "too_many_tries", 429, 41, True),
    (errors.Unexpected("No."), "internal_error", 500, None, True),
    (errors.ProviderFailed("No."), "provider_error", 502, None, True),
    (errors.ProviderFailed("No.", 504), "provider_error", 504, None, True),
    (errors.ProviderBroke("No."), "provider_broke", 502, None, True),
    (errors.InvalidAnswer("no title", CALL, "small", 5), "invalid_answer", 502, None, True),
    (errors.Remembered("conflict", 409, "No.", {}, ()), "conflict", 409, None, False),
]


@pytest.mark.parametrize(("refusal", "code", "status", "wait", "retry"), REFUSALS)
def test_a_refusal_has_its_code_and_status_and_says_whether_trying_again_helps(
    refusal: TollhouseError, code: str, status: int, wait: int | None, retry: bool
) -> None:
    assert (refusal.code, refusal.status) == (code, status)
    assert (refusal.retry_after_s, refusal.should_retry) == (wait, retry)


def test_no_kind_of_refusal_is_without_a_code_and_a_status() -> None:
    assert {type(refusal) for refusal, *_ in REFUSALS} == every_kind() - {TollhouseError}


def test_a_request_that_is_wrong_names_the_field_if_there_is_one() -> None:
    assert errors.BadRequest("No.", "user").details() == {"field": "user"}
    assert errors.BadRequest("No.").details() == {}
    assert str(errors.BadRequest("Give less.", "credits")) == "Give less."


def test_the_name_of_a_model_that_is_none_is_repeated_in_part() -> None:
    refusal = refusals.ModelNotFound("m" * 200)
    assert refusal.details() == {"model_id": "m" * 80}
    assert f"'{'m' * 80}'" in str(refusal) and "m" * 81 not in str(refusal)


def test_a_denied_capability_names_the_plan_that_has_it() -> None:
    refusal = refusals.CapabilityDenied("drawing", "premium", "free", "team", 9_900)
    assert str(refusal) == (
        "The plan 'free' does not offer 'drawing' at quality 'premium'. Upgrade to 'team' to use it."
    )
    assert refusal.details() == {"capability": "drawing", "quality": "premium", "plan": "free"}
    assert refusal.hints() == (Hint("upgrade", price_cents=9_900, plan="team"),)


def test_a_capability_that_no_plan_has_promises_no_upgrade() -> None:
    refusal = refusals.CapabilityDenied("drawing", None, "free", None)
    assert str(refusal) == "The plan 'free' does not offer 'drawing'. No plan offers it at the moment."
    assert (refusal.details()["quality"], refusal.hints()) == (None, ())


def test_a_locked_model_without_a_price_names_none() -> None:
    assert "Unlock it, or" in str(refusals.ModelLocked("large", None))
    assert "Unlock it to go on" in str(refusals.TrialExpired("large", None, 2))


@pytest.mark.parametrize(
    ("cents", "text"), [(None, "$0.00"), (0, "$0.00"), (5, "$0.05"), (99, "$0.99"), (100, "$1.00"), (12_345, "$123.45")]
)
def test_a_price_is_written_in_dollars_and_cents(cents: int | None, text: str) -> None:
    assert format_price(cents) == text


@pytest.mark.parametrize(("spendable", "left"), [(5 * CREDIT, "5"), (0, "0"), (-CREDIT, "0")])
def test_what_is_left_of_the_credits_is_never_said_to_be_below_zero(spendable: int, left: str) -> None:
    refusal = refusals.InsufficientCredits(6 * CREDIT, spendable, 0, LATER)
    assert str(refusal) == (f"This call may cost up to 6 credits and {left} are left. Top up, or lower max_tokens.")
    assert refusal.details() == {"required": "6", "spendable": left, "reserved": "0", "resets_at": LATER}
    assert refusal.hints() == (Hint("top_up"), Hint("upgrade"), Hint("wait", at=LATER))


def test_a_full_limit_says_what_is_used_what_is_held_and_when_it_opens() -> None:
    refusal = full()
    assert str(refusal) == (
        "The limit of 10 messages per day for this user is reached (9 used, 1 held by calls still running); "
        "it resets at 2026-03-11 00:00 UTC. Wait for that, or upgrade the plan."
    )
    assert refusal.details() == {
        "scope": "user", "meter": "messages", "period": "day", "limit": 10, "used": 9, "remaining": 0,
        "resets_at": LATER,
    }  # fmt: skip
    assert refusal.hints() == (Hint("wait", at=LATER), Hint("upgrade"))


@pytest.mark.parametrize(("used", "reserved", "remaining"), [(3, 2, 5), (9, 1, 0), (12, 0, 0), (0, 12, 0), (0, 0, 10)])
def test_what_remains_of_a_limit_is_neither_used_nor_held_and_never_below_zero(
    used: int, reserved: int, remaining: int
) -> None:
    assert full(used=used, reserved=reserved).details()["remaining"] == remaining


def test_a_limit_names_the_model_or_the_capability_that_it_is_about() -> None:
    of_model, of_capability = full(model_id="small"), full(capability="drawing")
    assert "10 messages of 'small' per day" in str(of_model) and "10 messages of 'drawing' per day" in str(
        of_capability
    )
    assert of_model.details()["model_id"] == "small" and "capability" not in of_model.details()
    assert of_capability.details()["capability"] == "drawing" and "model_id" not in of_capability.details()


def test_a_limit_that_never_opens_again_does_not_tell_anybody_to_wait_until_then() -> None:
    refusal = full(period="lifetime", resets_at=None)
    assert "resets" not in str(refusal)
    assert refusal.hints() == (Hint("upgrade"),)


def test_an_answer_that_does_not_fit_says_what_it_cost() -> None:
    refusal = errors.InvalidAnswer("title is missing", CALL, "small", 1_500_000)
    assert "'small' does not fit the capability: title is missing." in str(refusal)
    assert "cost 1.5 credits. Try again" in str(refusal)
    assert refusal.details() == {"id": str(CALL), "model_id": "small", "credits_used": "1.5"}


def test_a_provider_that_failed_says_how_in_one_sentence() -> None:
    assert str(errors.ProviderFailed("The provider took too long.", 504)) == "The provider took too long."


def test_a_refusal_that_is_repeated_is_the_one_that_was_given() -> None:
    hint = Hint("wait", at=LATER)
    refusal = errors.Remembered("quota_exceeded", 429, "Too much.", {"limit": 5}, (hint,))
    assert (str(refusal), refusal.details(), refusal.hints()) == ("Too much.", {"limit": 5}, (hint,))


def test_who_says_no_more_has_nothing_to_add() -> None:
    assert (errors.Conflict("No.").details(), errors.Conflict("No.").hints()) == ({}, ())


def test_a_model_that_is_not_the_keys_names_those_that_are() -> None:
    refusal = refusals.ModelNotAllowed("large", ("small", "tiny"))
    assert str(refusal).startswith("This API key is for these models alone: small, tiny. 'large'")
    assert refusal.details() == {"model_id": "large", "models": ["small", "tiny"]}
    assert ": m0, " in (many := str(refusals.ModelNotAllowed("large", tuple(f"m{n}" for n in range(90)))))
    assert "m19, ..." in many and "m20" not in many


def test_a_full_limit_of_credits_speaks_in_credits_and_sells_no_plan() -> None:
    refusal = full(meter="credits", scope="key", period="month", limit=2_500_000, used=2_000_000, reserved=400_000)
    assert str(refusal).startswith("The limit of 2.5 credits per month for this key is reached (2 used, 0.4 held")
    told = refusal.details()
    assert (told["limit"], told["used"], told["remaining"]) == ("2.5", "2", "0.1")
    assert refusal.hints() == (Hint("wait", at=LATER),)

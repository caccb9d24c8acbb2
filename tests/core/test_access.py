"""The decision: what is refused and why, what an admission takes, and that a refusal takes nothing."""

from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.cast import (
    CREDIT,
    DAY,
    NOON,
    ORGANIZATION,
    RATE,
    SOMEBODY,
    account,
    ask,
    catalogue,
    connection,
    facts,
    grant,
    key,
    model,
    plan,
    premium,
    price,
)
from tollhouse.core import errors
from tollhouse.core.access import OUTPUT_TOKENS_MIN, Admission, LimitState, decide, quote_of
from tollhouse.core.ask import Ask, Facts
from tollhouse.core.credit import Account
from tollhouse.core.limits import takes_of
from tollhouse.core.period import end_of, start_of
from tollhouse.core.price import RateCard, Usage
from tollhouse.core.quota import Windows
from tollhouse.core.rate import Rates
from tollhouse.core.routing import Route

SMALL: dict[str, object] = {"model_id": "small"}
USUAL_PRICE = 65_000  # 1,000 tokens of input and 100 of output at the prices of the cast
MIDNIGHT = start_of("day", NOON) + DAY
NEXT_MONTH = datetime(2026, 4, 1, tzinfo=NOON.tzinfo)


def credits_of(micros: int) -> Account:
    return account(grant(1, micros)) if micros else account()


def decided(asked: Ask, given: Facts, books: Account | None = None, windows: Windows | None = None) -> Admission:
    books = credits_of(500 * CREDIT) if books is None else books
    return decide(asked, given, takes_of(asked, given), books, Windows() if windows is None else windows, Rates())


def refused(asked: Ask, given: Facts, books: Account | None = None, windows: Windows | None = None) -> Any:
    """The refusal, after checking that it took nothing."""
    books = credits_of(500 * CREDIT) if books is None else books
    windows = Windows() if windows is None else windows
    before = deepcopy((books.balance, books.grants, books.entries, windows.by_id))
    with pytest.raises(errors.TollhouseError) as refusal:
        decided(asked, given, books, windows)
    assert (books.balance, books.grants, books.entries, windows.by_id) == before
    return refusal.value


def with_models(*models: Any, **changes: Any) -> Facts:
    return facts(catalogue=catalogue(models={one.id: one for one in models}), **changes)


def reserved(windows: Windows) -> dict[tuple[str, str], int]:
    return {(one.counter.meter, one.counter.model_id): one.reserved for one in windows.by_id.values()}


# ----------------------------------------------------------------------------------------------------------- admission


def test_an_admission_takes_credits_messages_and_tokens_in_one_step() -> None:
    books, windows = credits_of(CREDIT), Windows()
    admission = decided(ask(), facts(), books, windows)
    assert admission.hold.amount_micros == books.balance.reserved_micros == USUAL_PRICE
    assert reserved(windows) == {("messages", ""): 1, ("messages", "small"): 1, ("tokens", ""): 1_100}
    assert (admission.terms.output_tokens, admission.weighed.trial, admission.trial_remaining) == (100, None, None)
    assert (admission.messages, admission.tokens) == (None, None)
    assert admission.terms.route == Route("sandbox", None)


@given(st.integers(0, 50_000), st.integers(0, 20_000) | st.none(), st.integers(1, 5), st.integers(0, 3 * CREDIT))
def test_what_is_reserved_is_what_settling_it_would_charge(
    input_tokens: int, output_tokens: int | None, answers: int, micros: int
) -> None:
    asked = ask(input_tokens=input_tokens, output_tokens=output_tokens, answers=answers)
    books, windows = credits_of(micros), Windows()
    try:
        admission = decided(asked, facts(), books, windows)
    except errors.InsufficientCredits as refusal:
        assert refusal.needed_micros > refusal.spendable_micros == micros
        assert windows.by_id == {}
        return
    most = Usage(input_tokens, admission.terms.output_tokens * answers)
    assert admission.hold.amount_micros == admission.terms.quote.charge_micros(most) <= micros
    assert reserved(windows)["tokens", ""] == most.tokens


@given(st.integers(0, 20_000) | st.none(), st.integers(1, 20_000), st.integers(1, 20_000))
def test_without_a_balance_that_cuts_it_the_output_is_what_caller_plan_and_model_allow(
    wanted: int | None, of_plan: int, of_model: int
) -> None:
    given_facts = with_models(model(max_output_tokens=of_model), plan=plan(max_output_tokens=of_plan))
    admission = decided(ask(output_tokens=wanted), given_facts, credits_of(10**6 * CREDIT))
    assert admission.terms.output_tokens == min(of_plan, of_model, of_plan if wanted is None else wanted)


@given(st.integers(0, 20_000), st.integers(0, 2 * CREDIT), st.integers(1, 4))
def test_the_balance_cuts_the_output_but_not_below_what_is_of_use(wanted: int, micros: int, answers: int) -> None:
    asked, books = ask(output_tokens=wanted, answers=answers), credits_of(micros)
    cap = min(wanted, plan().max_output_tokens)
    least = min(cap, OUTPUT_TOKENS_MIN)

    def charge(output: int) -> int:
        return quote_of(asked, "small", facts()).charge_micros(Usage(1_000, output * answers))

    if charge(least) > micros:
        refusal = refused(asked, facts(), books)
        assert refusal.needed_micros == charge(least)
    else:
        output = decided(asked, facts(), books).terms.output_tokens
        assert least <= output <= cap
        assert charge(output) <= micros
        assert output == cap or charge(output + 1) > micros


def test_an_answer_of_256_tokens_is_the_least_that_a_balance_may_cut_to() -> None:
    enough = 50_000 + 256 * 150
    assert decided(ask(output_tokens=8_000), facts(), credits_of(enough)).terms.output_tokens == 256
    assert refused(ask(output_tokens=8_000), facts(), credits_of(enough - 1)).needed_micros == enough
    assert decided(ask(output_tokens=10), facts(), credits_of(51_500)).terms.output_tokens == 10


def test_the_overdraft_may_pay_for_a_call() -> None:
    books = account(grant(1, 10_000), overdraft_limit_micros=55_000)
    assert decided(ask(), facts(), books).hold.overdraft_micros == 55_000


def test_on_a_channel_that_takes_no_credits_nothing_is_needed_and_limits_still_count() -> None:
    windows = Windows()
    admission = decided(ask(channel="chat"), facts(), credits_of(0), windows)
    assert (admission.hold.amount_micros, admission.terms.quote.charged) == (0, False)
    assert reserved(windows)["tokens", ""] == 1_100


def test_the_sandbox_is_asked_by_its_own_count_and_a_provider_by_the_upper_bound() -> None:
    asked = ask(sandbox_tokens=10, output_tokens=0)
    assert decided(asked, facts()).hold.amount_micros == 500
    connected = catalogue(models={"small": model(provider_id="openai")}, connections={"openai": connection()})
    assert decided(asked, facts(catalogue=connected)).hold.amount_micros == 50_000


def test_the_terms_are_those_in_force_at_the_organisations_time() -> None:
    newer = price(version=2, effective_from=NOON + DAY, output_nanos_per_million=0)
    rates = (RateCard(2, NOON + 2 * DAY, 1), RATE)
    known = catalogue(prices={"small": (newer, price())}, rates=rates)
    versions = []
    for days in range(3):
        terms = quote_of(ask(), "small", facts(catalogue=known, now=NOON + days * DAY))
        versions.append((terms.price.version, terms.rate.version))
    assert versions == [(1, 1), (2, 1), (2, 2)]


# -------------------------------------------------------------------------------------------------------------- limits


def test_the_tightest_limits_are_told_as_they_stand_after_the_call() -> None:
    given_facts = with_models(model(daily_messages=5), plan=plan(daily_messages=9, monthly_tokens=10_000))
    windows = Windows()
    decided(ask(), given_facts, windows=windows)
    admission = decided(ask(), given_facts, windows=windows)
    assert admission.messages == LimitState(5, 3, MIDNIGHT)
    assert admission.tokens == LimitState(10_000, 7_800, end_of("month", start_of("month", NOON)))


@pytest.mark.parametrize(
    ("given_facts", "allowed", "refusal"),
    [
        (facts(plan=plan(daily_messages=3)), 3, errors.LimitExceeded),
        (with_models(model(daily_messages=3)), 3, errors.LimitExceeded),
        (facts(plan=plan(monthly_tokens=3_400)), 3, errors.QuotaExceeded),
    ],
    ids=["plan", "model", "tokens"],
)
def test_a_limit_admits_exactly_what_it_says(given_facts: Facts, allowed: int, refusal: type) -> None:
    books, windows = credits_of(500 * CREDIT), Windows()
    for _ in range(allowed):
        decided(ask(), given_facts, books, windows)
    assert type(refused(ask(), given_facts, books, windows)) is refusal


def test_what_is_left_of_a_limit_counts_what_was_used_and_what_is_held() -> None:
    given_facts, windows = facts(plan=plan(daily_messages=9), entitled=False), Windows()
    admission = decided(ask(model_id="large"), given_facts, windows=windows)
    for one in admission.weighed.windows:
        windows.settle(ORGANIZATION, one.window_id, one.amount, one.amount)
    again = decided(ask(model_id="large"), given_facts, windows=windows)
    assert (again.messages, again.trial_remaining) == (LimitState(9, 7, MIDNIGHT), 0)


def test_a_call_that_may_use_more_tokens_than_are_left_is_refused_even_if_a_shorter_one_would_fit() -> None:
    given_facts = facts(plan=plan(monthly_tokens=1_999))
    assert refused(ask(output_tokens=1_000), given_facts).code == "quota_exceeded"
    assert decided(ask(output_tokens=999), given_facts).terms.output_tokens == 999


def test_messages_count_for_each_person_and_tokens_for_the_organisation() -> None:
    given_facts, windows = facts(plan=plan(daily_messages=1, monthly_tokens=2_200)), Windows()
    for somebody in (SOMEBODY, UUID(int=99)):
        decided(ask(subject_id=somebody), given_facts, windows=windows)
    refusal = refused(ask(subject_id=UUID(int=100)), given_facts, windows=windows)
    assert (refusal.scope, refusal.meter, refusal.limit, refusal.reserved) == ("organization", "tokens", 2_200, 2_200)
    assert refused(ask(), given_facts, windows=windows).scope == "user"


def test_a_new_day_has_new_messages() -> None:
    given_facts, windows = facts(plan=plan(daily_messages=1)), Windows()
    decided(ask(), given_facts, windows=windows)
    late = replace(given_facts, now=MIDNIGHT - timedelta(microseconds=1))
    assert refused(ask(), late, windows=windows).resets_at == MIDNIGHT
    decided(ask(), replace(given_facts, now=MIDNIGHT), windows=windows)


def test_counters_without_a_limit_are_kept_so_that_a_limit_set_later_finds_the_truth() -> None:
    windows = Windows()
    decided(ask(), facts(), windows=windows)
    assert refused(ask(), facts(plan=plan(daily_messages=1)), windows=windows).code == "rate_limit_exceeded"


# --------------------------------------------------------------------------------------------------------------- trial


def test_a_premium_model_is_tried_as_often_as_its_trial_says() -> None:
    windows = Windows()
    found = [decided(ask(model_id="large"), facts(), windows=windows) for _ in range(2)]
    assert [(one.weighed.trial is not None, one.trial_remaining) for one in found] == [(True, 1), (True, 0)]
    assert refused(ask(model_id="large"), facts(), windows=windows).code == "trial_expired"
    decided(ask(model_id="large", subject_id=UUID(int=99)), facts(), windows=windows)


def test_whoever_has_unlocked_a_model_needs_no_trial() -> None:
    windows = Windows()
    for _ in range(3):
        admission = decided(ask(model_id="large"), facts(entitled=True), windows=windows)
        assert (admission.weighed.trial, admission.trial_remaining) == (None, None)
    assert ("trial_messages", "large") not in reserved(windows)


def test_a_trial_message_is_charged_like_any_other() -> None:
    books = credits_of(CREDIT)
    assert decided(ask(model_id="large"), facts(), books).hold.amount_micros == USUAL_PRICE


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("asked", "given_facts", "micros", "code", "status", "says", "details", "hints"),
    [
        (ask(), facts(suspended=True), CREDIT, "forbidden", 403, "suspended", {}, []),
        (ask(), facts(key=None), CREDIT, "invalid_api_key", 401, "revoked. Use another", {}, []),
        (ask(), facts(key=key(revoked_at=NOON - DAY)), CREDIT, "invalid_api_key", 401, "revoked", {}, []),
        (ask(), facts(key=key(expires_at=NOON)), CREDIT, "invalid_api_key", 401, "expired at 2026-03-10 12:00", {}, []),
        (ask(needs=frozenset({"act_as"})), facts(), CREDIT, "forbidden", 403, "'act_as'. Use a key", {}, []),
        (ask(model_id="none"), facts(), CREDIT, "model_not_found", 404, "GET /v1/models", {"model_id": "none"}, []),
        (ask(), with_models(model(selectable=False)), CREDIT, "model_not_found", 404, "'small'", SMALL, []),
        (ask(), with_models(model(enabled=False)), CREDIT, "model_disabled", 403, "off", SMALL, []),
        (ask(), facts(catalogue=catalogue(prices={})), CREDIT, "price_unknown", 403, "no price", SMALL, []),
        (ask(), facts(catalogue=catalogue(rates=())), CREDIT, "price_unknown", 403, "no price", SMALL, []),
        (ask(), with_models(model(provider_id="openai"), mode="live", key=key(mode="live")), CREDIT,
         "model_not_connected", 503, "'openai'", SMALL, []),
        (ask(model_id="large"), with_models(premium(trial_messages=0)), CREDIT,
         "model_locked", 403, "for $2.99", {"model_id": "large", "price_cents": 299}, [("unlock", 299, None)]),
        (ask(), facts(plan=plan(monthly_tokens=1_099)), CREDIT, "quota_exceeded", 429, "1099 tokens per month",
         {"scope": "organization", "meter": "tokens", "period": "month", "limit": 1_099, "used": 0, "remaining": 1_099,
          "resets_at": NEXT_MONTH}, [("wait", None, NEXT_MONTH), ("upgrade", None, None)]),
        (ask(), facts(), USUAL_PRICE - 1, "insufficient_credits", 402, "0.065 credits and 0.064999 are left. Top up",
         {"required": "0.065", "spendable": "0.064999", "reserved": "0", "resets_at": NEXT_MONTH},
         [("top_up", None, None), ("upgrade", None, None), ("wait", None, NEXT_MONTH)]),
    ],
    ids=["suspended", "unknown-key", "revoked", "expired", "scope", "no-model", "not-selectable", "disabled",
         "no-price", "no-rate", "not-connected", "locked", "tokens", "credits"],
)  # fmt: skip
def test_a_refusal_says_what_is_wrong_and_what_would_help_and_takes_nothing(
    asked: Ask,
    given_facts: Facts,
    micros: int,
    code: str,
    status: int,
    says: str,
    details: dict[str, object],
    hints: list[tuple[str, int | None, datetime | None]],
) -> None:
    refusal = refused(asked, given_facts, credits_of(micros))
    assert (refusal.code, refusal.status) == (code, status)
    assert says in str(refusal)
    assert refusal.details() == details
    assert [(one.kind, one.price_cents, one.at) for one in refusal.hints()] == hints


def test_a_used_up_trial_says_what_unlocking_costs() -> None:
    windows = Windows()
    for _ in range(2):
        decided(ask(model_id="large"), facts(), windows=windows)
    refusal = refused(ask(model_id="large"), facts(), windows=windows)
    assert (refusal.code, refusal.status) == ("trial_expired", 402)
    assert str(refusal) == "All 2 trial messages of 'large' are used. Unlock it for $2.99 to go on with it."
    assert refusal.details() == {"model_id": "large", "price_cents": 299, "trial_messages": 2}
    assert [(one.kind, one.price_cents) for one in refusal.hints()] == [("unlock", 299)]


def test_a_call_that_others_hold_the_credits_for_is_told_so() -> None:
    books = credits_of(USUAL_PRICE)
    decided(ask(), facts(), books)
    refusal = refused(ask(), facts(), books)
    assert refusal.details()["reserved"] == "0.065"
    assert "and 0 are left; 0.065 more are held by calls still running" in str(refusal)


def test_debt_is_shown_as_nothing_left() -> None:
    books = credits_of(0)
    books.settle_late(UUID(int=5), 99, NOON, "system")
    assert refused(ask(), facts(), books).details()["spendable"] == "0"


WORST: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("forbidden", {"suspended": True}, {}),
    ("invalid_api_key", {"key": key(revoked_at=NOON, expires_at=NOON, scopes=frozenset())}, {}),
    ("invalid_api_key", {"key": key(expires_at=NOON, scopes=frozenset())}, {}),
    ("forbidden", {"key": key(scopes=frozenset())}, {}),
    ("model_not_found", {}, {"selectable": False}),
    ("model_disabled", {}, {"enabled": False}),
    ("price_unknown", {}, {"price": None}),
    ("model_not_connected", {"mode": "live", "key": key(mode="live")}, {"provider_id": "openai"}),
    ("model_locked", {}, {"trial_messages": 0}),
    ("rate_limit_exceeded", {"plan": {"daily_messages": 1}}, {}),
    ("quota_exceeded", {"plan": {"monthly_tokens": 1_100}}, {}),
    ("insufficient_credits", {}, {}),
]


@pytest.mark.parametrize("first", range(len(WORST)), ids=[f"{n}-{code}" for n, (code, _, _) in enumerate(WORST)])
def test_of_everything_that_is_wrong_the_first_in_order_is_the_reason(first: int) -> None:
    """All that comes later is wrong as well: organisation, key, model, price, tier, messages, tokens, credits."""
    about_facts: dict[str, Any] = {}
    about_model: dict[str, Any] = {}
    about_plan: dict[str, Any] = {}
    for _, of_facts, of_model in reversed(WORST[first:]):
        about_plan |= of_facts.get("plan", {})
        about_facts |= {name: value for name, value in of_facts.items() if name != "plan"}
        about_model |= of_model
    prices = {} if about_model.pop("price", 0) is None else {"large": (price(model_id="large"),)}
    known = catalogue(models={"large": premium(**about_model)}, prices=prices)
    windows, asked = Windows(), ask(model_id="large")
    decided(asked, facts(), windows=windows)  # the only message of the day, and all tokens of the month
    given_facts = facts(catalogue=known, plan=plan(**about_plan), **about_facts)
    assert refused(asked, given_facts, credits_of(0), windows).code == WORST[first][0]


def test_tokens_that_can_never_fit_are_the_reason_before_credits_are() -> None:
    given_facts = facts(plan=plan(monthly_tokens=1_000))
    assert refused(ask(), given_facts, credits_of(0)).code == "quota_exceeded"


def test_somebody_who_is_signed_in_needs_no_key() -> None:
    decided(ask(key_id=None), facts(key=None))
    assert refused(ask(key_id=None), facts(key=None, suspended=True)).code == "forbidden"


def test_a_key_works_until_the_moment_it_expires() -> None:
    decided(ask(), facts(key=key(expires_at=NOON + timedelta(microseconds=1))))


def test_a_model_without_a_price_yet_is_refused_until_the_price_begins() -> None:
    later = facts(catalogue=catalogue(prices={"small": (price(effective_from=NOON + DAY),)}))
    assert refused(ask(), later).code == "price_unknown"
    decided(ask(), replace(later, now=NOON + DAY))

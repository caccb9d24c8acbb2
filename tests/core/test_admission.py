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
    QUALITIES,
    RATE,
    SOMEBODY,
    account,
    ask,
    call,
    capability,
    catalogue,
    connection,
    facts,
    grant,
    key,
    model,
    offer,
    plan,
    premium,
    price,
    studio,
)
from tollhouse.core import errors, refusals
from tollhouse.core.admission import OUTPUT_TOKENS_MIN, UNKNOWN_TOKENS, Admission, LimitState, decide, quote_of
from tollhouse.core.ask import Ask, CapabilityWant, CreditsWant, Facts, Size
from tollhouse.core.catalogue import Offer, Quality
from tollhouse.core.credit import Account
from tollhouse.core.limits import takes_of
from tollhouse.core.period import end_of, start_of
from tollhouse.core.price import RateCard, Usage
from tollhouse.core.quota import Rule, Windows
from tollhouse.core.rate import Rates
from tollhouse.core.routing import Route

SMALL: dict[str, object] = {"model_id": "small"}
USE = CapabilityWant("drawing")
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


def settle_all(windows: Windows, admission: Admission, used: bool) -> None:
    """Of all that was taken everything was used, or nothing."""
    for one in admission.weighed.windows:
        amount = admission.weighed.tokens if one.amount is None else one.amount
        windows.settle(one.counter.window_id, amount, amount if used else 0)


def output_of(admission: Admission) -> int:
    assert admission.terms.output_tokens is not None
    return admission.terms.output_tokens


def reserved(windows: Windows) -> dict[tuple[str, str], int]:
    return {
        (about.meter, about.model_id): one.reserved
        for one in windows.by_id.values()
        if (about := one.counter) is not None
    }


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
    except refusals.InsufficientCredits as refusal:
        assert refusal.needed_micros > refusal.spendable_micros == micros
        assert windows.by_id == {}
        return
    most = Usage(input_tokens, output_of(admission) * answers)
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
        return quote_of(asked, "small", facts()).most_micros(1_000, output * answers)

    if charge(least) > micros:
        refusal = refused(asked, facts(), books)
        assert refusal.needed_micros == charge(least)
    else:
        output = output_of(decided(asked, facts(), books))
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
    connected = catalogue(models={"small": model(provider_id="openai")}, connections={"openai": (connection(),)})
    assert decided(asked, facts(catalogue=connected)).hold.amount_micros == 50_000


@pytest.mark.parametrize("want", [call(), CapabilityWant("drawing")])
def test_what_the_host_application_calls_itself_nobody_need_be_connected_for(want: Any) -> None:
    known = studio(models={"small": model(provider_id="other"), "large": premium(provider_id="other")})
    given_facts = facts(catalogue=known, mode="live", key=key(mode="live"))
    assert refused(ask(want), given_facts).code == "model_not_connected"
    admission = decided(replace(ask(want), here=False), given_facts)
    assert (admission.terms.model.id, admission.terms.route) == ("small", Route("other", None))


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
        (facts(plan=plan(daily_messages=3)), 3, refusals.LimitExceeded),
        (with_models(model(daily_messages=3)), 3, refusals.LimitExceeded),
        (facts(plan=plan(monthly_tokens=3_400)), 3, refusals.QuotaExceeded),
    ],
    ids=["plan", "model", "tokens"],
)
def test_a_limit_admits_exactly_what_it_says(given_facts: Facts, allowed: int, refusal: type) -> None:
    books, windows = credits_of(500 * CREDIT), Windows()
    for _ in range(allowed):
        decided(ask(), given_facts, books, windows)
    assert type(refused(ask(), given_facts, books, windows)) is refusal


def test_what_is_left_of_a_limit_counts_what_was_used_and_what_is_held() -> None:
    given_facts, windows = facts(plan=plan(daily_messages=9), entitled=frozenset()), Windows()
    admission = decided(ask(model_id="large"), given_facts, windows=windows)
    settle_all(windows, admission, used=True)
    again = decided(ask(model_id="large"), given_facts, windows=windows)
    assert (again.messages, again.trial_remaining) == (LimitState(9, 7, MIDNIGHT), 0)


def test_a_call_that_may_use_more_tokens_than_are_left_is_refused_even_if_a_shorter_one_would_fit() -> None:
    given_facts = facts(plan=plan(monthly_tokens=1_999))
    assert refused(ask(output_tokens=1_000), given_facts).code == "quota_exceeded"
    assert decided(ask(output_tokens=999), given_facts).terms.output_tokens == 999


def test_a_rule_that_comes_with_the_ask_cuts_the_answer_but_not_below_what_is_of_use() -> None:
    rule, windows = Rule(UUID(int=42), "person", None, None, "tokens", "month", 2_000), Windows()
    asked = replace(ask(output_tokens=1_500), rules=(rule,))
    admission = decided(asked, facts(), windows=windows)
    assert admission.terms.output_tokens == 1_000
    refusal = refused(asked, facts(), windows=windows)
    assert (refusal.code, refusal.limit, refusal.reserved) == ("quota_exceeded", 2_000, 2_000)
    tight = replace(ask(output_tokens=1_500), rules=(replace(rule, maximum=1_255),))
    assert refused(tight, facts()).code == "quota_exceeded"
    enough = replace(ask(output_tokens=1_500), rules=(replace(rule, maximum=1_256),))
    assert decided(enough, facts()).terms.output_tokens == 256
    twice = replace(ask(output_tokens=1_500, answers=2), rules=(rule,))
    assert decided(twice, facts()).terms.output_tokens == 500


def test_a_free_ask_takes_no_credits_and_counts_all_the_same() -> None:
    windows = Windows()
    admission = decided(replace(ask(), free=True), facts(), credits_of(0), windows)
    assert (admission.hold.amount_micros, admission.terms.quote.charged) == (0, False)
    assert reserved(windows)["tokens", ""] == 1_100


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
        admission = decided(ask(model_id="large"), facts(entitled=frozenset({"large"})), windows=windows)
        assert (admission.weighed.trial, admission.trial_remaining) == (None, None)
    assert ("trial_messages", "large") not in reserved(windows)


def test_a_trial_message_is_charged_like_any_other() -> None:
    books = credits_of(CREDIT)
    assert decided(ask(model_id="large"), facts(), books).hold.amount_micros == USUAL_PRICE


# -------------------------------------------------------------------------------------------- capabilities and credits


def on(plan_id: str, **changes: Any) -> Facts:
    """Somebody on this plan of the studio."""
    known = changes.pop("catalogue", studio())
    return facts(plan=known.plans[plan_id], catalogue=known, **changes)


def test_a_use_takes_its_estimate_a_request_and_a_rate_in_one_step() -> None:
    books, windows, rates = credits_of(2 * CREDIT), Windows(), Rates()
    given_facts = on("free")
    admission = decide(ask(USE), given_facts, takes_of(ask(USE), given_facts), books, windows, rates)
    assert admission.hold.amount_micros == books.balance.reserved_micros == 1_500_000
    assert reserved(windows) == {("requests", ""): 1, ("tokens", ""): UNKNOWN_TOKENS}
    assert [rate.used(NOON) for rate in rates.by_id.values()] == [1]
    terms = admission.terms
    assert (terms.capability, terms.quality, terms.model.id) == (capability(), QUALITIES["fast"], "small")
    assert (terms.output_tokens, terms.quote.multiplier_permille, admission.weighed.trial) == (None, 1_000, None)


@pytest.mark.parametrize(("quality", "micros"), [("fast", 1_500_000), ("enhanced", 3_000_000), ("premium", 6_000_000)])
def test_a_higher_quality_multiplies_what_is_reserved_and_what_is_charged(quality: str, micros: int) -> None:
    admission = decided(ask(CapabilityWant("drawing", quality)), on("team"))
    assert admission.hold.amount_micros == micros
    usage = Usage(1_000, 100)
    assert admission.terms.quote.charge_micros(usage) == USUAL_PRICE * QUALITIES[quality].multiplier_permille // 1_000


def test_an_estimate_that_does_not_divide_is_rounded_up_to_a_micro_credit() -> None:
    known = studio(
        capabilities={"drawing": capability(estimated_micros=1)},
        qualities={"fast": Quality("fast", "Fast", 1, 1_001)},
    )
    assert decided(ask(USE), on("team", catalogue=known)).hold.amount_micros == 2


def test_without_a_quality_the_lowest_that_the_plan_has_is_meant() -> None:
    known = studio(offers={"pro": {"drawing": offer("premium", "enhanced")}})
    assert decided(ask(USE), on("pro", catalogue=known)).terms.quality == QUALITIES["enhanced"]


@pytest.mark.parametrize(
    ("plan_id", "quality", "upgrade", "cents"),
    [
        ("free", "enhanced", "pro", 4_000),
        ("starter", "premium", "team", 5_000),
        ("pro", "premium", "team", 5_000),
    ],
)
def test_a_quality_that_the_plan_has_not_is_denied_with_the_plan_that_has_it(
    plan_id: str, quality: str, upgrade: str, cents: int
) -> None:
    refusal = refused(ask(CapabilityWant("drawing", quality)), on(plan_id))
    assert (refusal.code, refusal.status) == ("capability_denied", 403)
    assert refusal.details() == {"capability": "drawing", "quality": quality, "plan": plan_id}
    assert [(one.kind, one.plan, one.price_cents) for one in refusal.hints()] == [("upgrade", upgrade, cents)]
    assert str(refusal).endswith(f"does not offer 'drawing' at quality '{quality}'. Upgrade to '{upgrade}' to use it.")


def test_what_no_plan_offers_is_denied_without_a_hint() -> None:
    refusal = refused(ask(USE), on("pro", catalogue=studio(offers={})))
    assert refusal.details()["quality"] is None
    assert refusal.hints() == ()
    assert str(refusal) == "The plan 'pro' does not offer 'drawing'. No plan offers it at the moment."


@pytest.mark.parametrize(
    ("want", "known", "code", "says"),
    [
        (CapabilityWant("writing"), studio(), "not_found", "There are: drawing."),
        (USE, studio(capabilities={"drawing": capability(is_active=False)}), "not_found", "There are: none."),
        (CapabilityWant("drawing", "excellent"), studio(), "invalid_request", "There are: fast, enhanced, premium."),
    ],
    ids=["unknown", "switched-off", "unknown-quality"],
)
def test_what_there_is_not_is_refused_with_what_there_is(want: Any, known: Any, code: str, says: str) -> None:
    refusal = refused(ask(want), on("team", catalogue=known))
    assert refusal.code == code
    assert says in str(refusal)


USABLE: dict[str, Any] = {"small": model(), "large": premium()}
PRICED: dict[str, Any] = {"small": (price(),), "large": (price(model_id="large"),)}


@pytest.mark.parametrize(
    ("small", "prices", "mode"),
    [
        (model(enabled=False), PRICED, "test"),
        (model(), {"large": PRICED["large"]}, "test"),
        (model(), PRICED | {"small": (price(effective_from=NOON + DAY),)}, "test"),
        (model(provider_id="other"), PRICED, "live"),
    ],
    ids=["disabled", "unpriced", "not-priced-yet", "not-connected"],
)
def test_the_next_model_answers_when_the_first_cannot(small: Any, prices: Any, mode: Any) -> None:
    known = studio(
        models={"small": small, "large": premium(provider_id="openai", enabled=True)},
        prices=prices,
        connections={"openai": (connection(),)},
    )
    given_facts = on("pro", catalogue=known, mode=mode, key=key(mode=mode))
    admission = decided(ask(USE), given_facts)
    assert (admission.terms.model.id, admission.terms.quote.price.model_id) == ("large", "large")
    assert admission.hold.amount_micros == 1_500_000


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"models": {name: replace(one, enabled=False) for name, one in USABLE.items()}}, "model_disabled"),
        ({"prices": {}}, "price_unknown"),
        ({"rates": ()}, "price_unknown"),
        ({"offers": {"pro": {"drawing": Offer("drawing", None, None, {"fast": ()})}}}, "not_found"),
    ],
    ids=["all-disabled", "none-priced", "no-rate", "no-models"],
)
def test_when_no_model_can_answer_it_is_told_why_the_first_cannot(changes: dict[str, Any], code: str) -> None:
    refusal = refused(ask(USE), on("pro", catalogue=studio(**changes)))
    assert (refusal.code, getattr(refusal, "model_id", "small")) == (code, "small")


def test_a_premium_model_of_a_capability_needs_no_unlocking_and_takes_no_trial() -> None:
    known = studio(models={"small": premium(id="small", trial_messages=0), "large": premium()})
    windows = Windows()
    assert decided(ask(USE), on("pro", catalogue=known), windows=windows).terms.model.id == "small"
    assert {meter for meter, _ in reserved(windows)} == {"requests", "tokens"}


@pytest.mark.parametrize(
    ("size", "tokens", "output"),
    [
        (None, UNKNOWN_TOKENS, None),
        (Size(1_000, 100), 1_100, 100),
        (Size(1_000, None), 9_192, 8_192),
        (Size(1_000, 50_000), 9_192, 8_192),
        (Size(1_000, 100, 40), 140, 100),
    ],
    ids=["unknown", "known", "no-maximum", "clamped", "counted-by-the-sandbox"],
)
def test_a_use_takes_the_tokens_that_it_may_use_as_far_as_they_are_known(
    size: Size | None, tokens: int, output: int | None
) -> None:
    windows = Windows()
    admission = decided(ask(CapabilityWant("drawing", None, size)), on("pro"), windows=windows)
    assert reserved(windows)["tokens", ""] == tokens
    assert admission.terms.output_tokens == output
    assert admission.hold.amount_micros == 1_500_000


def test_a_use_of_unknown_size_finds_the_tokens_of_the_month_used_up() -> None:
    exhausted = replace(on("pro"), plan=plan(monthly_tokens=1_100))
    windows = Windows()
    decided(ask(CapabilityWant("drawing", None, Size(1_000, 99))), exhausted, windows=windows)
    decided(ask(USE), exhausted, windows=windows)
    assert refused(ask(USE), exhausted, windows=windows).code == "quota_exceeded"


def test_on_a_channel_that_takes_no_credits_a_use_and_plain_credits_are_free_and_limits_still_count() -> None:
    given_facts = replace(on("free"), plan=plan(id="free", rank=10, charged_channels=frozenset({"api"})))
    windows = Windows()
    use = ask(USE, channel="capability")
    admission = decided(use, given_facts, credits_of(0), windows)
    assert (admission.hold.amount_micros, admission.weighed.charged) == (0, False)
    assert reserved(windows)["requests", ""] == 1
    assert decided(ask(CreditsWant(5), channel="capability"), given_facts, credits_of(0)).hold.amount_micros == 0
    assert refused(ask(CreditsWant(5)), given_facts, credits_of(4)).code == "insufficient_credits"


def test_the_requests_of_a_day_are_exact_and_those_given_back_are_there_again() -> None:
    known = studio(offers={"free": {"drawing": offer("fast", a_day=3)}})
    windows = Windows()
    admissions = [decided(ask(USE), on("free", catalogue=known), windows=windows) for _ in range(3)]
    refusal = refused(ask(USE), on("free", catalogue=known), windows=windows)
    assert (refusal.scope, refusal.meter, refusal.period, refusal.limit) == ("organization", "requests", "day", 3)
    assert (refusal.details()["capability"], refusal.resets_at, refusal.should_retry) == ("drawing", MIDNIGHT, False)
    settle_all(windows, admissions[0], used=False)
    decided(ask(USE), on("free", catalogue=known), windows=windows)


def test_a_refusal_counts_no_request_of_the_minute() -> None:
    given_facts, rates = on("free"), Rates()
    takes = takes_of(ask(USE), given_facts)
    with pytest.raises(refusals.InsufficientCredits):
        decide(ask(USE), given_facts, takes, credits_of(0), Windows(), rates)
    assert (rates.by_id, rates.changed) == ({}, set())


@given(st.integers(1, 3 * CREDIT), st.integers(0, 3 * CREDIT), st.integers(0, CREDIT))
def test_plain_credits_are_reserved_when_balance_and_overdraft_hold_them(
    micros: int, held: int, overdraft: int
) -> None:
    grants = [grant(1, held)] if held else []
    books, asked = account(*grants, overdraft_limit_micros=overdraft), ask(CreditsWant(micros))
    if micros > held + overdraft:
        refusal = refused(asked, facts(), books)
        assert (refusal.needed_micros, refusal.spendable_micros) == (micros, held + overdraft)
        return
    windows = Windows()
    admission = decided(asked, facts(), books, windows)
    assert (admission.hold.amount_micros, admission.hold.overdraft_micros) == (micros, max(0, micros - held))
    assert (admission.weighed.terms, admission.weighed.windows, windows.by_id) == (None, (), {})


@pytest.mark.parametrize(
    ("given_facts", "code"),
    [
        (facts(suspended=True), "forbidden"),
        (facts(key=None), "invalid_api_key"),
        (facts(key=key(scopes=frozenset({"credits"}))), "forbidden"),
    ],
)
@pytest.mark.parametrize("want", [USE, CreditsWant(5)])
def test_who_may_not_ask_may_not_ask_for_a_use_or_credits_either(want: Any, given_facts: Facts, code: str) -> None:
    assert refused(ask(want), replace(given_facts, catalogue=studio())).code == code


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
    decided(ask(credential=None), facts(key=None))
    assert refused(ask(credential=None), facts(key=None, suspended=True)).code == "forbidden"


def test_a_key_works_until_the_moment_it_expires() -> None:
    decided(ask(), facts(key=key(expires_at=NOON + timedelta(microseconds=1))))


def test_a_model_without_a_price_yet_is_refused_until_the_price_begins() -> None:
    later = facts(catalogue=catalogue(prices={"small": (price(effective_from=NOON + DAY),)}))
    assert refused(ask(), later).code == "price_unknown"
    decided(ask(), replace(later, now=NOON + DAY))


def test_plain_credits_take_no_tokens() -> None:
    assert decided(ask(CreditsWant(5)), facts()).weighed.tokens == 0


def test_a_call_that_the_balance_cuts_needs_tokens_only_for_what_is_left_of_it() -> None:
    given_facts = facts(plan=plan(monthly_tokens=1_300))
    admission = decided(ask(output_tokens=5_000), given_facts, credits_of(50_000 + 300 * 150))
    assert (output_of(admission), admission.weighed.tokens) == (300, 1_300)
    assert refused(ask(output_tokens=5_000), given_facts).code == "quota_exceeded"


def test_tokens_that_the_answers_can_never_fit_into_together_are_the_reason_before_credits_are() -> None:
    asked, least = ask(output_tokens=5_000, answers=3), 1_000 + 3 * OUTPUT_TOKENS_MIN
    assert refused(asked, facts(plan=plan(monthly_tokens=least - 1)), credits_of(0)).code == "quota_exceeded"
    assert refused(asked, facts(plan=plan(monthly_tokens=least)), credits_of(0)).code == "insufficient_credits"


@pytest.mark.parametrize("want", [CapabilityWant("n" * 200), CapabilityWant("drawing", "n" * 200)])
def test_a_name_that_nothing_has_is_repeated_in_part(want: CapabilityWant) -> None:
    refusal = refused(ask(want), facts(catalogue=studio()))
    assert f"'{'n' * 80}'" in str(refusal)


# ------------------------------------------------------------------------------------------------ limits of credits


def with_credits_limit(micros: int, **about: Any) -> Facts:
    rule = Rule(UUID(int=40), "organization", None, None, "credits", "month", micros)
    return facts(rules=(rule,), **about)


def of_limit(windows: Windows) -> tuple[int, int]:
    (window,) = (one for one in windows.by_id.values() if one.counter and one.counter.meter == "credits")
    return window.used, window.reserved


def test_a_limit_of_credits_takes_exactly_what_the_call_reserves() -> None:
    windows = Windows()
    admission = decided(ask(), with_credits_limit(USUAL_PRICE), windows=windows)
    assert of_limit(windows) == (0, USUAL_PRICE) == (0, admission.hold.amount_micros)
    refusal = refused(ask(), with_credits_limit(USUAL_PRICE), windows=windows)
    assert (refusal.code, refusal.meter, refusal.limit, refusal.reserved) == (
        "rate_limit_exceeded", "credits", USUAL_PRICE, USUAL_PRICE,
    )  # fmt: skip
    assert (refusal.should_retry, refusal.resets_at) == (False, NEXT_MONTH)


def test_an_answer_is_cut_to_what_a_limit_of_credits_leaves_like_to_what_the_balance_can_pay() -> None:
    long = ask(output_tokens=2_000)
    for limit in (100_000, 120_000, 300_000):
        by_limit = decided(long, with_credits_limit(limit))
        by_balance = decided(long, facts(), credits_of(limit))
        assert by_limit.terms.output_tokens == by_balance.terms.output_tokens
        assert by_limit.hold.amount_micros == by_balance.hold.amount_micros <= limit


@given(st.integers(0, 400_000), st.integers(0, 400_000), st.integers(1, 3_000))
def test_no_call_reserves_more_than_balance_and_limit_both_leave(limit: int, credits: int, output: int) -> None:
    windows, books = Windows(), credits_of(credits)
    try:
        admission = decided(ask(output_tokens=output), with_credits_limit(limit), books, windows)
    except refusals.LimitExceeded as refusal:
        assert refusal.meter == "credits"
        least = quote_of(ask(), "small", facts()).most_micros(1_000, min(output, OUTPUT_TOKENS_MIN))
        assert least > limit
    except refusals.InsufficientCredits:
        assert credits < limit
    else:
        assert admission.hold.amount_micros <= min(limit, credits)
        assert of_limit(windows) == (0, admission.hold.amount_micros)


def test_uses_of_capabilities_and_plain_credits_take_their_amount_from_a_limit_of_credits() -> None:
    known, windows = studio(), Windows()
    given = with_credits_limit(2 * CREDIT, catalogue=known, plan=known.plans["pro"])
    decided(ask(USE), given, windows=windows)
    assert of_limit(windows) == (0, 1_500_000)
    assert refused(ask(USE), given, windows=windows).meter == "credits"
    decided(ask(CreditsWant(500_000)), given, windows=windows)
    assert of_limit(windows) == (0, 2 * CREDIT)
    assert refused(ask(CreditsWant(1)), given, windows=windows).meter == "credits"


def test_where_the_plan_takes_no_credits_a_limit_of_them_is_not_touched() -> None:
    windows, given = Windows(), with_credits_limit(0, plan=plan(charged_channels=frozenset()))
    for asked in (ask(), ask(CreditsWant(5))):
        decided(asked, given, windows=windows)
    assert of_limit(windows) == (0, 0)


def test_over_an_own_connection_no_more_is_held_for_the_platforms_than_a_limit_of_credits_leaves() -> None:
    rates = (replace(RATE, own_key_permille=100),)
    own = connection(organization_id=ask().organization_id, id=UUID(int=51))
    theirs = connection(id=UUID(int=52))
    known = replace(
        with_models(model(provider_id="openai")).catalogue, rates=rates, connections={"openai": (theirs,)},
        own_connections={ask().organization_id: {"openai": (own,)}},
    )  # fmt: skip
    wide = decided(ask(), with_credits_limit(USUAL_PRICE, catalogue=known)).hold.amount_micros
    assert wide == USUAL_PRICE
    assert decided(ask(), with_credits_limit(USUAL_PRICE - 1, catalogue=known)).hold.amount_micros == USUAL_PRICE // 10

"""Which counters and rates an ask touches, and whom the organisation's own rules bind."""

from dataclasses import replace
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.cast import KEY, NOON, ORGANIZATION, SOMEBODY, ask, catalogue, facts, key, model, plan, premium, studio
from tollhouse.core.ask import Ask, CapabilityWant, CreditsWant, Facts
from tollhouse.core.limits import Takes, counters_of, rates_of, takes_of
from tollhouse.core.period import Kind, start_of
from tollhouse.core.quota import Rule
from tollhouse.core.rate import rate_id

OTHER = UUID(int=98)
RULE = UUID(int=40)
USE = CapabilityWant("drawing")


def rule(**changes: Any) -> Rule:
    """A hundred messages of the organisation a day."""
    return replace(Rule(RULE, "organization", None, None, "messages", "day", 100), **changes)


def bound(asked: Ask, *rules: Rule, known: Facts | None = None) -> list[tuple[object, ...]]:
    """Scope, period, whom it counts for and the maximum of each rule that binds, windows before rates."""
    takes = takes_of(asked, replace(known or facts(), rules=rules))
    windows: list[tuple[object, ...]] = [
        (one.scope, one.counter.period, one.counter.subject_id, one.maximum)
        for one in takes.windows
        if one.counter.limit_id is not None
    ]
    return windows + [(one.scope, "minute", one.subject_id, one.maximum) for one in takes.rates if not one.capability]


def summary(takes: Takes) -> list[tuple[object, ...]]:
    return [
        (one.counter.meter, one.counter.period, one.counter.model_id, one.amount, one.maximum, one.scope)
        for one in takes.windows
    ]


# ------------------------------------------------------------------------------------- of the plan and of the model


def test_a_call_takes_a_message_of_the_day_one_of_the_model_and_tokens_of_the_month() -> None:
    known = catalogue(models={"small": model(daily_messages=7)})
    takes = takes_of(ask(), facts(plan=plan(daily_messages=9, monthly_tokens=500), catalogue=known))
    assert summary(takes) == [
        ("messages", "day", "", 1, 9, "user"),
        ("messages", "day", "small", 1, 7, "user"),
        ("tokens", "month", "", None, 500, "organization"),
    ]
    assert [one.counter.subject_id for one in takes.windows] == [SOMEBODY, SOMEBODY, ORGANIZATION]
    assert not takes.rates


def test_a_premium_model_is_on_trial_for_those_only_who_have_not_unlocked_it() -> None:
    assert summary(takes_of(ask(model_id="large"), facts()))[3:] == [
        ("trial_messages", "lifetime", "large", 1, premium().trial_messages, "user")
    ]
    assert len(takes_of(ask(model_id="large"), facts(entitled=frozenset({"large"}))).windows) == 3


def test_a_use_of_a_capability_takes_requests_and_tokens_of_the_organisation_and_no_messages() -> None:
    known = studio()
    takes = takes_of(ask(USE), facts(plan=known.plans["free"], catalogue=known))
    assert summary(takes) == [
        ("requests", "day", "", 1, 5, "organization"),
        ("tokens", "month", "", None, None, "organization"),
    ]
    assert {(one.counter.subject_id, one.counter.capability) for one in takes.windows} == {
        (ORGANIZATION, "drawing"), (ORGANIZATION, ""),
    }  # fmt: skip
    (rate,) = takes.rates
    assert (rate.rate_id, rate.maximum, rate.subject_id) == (rate_id(ORGANIZATION, "drawing", None), 2, ORGANIZATION)


def test_without_a_limit_per_minute_there_is_no_rate_and_requests_of_the_day_are_counted_all_the_same() -> None:
    known = studio()
    takes = takes_of(ask(USE), facts(plan=known.plans["team"], catalogue=known))
    assert not takes.rates
    assert summary(takes)[0] == ("requests", "day", "", 1, None, "organization")


def test_plain_credits_and_unknown_models_take_nothing() -> None:
    everything = (rule(), rule(meter="tokens"), rule(period="minute"))
    for asked in (ask(CreditsWant(5)), ask(model_id="none")):
        takes = takes_of(asked, facts(rules=everything))
        assert (list(takes.windows), list(takes.rates)) == ([], [])


@given(st.sampled_from([ask(), ask(model_id="large"), ask(USE), ask(CreditsWant(1)), ask(model_id="none")]),
       st.sampled_from(list(studio().plans)), st.booleans())  # fmt: skip
def test_what_is_read_beforehand_is_all_that_is_touched_without_rules(asked: Ask, plan_id: str, entitled: bool) -> None:
    known = studio()
    unlocked = frozenset({"large"} if entitled else ())
    takes = takes_of(asked, facts(plan=known.plans[plan_id], catalogue=known, entitled=unlocked))
    guessed = {one.window_id for one in counters_of(asked, known, NOON)}
    assert {one.counter.window_id for one in takes.windows} <= guessed
    assert {one.rate_id for one in takes.rates} <= set(rates_of(asked))


# --------------------------------------------------------------------------------------- the organisation's own rules


@pytest.mark.parametrize(
    ("scope", "subject_id", "whom"),
    [
        ("organization", None, ORGANIZATION),
        ("person", None, SOMEBODY),
        ("person", SOMEBODY, SOMEBODY),
        ("person", OTHER, None),
        ("key", None, KEY),
        ("key", KEY, KEY),
        ("key", OTHER, None),
    ],
)
def test_a_rule_binds_those_whom_it_names_or_each_by_themselves(
    scope: Any, subject_id: UUID | None, whom: UUID | None
) -> None:
    wanted = [(scope, "day", whom, 100)] if whom else []
    assert bound(ask(), rule(scope=scope, subject_id=subject_id)) == wanted


def test_a_call_on_nobodys_behalf_is_no_persons_and_one_without_a_key_no_keys() -> None:
    rules = (rule(scope="person"), rule(scope="key"), rule())
    assert [one[0] for one in bound(ask(subject_id=ORGANIZATION), *rules)] == ["key", "organization"]
    assert [one[0] for one in bound(ask(credential=None), *rules)] == ["person", "organization"]
    assert bound(ask(subject_id=ORGANIZATION), rule(scope="person", subject_id=ORGANIZATION)) == []


@pytest.mark.parametrize(
    ("asked", "of_model", "messages", "tokens"),
    [
        (ask(), None, True, True),
        (ask(), "small", True, True),
        (ask(), "large", False, False),
        (ask(USE), None, False, True),
        (ask(USE), "small", False, False),
    ],
    ids=["call", "call-of-it", "call-of-another", "use", "use-answered-by-it"],
)
def test_a_rule_about_a_model_binds_its_calls_and_messages_are_calls(
    asked: Ask, of_model: str | None, messages: bool, tokens: bool
) -> None:
    known = facts(catalogue=studio())
    assert bool(bound(asked, rule(model_id=of_model), known=known)) == messages
    assert bool(bound(asked, rule(model_id=of_model, period="minute"), known=known)) == messages
    assert bool(bound(asked, rule(model_id=of_model, meter="tokens"), known=known)) == tokens


@given(st.sampled_from(get_args(Kind)), st.sampled_from(["messages", "tokens"]))
def test_each_rule_has_a_counter_of_its_own_in_the_window_of_now(period: Kind, meter: Any) -> None:
    one, two = rule(meter=meter, period=period), rule(id=UUID(int=41), meter=meter, period=period)
    takes = takes_of(ask(), facts(rules=(one, two)))
    if (meter, period) == ("messages", "minute"):
        assert [rate.rate_id for rate in takes.rates] == [rate_id(ORGANIZATION, "", each.id) for each in (one, two)]
        assert len(takes.windows) == 3
        return
    assert not takes.rates
    found = [take.counter for take in takes.windows[3:]]
    assert [about.limit_id for about in found] == [one.id, two.id]
    assert {about.starts_at for about in found} == {start_of(period, NOON)}
    assert len({take.counter.window_id for take in takes.windows}) == 5


@pytest.mark.parametrize("meter", ["messages", "tokens"])
def test_a_rule_takes_a_message_or_the_tokens_and_is_about_its_model_or_all(meter: Any) -> None:
    about_one, about_all = rule(meter=meter, model_id="small"), rule(id=UUID(int=41), meter=meter)
    takes = takes_of(ask(), facts(rules=(about_one, about_all)))
    amount = 1 if meter == "messages" else None
    assert summary(takes)[3:] == [
        (meter, "day", "small", amount, 100, "organization"),
        (meter, "day", "", amount, 100, "organization"),
    ]


def test_a_rule_per_minute_names_its_model() -> None:
    rules = (rule(period="minute", model_id="small"), rule(id=UUID(int=41), period="minute"))
    assert [one.model_id for one in takes_of(ask(), facts(rules=rules)).rates] == ["small", ""]


@pytest.mark.parametrize(
    "idle",
    [
        rule(model_id="large"),
        rule(scope="person", subject_id=OTHER),
        rule(scope="key", subject_id=OTHER),
        rule(period="minute", model_id="large"),
        rule(period="minute"),
    ],
    ids=["another-model", "another-person", "another-key", "a-minute-of-another-model", "a-minute"],
)
def test_a_rule_that_binds_nobody_or_is_a_rate_hides_none_of_those_after_it(idle: Rule) -> None:
    last = rule(id=UUID(int=41), maximum=7)
    assert ("organization", "day", ORGANIZATION, 7) in bound(ask(), idle, last)


def test_a_rule_about_messages_hides_no_rule_about_tokens_from_a_use() -> None:
    rules = (rule(), rule(id=UUID(int=41), meter="tokens", maximum=7))
    assert bound(ask(USE), *rules, known=facts(catalogue=studio())) == [("organization", "day", ORGANIZATION, 7)]


@pytest.mark.parametrize(
    ("asked", "of_model", "binds"),
    [
        (ask(), None, True),
        (ask(), "small", True),
        (ask(), "large", False),
        (ask(USE), None, True),
        (ask(USE), "small", False),
        (ask(CreditsWant(5)), None, True),
        (ask(CreditsWant(5)), "small", False),
    ],
    ids=["call", "call-of-it", "call-of-another", "use", "use-answered-by-it", "plain", "plain-and-a-model"],
)
def test_a_rule_about_credits_binds_whatever_is_charged(asked: Ask, of_model: str | None, binds: bool) -> None:
    known = facts(catalogue=studio())
    assert bool(bound(asked, rule(meter="credits", model_id=of_model), known=known)) == binds


def test_a_key_that_replaced_another_is_counted_as_the_first() -> None:
    heir = facts(key=key(counts_as=OTHER))
    assert bound(ask(), rule(scope="key", subject_id=OTHER), known=heir) == [("key", "day", OTHER, 100)]
    assert bound(ask(), rule(scope="key"), known=heir) == [("key", "day", OTHER, 100)]
    assert bound(ask(), rule(scope="key", subject_id=OTHER, period="minute"), known=heir) == [
        ("key", "minute", OTHER, 100)
    ]
    assert bound(ask(), rule(scope="key", subject_id=KEY), known=heir) == []
    nobodys = ask(credential=None)
    assert bound(nobodys, rule(scope="key"), known=heir) == []


# ------------------------------------------------------------------------------------------- that come with the ask


def test_a_rule_that_comes_with_the_ask_binds_beside_those_of_the_organisation() -> None:
    own = rule(id=UUID(int=42), scope="person", meter="tokens", period="month", maximum=9_000)
    asked = replace(ask(), rules=(own,))
    assert bound(asked, rule()) == [("organization", "day", ORGANIZATION, 100), ("person", "month", SOMEBODY, 9_000)]
    assert bound(asked) == [("person", "month", SOMEBODY, 9_000)]
    assert [one.counter.limit_id for one in takes_of(asked, facts()).windows][3:] == [own.id]
    nobodys = replace(asked, subject_id=ORGANIZATION)
    assert bound(nobodys) == []

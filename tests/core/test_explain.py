"""What those are told who ask first: it is what happens when they act, and asking takes nothing."""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import timedelta
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
    QUALITIES,
    RATE,
    SOMEBODY,
    account,
    ask,
    call,
    capability,
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
from tollhouse.core.admission import Admission, decide
from tollhouse.core.ask import AUTO, Ask, CapabilityWant, CreditsWant, Facts
from tollhouse.core.credit import Account
from tollhouse.core.errors import TollhouseError
from tollhouse.core.experiment import Arm, Experiment
from tollhouse.core.explain import Explanation, LimitLeft, explain
from tollhouse.core.limits import takes_of
from tollhouse.core.period import end_of, start_of
from tollhouse.core.quota import Rule, Windows
from tollhouse.core.rate import Rates
from tollhouse.core.refusals import LimitExceeded

USE = CapabilityWant("drawing")
EXPERIMENT = Experiment(UUID(int=8), "trial", "small", None, None, NOON - DAY, None, (Arm("large", 1),))
MIDNIGHT, MONTH = start_of("day", NOON) + DAY, end_of("month", start_of("month", NOON))


@dataclass
class Books:
    """What an organisation has and has used."""

    account: Account
    windows: Windows = field(default_factory=Windows)
    rates: Rates = field(default_factory=Rates)

    def explained(self, asked: Ask, known: Facts) -> Explanation:
        """The explanation, after checking that it took nothing."""
        before = deepcopy(self)
        found = explain(asked, known, takes_of(asked, known), self.account, self.windows, self.rates)
        assert self == before
        return found

    def decided(self, asked: Ask, known: Facts) -> Admission | TollhouseError:
        try:
            return decide(asked, known, takes_of(asked, known), self.account, self.windows, self.rates)
        except TollhouseError as refusal:
            return refusal


def holding(micros: int = 500 * CREDIT) -> Books:
    return Books(account(grant(1, micros)) if micros else account())


def on(plan_id: str, **changes: Any) -> Facts:
    """Somebody on this plan of the studio, who may use credits."""
    known = changes.pop("catalogue", studio())
    return facts(plan=known.plans[plan_id], catalogue=known, **changes)


models: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    enabled=st.sampled_from([True, True, False]),
    provider_id=st.sampled_from(["sandbox", "sandbox", "openai"]),
    daily_messages=st.none() | st.integers(0, 3),
    quality_tier=st.sampled_from([None, "fast", "balanced"]),
)
wants = st.one_of(
    st.builds(call, st.sampled_from(["small", "large", "none", AUTO]), st.integers(0, 5_000),
              st.none() | st.integers(0, 5_000)),
    st.builds(CapabilityWant, st.sampled_from(["drawing", "drawing", "writing"]),
              st.none() | st.sampled_from([*QUALITIES, "excellent"])),
    st.builds(CreditsWant, st.integers(1, 3 * CREDIT)),
)  # fmt: skip
rules = st.builds(
    Rule, st.uuids(), st.sampled_from(["organization", "person", "key"]), st.none() | st.just(SOMEBODY),
    st.none() | st.just("small"), st.sampled_from(["messages", "tokens"]),
    st.sampled_from(["minute", "day", "month"]), st.integers(0, 5_000),
)  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> Facts:
    """Some of what decides is wrong in each of them, in most of them not everything."""
    prices = {"small": (price(),), "large": (price(model_id="large"),)}
    known = studio(
        models={"small": model(is_default=draw(st.booleans()), **draw(models)), "large": premium(**draw(models))},
        experiments=draw(st.sampled_from([(), (), (EXPERIMENT,)])),
        prices={name: prices[name] for name in draw(st.sampled_from([("small", "large"), ("large",), ("small",)]))},
        rates=draw(st.sampled_from([(RATE,), (RATE,), (RATE,), ()])),
        capabilities={"drawing": capability(is_active=draw(st.sampled_from([True, True, True, False])))},
    )
    own = replace(
        known.plans[draw(st.sampled_from(list(known.plans)))],
        charged_channels=frozenset(draw(st.sampled_from([("api", "capability"), ("api",), ()]))),
        monthly_tokens=draw(st.none() | st.integers(0, 8_000)),
        daily_messages=draw(st.none() | st.integers(0, 3)),
        max_output_tokens=draw(st.sampled_from([256, 8_192])),
    )
    live = draw(st.sampled_from([False, False, False, True]))
    return facts(
        plan=own,
        catalogue=known,
        suspended=draw(st.sampled_from([False] * 9 + [True])),
        key=draw(st.sampled_from([key()] * 7 + [None, key(expires_at=NOON), key(scopes=frozenset())])),
        entitled=draw(st.sampled_from([frozenset(), frozenset({"large"})])),
        mode="live" if live else "test",
        rules=tuple(draw(st.lists(rules, max_size=3))),
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[Books, Facts]:
    """A world, and books in which some have been admitted before."""
    books, known = holding(draw(st.sampled_from([0, 1, 40_000, CREDIT, 100 * CREDIT]))), draw(worlds())
    for want in draw(st.lists(wants, max_size=4)):
        books.decided(ask(want), replace(known, suspended=False, key=key()))
    return books, known


@given(histories(), wants, st.sampled_from(["api", "capability", "chat"]), st.sampled_from([SOMEBODY, ORGANIZATION]),
       st.booleans())  # fmt: skip
def test_it_may_proceed_exactly_when_it_would_be_admitted_and_is_refused_for_the_same_reason(
    history: tuple[Books, Facts], want: Any, channel: Any, subject_id: UUID, here: bool
) -> None:
    books, known = history
    asked = replace(ask(want, channel=channel, subject_id=subject_id), here=here)
    told, found = books.explained(asked, known), books.decided(asked, known)
    if isinstance(found, TollhouseError):
        assert told.refusal is not None
        assert (type(told.refusal), str(told.refusal)) == (type(found), str(found))
        assert told.refusal.details() == found.details()
        return
    assert told.refusal is None
    assert told.estimated_micros == found.hold.amount_micros <= told.spendable_micros
    assert told.model_id == (found.weighed.terms.model.id if found.weighed.terms else None)


@given(histories(), st.none() | st.sampled_from(list(QUALITIES)))
def test_each_level_says_what_asking_for_it_would_find(history: tuple[Books, Facts], quality: str | None) -> None:
    books, known = history
    told = books.explained(ask(CapabilityWant("drawing", quality)), known)
    own = known.catalogue.offer(known.plan, "drawing")
    assert own is not None
    active = known.catalogue.capabilities["drawing"].is_active
    assert [one.quality_id for one in told.levels] == list(QUALITIES)
    for level in told.levels:
        assert level.allowed == (active and level.quality_id in own.levels) == bool(level.models)
        single = books.explained(ask(CapabilityWant("drawing", level.quality_id)), known)
        assert (level.models, level.estimated_micros) == (single.models, single.estimated_micros)
        assert (type(level.refusal), str(level.refusal)) == (type(single.refusal), str(single.refusal))


@given(histories(), wants)
def test_the_estimate_of_what_is_refused_is_what_it_takes_once_nothing_is_in_the_way(
    history: tuple[Books, Facts], want: Any
) -> None:
    """Of the model that comes first: without anything in the way another one may."""
    books, known = history
    told = books.explained(ask(want), known)
    first = takes_of(ask(want), known).choice
    free_way = replace(known.plan, monthly_tokens=None, daily_messages=None)
    freely = replace(known, suspended=False, key=key(), entitled=frozenset({"large"}), rules=(), plan=free_way)
    found = holding(10**6 * CREDIT).decided(ask(want), freely)
    if isinstance(found, Admission):
        terms = found.weighed.terms
        if terms is not None and terms.asked in ("small", AUTO) and (first is None or first.model != terms.model):
            return
        assert told.estimated_micros == found.hold.amount_micros or told.refusal is None  # or cut to what is left


@given(histories(), wants)
def test_the_limits_told_are_those_that_bind_and_what_is_left_of_them(history: tuple[Books, Facts], want: Any) -> None:
    books, known = history
    asked = ask(want)
    told, takes = books.explained(asked, known), takes_of(asked, known)
    takes = next((one for one in takes.each if one.choice and one.choice.model.id == told.model_id), takes)
    assert len(told.limits) == len(takes.rates) + sum(take.maximum is not None for take in takes.windows)
    assert all(0 <= one.remaining <= one.limit for one in told.limits)
    if books.explained(asked, replace(known, suspended=False, key=key())).refusal is None:
        assert all(one.remaining > 0 for one in told.limits if one.meter in ("messages", "requests", "trial_messages"))


# ---------------------------------------------------------------------------------------------------------- examples


def test_a_use_is_told_with_its_models_levels_price_and_limits() -> None:
    books, known = holding(4 * CREDIT), on("pro")
    books.decided(ask(USE), known)
    told = books.explained(ask(USE), known)
    assert (told.refusal, told.model_id, told.models) == (None, "small", ("small", "large"))
    assert (told.estimated_micros, told.spendable_micros) == (1_500_000, 2_500_000)
    levels = [
        (one.quality_id, one.name, one.allowed, one.estimated_micros, one.models, one.refusal and one.refusal.code)
        for one in told.levels
    ]
    assert levels == [
        ("fast", "Fast", True, 1_500_000, ("small", "large"), None),
        ("enhanced", "Enhanced", True, 3_000_000, ("small", "large"), "insufficient_credits"),
        ("premium", "Premium", False, 6_000_000, (), "capability_denied"),
    ]
    assert told.limits == (
        LimitLeft("organization", "requests", "minute", 30, 1, 29, None, None, "drawing"),
        LimitLeft("organization", "requests", "day", 500, 0, 499, MIDNIGHT, None, "drawing"),
    )


def test_a_locked_level_says_which_plan_has_it() -> None:
    refusal = holding().explained(ask(USE), on("free")).levels[1].refusal
    assert refusal is not None
    assert [(hint.kind, hint.plan, hint.price_cents) for hint in refusal.hints()] == [("upgrade", "pro", 4_000)]


def test_a_full_minute_says_when_the_next_one_passes() -> None:
    books, known = holding(), on("free")
    for _ in range(2):
        assert isinstance(books.decided(ask(USE), known), Admission)
    told = books.explained(ask(USE), known)
    minute, day = told.limits
    assert told.refusal is not None and told.refusal.code == "rate_limit_exceeded"
    assert (minute.used, minute.remaining, minute.resets_at) == (2, 0, NOON + timedelta(seconds=61))
    assert (day.used, day.remaining, day.resets_at) == (0, 3, MIDNIGHT)


def test_a_call_is_told_with_the_limits_of_plan_model_trial_and_rule() -> None:
    known = studio(models={"large": premium(daily_messages=8)})
    own = plan(daily_messages=9, monthly_tokens=10_000)
    rule = Rule(UUID(int=40), "key", None, None, "tokens", "week", 5_000)
    books, world = holding(), facts(plan=own, catalogue=known, rules=(rule,))
    assert isinstance(books.decided(ask(model_id="large"), world), Admission)
    told = books.explained(ask(model_id="large"), world)
    week = end_of("week", start_of("week", NOON))
    assert told.limits == (
        LimitLeft("user", "messages", "day", 9, 0, 8, MIDNIGHT, None, None),
        LimitLeft("user", "messages", "day", 8, 0, 7, MIDNIGHT, "large", None),
        LimitLeft("organization", "tokens", "month", 10_000, 0, 8_900, MONTH, None, None),
        LimitLeft("user", "trial_messages", "lifetime", 2, 0, 1, None, "large", None),
        LimitLeft("key", "tokens", "week", 5_000, 0, 3_900, week, None, None),
    )
    assert (told.models, told.levels, told.model_id) == (("large",), (), "large")


def test_on_a_channel_that_takes_no_credits_everything_is_told_to_cost_nothing() -> None:
    own = plan(id="free", rank=10, charged_channels=frozenset())
    world = facts(plan=own, catalogue=studio())
    for asked in (ask(USE), ask(), ask(CreditsWant(5)), ask(CapabilityWant("drawing", "premium"))):
        told = holding(0).explained(asked, world)
        assert told.estimated_micros == 0
        assert {level.estimated_micros for level in told.levels} <= {0}


def test_the_lowest_level_that_the_plan_has_is_reckoned_when_none_is_named() -> None:
    known = studio(offers={"pro": {"drawing": offer("enhanced", "premium")}})
    told = holding(0).explained(ask(USE), on("pro", catalogue=known))
    assert told.estimated_micros == 3_000_000
    assert told.refusal is not None and told.refusal.code == "insufficient_credits"


def test_a_call_is_reckoned_with_no_more_output_than_plan_and_model_allow() -> None:
    known = studio(models={"small": model(max_output_tokens=300)})
    told = holding(0).explained(ask(output_tokens=9_000), on("pro", catalogue=known))
    assert told.estimated_micros == 50_000 + 300 * 150


@pytest.mark.parametrize(
    "known", [studio(capabilities={}), studio(capabilities={"drawing": capability(is_active=False)})]
)
def test_whoever_may_not_ask_is_told_so_before_that_there_is_no_such_capability(known: Any) -> None:
    told = holding().explained(ask(USE), on("pro", catalogue=known, key=None))
    assert told.refusal is not None and told.refusal.code == "invalid_api_key"
    told = holding().explained(ask(USE), on("pro", catalogue=known))
    assert told.refusal is not None and told.refusal.code == "not_found"


def test_a_refused_call_for_several_answers_is_reckoned_with_the_output_of_all() -> None:
    told = holding(0).explained(ask(answers=3), on("pro"))
    assert told.refusal is not None and told.refusal.code == "insufficient_credits"
    assert told.estimated_micros == 50_000 + 3 * 100 * 150


def test_of_a_limit_that_was_lowered_below_what_was_used_nothing_remains() -> None:
    books = holding()
    for _ in range(3):
        books.decided(ask(), on("pro", rules=(Rule(UUID(int=9), "key", None, None, "messages", "minute", 3),)))
    world = on("pro", rules=(Rule(UUID(int=9), "key", None, None, "messages", "minute", 1),))
    (left,) = (one for one in books.explained(ask(), world).limits if one.period == "minute")
    assert (left.limit, left.used, left.remaining) == (1, 3, 0)
    assert left.resets_at == NOON + timedelta(seconds=61)


def test_of_a_limit_that_nobody_touched_everything_remains_and_of_another_what_is_neither_used_nor_held() -> None:
    books, world = holding(), on("pro", rules=(Rule(UUID(int=9), "key", None, None, "messages", "day", 10),))

    def left() -> tuple[int, int, int]:
        (one,) = books.explained(ask(), world).limits
        return one.limit, one.used, one.remaining

    assert left() == (10, 0, 10)
    admission = books.decided(ask(), world)
    assert isinstance(admission, Admission)
    books.decided(ask(), world)
    assert left() == (10, 0, 8)
    for taken in admission.weighed.windows:
        books.windows.settle(taken.counter.window_id, admission.weighed.tokens if taken.amount is None else 1, 1)
    assert left() == (10, 1, 8)
    world = on("pro", rules=(Rule(UUID(int=9), "key", None, None, "messages", "day", 1),))
    assert left() == (1, 1, 0)


def test_plain_credits_are_about_no_model() -> None:
    told = holding().explained(ask(CreditsWant(5)), on("pro"))
    assert (told.model_id, told.models, told.levels) == (None, (), ())


def test_a_minute_that_lets_nothing_through_never_opens() -> None:
    world = on("pro", rules=(Rule(UUID(int=9), "key", None, None, "messages", "minute", 0),))
    told = holding().explained(ask(), world)
    (left,) = (one for one in told.limits if one.period == "minute")
    assert (left.remaining, left.resets_at) == (0, None)
    assert isinstance(told.refusal, LimitExceeded) and told.refusal.resets_at is None


def test_of_auto_it_is_told_which_models_may_answer_and_what_the_first_would_cost() -> None:
    known = studio(
        models={
            "small": model(quality_tier="fast"), "huge": model(id="huge", quality_tier="balanced"),
            "locked": premium(id="locked", quality_tier="fast"),
        },
        prices={"small": (price(),), "huge": (price(model_id="huge"),), "locked": (price(model_id="locked"),)},
    )  # fmt: skip
    told = holding().explained(ask(model_id=AUTO), on("pro", catalogue=known))
    assert (told.refusal, told.model_id, told.models) == (None, "small", ("small", "huge"))
    assert told.estimated_micros == 65_000
    poor = holding(0).explained(ask(model_id=AUTO), on("pro", catalogue=known))
    assert poor.refusal is not None and poor.refusal.code == "insufficient_credits"
    assert (poor.estimated_micros, poor.models) == (65_000, ("small", "huge"))


def test_of_auto_without_any_model_nothing_can_be_reckoned() -> None:
    told = holding().explained(ask(model_id=AUTO), on("pro"))
    assert told.refusal is not None and told.refusal.code == "model_not_found"
    assert (told.estimated_micros, told.models) == (None, ())

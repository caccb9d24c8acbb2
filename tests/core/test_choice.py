"""Which models may answer an ask, who is asked after the first, and that no fallback costs more than what is held."""

from __future__ import annotations

from dataclasses import replace
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
    RATE,
    SOMEBODY,
    account,
    ask,
    call,
    catalogue,
    connection,
    facts,
    grant,
    key,
    model,
    plan,
    premium,
    price,
    studio,
)
from tollhouse.core import errors, refusals
from tollhouse.core.admission import CANDIDATES_MAX, OUTPUT_TOKENS_MIN, Admission, decide
from tollhouse.core.ask import AUTO, Ask, CallWant, CapabilityWant, Size
from tollhouse.core.catalogue import Catalogue
from tollhouse.core.choice import in_question
from tollhouse.core.complexity import Shape
from tollhouse.core.experiment import Arm, Experiment
from tollhouse.core.limits import takes_of
from tollhouse.core.price import RateCard
from tollhouse.core.quota import Window, Windows, counter
from tollhouse.core.rate import Rates
from tollhouse.core.routing import Connection, Model

LARGE = frozenset({"large"})
SIMPLE, MODERATE, COMPLEX = Shape(10), Shape(10, has_code=True), Shape(10_000, has_code=True)
EMBEDDING = model(id="vectors", kind="embedding")


def world(*models: Model, prices: dict[str, Any] | None = None, **changes: Any) -> Catalogue:
    """These models, each at the usual price if nothing else is said."""
    priced = {one.id: (price(model_id=one.id),) for one in models} | (prices or {})
    return catalogue(models={one.id: one for one in models}, prices=priced, **changes)


def decided(asked: Ask, known: Catalogue, micros: int = 500 * CREDIT, **about: Any) -> Admission:
    given_facts = facts(catalogue=known, **about)
    windows = about.pop("windows", Windows())
    books = account(grant(1, micros)) if micros else account()
    return decide(asked, given_facts, takes_of(asked, given_facts), books, windows, Rates())


def own(number: int, **changes: Any) -> Connection:
    return connection(organization_id=ORGANIZATION, id=UUID(int=number), **changes)


def platform(number: int, **changes: Any) -> Connection:
    return connection(id=UUID(int=number), **changes)


def numbers(admission: Admission) -> list[tuple[str, int]]:
    """Model and connection of each candidate; 0 is the sandbox."""
    return [
        (one.model.id, one.route.connection.id.int if one.route.connection else 0) for one in admission.terms.candidates
    ]


GPT = model(id="gpt", provider_id="openai")
LIVE: dict[str, Any] = {"mode": "live", "key": key(mode="live")}


# --------------------------------------------------------------------------------------------------------- the chain


def test_all_connections_of_the_model_are_asked_and_the_system_default_last() -> None:
    known = world(
        GPT,
        model(id="default", provider_id="together", is_default=True),
        connections={"openai": (platform(51),), "together": (platform(71, provider_id="together"),)},
        own_connections={ORGANIZATION: {"openai": (own(61),)}},
    )
    found = decided(ask(call("gpt")), known, **LIVE)
    assert numbers(found) == [("gpt", 61), ("gpt", 51), ("default", 71)]
    assert (found.terms.asked, found.terms.reason, found.terms.experiment_id) == ("gpt", None, None)
    alone = decided(ask(replace(call("gpt"), fallback=False)), known, **LIVE)
    assert numbers(alone) == [("gpt", 61), ("gpt", 51)]


def test_another_organisations_connections_are_never_asked() -> None:
    known = world(GPT, own_connections={UUID(int=9): {"openai": (own(61),)}})
    with pytest.raises(refusals.NotConnected):
        decided(ask(call("gpt")), known, **LIVE)


def test_at_most_so_many_are_asked_and_the_default_is_among_them() -> None:
    many = tuple(platform(50 + number) for number in range(9))
    default = model(id="default", provider_id="together", is_default=True)
    together = (platform(71, provider_id="together"), platform(72, provider_id="together"))
    found = decided(ask(call("gpt")), world(GPT, default, connections={"openai": many, "together": together}), **LIVE)
    assert len(found.terms.candidates) == CANDIDATES_MAX
    assert numbers(found) == [("gpt", 50), ("gpt", 51), ("gpt", 52), ("default", 71)]
    assert len(decided(ask(call("gpt")), world(GPT, connections={"openai": many}), **LIVE).terms.others) == 3


@pytest.mark.parametrize(
    ("default", "prices"),
    [
        (model(id="default", provider_id="openai", is_default=True, enabled=False), {}),
        (model(id="default", provider_id="other", is_default=True), {}),
        (premium(id="default", provider_id="openai", is_default=True), {}),
        (model(id="default", provider_id="openai", is_default=True, kind="embedding"), {}),
        (model(id="default", provider_id="openai", is_default=True), {"default": ()}),
    ],
    ids=["disabled", "not-connected", "locked", "of-another-kind", "unpriced"],
)
def test_a_default_that_cannot_be_used_is_nobodys_fallback(default: Model, prices: dict[str, Any]) -> None:
    known = world(GPT, default, prices=prices, connections={"openai": (platform(51),)})
    assert numbers(decided(ask(call("gpt")), known, **LIVE)) == [("gpt", 51)]


def test_made_up_text_stands_in_for_no_provider_nor_a_provider_for_made_up_text() -> None:
    default = model(id="default", provider_id="together", is_default=True)
    connected = world(GPT, default, connections={"openai": (platform(51),)})
    assert numbers(decided(ask(call("gpt")), connected)) == [("gpt", 51)]
    other_way = world(GPT, default, connections={"together": (platform(71, provider_id="together"),)})
    assert numbers(decided(ask(call("gpt")), other_way)) == [("gpt", 0)]
    assert numbers(decided(ask(call("gpt")), world(GPT, default))) == [("gpt", 0), ("default", 0)]


def test_what_the_host_application_calls_itself_has_no_others() -> None:
    known = world(GPT, model(id="default", is_default=True), connections={"openai": (platform(51), platform(52))})
    found = decided(replace(ask(call("gpt")), here=False), known)
    assert found.terms.others == ()


def test_a_dearer_default_gets_less_output_or_is_left_out() -> None:
    default = model(id="default", is_default=True)

    def others(output_tokens: int, dearer: int) -> list[int | None]:
        cost = price(model_id="default", output_nanos_per_million=dearer * 1_500_000_000)
        known = world(model(), default, prices={"default": (cost,)})
        return [one.output_tokens for one in decided(ask(output_tokens=output_tokens), known).terms.others]

    assert others(1_000, 1) == [1_000]
    assert others(1_000, 3) == [333]
    assert others(1_000, 4) == []  # 250: too short to be of use
    assert others(100, 2) == []  # what is wanted is short already


connections = st.integers(0, 3).map(lambda many: tuple(platform(50 + number) for number in range(many)))
owned = st.integers(0, 2).map(lambda many: tuple(own(60 + number) for number in range(many)))
costs = st.builds(
    lambda given, made: price(model_id="default", input_nanos_per_million=given, output_nanos_per_million=made),
    st.integers(0, 2_000_000_000), st.integers(0, 6_000_000_000),
)  # fmt: skip


@given(
    connections, owned, costs, st.integers(0, 300_000), st.sampled_from([0, 100, 1_000]), st.integers(0, 5_000),
    st.none() | st.integers(1, 5_000), st.integers(1, 4),
)  # fmt: skip
def test_no_candidate_can_cost_more_than_what_is_held_nor_answer_longer_than_the_first(
    of_platform: Any, of_hers: Any, cost: Any, micros: int, share: int, given_tokens: int, output: Any, answers: int
) -> None:
    default = model(id="default", provider_id="openai", is_default=True)
    known = world(
        GPT, default, prices={"default": (cost,)}, rates=(replace(RATE, own_key_permille=share),),
        connections={"openai": of_platform}, own_connections={ORGANIZATION: {"openai": of_hers}},
    )  # fmt: skip
    want = CallWant("gpt", Size(given_tokens, output), answers)
    try:
        admission = decided(ask(want), known, micros)
    except refusals.InsufficientCredits:
        return
    assert len(admission.terms.candidates) <= CANDIDATES_MAX
    first = admission.terms.candidates[0]
    for one in admission.terms.candidates:
        assert one.output_tokens is not None and first.output_tokens is not None
        most = one.quote.most_micros(given_tokens, one.output_tokens * answers)
        assert most <= admission.hold.amount_micros <= micros
        assert one.output_tokens <= first.output_tokens
        assert one.output_tokens >= min(first.output_tokens, OUTPUT_TOKENS_MIN)


# ------------------------------------------------------------------------------------------------------------ own keys


def test_over_an_own_connection_a_share_is_charged_and_the_platforms_price_is_held_where_there_is_credit() -> None:
    known = world(
        GPT, connections={"openai": (platform(51),)}, own_connections={ORGANIZATION: {"openai": (own(61),)}},
        rates=(replace(RATE, own_key_permille=100),),
    )  # fmt: skip
    rich = decided(ask(call("gpt")), known)
    assert (numbers(rich), rich.hold.amount_micros) == ([("gpt", 61), ("gpt", 51)], 65_000)
    assert [one.quote.share_permille for one in rich.terms.candidates] == [100, 1_000]
    poor = decided(ask(call("gpt")), known, micros=6_500)
    assert (numbers(poor), poor.hold.amount_micros) == ([("gpt", 61)], 6_500)
    with pytest.raises(refusals.InsufficientCredits):
        decided(ask(call("gpt")), known, micros=6_000)


def test_without_credits_an_own_connection_answers_for_nothing_when_the_rate_card_says_so() -> None:
    known = world(GPT, own_connections={ORGANIZATION: {"openai": (own(61),)}})
    assert decided(ask(call("gpt")), known, micros=0).hold.amount_micros == 0


# -------------------------------------------------------------------------------------------------------- replacements


def old(**changes: Any) -> Model:
    return model(**{"id": "old", "deprecated_at": NOON, "replacement_id": "new"} | changes)


def test_from_its_date_on_a_deprecated_model_answers_as_its_replacement() -> None:
    known = world(old(), model(id="new"))
    found = decided(ask(call("old")), known)
    assert (found.terms.model.id, found.terms.asked) == ("new", "old")
    assert found.terms.reason == "deprecated: old is replaced by new"
    before = decided(ask(call("old")), known, now=NOON - timedelta(microseconds=1))
    assert (before.terms.model.id, before.terms.reason) == ("old", None)
    assert decided(ask(call("old")), world(old(replacement_id=None))).terms.model.id == "old"
    by_host = decided(replace(ask(call("old")), here=False), known)
    assert by_host.terms.model.id == "old"


@pytest.mark.parametrize(("steps", "allowed"), [(5, True), (6, False)])
def test_replacements_are_followed_so_far_and_no_further(steps: int, allowed: bool) -> None:
    line = [model(id=str(n), deprecated_at=ANCIENT, replacement_id=str(n + 1)) for n in range(steps)]
    known = world(*line, model(id=str(steps)))
    if allowed:
        assert decided(ask(call("0")), known).terms.model.id == str(steps)
        return
    with pytest.raises(refusals.ModelDisabled):
        decided(ask(call("0")), known)


ANCIENT = NOON - 365 * DAY


def test_replacements_in_a_circle_are_refused() -> None:
    with pytest.raises(refusals.ModelDisabled):
        decided(ask(call("old")), world(old(), old(id="new", replacement_id="old")))


def test_who_has_unlocked_a_model_has_its_replacement_and_who_has_not_is_on_trial_with_it() -> None:
    known = world(premium(id="old", deprecated_at=NOON, replacement_id="large"), premium())
    assert in_question(ask(call("old")), known) == ("old", "large")
    unlocked = decided(ask(call("old")), known, entitled=frozenset({"old"}))
    assert (unlocked.terms.model.id, unlocked.weighed.trial) == ("large", None)
    trial = decided(ask(call("old")), known).weighed.trial
    assert trial is not None and trial.counter.model_id == "large"


def test_a_disabled_replacement_is_refused_like_any_other() -> None:
    with pytest.raises(refusals.ModelDisabled) as refused:
        decided(ask(call("old")), world(old(), model(id="new", enabled=False)))
    assert refused.value.model_id == "new"


# ---------------------------------------------------------------------------------------------------------- embeddings


def test_an_embedding_takes_its_input_alone_and_has_no_fallback() -> None:
    known = world(EMBEDDING, model(id="default", is_default=True))
    want = CallWant("vectors", Size(1_000, None), kind="embedding")
    found = decided(ask(want), known)
    assert (found.hold.amount_micros, found.terms.output_tokens, found.weighed.tokens) == (50_000, 0, 1_000)
    assert found.terms.others == ()


@pytest.mark.parametrize(("name", "kind", "where"), [("vectors", "chat", "embeddings"), ("small", "embedding", "chat")])
def test_a_model_of_another_kind_is_refused_with_the_endpoint_that_takes_it(name: str, kind: Any, where: str) -> None:
    with pytest.raises(errors.BadRequest) as refused:
        decided(ask(CallWant(name, Size(10, 10), kind=kind)), world(EMBEDDING, model()))
    assert f"/v1/{where}" in str(refused.value)
    assert refused.value.field == "model"


# ---------------------------------------------------------------------------------------------------------------- auto


def tiers(**changes: Any) -> Catalogue:
    """Two quick models, the dearer first; one of each other tier, the powerful one premium; and a default."""
    return world(
        model(id="dear", quality_tier="fast"),
        model(id="cheap", quality_tier="fast"),
        model(id="middle", quality_tier="balanced"),
        premium(id="large", quality_tier="powerful"),
        model(id="default", is_default=True),
        prices={
            "cheap": (price(model_id="cheap", input_nanos_per_million=1),),
            "middle": (price(model_id="middle", output_nanos_per_million=15_000_000_000),),
        },
        **changes,
    )


def auto(shape: Shape | None = None, output_tokens: int = 1_000) -> Ask:
    return ask(CallWant(AUTO, Size(1_000, output_tokens), shape=shape))


@pytest.mark.parametrize(
    ("shape", "entitled", "chosen"),
    [
        (SIMPLE, LARGE, "cheap"),
        (MODERATE, LARGE, "middle"),
        (COMPLEX, LARGE, "large"),
        (COMPLEX, frozenset(), "middle"),
    ],
)
def test_auto_asks_the_cheapest_of_the_tier_that_fits_and_may_be_used_without_a_trial(
    shape: Shape, entitled: frozenset[str], chosen: str
) -> None:
    found = decided(auto(shape), tiers(), entitled=entitled)
    assert (found.terms.model.id, found.terms.asked) == (chosen, AUTO)
    assert found.weighed.trial is None
    assert found.terms.reason is not None and found.terms.reason.startswith("auto: ")
    assert {take.counter.model_id for take in found.weighed.windows} == {"", chosen}


def test_auto_says_what_it_judged_by() -> None:
    assert decided(auto(SIMPLE), tiers()).terms.reason == "auto: simple (short question)"
    assert decided(auto(COMPLEX), tiers()).terms.reason == "auto: complex (long text, code)"


def test_auto_judges_by_size_when_nothing_else_is_known() -> None:
    long = ask(CallWant(AUTO, Size(40_000, 10)))
    assert decided(long, tiers()).terms.model.id == "middle"
    assert decided(auto(), tiers()).terms.model.id == "cheap"


def test_models_that_cost_the_same_are_asked_in_their_order() -> None:
    known = world(model(id="b", quality_tier="fast"), model(id="a", quality_tier="fast"))
    assert decided(auto(SIMPLE), known).terms.model.id == "b"


@pytest.mark.parametrize(
    "out_of_reach",
    [{"enabled": False}, {"selectable": False}, {"kind": "embedding"}, {"provider_id": "other"},
     {"deprecated_at": NOON, "replacement_id": "dear"}],
    ids=["disabled", "not-selectable", "embedding", "not-connected", "replaced"],
)  # fmt: skip
def test_auto_chooses_nothing_that_cannot_be_asked(out_of_reach: dict[str, Any]) -> None:
    first = model(**{"id": "cheap", "quality_tier": "fast", "provider_id": "openai"} | out_of_reach)
    dear = model(id="dear", provider_id="openai", quality_tier="fast")
    cheap = {"cheap": (price(model_id="cheap", input_nanos_per_million=1),)}
    known = world(first, dear, prices=cheap, connections={"openai": (platform(51),)})
    assert decided(auto(SIMPLE), known, **LIVE).terms.model.id == "dear"


def test_without_a_model_of_any_tier_the_default_answers_and_without_one_nobody() -> None:
    assert decided(auto(COMPLEX), world(model(id="default", is_default=True))).terms.model.id == "default"
    with pytest.raises(refusals.ModelNotFound):
        decided(auto(COMPLEX), world(model()))


def test_where_credits_do_not_reach_a_cheaper_tier_answers_instead_of_a_refusal() -> None:
    known = tiers()
    middle = decided(auto(MODERATE), known).hold.amount_micros
    assert decided(auto(MODERATE), known, micros=300_000).terms.model.id == "cheap"
    assert middle > 300_000
    with pytest.raises(refusals.InsufficientCredits):
        decided(auto(MODERATE), known, micros=100)


def test_where_the_models_own_limit_is_reached_the_next_one_answers() -> None:
    limited = world(
        model(id="cheap", quality_tier="fast", daily_messages=1), model(id="dear", quality_tier="fast"),
    )  # fmt: skip
    windows = Windows()
    full = counter(SOMEBODY, "messages", "day", NOON, "cheap")
    windows.by_id[full.window_id] = Window(full, used=1)
    given_facts = facts(catalogue=limited)
    asked = auto(SIMPLE)
    found = decide(asked, given_facts, takes_of(asked, given_facts), account(grant(1, CREDIT)), windows, Rates())
    assert found.terms.model.id == "dear"
    assert windows.by_id[full.window_id].reserved == 0


def test_of_auto_it_must_be_known_of_every_premium_model_whether_it_is_unlocked() -> None:
    known = tiers()
    assert in_question(auto(), known) == ("large",)
    assert in_question(ask(call("cheap")), known) == ()
    assert in_question(ask(call("large")), known) == ("large",)
    assert in_question(ask(CapabilityWant("drawing")), known) == ()


# --------------------------------------------------------------------------------------------------------- experiments


def experiment(*arms: str, about: str = "small", **changes: Any) -> Experiment:
    """Begun at noon, without an end, all arms alike."""
    made = Experiment(
        UUID(int=8), "trial", about, None, None, NOON, None, tuple(Arm(one, 1) for one in arms),
    )  # fmt: skip
    return replace(made, **changes)


def test_an_arm_answers_in_place_of_the_model_that_was_asked_for() -> None:
    known = catalogue(experiments=(experiment("large"),))
    found = decided(ask(), known, entitled=LARGE)
    assert (found.terms.model.id, found.terms.asked) == ("large", "small")
    assert (found.terms.reason, found.terms.experiment_id) == ("experiment: trial", UUID(int=8))
    assert in_question(ask(), known) == ("large",)


def test_who_keeps_the_model_that_was_asked_for_takes_part_too() -> None:
    found = decided(ask(), catalogue(experiments=(experiment("small"),)))
    assert (found.terms.model.id, found.terms.reason, found.terms.experiment_id) == ("small", None, UUID(int=8))


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({}, {}),
        ({"models": {"small": model(), "large": premium(enabled=False)}}, {"entitled": LARGE}),
        ({"models": {"small": model(), "large": premium(kind="embedding")}}, {"entitled": LARGE}),
        ({"prices": {"small": (price(),)}}, {"entitled": LARGE}),
        ({"models": {"small": model(), "large": premium(provider_id="x")},
          "connections": {"sandbox": (platform(51),)}}, {"entitled": LARGE, **LIVE}),
    ],
    ids=["locked", "disabled", "of-another-kind", "unpriced", "not-connected"],
)  # fmt: skip
def test_who_may_not_use_an_arm_gets_what_was_asked_for_and_takes_no_part(changes: Any, about: Any) -> None:
    found = decided(ask(), catalogue(experiments=(experiment("large"),), **changes), **about)
    assert (found.terms.model.id, found.terms.reason, found.terms.experiment_id) == ("small", None, None)


def test_an_experiment_refuses_nobody_who_would_have_been_admitted_without_it() -> None:
    dear = price(model_id="large", output_nanos_per_million=10**14)
    known = catalogue(experiments=(experiment("large"),), prices={"small": (price(),), "large": (dear,)})
    found = decided(ask(output_tokens=200), known, micros=CREDIT, entitled=LARGE)
    assert (found.terms.model.id, found.terms.experiment_id) == ("small", None)
    with pytest.raises(refusals.InsufficientCredits) as refused:
        decided(ask(output_tokens=200), known, micros=1_000, entitled=LARGE)
    assert refused.value.needed_micros == 80_000, "what the model that was asked for would cost"


@pytest.mark.parametrize(
    "other",
    [
        experiment("large", about="large"),
        experiment("large", starts_at=NOON + DAY),
        experiment("large", starts_at=NOON - DAY, ends_at=NOON),
        experiment("large", model_id=None, capability_id="drawing", quality_id="fast"),
    ],
    ids=["of-another-model", "not-begun", "ended", "of-a-capability"],
)
def test_an_experiment_about_something_else_or_at_another_time_changes_nothing(other: Experiment) -> None:
    found = decided(ask(), catalogue(experiments=(other,)), entitled=LARGE)
    assert (found.terms.model.id, found.terms.experiment_id) == ("small", None)


def test_what_the_host_application_calls_itself_takes_part_in_none() -> None:
    known = catalogue(experiments=(experiment("large"),))
    assert decided(replace(ask(), here=False), known, entitled=LARGE).terms.model.id == "small"


def test_auto_can_be_the_subject_of_an_experiment() -> None:
    found = decided(auto(SIMPLE), tiers(experiments=(experiment("default", about=AUTO),)))
    assert (found.terms.model.id, found.terms.reason) == ("default", "experiment: trial")


# -------------------------------------------------------------------------------------------------------- capabilities


def drawing(quality: str | None = None, **about: Any) -> Ask:
    return ask(CapabilityWant("drawing", quality, **about))


def on_team(known: Catalogue, **about: Any) -> Any:
    return decided(drawing(**about), known, plan=known.plans["team"])


def test_every_model_of_an_offer_is_asked_in_its_order_and_the_estimate_is_held_whoever_answers() -> None:
    dear = price(model_id="large", output_nanos_per_million=10**14)
    known = studio(prices={"small": (price(),), "large": (dear,)})
    found = on_team(known, size=Size(1_000, 300))
    assert numbers(found) == [("small", 0), ("large", 0)]
    assert (found.hold.amount_micros, found.terms.asked, found.terms.reason) == (1_500_000, "drawing", None)
    assert [one.output_tokens for one in found.terms.candidates] == [300, 300]
    assert decided(replace(drawing(), here=False), known).terms.others == ()


def test_the_rate_cards_multiplier_of_a_quality_counts_before_the_qualitys_own() -> None:
    rate = RateCard(2, NOON, 100 * CREDIT, multipliers={"enhanced": 3_000})
    known = studio(rates=(rate, RATE))
    team = known.plans["team"]
    found = decided(drawing("enhanced"), known, plan=team)
    assert (found.hold.amount_micros, found.terms.quote.multiplier_permille) == (4_500_000, 3_000)
    before = decided(drawing("enhanced"), known, plan=team, now=NOON - timedelta(seconds=1))
    assert before.hold.amount_micros == 3_000_000
    assert decided(drawing("premium"), known, plan=team).hold.amount_micros == 6_000_000


def test_a_named_model_of_the_offer_is_asked_first_and_no_other_is() -> None:
    known = studio()
    assert numbers(on_team(known, model_id="large")) == [("large", 0), ("small", 0)]
    with pytest.raises(errors.BadRequest) as refused:
        on_team(known, model_id="huge")
    assert "There are: small, large." in str(refused.value)


def test_a_deprecated_model_of_an_offer_answers_as_its_replacement_once() -> None:
    gone = model(deprecated_at=NOON, replacement_id="large")
    found = on_team(studio(models={"small": gone, "large": premium()}))
    assert numbers(found) == [("large", 0)]
    assert found.terms.reason == "deprecated: small is replaced by large"


def test_an_arm_of_a_capability_is_asked_first_and_need_not_be_unlocked() -> None:
    about: dict[str, Any] = {"model_id": None, "capability_id": "drawing", "quality_id": "fast"}
    found = on_team(studio(experiments=(experiment("large", **about),)))
    assert numbers(found) == [("large", 0), ("small", 0)]
    assert (found.terms.reason, found.terms.experiment_id) == ("experiment: trial", UUID(int=8))
    control = on_team(studio(experiments=(experiment("small", **about),)))
    assert (control.terms.reason, control.terms.experiment_id) == (None, UUID(int=8))
    assert on_team(studio(experiments=(experiment("large", **about),)), quality="enhanced").terms.experiment_id is None


def test_a_plan_that_takes_no_credits_holds_none_for_any_candidate() -> None:
    known = world(model(), model(id="default", is_default=True))
    found = decided(ask(channel="chat"), known, micros=0, plan=plan())
    assert [one.quote.charged for one in found.terms.candidates] == [False, False]
    assert found.hold.amount_micros == 0


def test_takes_stay_with_the_choice_that_is_admitted() -> None:
    known = tiers()
    given_facts = facts(catalogue=known)
    takes = takes_of(auto(MODERATE), given_facts)
    of_models = [{one.counter.model_id for one in each.windows} - {""} for each in takes.each]
    assert of_models == [{"middle"}, {"cheap"}, {"dear"}, {"default"}]


# ---------------------------------------------------------------------------------------------- a key for some models


def only(*models: str, **about: Any) -> Any:
    return key(models=frozenset(models), **about)


def refusal(asked: Ask, known: Catalogue, **about: Any) -> Any:
    with pytest.raises(errors.TollhouseError) as found:
        decided(asked, known, **about)
    return found.value


def test_a_key_for_some_models_calls_these_and_no_other() -> None:
    known = world(model(), model(id="other"))
    assert decided(ask(), known, key=only("small")).terms.model.id == "small"
    refused = refusal(ask(model_id="other"), known, key=only("small"))
    assert (refused.code, refused.status, refused.models) == ("model_not_allowed", 403, ("small",))
    assert refusal(replace(ask(model_id="other"), here=False), known, key=only("small")).code == "model_not_allowed"
    assert refusal(ask(model_id="none"), known, key=only("small")).code == "model_not_found"
    assert refusal(ask(), known, key=only()).code == "model_not_allowed"


def test_what_replaces_a_model_must_be_the_keys_too() -> None:
    known = world(old(replacement_id="new"), model(id="new"))
    asked = ask(model_id=old().id)
    assert refusal(asked, known, key=only(old().id)).code == "model_not_allowed"
    assert decided(asked, known, key=only("new")).terms.model.id == "new"


def test_no_fallback_leaves_the_models_of_the_key() -> None:
    known = world(model(), model(id="last", is_default=True))
    assert [one.model.id for one in decided(ask(), known, key=only("small", "last")).terms.others] == ["last"]
    assert decided(ask(), known, key=only("small")).terms.others == ()


def test_auto_chooses_among_the_models_of_the_key() -> None:
    everything = decided(auto(SIMPLE), tiers()).terms.model.id
    others = frozenset(tiers().models) - {everything, "large"}
    free = sorted(id_ for id_ in others if tiers().models[id_].tier == "free" and tiers().models[id_].kind == "chat")
    assert free
    for id_ in free:
        assert decided(auto(SIMPLE), tiers(), key=only(id_)).terms.model.id == id_
    refused = refusal(auto(SIMPLE), tiers(), key=only("none"))
    assert (refused.code, refused.model_id) == ("model_not_allowed", "auto")


def test_an_experiment_leads_nobody_out_of_the_models_of_the_key() -> None:
    known = world(model(), model(id="arm"), experiments=(experiment("arm"),))
    assert decided(ask(), known).terms.model.id == "arm"
    kept = decided(ask(), known, key=only("small")).terms
    assert (kept.model.id, kept.experiment_id) == ("small", None)
    assert refusal(ask(), known, key=only("arm")).code == "model_not_allowed"


def test_a_capability_is_answered_by_the_models_of_the_key_alone() -> None:
    known = replace(studio(), offers={"pro": {"drawing": studio().offers["pro"]["drawing"]}})
    both = decided(drawing("fast"), known).terms
    assert [one.model.id for one in both.candidates] == ["small", "large"]
    assert [one.model.id for one in decided(drawing("fast"), known, key=only("large")).terms.candidates] == ["large"]
    assert refusal(drawing("fast"), known, key=only("none")).code == "model_not_allowed"

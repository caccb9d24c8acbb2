"""Who is offered which assistant, and what is left of its tokens."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.cast import ANCHOR, NOON, ORGANIZATION, SOMEBODY
from tollhouse.core.assistant import (
    Allowance,
    Assistant,
    NotEnabled,
    Offer,
    PlanRequired,
    Setting,
    Standing,
    allowance,
    check_open,
    counter_of,
    offers,
    rule_of,
)
from tollhouse.core.catalogue import Plan
from tollhouse.core.quota import counter
from tollhouse.core.routing import PLATFORM_ID

RANKS = {"free": 10, "starter": 20, "pro": 40, "team": 50}
PLANS = {id_: Plan(id_, id_.title(), rank, 0, 0, None, None, 1000, frozenset()) for id_, rank in RANKS.items()}
TEMPLATE = Assistant(
    PLATFORM_ID, UUID(int=100), None, "helper", "template", "Helper", "", "helper", "Help.", (), "bot", None, None, (),
    None, None, None, None, (), False, False, True, 0, ANCHOR, ANCHOR,
)  # fmt: skip
SOMEBODY_ELSE = UUID(int=55)


def standing(kind: str = "personal", plan: str = "free", business_type: str = "general") -> Standing:
    return Standing(SOMEBODY, kind, business_type, PLANS[plan], NOON)


def offered(one: Assistant, where: Standing, setting: Setting | None = None, used: datetime | None = None) -> Offer:
    settings = {} if setting is None else {one.id: setting}
    [found] = offers([one], settings, PLANS, {} if used is None else {one.id: used}, where)
    return found


def template(**changes: Any) -> Assistant:
    return replace(TEMPLATE, **changes)


def test_a_personal_organisation_has_everything_its_plan_has() -> None:
    assert offered(TEMPLATE, standing()).state == "open"
    assert offered(template(required_plan_id="pro"), standing(plan="team")).state == "open"


def test_a_team_has_the_personas_and_of_templates_what_its_admins_switched_on() -> None:
    team = standing("team")
    persona = template(kind="persona")
    assert offered(persona, team).state == "open"
    assert offered(persona, team, Setting(persona.id, False, None)).state == "not_enabled"
    assert offered(TEMPLATE, team).state == "not_enabled"
    assert offered(TEMPLATE, team, Setting(TEMPLATE.id, True, None)).state == "open"
    assert offered(TEMPLATE, team, Setting(TEMPLATE.id, False, None)).state == "not_enabled"


def test_a_personal_organisation_may_switch_one_off() -> None:
    assert offered(TEMPLATE, standing(), Setting(TEMPLATE.id, False, None)).state == "not_enabled"


@given(
    mine=st.sampled_from(list(RANKS)), wanted=st.sampled_from(list(RANKS)), kind=st.sampled_from(["personal", "team"])
)
def test_an_assistant_of_a_higher_plan_is_locked_and_says_which_plan_has_it(mine: str, wanted: str, kind: str) -> None:
    one = template(required_plan_id=wanted)
    found = offered(one, standing(kind, mine), Setting(one.id, True, None))
    higher = RANKS[wanted] > RANKS[mine]
    assert (found.state == "plan_required") == higher
    assert found.required_plan == (PLANS[wanted] if higher else None)


def test_a_trial_begins_with_the_first_use_and_ends_on_the_minute() -> None:
    one = template(required_plan_id="pro", trial_days=7)
    unused = offered(one, standing())
    assert (unused.state, unused.on_trial, unused.trial_ends_at) == ("open", True, None)
    last = offered(one, standing(), used=NOON - timedelta(days=7) + timedelta(microseconds=1))
    assert (last.state, last.on_trial) == ("open", True)
    over = offered(one, standing(), used=NOON - timedelta(days=7))
    assert (over.state, over.on_trial, over.trial_ends_at) == ("plan_required", False, NOON)
    with pytest.raises(PlanRequired, match="trial of it is over") as refused:
        check_open(over)
    assert refused.value.status == 403 and refused.value.code == "plan_required"
    assert [(hint.kind, hint.plan) for hint in refused.value.hints()] == [("upgrade", "pro")]


def test_a_plan_that_has_it_needs_no_trial() -> None:
    found = offered(
        template(required_plan_id="pro", trial_days=7), standing(plan="pro"), used=NOON - timedelta(days=90)
    )
    assert (found.state, found.on_trial) == ("open", False)


@pytest.mark.parametrize(
    ("of_assistant", "of_organization", "listed"),
    [((), "legal", True), (("retail",), "retail", True), (("retail",), "legal", False), (("retail",), "general", True)],
)
def test_a_business_type_is_offered_what_is_made_for_it_and_one_that_said_nothing_everything(
    of_assistant: tuple[str, ...], of_organization: str, listed: bool
) -> None:
    one = template(business_types=of_assistant)
    assert bool(offers([one], {}, PLANS, {}, standing(business_type=of_organization))) == listed


def test_what_an_organisation_made_itself_suits_it_whatever_its_type() -> None:
    one = template(organization_id=ORGANIZATION, business_types=("retail",))
    assert offered(one, standing("team", business_type="legal"), Setting(one.id, True, None)).state == "open"


def test_ones_own_is_open_to_its_person_alone_whatever_the_admins_say() -> None:
    mine = template(organization_id=ORGANIZATION, person_id=SOMEBODY)
    off = Setting(mine.id, False, None)
    assert offered(mine, standing("team"), off).state == "open"
    theirs = replace(mine, person_id=SOMEBODY_ELSE)
    with pytest.raises(NotEnabled):
        check_open(offered(theirs, standing("team"), Setting(mine.id, True, None)))


def test_the_admins_limit_stands_in_place_of_the_assistants() -> None:
    limited = template(token_limit=10_000, token_period="week")
    assert (offered(limited, standing()).token_limit, offered(limited, standing()).token_period) == (10_000, "week")
    changed = offered(limited, standing(), Setting(limited.id, True, 500))
    assert (changed.token_limit, changed.token_period) == (500, "week")
    given_one = offered(TEMPLATE, standing(), Setting(TEMPLATE.id, True, 500))
    assert (given_one.token_limit, given_one.token_period) == (500, "month")
    assert rule_of(offered(TEMPLATE, standing())) is None


def test_a_limit_counts_each_person_in_the_window_that_the_teller_would_take() -> None:
    found = offered(template(token_limit=10_000, token_period="day"), standing())
    rule = rule_of(found)
    assert rule is not None
    assert (rule.scope, rule.subject_id, rule.model_id, rule.meter) == ("person", None, None, "tokens")
    assert (rule.period, rule.maximum, rule.id) == ("day", 10_000, TEMPLATE.id)
    counted = counter_of(rule, SOMEBODY, NOON)
    assert counted == counter(SOMEBODY, "tokens", "day", NOON, limit_id=rule.id)
    assert allowance(rule, counted, 5).resets_at == datetime(2026, 3, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("used", "percent", "warned"),
    [
        (0, 0, None),
        (7_999, 79, None),
        (8_000, 80, "approaching"),
        (8_999, 89, "approaching"),
        (9_000, 90, "almost"),
        (9_999, 99, "almost"),
        (10_000, 100, "reached"),
        (12_345, 123, "reached"),
    ],
)
def test_warnings_come_at_80_90_and_100_per_cent(used: int, percent: int, warned: str | None) -> None:
    left = Allowance(used, 10_000, "month", NOON)
    assert (left.percent, left.warned) == (percent, warned)

"""Assistants: ready-made ways to use a model, and who may use which."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from tollhouse.core.catalogue import Plan
from tollhouse.core.errors import Hint, TollhouseError
from tollhouse.core.period import end_of
from tollhouse.core.quota import Counter, Rule, counter
from tollhouse.core.routing import PLATFORM_ID

Kind = Literal["persona", "template"]
TokenPeriod = Literal["day", "week", "month"]
State = Literal["open", "plan_required", "not_enabled"]
Warned = Literal["approaching", "almost", "reached"]
GENERAL = "general"  # the business type of an organisation that has not said what it is


@dataclass(frozen=True, slots=True)
class Task:
    """What an assistant is asked with one press: the button's name, and what is then said."""

    name: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Assistant:
    """`person_id`: whose own it is, None when everybody in the organisation may have it; of the platform's everybody
    may. `model_id` answers where nobody chose one. `token_limit` is for each person and `token_period`."""

    organization_id: UUID
    id: UUID
    person_id: UUID | None
    slug: str
    kind: Kind
    name: str
    description: str
    role: str
    system_message: str
    tasks: tuple[Task, ...]
    icon: str
    model_id: str | None
    max_output_tokens: int | None
    business_types: tuple[str, ...]
    required_plan_id: str | None
    token_limit: int | None
    token_period: TokenPeriod | None
    trial_days: int | None
    tags: tuple[str, ...]
    is_free: bool
    is_featured: bool
    is_active: bool
    sort_order: int
    created_at: datetime
    updated_at: datetime

    @property
    def of_platform(self) -> bool:
        return self.organization_id == PLATFORM_ID

    def suits(self, business_type: str) -> bool:
        """Whether it is meant for organisations of this type. One that has not said what it is, is offered all."""
        return not self.business_types or business_type == GENERAL or business_type in self.business_types


@dataclass(frozen=True, slots=True)
class Setting:
    """What the admins of an organisation say of an assistant. `token_limit` stands in place of the assistant's own."""

    assistant_id: UUID
    enabled: bool
    token_limit: int | None


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of what an assistant knows, as it is found for a question."""

    document_id: UUID
    position: int
    title: str
    source: str
    heading: str
    content: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Whom assistants are offered to: an organisation (its kind, business type and plan) and one person in it. `now` is
    the organisation's time."""

    person_id: UUID
    kind: str
    business_type: str
    plan: Plan
    now: datetime


@dataclass(frozen=True, slots=True)
class Offer:
    """An assistant as somebody is offered it. `required_plan`: the lowest plan that has it, where the organisation's is
    lower. `trial_ends_at`: until when it is open all the same; None: it is no trial, or one that has not begun.
    `token_limit` is of each person, per `token_period`."""

    assistant: Assistant
    state: State
    required_plan: Plan | None
    token_limit: int | None
    token_period: TokenPeriod | None = None
    trial_ends_at: datetime | None = None

    @property
    def on_trial(self) -> bool:
        return self.state == "open" and self.required_plan is not None


# ------------------------------------------------------------------------------------------------------------ who may


@dataclass(eq=False)
class PlanRequired(TollhouseError):
    """The organisation's plan has no such assistant, and its trial, if there was one, is over."""

    name: str
    plan: Plan
    trial_is_over: bool = False
    code, status = "plan_required", 403

    def __str__(self) -> str:
        trial = "Your trial of it is over. " if self.trial_is_over else ""
        return f"{self.name} comes with the plan {self.plan.name}. {trial}Upgrade to use it."

    def details(self) -> dict[str, object]:
        return {"required_plan": self.plan.id}

    def hints(self) -> tuple[Hint, ...]:
        return (Hint("upgrade", price_cents=self.plan.price_cents, plan=self.plan.id),)


@dataclass(eq=False)
class NotEnabled(TollhouseError):
    name: str
    code, status = "assistant_not_enabled", 403

    def __str__(self) -> str:
        return f"{self.name} is not switched on for the members of this organisation. Ask one of its admins to do it."


def offers(
    assistants: Iterable[Assistant],
    settings: Mapping[UUID, Setting],
    plans: Mapping[str, Plan],
    first_used: Mapping[UUID, datetime],
    standing: Standing,
) -> list[Offer]:
    """What somebody is offered of these assistants, in their order; without those that are not meant for organisations
    of this type, unless it made them itself. `first_used`: when the organisation first used each, of those on trial."""
    return [
        _offer(one, settings.get(one.id), plans, first_used.get(one.id), standing)
        for one in assistants
        if not one.of_platform or one.suits(standing.business_type)
    ]


def _offer(
    one: Assistant, setting: Setting | None, plans: Mapping[str, Plan], first_used: datetime | None, standing: Standing
) -> Offer:
    limit, period = _limit(one, setting)
    required = plans[one.required_plan_id] if one.required_plan_id else None
    if required is not None and standing.plan.rank >= required.rank:
        required = None
    ends_at = None
    if required is not None and one.trial_days is not None and first_used is not None:
        ends_at = first_used + timedelta(days=one.trial_days)
    state: State = "open"
    if required is not None and (one.trial_days is None or (ends_at is not None and ends_at <= standing.now)):
        state = "plan_required"
    elif not _is_enabled(one, setting, standing):
        state = "not_enabled"
    return Offer(one, state, required, limit, period, ends_at)


def _limit(one: Assistant, setting: Setting | None) -> tuple[int | None, TokenPeriod | None]:
    """The admins' number in place of the assistant's own; of one that has none it is per month."""
    if setting is not None and setting.token_limit is not None:
        return setting.token_limit, one.token_period or "month"
    return one.token_limit, one.token_period


def _is_enabled(one: Assistant, setting: Setting | None, standing: Standing) -> bool:
    """What is one's own. Of the rest what the admins say; where they said nothing, a personal organisation has all, a
    team the personas."""
    if one.person_id is not None:
        return one.person_id == standing.person_id
    return setting.enabled if setting is not None else is_on_from_the_start(one, standing.kind)


def is_on_from_the_start(one: Assistant, kind: str) -> bool:
    """Whether an organisation of this kind has it before its admins said anything."""
    return kind == "personal" or one.kind == "persona"


def check_open(offer: Offer) -> None:
    """PlanRequired or NotEnabled unless it may be used."""
    if offer.state == "plan_required":
        assert offer.required_plan is not None
        raise PlanRequired(offer.assistant.name, offer.required_plan, offer.trial_ends_at is not None)
    if offer.state == "not_enabled":
        raise NotEnabled(offer.assistant.name)


def rule_of(offer: Offer) -> Rule | None:
    """The limit of tokens as a rule for each person; None: there is none. Its id is the assistant's, so a changed limit
    goes on with what was counted."""
    if offer.token_limit is None or offer.token_period is None:
        return None
    return Rule(offer.assistant.id, "person", None, None, "tokens", offer.token_period, offer.token_limit)


# --------------------------------------------------------------------------------------------------- what is left of it


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a person has used of an assistant's tokens in the period that ends at `resets_at`, the organisation's
    time."""

    used: int
    limit: int
    period: TokenPeriod
    resets_at: datetime

    @property
    def percent(self) -> int:
        """Of the limit, rounded down; above 100 where a last answer went past it."""
        return self.used * 100 // self.limit

    @property
    def warned(self) -> Warned | None:
        """From 80, 90 and 100 per cent on."""
        if self.percent < 80:
            return None
        return "approaching" if self.percent < 90 else "almost" if self.percent < 100 else "reached"


def counter_of(rule: Rule, person_id: UUID, now: datetime) -> Counter:
    """Where the teller counts a person's tokens against an assistant's rule; `now` is the organisation's time."""
    return counter(person_id, rule.meter, rule.period, now, limit_id=rule.id)


def allowance(rule: Rule, counted: Counter, used: int) -> Allowance:
    resets_at = end_of(rule.period, counted.starts_at)
    assert resets_at is not None and rule.period in ("day", "week", "month"), "assistants have no other periods"
    return Allowance(used, rule.maximum, rule.period, resets_at)

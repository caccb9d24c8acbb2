"""Which counters and rates an ask touches, with which maximum: those of the plan, of the model, of the capability, of
the organisation's own rules, and of those that come with the ask."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from tollhouse.core.ask import Ask, CallWant, CapabilityWant, CreditsWant, Facts
from tollhouse.core.catalogue import Catalogue
from tollhouse.core.choice import Choice, choices, unlocked
from tollhouse.core.errors import TollhouseError
from tollhouse.core.period import start_of
from tollhouse.core.quota import Counter, Rule, Take, counter
from tollhouse.core.rate import RateTake, rate_id
from tollhouse.core.routing import Model


@dataclass(frozen=True, slots=True)
class Takes:
    """What an ask takes from each counter and each rate; how many tokens is known once the output is. `choice` is the
    model of a call, `others` are what it takes with each of the next choices, where there are several."""

    windows: Sequence[Take]
    rates: Sequence[RateTake]
    choice: Choice | None = None
    others: tuple["Takes", ...] = ()

    @property
    def each(self) -> tuple["Takes", ...]:
        """With each choice, in their order."""
        return (self, *self.others)


def counters_of(ask: Ask, catalogue: Catalogue, now: datetime) -> tuple[Counter, ...]:
    """Every counter that counts anyway, limited or not, so that a plan's limit set later finds the truth; of a call
    those with the model that it names."""
    day = start_of("day", now)
    match ask.want:
        case CallWant(model_id):
            model = catalogue.models.get(model_id)
            return () if model is None else _of_call(ask.organization_id, ask.subject_id, model_id, model.tier, day)
        case CapabilityWant(capability_id):
            return _of_capability(ask.organization_id, capability_id, day)
        case CreditsWant():
            return ()


# The same few counters are asked for again and again, all day long.
@lru_cache(maxsize=16_384)
def _of_call(
    organization_id: UUID, subject_id: UUID, model_id: str, tier: str, day: datetime
) -> tuple[Counter, ...]:  # fmt: skip
    """Messages of the day, those of the model, tokens of the month, and of a premium model the trial."""
    found = (
        counter(subject_id, "messages", "day", day),
        counter(subject_id, "messages", "day", day, model_id),
        counter(organization_id, "tokens", "month", day),
    )
    if tier == "premium":
        return (*found, counter(subject_id, "trial_messages", "lifetime", day, model_id))
    return found


@lru_cache(maxsize=16_384)
def _of_capability(organization_id: UUID, capability_id: str, day: datetime) -> tuple[Counter, ...]:
    """Requests of the day, and tokens of the month."""
    return (
        counter(organization_id, "requests", "day", day, capability=capability_id),
        counter(organization_id, "tokens", "month", day),
    )


def rates_of(ask: Ask) -> tuple[UUID, ...]:
    """The rates that the ask may touch besides those of rules."""
    if isinstance(ask.want, CapabilityWant):
        return (rate_id(ask.organization_id, ask.want.capability_id, None),)
    return ()


def takes_of(ask: Ask, facts: Facts) -> Takes:
    """What it takes, with the limits in force."""
    match ask.want:
        case CallWant():
            try:
                first, *others = choices(ask, ask.want, facts)
            except TollhouseError:  # it will be refused: what it would have taken is told to those who ask first
                model = facts.catalogue.models.get(ask.want.model_id)
                return Takes((), ()) if model is None else _takes_of_call(ask, ask.want, model, facts, None)
            takes = _takes_of_call(ask, ask.want, first.model, facts, first)
            if not others:
                return takes
            more = [_takes_of_call(ask, ask.want, one.model, facts, one) for one in others]
            return replace(takes, others=tuple(more))
        case CapabilityWant(capability_id):
            return _with_rules(_capability_takes(ask, capability_id, facts), ask, facts, None)
        case CreditsWant():
            return _with_rules(Takes((), ()), ask, facts, None) if facts.rules_of(ask) else Takes((), ())


def takes_of_model(ask: Ask, model: Model, facts: Facts) -> Takes:
    """What a call takes that is bound to this model alone: when it answers in place of another."""
    assert isinstance(ask.want, CallWant)
    takes = _takes_of_call(ask, ask.want, model, facts, None)
    return Takes(
        [take for take in takes.windows if take.counter.model_id], [take for take in takes.rates if take.model_id]
    )


def _takes_of_call(ask: Ask, want: CallWant, model: Model, facts: Facts, choice: Choice | None) -> Takes:
    plan = facts.plan
    most = plan.daily_messages, model.daily_messages, plan.monthly_tokens, model.trial_messages
    whose = ask.organization_id, ask.subject_id, model.id, model.tier, start_of("day", facts.now)
    takes = Takes(_call_takes(whose, most[:3] if unlocked(model, facts, want.model_id) else most), (), choice)
    return _with_rules(takes, ask, facts, model.id) if facts.rules_of(ask) else takes


_CALL_SCOPES = "user", "user", "organization", "user"


@lru_cache(maxsize=16_384)
def _call_takes(whose: tuple[UUID, UUID, str, str, datetime], most: tuple[int | None, ...]) -> tuple[Take, ...]:
    return tuple(
        Take(about, None if about.meter == "tokens" else 1, maximum, scope)
        for about, maximum, scope in zip(_of_call(*whose), most, _CALL_SCOPES, strict=False)
    )


def _capability_takes(ask: Ask, capability_id: str, facts: Facts) -> Takes:
    offer = facts.catalogue.offer(facts.plan, capability_id)
    a_minute, a_day = (offer.requests_per_minute, offer.requests_per_day) if offer else (None, None)
    requests, tokens = _of_capability(ask.organization_id, capability_id, start_of("day", facts.now))
    rates = []
    if a_minute is not None:
        id_ = rate_id(ask.organization_id, capability_id, None)
        rates.append(RateTake(id_, ask.organization_id, a_minute, "organization", capability=capability_id))
    windows = (
        Take(requests, 1, a_day, "organization"),
        Take(tokens, None, facts.plan.monthly_tokens, "organization"),
    )
    return Takes(windows, rates)


def _with_rules(takes: Takes, ask: Ask, facts: Facts, called: str | None) -> Takes:
    """And the rules, of the organisation or the ask's own, that bind this ask, which calls this model or is no call.
    Messages are calls of models, and a minute of them is a rate; whatever is charged counts as credits, plain credits
    as nothing else."""
    windows, rates = [*takes.windows], [*takes.rates]
    for rule, subject_id in _binding(ask, facts, called):
        if rule.meter == "messages" and rule.period == "minute":
            id_ = rate_id(subject_id, "", rule.id)
            rates.append(RateTake(id_, subject_id, rule.maximum, rule.scope, rule.model_id or ""))
            continue
        about = counter(subject_id, rule.meter, rule.period, facts.now, rule.model_id or "", limit_id=rule.id)
        windows.append(Take(about, 1 if rule.meter == "messages" else None, rule.maximum, rule.scope))
    return replace(takes, windows=windows, rates=rates)


def _binding(ask: Ask, facts: Facts, called: str | None) -> Iterator[tuple[Rule, UUID]]:
    """The rules that bind, each with whom it counts. A call on nobody's behalf is no person's."""
    person = ask.subject_id if ask.subject_id != ask.organization_id else None
    key_id = ask.key_id
    if key_id is not None and facts.key is not None and facts.key.counts_as is not None:
        key_id = facts.key.counts_as
    whose = {"organization": ask.organization_id, "person": person, "key": key_id}
    plain = isinstance(ask.want, CreditsWant)
    for rule in facts.rules_of(ask):
        subject_id = whose[rule.scope]
        if subject_id is None or (rule.model_id is not None and rule.model_id != called):
            continue
        if (rule.meter == "messages" and called is None) or (rule.meter == "tokens" and plain):
            continue
        if rule.scope == "organization" or rule.subject_id in (None, subject_id):
            yield rule, subject_id

"""Which counters and rates an ask touches, with which maximum: those of the plan, of the model, of the capability, and
of the organisation's own rules."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from tollhouse.core.ask import Ask, CallWant, CapabilityWant, CreditsWant, Facts
from tollhouse.core.catalogue import Catalogue
from tollhouse.core.quota import Counter, Rule, Take, counter
from tollhouse.core.rate import RateTake, rate_id


@dataclass(frozen=True, slots=True)
class Takes:
    """What an ask takes from each counter and each rate. Those of tokens are filled in by `decide`, once the output is
    known."""

    windows: list[Take]
    rates: list[RateTake]


def counters_of(ask: Ask, catalogue: Catalogue, now: datetime) -> list[Counter]:
    """Every counter that counts anyway, limited or not, so that a plan's limit set later finds the truth. Of a call:
    messages of the day, those of its model, tokens of the month, and of a premium model the trial. Of a capability: its
    requests of the day, and tokens of the month."""
    organization_id = ask.organization_id
    match ask.want:
        case CallWant(model_id):
            model = catalogue.models.get(model_id)
            if model is None:
                return []
            found = [
                counter(ask.subject_id, "messages", "day", now),
                counter(ask.subject_id, "messages", "day", now, model.id),
                counter(organization_id, "tokens", "month", now),
            ]
            if model.tier == "premium":
                found.append(counter(ask.subject_id, "trial_messages", "lifetime", now, model.id))
            return found
        case CapabilityWant(capability_id):
            return [
                counter(organization_id, "requests", "day", now, capability=capability_id),
                counter(organization_id, "tokens", "month", now),
            ]
        case CreditsWant():
            return []


def rates_of(ask: Ask) -> list[UUID]:
    """The rates that the ask may touch besides those of rules."""
    if isinstance(ask.want, CapabilityWant):
        return [rate_id(ask.organization_id, ask.want.capability_id, None)]
    return []


def takes_of(ask: Ask, facts: Facts) -> Takes:
    """What it takes, with the limits in force."""
    counters = counters_of(ask, facts.catalogue, facts.now)
    match ask.want:
        case CallWant(model_id) if counters:
            takes = _of_call(model_id, counters, facts)
        case CapabilityWant(capability_id) if counters:
            takes = _of_capability(ask, capability_id, counters, facts)
        case _:
            return Takes([], [])
    _add_rules(takes, ask, facts)
    return takes


def _of_call(model_id: str, counters: list[Counter], facts: Facts) -> Takes:
    model = facts.catalogue.models[model_id]
    messages, of_model, tokens, *trial = counters
    found = [
        Take(messages, messages.window_id, 1, facts.plan.daily_messages, "user"),
        Take(of_model, of_model.window_id, 1, model.daily_messages, "user"),
        Take(tokens, tokens.window_id, 0, facts.plan.monthly_tokens, "organization"),
    ]
    if not facts.entitled:
        found += [Take(one, one.window_id, 1, model.trial_messages, "user") for one in trial]
    return Takes(found, [])


def _of_capability(ask: Ask, capability_id: str, counters: list[Counter], facts: Facts) -> Takes:
    offer = facts.catalogue.offer(facts.plan, capability_id)
    a_minute, a_day = (offer.requests_per_minute, offer.requests_per_day) if offer else (None, None)
    requests, tokens = counters
    rates = []
    if a_minute is not None:
        id_ = rate_id(ask.organization_id, capability_id, None)
        rates.append(RateTake(id_, ask.organization_id, a_minute, "organization", capability=capability_id))
    windows = [
        Take(requests, requests.window_id, 1, a_day, "organization"),
        Take(tokens, tokens.window_id, 0, facts.plan.monthly_tokens, "organization"),
    ]
    return Takes(windows, rates)


def _add_rules(takes: Takes, ask: Ask, facts: Facts) -> None:
    """The organisation's own rules that bind this ask. Messages are calls of models; a minute of them is a rate."""
    called = ask.want.model_id if isinstance(ask.want, CallWant) else None
    for rule, subject_id in _binding(ask, facts, called):
        if rule.meter == "messages" and rule.period == "minute":
            id_ = rate_id(subject_id, "", rule.id)
            takes.rates.append(RateTake(id_, subject_id, rule.maximum, rule.scope, rule.model_id or ""))
            continue
        about = counter(subject_id, rule.meter, rule.period, facts.now, rule.model_id or "", limit_id=rule.id)
        amount = 1 if rule.meter == "messages" else 0
        takes.windows.append(Take(about, about.window_id, amount, rule.maximum, rule.scope))


def _binding(ask: Ask, facts: Facts, called: str | None) -> Iterator[tuple[Rule, UUID]]:
    """The rules that bind, each with whom it counts. A call on nobody's behalf is no person's."""
    person = ask.subject_id if ask.subject_id != ask.organization_id else None
    whose = {"organization": ask.organization_id, "person": person, "key": ask.key_id}
    for rule in facts.rules:
        subject_id = whose[rule.scope]
        if subject_id is None or (rule.model_id is not None and rule.model_id != called):
            continue
        if rule.meter == "messages" and called is None:
            continue
        if rule.scope == "organization" or rule.subject_id in (None, subject_id):
            yield rule, subject_id


def with_tokens(takes: list[Take], tokens: int) -> list[Take]:
    """The takes, those of tokens with this many."""
    return [replace(take, amount=tokens) if take.counter.meter == "tokens" else take for take in takes]

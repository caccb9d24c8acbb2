"""What would be decided, and why: for those who ask before they act. The rules are those of core/admission.py, run on
the same facts; nothing is taken."""

from dataclasses import dataclass, replace
from datetime import datetime

from tollhouse.core.admission import Weighed, output_wanted, quote_of, weigh
from tollhouse.core.ask import AUTO, Ask, CallWant, CapabilityWant, CreditsWant, Facts, Want
from tollhouse.core.choice import Choice, choices, offered
from tollhouse.core.credit import Account
from tollhouse.core.errors import TollhouseError
from tollhouse.core.limits import Takes
from tollhouse.core.period import end_of
from tollhouse.core.quota import Windows
from tollhouse.core.rate import Rate, Rates


@dataclass(frozen=True, slots=True)
class Level:
    """A quality of the capability: whether the plan has it (`refusal` says what else is in the way), what one use is
    reckoned to cost, and the models in their order."""

    quality_id: str
    name: str
    allowed: bool
    estimated_micros: int
    models: tuple[str, ...]
    refusal: TollhouseError | None


@dataclass(frozen=True, slots=True)
class LimitLeft:
    """A limit that binds, as it stands. `resets_at` None: never, or for a minute's limit that something is left."""

    scope: str
    meter: str
    period: str
    limit: int
    used: int
    remaining: int
    resets_at: datetime | None
    model_id: str | None
    capability: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """`refusal` None: it may proceed. `estimated_micros` None: nothing can be reckoned."""

    refusal: TollhouseError | None
    model_id: str | None
    models: tuple[str, ...]
    levels: tuple[Level, ...]
    estimated_micros: int | None
    spendable_micros: int
    limits: tuple[LimitLeft, ...]


def explain(ask: Ask, facts: Facts, takes: Takes, account: Account, windows: Windows, rates: Rates) -> Explanation:
    """Runs the rules and takes nothing."""

    def tried(one: Ask) -> Weighed | TollhouseError:
        try:
            return weigh(one, facts, takes, account, windows, rates)
        except TollhouseError as refusal:
            return refusal

    found = tried(ask)
    levels: list[Level] = []
    if isinstance(ask.want, CapabilityWant) and ask.want.capability_id in facts.catalogue.capabilities:
        for quality in facts.catalogue.qualities.values():
            one = replace(ask, want=replace(ask.want, quality_id=quality.id))
            outcome, models = tried(one), _models(one, one.want, facts)
            refusal = outcome if isinstance(outcome, TollhouseError) else None
            levels.append(Level(quality.id, quality.name, bool(models), _estimate(one, facts) or 0, models, refusal))
    refusal = found if isinstance(found, TollhouseError) else None
    terms = found.terms if isinstance(found, Weighed) else None
    return Explanation(
        refusal=refusal,
        model_id=terms.model.id if terms else None,
        models=_models(ask, ask.want, facts),
        levels=tuple(levels),
        estimated_micros=found.amount_micros if isinstance(found, Weighed) else _estimate(ask, facts),
        spendable_micros=account.balance.spendable_micros,
        limits=tuple(_limits(facts, _of_model(takes, terms.model.id if terms else None), windows, rates)),
    )


def _of_model(takes: Takes, model_id: str | None) -> Takes:
    """What it takes with the model that would answer; with the first one when none would."""
    return next((one for one in takes.each if one.choice and one.choice.model.id == model_id), takes)


def _models(ask: Ask, want: Want, facts: Facts) -> tuple[str, ...]:
    """The models that may answer, in their order."""
    match want:
        case CallWant(model_id) if model_id == AUTO:
            return tuple(one.model.id for one in _chosen(ask, want, facts))
        case CallWant(model_id):
            return (model_id,) if model_id in facts.catalogue.models and _permitted(model_id, facts) else ()
        case CapabilityWant():
            try:
                return tuple(one for one in offered(want, facts)[2] if _permitted(one, facts))
            except TollhouseError:
                return ()
        case CreditsWant():
            return ()


def _permitted(model_id: str, facts: Facts) -> bool:
    return facts.key is None or facts.key.may_call(model_id)


def _estimate(ask: Ask, facts: Facts) -> int | None:
    """What it would take if nothing were in the way; None when that cannot be said either."""
    catalogue, charged = facts.catalogue, facts.charges(ask)
    match ask.want:
        case CreditsWant(amount):
            return amount if charged else 0
        case CapabilityWant(capability_id, quality_id):
            capability, offer = catalogue.capabilities.get(capability_id), catalogue.offer(facts.plan, capability_id)
            lowest = (one for one in catalogue.qualities if offer is None or one in offer.levels)
            found = quality_id or next(lowest, "")
            if capability is None or found not in catalogue.qualities:
                return None
            return capability.estimate_micros(catalogue.quality_at(found, facts.now)) if charged else 0
        case CallWant(model_id, size, answers):
            chosen = _chosen(ask, ask.want, facts)
            model = chosen[0].model if chosen else catalogue.models.get(model_id)
            if model is None:
                return None
            try:
                quote = quote_of(ask, model.id, facts)
            except TollhouseError:
                return None
            return quote.most_micros(size.input_tokens, output_wanted(size, facts, model) * answers)


def _chosen(ask: Ask, want: CallWant, facts: Facts) -> tuple[Choice, ...]:
    try:
        return choices(ask, want, facts)
    except TollhouseError:
        return ()


def _limits(facts: Facts, takes: Takes, windows: Windows, rates: Rates) -> list[LimitLeft]:
    """Every limit that binds the ask, also those that have much left."""
    found: list[LimitLeft] = []
    for one in takes.rates:
        rate = rates.by_id.get(one.rate_id) or Rate(one.subject_id)
        used = rate.used(facts.now)
        resets_at = rate.free_at(facts.now, one.maximum) if 0 < one.maximum <= used else None
        left = max(0, one.maximum - used)
        about = one.model_id or None, one.capability or None
        found.append(LimitLeft(one.scope, "requests", "minute", one.maximum, used, left, resets_at, *about))
    for take in takes.windows:
        if take.maximum is None:
            continue
        window = windows.by_id.get(take.counter.window_id)
        used, reserved = (window.used, window.reserved) if window else (0, 0)
        counter = take.counter
        found.append(
            LimitLeft(
                take.scope, counter.meter, counter.period, take.maximum, used, max(0, take.maximum - used - reserved),
                end_of(counter.period, counter.starts_at), counter.model_id or None, counter.capability or None,
            )
        )  # fmt: skip
    return found

"""May this be done, with which model, at what price, and what does it take? Facts in, decision out.

The first rule that fails is the reason shown, in the order: organisation, key, capability, model, price, tier
(unlocked, trial), requests a minute, messages and requests of a period, tokens, credits. A refusal changes nothing; an
admission takes everything at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from tollhouse.core import errors
from tollhouse.core.ask import Ask, CallWant, CapabilityWant, CreditsWant, Facts, KeyFacts, Size
from tollhouse.core.catalogue import Capability, Catalogue, Offer, Quality
from tollhouse.core.credit import Account, Hold
from tollhouse.core.key import Scope
from tollhouse.core.limits import Takes
from tollhouse.core.period import end_of
from tollhouse.core.price import Quote, Usage
from tollhouse.core.quota import Take, Windows
from tollhouse.core.rate import Rates, RateTake
from tollhouse.core.routing import Model, Route, route_of

# An answer cut shorter than this by the balance helps nobody: the call is refused instead.
OUTPUT_TOKENS_MIN = 256
# What a use of unknown size takes from the tokens until it is settled: enough to find the quota exhausted.
UNKNOWN_TOKENS = 1


@dataclass(frozen=True, slots=True)
class LimitState:
    """A limit as it stands after a call was admitted."""

    limit: int
    remaining: int
    resets_at: datetime | None


@dataclass(frozen=True, slots=True)
class Terms:
    """Which model, who answers for it, and what it costs. `output_tokens` is the most per answer and is sent to the
    provider as such; None for a use of unknown size. Capability and quality when it is a use of one."""

    model: Model
    route: Route
    quote: Quote
    output_tokens: int | None
    capability: Capability | None = None
    quality: Quality | None = None


@dataclass(frozen=True, slots=True)
class Weighed:
    """Everything fits: what would be taken. `terms` None for plain credits; `charged` False when the plan takes no
    credits on this channel."""

    terms: Terms | None
    charged: bool
    amount_micros: int
    tokens: int
    windows: Sequence[Take]
    rates: Sequence[RateTake]
    trial: Take | None


@dataclass(frozen=True, slots=True)
class Admission:
    """It may be done, and all is taken."""

    weighed: Weighed
    hold: Hold
    trial_remaining: int | None
    messages: LimitState | None
    tokens: LimitState | None

    @property
    def terms(self) -> Terms:
        """Of a call or a use of a capability."""
        assert self.weighed.terms is not None
        return self.weighed.terms


def decide(ask: Ask, facts: Facts, takes: Takes, account: Account, windows: Windows, rates: Rates) -> Admission:
    """Admits and takes everything from `account`, `windows` and `rates`, or raises the refusal and takes nothing."""
    weighed = weigh(ask, facts, takes, account, windows, rates)
    hold = account.hold(weighed.amount_micros, facts.now)
    windows.reserve(weighed.windows, weighed.tokens)
    rates.count(weighed.rates, facts.now)
    remaining = None
    if weighed.trial is not None and weighed.trial.maximum is not None:
        window = windows.by_id[weighed.trial.counter.window_id]
        remaining = max(0, weighed.trial.maximum - window.used - window.reserved)
    messages, tokens = (_tightest(meter, weighed.windows, windows) for meter in ("messages", "tokens"))
    return Admission(weighed, hold, remaining, messages, tokens)


def weigh(ask: Ask, facts: Facts, takes: Takes, account: Account, windows: Windows, rates: Rates) -> Weighed:
    """What the ask would take. Raises the refusal; changes nothing."""
    check_suspended(facts.suspended)
    if ask.key_id is not None:
        check_key(facts.key, ask.needs, facts.now)
    charged = ask.channel in facts.plan.charged_channels
    match ask.want:
        case CallWant():
            return _weigh_call(ask, ask.want, facts, takes, account, windows, rates)
        case CapabilityWant():
            return _weigh_capability(ask, ask.want, facts, takes, account, windows, rates)
        case CreditsWant(amount):
            _check_credits(amount if charged else 0, account)
            return Weighed(None, charged, amount if charged else 0, 0, (), (), None)
    assert_never(ask.want)


def _weigh_call(
    ask: Ask, want: CallWant, facts: Facts, takes: Takes, account: Account, windows: Windows, rates: Rates
) -> Weighed:
    size = want.size
    model = _model(want, facts)
    quote = quote_of(ask, model.id, facts)
    route = _route(ask, model, facts)
    given = _input_tokens(size, route)
    trial = _trial(model, takes.windows, windows)
    rates.check(takes.rates, facts.now)
    wanted = output_wanted(size, facts, model)
    least = min(wanted, OUTPUT_TOKENS_MIN)
    windows.check(takes.windows, given + least * want.answers)
    output, amount = _amount(given, want.answers, wanted, quote, account)
    tokens = given + output * want.answers
    windows.check(takes.windows, tokens)
    terms = Terms(model, route, quote, output)
    return Weighed(terms, quote.charged, amount, tokens, takes.windows, takes.rates, trial)


def _weigh_capability(
    ask: Ask, want: CapabilityWant, facts: Facts, takes: Takes, account: Account, windows: Windows, rates: Rates
) -> Weighed:
    capability, quality, models = offered(want, facts)
    model, route = _first_usable(ask, models, facts)
    quote = quote_of(ask, model.id, facts, quality.multiplier_permille)
    tokens, output = UNKNOWN_TOKENS, None
    if want.size is not None:
        output = output_wanted(want.size, facts, model)
        tokens = _input_tokens(want.size, route) + output
    rates.check(takes.rates, facts.now)
    windows.check(takes.windows, tokens)
    amount = capability.estimate_micros(quality) if quote.charged else 0
    _check_credits(amount, account)
    terms = Terms(model, route, quote, output, capability, quality)
    return Weighed(terms, quote.charged, amount, tokens, takes.windows, takes.rates, None)


def check_key(key: KeyFacts | None, needs: frozenset[Scope], now: datetime) -> None:
    """Unauthenticated for a key that is gone, Forbidden for one that lacks a scope."""
    if key is None:
        raise errors.Unauthenticated("This API key was revoked. Use another one.")
    check_alive(key.revoked_at, key.expires_at, now)
    missing = sorted(needs - key.scopes)
    if missing:
        raise errors.Forbidden(f"This API key has not the scope {missing[0]!r}. Use a key that has it.")


def check_suspended(suspended: bool) -> None:
    """Forbidden for an organisation that was suspended."""
    if suspended:
        raise errors.Forbidden("This organisation is suspended. Its owner can ask the operator why.")


def check_alive(revoked_at: datetime | None, expires_at: datetime | None, now: datetime) -> None:
    """Unauthenticated for a key that works no more at `now`, its organisation's own time."""
    if revoked_at is not None:
        raise errors.Unauthenticated("This API key was revoked. Use another one.")
    if expires_at is not None and expires_at <= now:
        raise errors.Unauthenticated(f"This API key expired at {expires_at:%Y-%m-%d %H:%M} UTC. Make a new one.")


def quote_of(ask: Ask, model_id: str, facts: Facts, multiplier_permille: int = 1000) -> Quote:
    """The terms in force now. PriceUnknown when there are none: money in doubt is refused."""
    price = facts.catalogue.price_at(model_id, facts.now)
    rate = facts.catalogue.rate_at(facts.now)
    if price is None or rate is None:
        raise errors.PriceUnknown(model_id)
    return Quote(price, rate, multiplier_permille, ask.channel in facts.plan.charged_channels)


def find_capability(capability_id: str, catalogue: Catalogue) -> Capability:
    """NotFound for one that does not exist or is switched off."""
    capability = catalogue.capabilities.get(capability_id)
    if capability is None or not capability.is_active:
        known = ", ".join(sorted(one.id for one in catalogue.capabilities.values() if one.is_active))
        raise errors.NotFound(f"There is no capability {capability_id[:80]!r} here. There are: {known or 'none'}.")
    return capability


def offered(want: CapabilityWant, facts: Facts) -> tuple[Capability, Quality, tuple[str, ...]]:
    """The capability, the quality and the models in their order; CapabilityDenied when the plan has it not."""
    catalogue = facts.catalogue
    capability = find_capability(want.capability_id, catalogue)
    if want.quality_id is not None and want.quality_id not in catalogue.qualities:
        known = ", ".join(catalogue.qualities)
        raise errors.BadRequest(f"There is no quality {want.quality_id[:80]!r}. There are: {known}.", "quality")
    offer = catalogue.offer(facts.plan, capability.id)
    quality = _quality(want, offer, catalogue)
    if offer is None or quality is None:
        better = catalogue.lowest_plan_with(capability.id, want.quality_id, facts.plan)
        raise errors.CapabilityDenied(
            capability.id, want.quality_id, facts.plan.id, better.id if better else None,
            better.price_cents if better else None,
        )  # fmt: skip
    return capability, quality, offer.levels[quality.id]


def _quality(want: CapabilityWant, offer: Offer | None, catalogue: Catalogue) -> Quality | None:
    if offer is None:
        return None
    wanted = [want.quality_id] if want.quality_id is not None else list(catalogue.qualities)
    return next((catalogue.qualities[one] for one in wanted if one in offer.levels), None)


def _first_usable(ask: Ask, models: tuple[str, ...], facts: Facts) -> tuple[Model, Route]:
    """The first that is switched on, has a price and somebody to answer for it; else why the first one has not."""
    refusals: list[errors.TollhouseError] = []
    for model in map(facts.catalogue.models.__getitem__, models):
        try:
            if not model.enabled:
                raise errors.ModelDisabled(model.id)
            if facts.catalogue.price_at(model.id, facts.now) is None:
                raise errors.PriceUnknown(model.id)
            return model, _route(ask, model, facts)
        except errors.TollhouseError as refusal:
            refusals.append(refusal)
    raise refusals[0] if refusals else errors.NotFound("No model is set for this quality. An operator can set one.")


def _model(want: CallWant, facts: Facts) -> Model:
    model = facts.catalogue.models.get(want.model_id)
    if model is None or not model.selectable:
        raise errors.ModelNotFound(want.model_id)
    if not model.enabled:
        raise errors.ModelDisabled(model.id)
    return model


def _route(ask: Ask, model: Model, facts: Facts) -> Route:
    if not ask.here:
        return Route(model.provider_id, None)
    mode = facts.key.mode if facts.key else facts.mode
    return route_of(model, mode, facts.mode, facts.catalogue.connections)


def _input_tokens(size: Size, route: Route) -> int:
    """What the sandbox will count is known exactly; of others there is an upper bound."""
    if route.connection is None and size.sandbox_tokens is not None:
        return size.sandbox_tokens
    return size.input_tokens


def _trial(model: Model, takes: Sequence[Take], windows: Windows) -> Take | None:
    """The take from the trial, when this is one; ModelLocked or TrialExpired when the model is not to be had."""
    trial = next((take for take in takes if take.counter.meter == "trial_messages"), None)
    if trial is None:
        return None
    if model.trial_messages == 0:
        raise errors.ModelLocked(model.id, model.price_cents)
    window = windows.by_id.get(trial.counter.window_id)
    if window is not None and window.used + window.reserved >= model.trial_messages:
        raise errors.TrialExpired(model.id, model.price_cents, model.trial_messages)
    return trial


def output_wanted(size: Size, facts: Facts, model: Model) -> int:
    """The most output tokens per answer that the plan and the model allow. Without a maximum of the caller's the plan's
    counts, never the model's alone."""
    cap = min(facts.plan.max_output_tokens, model.max_output_tokens)
    return cap if size.output_tokens is None else min(cap, size.output_tokens)


def _amount(given: int, answers: int, wanted: int, quote: Quote, account: Account) -> tuple[int, int]:
    """The most output tokens per answer, and what the call may cost with them, in micro-credits: what is wanted,
    clamped to what the balance can pay, but not below what is of any use."""
    amount = quote.charge_micros(Usage(given, wanted * answers))
    spendable = account.balance.spendable_micros
    if amount <= spendable:
        return wanted, amount
    affordable = quote.output_affordable(given, spendable, wanted * answers) // answers
    least = min(wanted, OUTPUT_TOKENS_MIN)
    if affordable < least:
        raise _insufficient(quote.charge_micros(Usage(given, least * answers)), account)
    return affordable, quote.charge_micros(Usage(given, affordable * answers))


def _check_credits(amount: int, account: Account) -> None:
    if amount > account.balance.spendable_micros:
        raise _insufficient(amount, account)


def _insufficient(amount: int, account: Account) -> errors.InsufficientCredits:
    balance = account.balance
    return errors.InsufficientCredits(amount, balance.spendable_micros, balance.held_micros, balance.period_end)


def _tightest(meter: str, takes: Sequence[Take], windows: Windows) -> LimitState | None:
    """The limit of this meter that has least left after this call; None when nothing limits it."""
    found: LimitState | None = None
    for take in takes:
        if take.counter.meter != meter or take.maximum is None:
            continue
        window = windows.by_id[take.counter.window_id]
        left = take.maximum - window.used - window.reserved
        if found is None or left < found.remaining:
            found = LimitState(take.maximum, left, end_of(take.counter.period, take.counter.starts_at))
    return found

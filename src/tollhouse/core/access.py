"""May this call be made, with which model, at what price, and what does it take? Facts in, decision out.

The first rule that fails is the reason shown, in the order: organisation, key, model, price, tier (unlocked, trial),
messages, tokens, credits. A refusal changes nothing; an admission takes everything at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from tollhouse.core import errors
from tollhouse.core.credit import Account, Hold
from tollhouse.core.key import Mode, Scope
from tollhouse.core.period import end_of
from tollhouse.core.price import Price, Quote, RateCard, Usage
from tollhouse.core.quota import Counter, Take, Windows, counter
from tollhouse.core.routing import Connection, Model, Route, route_of

Channel = Literal["chat", "api", "capability"]
# An answer cut shorter than this by the balance helps nobody: the call is refused instead.
OUTPUT_TOKENS_MIN = 256


@dataclass(frozen=True, slots=True)
class Plan:
    id: str
    name: str
    rank: int
    monthly_credits_micros: int
    welcome_bonus_micros: int
    monthly_tokens: int | None
    daily_messages: int | None
    max_output_tokens: int
    charged_channels: frozenset[str]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What is the same for every tenant, at one version; prices and rate cards newest first."""

    version: int
    plans: Mapping[str, Plan]
    models: Mapping[str, Model]
    prices: Mapping[str, tuple[Price, ...]]
    rates: tuple[RateCard, ...]
    connections: Mapping[str, Connection]  # of the platform, by provider

    def price_at(self, model_id: str, now: datetime) -> Price | None:
        return next((price for price in self.prices.get(model_id, ()) if price.effective_from <= now), None)

    def rate_at(self, now: datetime) -> RateCard | None:
        return next((rate for rate in self.rates if rate.effective_from <= now), None)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for access. `input_tokens` is an upper bound for any provider, `sandbox_tokens` what the sandbox will
    count; `output_tokens` None when the caller named no maximum, and counts per answer (`answers` is OpenAI's n)."""

    organization_id: UUID
    key_id: UUID | None
    subject_id: UUID
    channel: Channel
    model_id: str
    input_tokens: int
    output_tokens: int | None
    sandbox_tokens: int | None = None
    answers: int = 1
    needs: frozenset[Scope] = frozenset()


@dataclass(frozen=True, slots=True)
class KeyFacts:
    scopes: frozenset[Scope]
    mode: Mode
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of the organisation and the key at `now`, the organisation's time."""

    now: datetime
    plan: Plan
    suspended: bool
    key: KeyFacts | None
    entitled: bool
    catalogue: Catalogue
    mode: Mode  # of the installation


@dataclass(frozen=True, slots=True)
class LimitState:
    """A limit as it stands after a call was admitted."""

    limit: int
    remaining: int
    resets_at: datetime | None


@dataclass(frozen=True, slots=True)
class Admission:
    """The call may be made. `output_tokens` is the most per answer, and is sent to the provider as such."""

    model: Model
    route: Route
    quote: Quote
    output_tokens: int
    hold: Hold
    takes: tuple[Take, ...]
    trial: bool
    trial_remaining: int | None
    messages: LimitState | None
    tokens: LimitState | None


def counters_of(ask: Ask, model: Model, now: datetime) -> list[Counter]:
    """Every counter that this call may touch: messages of the day, those of this model, tokens of the month, and of a
    premium model the trial. They are counted also where nothing limits, so that a limit set later finds the truth."""
    found = [
        counter(ask.subject_id, "messages", "day", now),
        counter(ask.subject_id, "messages", "day", now, model.id),
        counter(ask.organization_id, "tokens", "month", now),
    ]
    if model.tier == "premium":
        found.append(counter(ask.subject_id, "trial_messages", "lifetime", now, model.id))
    return found


def takes_of(ask: Ask, facts: Facts) -> list[Take]:
    """What the call takes from each counter, with its limit. Tokens are filled in by `decide`, once the output is
    known."""
    model = facts.catalogue.models.get(ask.model_id)
    if model is None:
        return []
    messages, of_model, tokens, *trial = counters_of(ask, model, facts.now)
    found = [
        Take(messages, messages.window_id, 1, facts.plan.daily_messages, "user"),
        Take(of_model, of_model.window_id, 1, model.daily_messages, "user"),
        Take(tokens, tokens.window_id, 0, facts.plan.monthly_tokens, "organization"),
    ]
    if not facts.entitled:
        found += [Take(one, one.window_id, 1, model.trial_messages, "user") for one in trial]
    return found


def decide(ask: Ask, facts: Facts, takes: list[Take], account: Account, windows: Windows) -> Admission:
    """Admits and takes everything from `account` and `windows`, or raises the refusal and takes nothing."""
    check_key(ask, facts)
    model = _model(ask, facts)
    quote = quote_of(ask, facts)
    route = route_of(model, facts.key.mode if facts.key else facts.mode, facts.mode, facts.catalogue.connections)
    if route.connection is None and ask.sandbox_tokens is not None:
        ask = replace(ask, input_tokens=ask.sandbox_tokens)
    trial = _trial(ask, model, takes, windows)
    wanted = _output_wanted(ask, facts, model)
    windows.check(ask.organization_id, _with_output(takes, ask, min(wanted, OUTPUT_TOKENS_MIN)))
    output, amount = _amount(ask, wanted, quote, account)
    takes = _with_output(takes, ask, output)
    windows.check(ask.organization_id, takes)
    hold = account.hold(amount, facts.now)
    windows.reserve(ask.organization_id, takes)
    messages, tokens = (_tightest(meter, ask, takes, windows) for meter in ("messages", "tokens"))
    remaining = None
    if trial is not None:
        window = windows.by_id[ask.organization_id, trial.window_id]
        remaining = max(0, model.trial_messages - window.used - window.reserved)
    return Admission(model, route, quote, output, hold, tuple(takes), trial is not None, remaining, messages, tokens)


def check_key(ask: Ask, facts: Facts) -> None:
    """Unauthenticated or Forbidden, when the key or its organisation may not make this call at all."""
    check_suspended(facts.suspended)
    if ask.key_id is None:
        return
    key = facts.key
    if key is None:
        raise errors.Unauthenticated("This API key was revoked. Use another one.")
    check_alive(key.revoked_at, key.expires_at, facts.now)
    missing = sorted(ask.needs - key.scopes)
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


def quote_of(ask: Ask, facts: Facts) -> Quote:
    """The terms in force now. PriceUnknown when there are none: money in doubt is refused."""
    price = facts.catalogue.price_at(ask.model_id, facts.now)
    rate = facts.catalogue.rate_at(facts.now)
    if price is None or rate is None:
        raise errors.PriceUnknown(ask.model_id)
    return Quote(price, rate, charged=ask.channel in facts.plan.charged_channels)


def _model(ask: Ask, facts: Facts) -> Model:
    model = facts.catalogue.models.get(ask.model_id)
    if model is None or not model.selectable:
        raise errors.ModelNotFound(ask.model_id)
    if not model.enabled:
        raise errors.ModelDisabled(model.id)
    return model


def _trial(ask: Ask, model: Model, takes: list[Take], windows: Windows) -> Take | None:
    """The take from the trial, when this is one; ModelLocked or TrialExpired when the model is not to be had."""
    trial = next((take for take in takes if take.counter.meter == "trial_messages"), None)
    if trial is None:
        return None
    if model.trial_messages == 0:
        raise errors.ModelLocked(model.id, model.price_cents)
    window = windows.by_id.get((ask.organization_id, trial.window_id))
    if window is not None and window.used + window.reserved >= model.trial_messages:
        raise errors.TrialExpired(model.id, model.price_cents, model.trial_messages)
    return trial


def _output_wanted(ask: Ask, facts: Facts, model: Model) -> int:
    """The most output tokens per answer that the plan and the model allow. Without a maximum of the caller's the plan's
    counts, never the model's alone."""
    cap = min(facts.plan.max_output_tokens, model.max_output_tokens)
    return cap if ask.output_tokens is None else min(cap, ask.output_tokens)


def _amount(ask: Ask, wanted: int, quote: Quote, account: Account) -> tuple[int, int]:
    """The most output tokens per answer, and what the call may cost with them, in micro-credits: what is wanted,
    clamped to what the balance can pay, but not below what is of any use."""
    amount = quote.charge_micros(Usage(ask.input_tokens, wanted * ask.answers))
    if amount <= account.balance.spendable_micros:
        return wanted, amount
    most = wanted * ask.answers
    affordable = quote.output_affordable(ask.input_tokens, account.balance.spendable_micros, most) // ask.answers
    if affordable < min(wanted, OUTPUT_TOKENS_MIN):
        raise _insufficient(
            quote.charge_micros(Usage(ask.input_tokens, min(wanted, OUTPUT_TOKENS_MIN) * ask.answers)), account
        )
    return affordable, quote.charge_micros(Usage(ask.input_tokens, affordable * ask.answers))


def _insufficient(amount: int, account: Account) -> errors.InsufficientCredits:
    balance = account.balance
    return errors.InsufficientCredits(amount, balance.spendable_micros, balance.held_micros, balance.period_end)


def _with_output(takes: list[Take], ask: Ask, output: int) -> list[Take]:
    """The takes, those of tokens with this many of output per answer."""
    tokens = ask.input_tokens + output * ask.answers
    return [
        Take(take.counter, take.window_id, tokens, take.maximum, take.scope) if take.counter.meter == "tokens" else take
        for take in takes
    ]


def _tightest(meter: str, ask: Ask, takes: list[Take], windows: Windows) -> LimitState | None:
    """The limit of this meter that has least left after this call; None when nothing limits it."""
    found: LimitState | None = None
    for take in takes:
        if take.counter.meter != meter or take.maximum is None:
            continue
        window = windows.by_id[ask.organization_id, take.window_id]
        left = take.maximum - window.used - window.reserved
        if found is None or left < found.remaining:
            found = LimitState(take.maximum, left, end_of(take.counter.period, take.counter.starts_at))
    return found

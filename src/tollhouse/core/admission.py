"""May this be done, with which model, at what price, and what does it take? Facts in, decision out.

The first rule that fails is the reason shown, in the order: organisation, key, capability, model, price, tier
(unlocked, trial), requests a minute, messages and requests of a period, tokens, credits. A refusal changes nothing; an
admission takes everything at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never
from uuid import UUID

from tollhouse.core import errors, refusals
from tollhouse.core.ask import Ask, CallWant, CapabilityWant, Credential, CreditsWant, Facts, KeyFacts, Size
from tollhouse.core.catalogue import Capability, Quality
from tollhouse.core.choice import Choice, choices, choices_of_use, offered, permitted, unlocked, ways
from tollhouse.core.credit import Account, Hold
from tollhouse.core.key import Scope, comes_from
from tollhouse.core.limits import Takes
from tollhouse.core.period import end_of
from tollhouse.core.price import Quote
from tollhouse.core.quota import Take, Windows
from tollhouse.core.rate import Rates, RateTake
from tollhouse.core.routing import Model, Route

# An answer cut shorter than this by the balance helps nobody: the call is refused instead.
OUTPUT_TOKENS_MIN = 256
# What a use of unknown size takes from the tokens until it is settled: enough to find the quota exhausted.
UNKNOWN_TOKENS = 1
CANDIDATES_MAX = 4

_GONE = {
    "key": "This API key was revoked. Use another one.",
    "issuer": "Tokens of this issuer are trusted here no more. An admin of the organisation can say why.",
    "person": "You are no member of this organisation any more, or your account is suspended. Sign in again.",
}


@dataclass(frozen=True, slots=True)
class LimitState:
    """A limit as it stands after a call was admitted."""

    limit: int
    remaining: int
    resets_at: datetime | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may answer, over which route, and what it costs. `output_tokens` is the most per answer and is sent
    to the provider as such; None for a use of unknown size."""

    model: Model
    route: Route
    quote: Quote
    output_tokens: int | None


@dataclass(frozen=True, slots=True)
class Terms:
    """Which model, who answers for it, and what it costs: those of the candidate that is asked first. `others` are
    asked one after another when the one before fails before its first byte. `asked` is what the caller named: a model,
    "auto" or a capability; `reason` why another model than the one named is asked. Capability and quality when it is a
    use of one."""

    model: Model
    route: Route
    quote: Quote
    output_tokens: int | None
    others: tuple[Candidate, ...]
    asked: str
    reason: str | None = None
    experiment_id: UUID | None = None
    capability: Capability | None = None
    quality: Quality | None = None

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All in the order in which they are asked."""
        return (Candidate(self.model, self.route, self.quote, self.output_tokens), *self.others)


@dataclass(frozen=True, slots=True)
class Weighed:
    """Everything fits: what would be taken. `terms` None for plain credits; `charged` False when the plan takes no
    credits on this channel, or the ask is free."""

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
    windows.reserve(weighed.windows, weighed.tokens, weighed.amount_micros)
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
    if ask.credential is not None:
        check_credential(ask.credential, facts.key, ask.needs, facts.now)
    charged = facts.charges(ask)
    match ask.want:
        case CallWant():
            return _weigh_call(ask, ask.want, facts, takes, account, windows, rates)
        case CapabilityWant():
            return _weigh_capability(ask, ask.want, facts, takes, account, windows, rates)
        case CreditsWant(amount):
            amount = amount if charged else 0
            windows.check(takes.windows, 0, amount)
            _check_credits(amount, account)
            return Weighed(None, charged, amount, 0, takes.windows, (), None)
    assert_never(ask.want)


def _weigh_call(
    ask: Ask, want: CallWant, facts: Facts, takes: Takes, account: Account, windows: Windows, rates: Rates
) -> Weighed:
    """The first choice that limits and credits allow; when none is, why the first one is not. Of an experiment's model
    nobody is told that did not ask for it."""
    if takes.choice is None:
        choices(ask, want, facts)  # raises why there is none
    reason: errors.TollhouseError | None = None
    for number, one in enumerate(takes.each):
        assert one.choice is not None
        try:
            return _weigh_choice(ask, want, one.choice, facts, one, account, windows, rates)
        except errors.TollhouseError as refusal:
            drawn_before = number == 1 and takes.choice is not None and takes.choice.experiment_id is not None
            reason = refusal if reason is None or drawn_before else reason
    assert reason is not None
    raise reason


def _weigh_choice(
    ask: Ask, want: CallWant, choice: Choice, facts: Facts, takes: Takes, account: Account, windows: Windows,
    rates: Rates,
) -> Weighed:  # fmt: skip
    size, model = want.size, choice.model
    quote = quote_of(ask, model.id, facts)
    routes = ways(ask, model, facts)
    if not routes:
        raise refusals.NotConnected(model.id, model.provider_id)
    given = _input_tokens(size, routes[0])
    trial = _trial(model, takes.windows, windows)
    rates.check(takes.rates, facts.now)
    wanted = output_wanted(size, facts, model)
    least = min(wanted, OUTPUT_TOKENS_MIN)
    first = over(quote, routes[0])
    ruled = bool(facts.rules_of(ask))
    least_micros = first.most_micros(given, least * want.answers) if ruled else 0
    windows.check(takes.windows, given + least * want.answers, least_micros)
    if ask.rules:  # they are small beside what a model can say: the answer is cut to what they leave
        room = _room_of_own_rules(ask, takes.windows, windows)
        wanted = wanted if room is None else min(wanted, (room - given) // want.answers)
    most = account.balance.spendable_micros
    if ruled and (room := windows.room(takes.windows, "credits")) is not None:
        most = min(room, most)
    output, amount = _amount(given, want.answers, wanted, first, account, most)
    if first is not quote and not routes[-1].own_key:
        amount = _with_room(amount, quote.most_micros(given, output * want.answers), most)
    tokens = given + output * want.answers
    windows.check(takes.windows, tokens, amount)
    others = _others(ask, want, model, routes, quote, facts, (output, amount))
    terms = Terms(model, routes[0], first, output, others, want.model_id, choice.reason, choice.experiment_id)
    return Weighed(terms, quote.charged, amount, tokens, takes.windows, takes.rates, trial)


def _with_room(amount: int, dearest: int, most: int) -> int:
    """Over its own connection a call costs the organisation little. Where that much may be spent, what it costs over
    the platform's is reserved, so that this can answer when the other fails."""
    return dearest if amount < dearest <= most else amount


def _others(
    ask: Ask, want: CallWant, model: Model, routes: Sequence[Route], quote: Quote, facts: Facts, held: tuple[int, int]
) -> tuple[Candidate, ...]:
    """Who is asked when the first fails: the other connections of its model, then the system default, each with as many
    tokens of output as what is `held` for the first (tokens, micro-credits) can pay. What the sandbox makes up never
    stands in for an answer that was asked of a provider, nor the other way round."""
    if not ask.here:
        return ()
    ahead = [(model, route, quote) for route in routes[1:CANDIDATES_MAX]]
    made_up, default = routes[0].connection is None, facts.catalogue.default
    if want.fallback and default is not None and default is not model and want.kind == default.kind == "chat":
        its_quote = facts.catalogue.quote(default.id, facts.now, 1000, quote.charged)
        if its_quote is not None and default.enabled and unlocked(default, facts) and permitted(default, facts):
            found = [one for one in ways(ask, default, facts) if (one.connection is None) == made_up]
            if found:
                ahead = [*ahead[: CANDIDATES_MAX - 2], *[(default, route, its_quote) for route in found]]
    candidates = [_candidate(want, *one, facts, held) for one in ahead[: CANDIDATES_MAX - 1]]
    return tuple([one for one in candidates if one is not None])


def _candidate(
    want: CallWant, model: Model, route: Route, quote: Quote, facts: Facts, held: tuple[int, int]
) -> Candidate | None:
    """The candidate with what is held for the first one, None when that is not enough for a useful answer."""
    output, amount = held
    wanted = min(output, output_wanted(want.size, facts, model))
    its_quote = over(quote, route)
    given = _input_tokens(want.size, route)
    affordable = its_quote.output_affordable(given, amount, wanted * want.answers) // want.answers
    if affordable < min(wanted, OUTPUT_TOKENS_MIN):
        return None
    return Candidate(model, route, its_quote, affordable)


def over(quote: Quote, route: Route) -> Quote:
    """The quote of a call over this route: over the organisation's own connection a share of it is charged."""
    return replace(quote, share_permille=quote.rate.own_key_permille) if route.own_key else quote


def _weigh_capability(
    ask: Ask, want: CapabilityWant, facts: Facts, takes: Takes, account: Account, windows: Windows, rates: Rates
) -> Weighed:
    capability, quality, models = offered(want, facts)
    found = choices_of_use(ask, want, quality.id, models, facts)
    first, *others = _candidates_of_use(ask, want, found, quality, facts)
    tokens = UNKNOWN_TOKENS
    if want.size is not None:
        assert first.output_tokens is not None
        tokens = _input_tokens(want.size, first.route) + first.output_tokens
    rates.check(takes.rates, facts.now)
    charged = first.quote.charged
    amount = capability.estimate_micros(quality) if charged else 0
    windows.check(takes.windows, tokens, amount)
    _check_credits(amount, account)
    terms = Terms(
        first.model, first.route, first.quote, first.output_tokens, tuple(others), capability.id, found[0].reason,
        found[0].experiment_id, capability, quality,
    )  # fmt: skip
    return Weighed(terms, charged, amount, tokens, takes.windows, takes.rates, None)


def _candidates_of_use(
    ask: Ask, want: CapabilityWant, found: Sequence[Choice], quality: Quality, facts: Facts
) -> list[Candidate]:
    """Every model of the offer over each of its routes; all with no more output than the first, which is what counts
    against the limits. PriceUnknown when nothing says what a dollar is worth."""
    ahead = [(choice.model, route) for choice in found for route in ways(ask, choice.model, facts)]
    made_up, output = ahead[0][1].connection is None, None
    candidates: list[Candidate] = []
    for model, route in [one for one in ahead if (one[1].connection is None) == made_up]:
        if want.size is not None:
            wanted = output_wanted(want.size, facts, model)
            output = wanted if output is None else min(output, wanted)
        quote = over(quote_of(ask, model.id, facts, quality.multiplier_permille), route)
        candidates.append(Candidate(model, route, quote, output))
    return candidates[: CANDIDATES_MAX if ask.here else 1]


def check_credential(
    credential: Credential, key: KeyFacts | None, needs: frozenset[Scope], now: datetime
) -> None:  # fmt: skip
    """Unauthenticated for what counts no more, Forbidden for what lacks a scope or comes from elsewhere."""
    if key is None:
        raise errors.Unauthenticated(_GONE[credential.kind])
    check_alive(key.revoked_at, key.expires_at, now)
    check_network(key.networks, credential.address)
    missing = sorted(needs - key.scopes)
    if missing:
        raise errors.Forbidden(f"This takes an API key with the scope {missing[0]!r}. Use a key that has it.")


def check_suspended(suspended: bool) -> None:
    """Forbidden for an organisation that was suspended."""
    if suspended:
        raise errors.Forbidden("This organisation is suspended. Its owner can ask the operator why.")


def check_network(networks: tuple[str, ...] | None, address: str) -> None:
    """Forbidden for a key that comes from an address outside its networks."""
    if networks is not None and not comes_from(address, networks):
        raise errors.Forbidden(
            f"This API key may not be used from {address or 'an unknown address'}. Use it where it belongs, or have "
            "its networks changed."
        )


def check_alive(revoked_at: datetime | None, expires_at: datetime | None, now: datetime) -> None:
    """Unauthenticated for a key that works no more at `now`, its organisation's own time."""
    if revoked_at is not None:
        raise errors.Unauthenticated("This API key was revoked. Use another one.")
    if expires_at is not None and expires_at <= now:
        raise errors.Unauthenticated(f"This API key expired at {expires_at:%Y-%m-%d %H:%M} UTC. Make a new one.")


def quote_of(ask: Ask, model_id: str, facts: Facts, multiplier_permille: int = 1000) -> Quote:
    """The terms in force now. PriceUnknown when there are none: money in doubt is refused."""
    charged = facts.charges(ask)
    quote = facts.catalogue.quote(model_id, facts.now, multiplier_permille, charged)
    if quote is None:
        raise refusals.PriceUnknown(model_id)
    return quote


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
        raise refusals.ModelLocked(model.id, model.price_cents)
    window = windows.by_id.get(trial.counter.window_id)
    if window is not None and window.used + window.reserved >= model.trial_messages:
        raise refusals.TrialExpired(model.id, model.price_cents, model.trial_messages)
    return trial


def output_wanted(size: Size, facts: Facts, model: Model) -> int:
    """The most output tokens per answer that the plan and the model allow. Without a maximum of the caller's the plan's
    counts, never the model's alone. An embedding has none."""
    if model.kind == "embedding":
        return 0
    cap = min(facts.plan.max_output_tokens, model.max_output_tokens)
    return cap if size.output_tokens is None else min(cap, size.output_tokens)


def _amount(given: int, answers: int, wanted: int, quote: Quote, account: Account, most: int) -> tuple[int, int]:
    """The most output tokens per answer, and what the call may cost with them, in micro-credits: what is wanted,
    clamped to what balance and limits of credits allow (`most`), but not below what is of any use."""
    amount = quote.most_micros(given, wanted * answers)
    if amount <= most:
        return wanted, amount
    affordable = quote.output_affordable(given, most, wanted * answers) // answers
    least = min(wanted, OUTPUT_TOKENS_MIN)
    if affordable < least:
        raise _insufficient(quote.most_micros(given, least * answers), account)
    return affordable, quote.most_micros(given, affordable * answers)


def _room_of_own_rules(ask: Ask, takes: Sequence[Take], windows: Windows) -> int | None:
    """The tokens that the rules which come with the ask leave; None: they limit none."""
    own = {rule.id for rule in ask.rules}
    return windows.room((take for take in takes if take.counter.limit_id in own), "tokens")


def _check_credits(amount: int, account: Account) -> None:
    if amount > account.balance.spendable_micros:
        raise _insufficient(amount, account)


def _insufficient(amount: int, account: Account) -> refusals.InsufficientCredits:
    balance = account.balance
    return refusals.InsufficientCredits(amount, balance.spendable_micros, balance.held_micros, balance.period_end)


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

"""What comes back. Credits are exact decimals, times are aware; a field that is not known here is passed over."""

from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from msgspec import Meta

Moment = Annotated[datetime, Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call; None is not known, 0 is none. Cached input is part of the input and reasoning part of
    the output: add them up first for a provider that counts them apart. ValueError and TypeError for what cannot be."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            tokens = getattr(self, field.name)
            if tokens is None and field.default is None:
                continue
            if not isinstance(tokens, int) or isinstance(tokens, bool):
                raise TypeError(f"{field.name} is a whole number of tokens, not {tokens!r}")
            if tokens < 0:
                raise ValueError(f"{field.name} is below 0: {tokens}")
        if (self.cached_input_tokens or 0) > self.input_tokens:
            raise ValueError("cached_input_tokens are part of input_tokens and cannot be more")
        if (self.reasoning_tokens or 0) > self.output_tokens:
            raise ValueError("reasoning_tokens are part of output_tokens and cannot be more")


@dataclass(frozen=True, slots=True)
class Hint:
    """What would help: kind is upgrade (perhaps to `plan`), top_up, unlock (for `price_cents`) or wait (until `at`)."""

    kind: str
    price_cents: int | None = None
    plan: str | None = None
    at: Moment | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """A lot of credits; `remaining` holds the `reserved` part."""

    id: str
    source: str
    amount: Decimal
    remaining: Decimal
    reserved: Decimal
    priority: int
    effective_at: Moment
    expires_at: Moment | None = None
    paid: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Balance:
    """`available` may be below zero: that is debt. `spendable` is the most that the next call may reserve. `monthly`
    and `bonus` hold their reserved parts; `grants` stand in the order of their use."""

    available: Decimal
    spendable: Decimal
    monthly: Decimal
    bonus: Decimal
    reserved: Decimal
    debt: Decimal
    overdraft_limit: Decimal
    used_this_period: Decimal
    period_start: Moment
    period_end: Moment
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class Transaction:
    """A row of the credit ledger. `estimation_variance` is what a call was charged less what was reserved for it."""

    id: str
    seq: int
    type: str
    amount: Decimal
    balance_after: Decimal
    created_at: Moment
    grant_id: str | None = None
    reservation_id: str | None = None
    capability: str | None = None
    quality: str | None = None
    model: str | None = None
    user: str | None = None
    estimation_variance: Decimal | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Transactions:
    """A page, newest first. `next_cursor` None: it was the last."""

    items: tuple[Transaction, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """How much of a reservation comes from which grant."""

    grant_id: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Reservation:
    """`status` is pending, settled, released or expired; `charged`, `variance` (charged less reserved), `closed_at` and
    `reason` come with its end. `max_output_tokens` is what the amount pays for, told when it is made for a model: pass
    it on to the provider. `balance` is what is available afterwards. `replayed`: this is the stored answer to an
    earlier request of the same key."""

    id: str
    status: str
    amount: Decimal
    created_at: Moment
    expires_at: Moment
    balance: Decimal
    parts: tuple[Part, ...] = ()
    overdraft: Decimal = Decimal(0)
    model: str | None = None
    capability: str | None = None
    quality: str | None = None
    max_output_tokens: int | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    charged: Decimal | None = None
    variance: Decimal | None = None
    closed_at: Moment | None = None
    reason: str | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Settlement:
    """`variance` is charged less reserved. `late`: the reservation had ended before, and the charge was booked all the
    same. `replayed`: it had been settled before, this is what was charged then."""

    id: str
    status: str
    charged: Decimal
    variance: Decimal
    balance: Decimal
    late: bool = False
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """`status` is released, or expired when the reservation had come to its end before."""

    id: str
    status: str
    balance: Decimal
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Renewal:
    id: str
    expires_at: Moment


@dataclass(frozen=True, slots=True)
class QualityLevel:
    """One quality of a capability: whether the plan has it, what it is expected to cost, which models serve it."""

    name: str
    allowed: bool
    estimated_credits: Decimal | None = None
    models: tuple[str, ...] = ()
    hint: Hint | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the call may cost at most, what there is, and whether that is enough."""

    estimated: Decimal | None
    spendable: Decimal
    enough: bool


@dataclass(frozen=True, slots=True)
class Limit:
    """So much of `meter` (messages, tokens, requests, or credits, which are decimals) per `period` for this `scope`,
    perhaps of one `model` or `capability` only; `resets_at` None: never, or for a limit per minute that something is
    left."""

    scope: str
    meter: str
    period: str
    limit: int | Decimal
    used: int | Decimal
    remaining: int | Decimal
    resets_at: Moment | None = None
    model: str | None = None
    capability: str | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """The decision that a reservation of the same would meet now: `reason` and `message` say why not, `hints` what
    would help."""

    can_proceed: bool
    reason: str | None = None
    message: str | None = None
    model: str | None = None
    models: tuple[str, ...] = ()
    quality_levels: tuple[QualityLevel, ...] = ()
    credits: Estimate | None = None
    limits: tuple[Limit, ...] = ()
    hints: tuple[Hint, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """What a capability answered (`answer` has the shape that the capability defines), and what that cost.
    `balance_remaining` None: it was not known yet."""

    id: str
    capability: str
    quality: str
    model: str
    answer: Any
    usage: Usage
    credits_used: Decimal
    balance_remaining: Decimal | None = None
    replayed: bool = False

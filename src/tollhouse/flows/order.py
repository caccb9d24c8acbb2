"""What operators order, and what they get."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tollhouse.core.credit import Balance, Grant, Source
from tollhouse.core.experiment import Arm
from tollhouse.core.key import Mode, Scope
from tollhouse.store import entitlement
from tollhouse.store.key import ApiKey
from tollhouse.store.organization import Organization


@dataclass(frozen=True, slots=True)
class Order:
    """Who ordered it (key:<id>, person:<id>, issuer:<id> or system), the real time, and from which network address;
    None: not over the network."""

    actor: str
    now: datetime
    address: str | None = None


@dataclass(frozen=True, slots=True)
class NewOrganization:
    """`period_anchor` None: its periods begin now. The owner is found by e-mail address (in lower case), or made."""

    name: str
    plan_id: str
    business_type: str = "general"
    period_anchor: datetime | None = None
    owner_email: str | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """`models` None: all models; `networks` None: from anywhere. The limits are the key's own; None: none."""

    name: str
    scopes: tuple[Scope, ...]
    mode: Mode
    expires_at: datetime | None = None
    models: tuple[str, ...] | None = None
    credits_micros_per_month: int | None = None
    requests_per_minute: int | None = None
    networks: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class NewGrant:
    """Times are the organisation's. Without an expiry, monthly credits end with the period in which they begin; others
    never."""

    source: Source
    amount_micros: int
    note: str
    priority: int | None = None
    paid: bool = False
    effective_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewEntitlement:
    """For whom: everybody in an organisation; with `user`, that member (by id) or end user (by the host application's
    id) of it; `user` alone is a person, by id or e-mail address, in the organisation that is their own."""

    organization_id: UUID | None
    user: str | None
    model_id: str
    source: entitlement.Source
    note: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewExperiment:
    """About a model (or "auto"), or about a capability at a quality. `starts_at` None: it begins now; `ends_at` None:
    no end is set."""

    name: str
    model_id: str | None
    capability_id: str | None
    quality_id: str | None
    arms: tuple[Arm, ...]
    starts_at: datetime | None = None
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """An organisation and its balance at `now`, its own time."""

    organization: Organization
    balance: Balance
    now: datetime


@dataclass(frozen=True, slots=True)
class MadeKey:
    """`key` is told this once: only its digest is stored."""

    row: ApiKey
    key: str


@dataclass(frozen=True, slots=True)
class Given:
    grant: Grant
    available_micros: int
    spendable_micros: int


@dataclass(frozen=True, slots=True)
class Moved:
    """`outlived` are the reservations whose lease has run out by the new time: the caller has the teller reap them."""

    overview: Overview
    outlived: tuple[UUID, ...]

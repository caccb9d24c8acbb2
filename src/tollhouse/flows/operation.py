"""What can be asked of the teller."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from tollhouse.core.access import Admission, Ask, Catalogue
from tollhouse.core.price import Usage

Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class Operation(Generic[Result]):
    """What waits in the queue; `result` is answered once, after the commit."""

    organization_id: UUID
    result: asyncio.Future[Result] = field(init=False)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call that may be made: durable before any byte goes to a provider."""

    id: UUID
    organization_id: UUID
    admission: Admission
    amount_micros: int
    available_micros: int
    created_at: datetime
    catalogue: Catalogue


@dataclass(frozen=True, slots=True)
class Settled:
    """`replayed`: it had been settled before, this is what was charged then."""

    charged_micros: int
    cost_nanos: int
    available_micros: int
    replayed: bool


@dataclass(slots=True, eq=False)
class Admit(Operation[Admitted]):
    ask: Ask
    endpoint: str
    stream: bool
    external_user: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended. `state`: done, incomplete (cut after output had begun) or failed (no output)."""

    state: str
    client_left: bool = False
    error: str | None = None
    status: int | None = None
    first_byte_ms: int | None = None
    duration_ms: int = 0


@dataclass(slots=True, eq=False)
class Settle(Operation[Settled]):
    """The call used this much. Safe to send any number of times."""

    reservation_id: UUID
    usage: Usage
    outcome: Outcome
    provider_id: str


@dataclass(slots=True, eq=False)
class Release(Operation[int]):
    """The call used nothing: everything goes back, trial messages too. The result is the available balance."""

    reservation_id: UUID
    outcome: Outcome


@dataclass(slots=True, eq=False)
class Renew(Operation[datetime]):
    """The call still runs and has used this much so far. The result is the end of its new lease."""

    reservation_id: UUID
    input_tokens: int
    output_tokens: int


@dataclass(slots=True, eq=False)
class Reap(Operation[bool]):
    """Its lease has run out: settle what the last checkpoint says, or release it. The result is whether it was open."""

    reservation_id: UUID


@dataclass(slots=True, eq=False)
class CatchUp(Operation[None]):
    """Period ends, expiries and scheduled grants of an organisation are due."""


AnyOperation = Admit | Settle | Release | Renew | Reap | CatchUp

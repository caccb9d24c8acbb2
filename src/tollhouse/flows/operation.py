"""What can be asked of the teller."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from tollhouse.core.admission import Admission
from tollhouse.core.ask import Ask, Credential
from tollhouse.core.catalogue import Catalogue
from tollhouse.core.explain import Explanation
from tollhouse.core.key import Scope
from tollhouse.core.price import Stated, Usage
from tollhouse.flows.once import Once
from tollhouse.store.call import Origin

Result = TypeVar("Result")
# How long a call may stay silent before it counts as lost; a running call renews well before.
LEASE = timedelta(seconds=60)


@dataclass(slots=True, eq=False)
class Operation(Generic[Result]):
    """What waits in the queue; `result` is answered once, after the commit."""

    organization_id: UUID
    result: asyncio.Future[Result] = field(init=False)


@dataclass(frozen=True, slots=True)
class Keeps:
    """What the organisation wants kept: answers for `cache_ttl_s` seconds, to be given again (None: not at all), and
    whether prompts and answers are stored."""

    cache_ttl_s: int | None
    stores_content: bool


@dataclass(frozen=True, slots=True)
class Admitted:
    """It may be done: durable before any byte goes to a provider."""

    id: UUID
    organization_id: UUID
    admission: Admission
    amount_micros: int
    available_micros: int
    created_at: datetime
    expires_at: datetime
    catalogue: Catalogue
    keeps: Keeps


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the first request with this idempotency key was answered."""

    status: int
    response: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settled:
    """`replayed`: it had been settled before, this is what was charged then. `late`: it had been closed without a
    charge before. `variance_micros`: the charge less what was reserved."""

    charged_micros: int
    cost_nanos: int
    variance_micros: int
    available_micros: int
    late: bool
    replayed: bool


@dataclass(frozen=True, slots=True)
class Released:
    """`state` is the reservation's afterwards: settled when there was nothing to give back. `replayed`: it was closed
    before."""

    state: str
    available_micros: int
    replayed: bool


@dataclass(frozen=True, slots=True)
class Renewed:
    """A reservation that is not pending any more was not renewed."""

    state: str
    expires_at: datetime


@dataclass(slots=True, eq=False)
class Admit(Operation[Admitted | Replayed]):
    """`endpoint` is of a call that is made here; None when the host application makes it: with `once` its answer is the
    reservation, otherwise the answer comes with the settlement. `external_user` is the host application's id of the
    subject."""

    ask: Ask
    endpoint: str | None
    stream: bool = False
    external_user: str | None = None
    once: Once | None = None
    lease: timedelta = LEASE
    metadata: dict[str, Any] | None = None


@dataclass(slots=True, eq=False)
class Explain(Operation[Explanation]):
    """What would be decided? Takes nothing."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended. `state`: done, incomplete (cut after output had begun) or failed (no output)."""

    state: str
    client_left: bool = False
    error: str | None = None
    status: int | None = None
    first_byte_ms: int | None = None
    duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """Who answered a call that was made here: the model, its provider, the number of the attempt (1 is the first), and
    from where: over the platform's connection, over the organisation's own, or from its kept answers."""

    model_id: str
    provider_id: str
    attempt: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept for those who ask again with the same key; the charge and what is left are added to it."""

    once: Once
    status: int
    response: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bearer:
    """What an operation comes with, a key as a rule, and what it must be allowed to do: read again under the lock."""

    credential: Credential
    needs: frozenset[Scope]


@dataclass(slots=True, eq=False)
class Settle(Operation[Settled]):
    """This much was used. Safe to send any number of times. `outcome` and `by` None: the call was made by the host
    application, which may also have stated what it costs."""

    reservation_id: UUID
    usage: Usage | Stated
    outcome: Outcome | None
    by: Answered | None
    answer: Answer | None = None
    bearer: Bearer | None = None


@dataclass(slots=True, eq=False)
class Release(Operation[Released]):
    """Nothing was used: everything goes back, trial messages too. The key of `once` may be used again."""

    reservation_id: UUID
    outcome: Outcome | None
    reason: str | None = None
    once: Once | None = None
    bearer: Bearer | None = None


@dataclass(slots=True, eq=False)
class Attempt(Operation[None]):
    """The candidate asked so far failed before its first byte, as `before` says; the next one is called once this is
    durable. `number` counts from 1, which the admission has written. Conflict when the reservation is not open any
    more; LimitExceeded when a limit of the next candidate's model is reached: it may not be called then. Safe to send
    again."""

    reservation_id: UUID
    number: int
    model_id: str
    provider_id: str
    connection_id: UUID | None
    own_key: bool
    before: Outcome


@dataclass(slots=True, eq=False)
class Renew(Operation[Renewed]):
    """It still runs. Of a call that is made here: it has used this much so far."""

    reservation_id: UUID
    input_tokens: int | None = None
    output_tokens: int | None = None
    lease: timedelta = LEASE
    bearer: Bearer | None = None


@dataclass(slots=True, eq=False)
class Reap(Operation[bool]):
    """Its lease has run out: settle what the last checkpoint says, or release it. The result is whether it was open."""

    reservation_id: UUID


@dataclass(slots=True, eq=False)
class CatchUp(Operation[None]):
    """Period ends, expiries and scheduled grants of an organisation are due."""


AnyOperation = Admit | Explain | Attempt | Settle | Release | Renew | Reap | CatchUp

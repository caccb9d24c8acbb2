"""Idempotency: a request that is sent again is answered again, and done once."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from tollhouse.core.errors import BadRequest, Conflict, Mismatch, TollhouseError
from tollhouse.store import idempotency
from tollhouse.store.db import OperatorTx
from tollhouse.store.idempotency import Answer

Result = TypeVar("Result")
STATUS_DONE = 200


@dataclass(frozen=True, slots=True)
class Once:
    """What makes two requests the same one: endpoint, the caller's key, and a hash of the body."""

    endpoint: str
    key: str
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class Done(Generic[Result]):
    """A result, or the refusal that the request met; `replayed`: when it came first, not now."""

    outcome: Result | TollhouseError
    replayed: bool

    def result(self) -> Result:
        """Call it after the commit: the refusal is raised, but its record must stay."""
        if isinstance(self.outcome, TollhouseError):
            raise self.outcome
        return self.outcome


async def do_once(
    tx: OperatorTx,
    organization_id: UUID,
    once: Once | None,
    now: datetime,
    kind: type[Result],
    act: Callable[[], Awaitable[Result]],
) -> Done[Result]:
    """Does it, or tells what came of it before. The caller holds the organisation's lock, so of two at once the second
    waits and finds the answer of the first. A refusal undoes what `act` wrote and is kept too. Mismatch when the key
    came with another body. `kind` is a frozen dataclass of plain values; `now` is real time."""
    if once is not None:
        known = await idempotency.find(tx, organization_id, once.endpoint, once.key)
        if known is not None:
            return Done(_recall(known, once, kind), replayed=True)
    outcome: Result | TollhouseError
    try:
        async with tx.transaction():
            outcome = await act()
        answer = {"result": msgspec.to_builtins(outcome)}
    except (BadRequest, Conflict) as refusal:
        outcome = refusal
        answer = {"refusal": {"code": refusal.code, "detail": str(refusal)} | refusal.details()}
    if once is not None:
        status = outcome.status if isinstance(outcome, TollhouseError) else STATUS_DONE
        kept = Answer(once.body_hash, status, answer)
        await idempotency.insert(tx, organization_id, once.endpoint, once.key, kept, now)
    return Done(outcome, replayed=False)


def _recall(known: Answer, once: Once, kind: type[Result]) -> Result | TollhouseError:
    if known.body_hash != once.body_hash:
        raise Mismatch(
            f"The Idempotency-Key {once.key!r} came with another body before. Send the same body, or another key."
        )
    if "result" in known.response:
        return msgspec.convert(known.response["result"], kind)
    refusal: dict[str, Any] = known.response["refusal"]
    if refusal["code"] == Conflict.code:
        return Conflict(refusal["detail"])
    return BadRequest(refusal["detail"], refusal.get("field"), known.status)

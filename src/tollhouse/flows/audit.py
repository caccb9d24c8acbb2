"""The audit log: writing to it in the transaction of what it tells about, reading, exporting and checking it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from psycopg import AsyncConnection

from tollhouse.core.audit import Chain, Detail, Entry, Head, Row, as_csv_line, as_json_line, csv_head, hash_of
from tollhouse.core.errors import BadRequest, NotFound
from tollhouse.flows.order import Order
from tollhouse.store import audit as audits
from tollhouse.store.audit import Filter
from tollhouse.store.db import Database, OperatorTx, TenantTx

Format = Literal["jsonl", "csv"]
EXPORTED_AT_ONCE = 1000
EXPORT_MAX = timedelta(days=366)
EXPORT_USUAL = timedelta(days=31)


async def record(
    tx: OperatorTx | TenantTx,
    organization_id: UUID,
    order: Order,
    action: str,
    about: tuple[str, str],
    details: Mapping[str, Detail],
) -> None:
    """Appends to the organisation's chain and locks the organisation until the end of the transaction; what belongs to
    no organisation goes to the platform's. `about` is the type and the id of what was changed."""
    seq, previous = await audits.end(tx, organization_id)
    entry = Entry(organization_id, seq + 1, order.now, order.actor, action, *about, details, order.address)
    await audits.insert(tx, entry, previous, hash_of(previous, entry))


# -------------------------------------------------------------------------------------------------------------- reading


async def page(
    db: Database, order: Order, organization_id: UUID, wanted: Filter, limit: int, before: int | None, *, outside: bool
) -> list[Row]:
    """At most so many rows, newest first. `outside`: by an operator, whose look leaves a trace. NotFound when there is
    no such organisation."""
    if not outside:
        async with db.tenant(organization_id) as tenant:
            return await audits.newest(tenant, organization_id, wanted, limit, before)
    async with db.operator() as tx:
        await _trace(tx, organization_id, order, "audit.read", {})
        return await audits.newest(tx, organization_id, wanted, limit, before)


@dataclass(frozen=True, slots=True)
class Range:
    """Half-open, of the real time."""

    since: datetime
    until: datetime

    @classmethod
    def of(cls, since: datetime | None, until: datetime | None, now: datetime) -> "Range":
        """Until now and a month long, where nothing else is said. BadRequest for one that is too long."""
        until = until or now
        since = since or until - EXPORT_USUAL
        if since >= until:
            raise BadRequest("'from' must lie before 'to'.", "from")
        if until - since > EXPORT_MAX:
            raise BadRequest(f"An export holds at most {EXPORT_MAX.days} days: export year by year.", "from")
        return cls(since, until)


async def export(db: Database, order: Order, organization_id: UUID, over: Range, format_: Format) -> AsyncIterator[str]:
    """The rows of that time, oldest first, as lines of JSON or CSV, some at a time; that it was exported is written
    down first. No transaction is open between two parts. NotFound when there is no such organisation."""
    details: dict[str, Detail] = {
        "from": over.since.isoformat(), "to": over.until.isoformat(), "format": format_
    }  # fmt: skip
    async with db.operator() as tx:
        await _trace(tx, organization_id, order, "audit.exported", details)
    return _lines(db, organization_id, over, format_)


async def _lines(db: Database, organization_id: UUID, over: Range, format_: Format) -> AsyncIterator[str]:
    line, after = as_json_line if format_ == "jsonl" else as_csv_line, 0
    if format_ == "csv":
        yield csv_head()
    while True:
        async with db.tenant(organization_id) as tx:
            rows = await audits.onward(tx, organization_id, over.since, over.until, after, EXPORTED_AT_ONCE)
        if rows:
            yield "".join(map(line, rows))
        if len(rows) < EXPORTED_AT_ONCE:
            return
        after = rows[-1].seq


async def _trace(
    tx: OperatorTx, organization_id: UUID, order: Order, action: str, details: Mapping[str, Detail]
) -> None:
    try:
        await record(tx, organization_id, order, action, ("organization", str(organization_id)), details)
    except LookupError:
        raise NotFound("There is no such organisation.") from None


# ------------------------------------------------------------------------------------------------------------- checking


async def check(db: Database, organization_id: UUID) -> Chain:
    """The organisation's own chain, recomputed as it stands at this moment."""
    chain = Chain(organization_id)
    async with db.tenant(organization_id) as tx, aclosing(audits.stored(tx, organization_id)) as stored:
        async for row in stored:
            chain.add(row)
    chain.end()
    return chain


async def verify(
    connection: AsyncConnection[tuple[object, ...]], organization_id: UUID | None, expected: Mapping[UUID, Head]
) -> AsyncIterator[Chain]:
    """Every chain, or that of one organisation, recomputed in one snapshot; also those of which a head is expected and
    nothing is left. The connection must be the owner's and outside a transaction. Changes nothing."""
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await connection.execute("SET LOCAL timezone = 'UTC'")
        unseen = dict(expected)
        chain: Chain | None = None
        async with aclosing(audits.stored(connection, organization_id)) as stored:
            async for row in stored:
                if chain is None or chain.organization_id != row["organization_id"]:
                    if chain is not None:
                        chain.end()
                        yield chain
                    chain = Chain(row["organization_id"], unseen.pop(row["organization_id"], None))
                chain.add(row)
        for one in (chain, *(Chain(id_, head) for id_, head in unseen.items())):
            if one is not None:
                one.end()
                yield one

"""An organisation's own limits: made, changed and ended by an operator, each in one transaction with its audit row.

They hold from the next call on: the teller reads them under the lock that is taken here.
"""

import os
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal
from uuid import UUID

from tollhouse.core.audit import Detail
from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.core.key import end_user_id, ordered_id
from tollhouse.core.period import Kind
from tollhouse.core.quota import Scope
from tollhouse.flows.audit import record
from tollhouse.flows.govern import Opened, open_organization
from tollhouse.flows.once import Done, Once, do_once
from tollhouse.flows.order import Order
from tollhouse.store import call as calls
from tollhouse.store import key as keys
from tollhouse.store import limit as limits
from tollhouse.store import person
from tollhouse.store.db import Database, OperatorTx
from tollhouse.store.exchange import run
from tollhouse.store.limit import LimitRow

# Every call of an organisation reads all of its limits.
LIMITS_MAX = 100


@dataclass(frozen=True, slots=True)
class NewLimit:
    """`subject` is a member's id or the host application's id of an end user (scope person), or a key's id (scope key);
    None: all together, each person, or each key. `model_id` None: all models together."""

    scope: Scope
    subject: str | None
    model_id: str | None
    meter: Literal["messages", "tokens"]
    period: Kind
    maximum: int


async def read_limits(db: Database, order: Order, organization_id: UUID) -> list[LimitRow]:
    """Those in force, oldest first."""
    async with db.operator() as tx:
        await open_organization(tx, organization_id, order.now)
        about = ("organization", str(organization_id))
        await record(tx, organization_id, order, "limit.read", about, {})
        return await limits.in_force(tx, organization_id)


async def create_limit(
    db: Database, order: Order, organization_id: UUID, wanted: NewLimit, once: Once | None = None
) -> Done[LimitRow]:
    """A limit that counts from now on. BadRequest for an unknown model and for a subject that is not of the scope's
    kind, Conflict when there is one about the same already, and for one limit too many."""
    async with db.operator() as tx:
        opened = await open_organization(tx, organization_id, order.now)
        act = partial(_create, tx, order, opened, wanted)
        return await do_once(tx, organization_id, once, order.now, LimitRow, act)


async def _create(tx: OperatorTx, order: Order, opened: Opened, wanted: NewLimit) -> LimitRow:
    organization_id, now = opened.locked.id, opened.now
    if wanted.model_id is not None and wanted.model_id not in opened.catalogue.models:
        raise BadRequest(f"There is no model {wanted.model_id!r} in the catalogue.", "model")
    subject_id, subject = await _subject(tx, opened, wanted)
    row = LimitRow(
        ordered_id(now, os.urandom(10)), wanted.scope, subject_id, subject, wanted.model_id, wanted.meter,
        wanted.period, wanted.maximum, now, None,
    )  # fmt: skip
    known = await limits.in_force(tx, organization_id)
    for one in known:
        if _about(one) == _about(row):
            raise Conflict(f"The limit {one.id} is about the same already, with a maximum of {one.maximum}. Change it.")
    if len(known) >= LIMITS_MAX:
        raise Conflict(f"This organisation has {LIMITS_MAX} limits already. End one that is not needed.")
    await limits.insert(tx, organization_id, row)
    details: dict[str, Detail] = {"scope": row.scope, "subject": row.subject, "model": row.model_id}
    details |= {"meter": row.meter, "period": row.period, "maximum": row.maximum}
    await record(tx, organization_id, order, "limit.created", ("limit", str(row.id)), details)
    return row


async def change_limit(db: Database, order: Order, organization_id: UUID, limit_id: UUID, maximum: int) -> LimitRow:
    """Another maximum; what was counted stays counted. The audit row is what the ledger's proof knows the former
    maximum by. NotFound when the organisation has no such limit, Conflict when it has ended."""
    async with db.operator() as tx:
        await open_organization(tx, organization_id, order.now)
        row = await _find(tx, organization_id, limit_id)
        if row.ended_at is not None:
            raise Conflict("This limit has ended. Make a new one.")
        await limits.set_maximum(tx, organization_id, limit_id, maximum)
        details: dict[str, Detail] = {"from": row.maximum, "to": maximum}
        await record(tx, organization_id, order, "limit.changed", ("limit", str(limit_id)), details)
        return replace(row, maximum=maximum)


async def end_limit(db: Database, order: Order, organization_id: UUID, limit_id: UUID) -> LimitRow:
    """It binds no more, from the next call on. Safe to repeat: the first end counts. NotFound when the organisation has
    no such limit."""
    async with db.operator() as tx:
        now = (await open_organization(tx, organization_id, order.now)).now
        row = await _find(tx, organization_id, limit_id)
        if row.ended_at is None:
            row = replace(row, ended_at=now)
            await limits.end(tx, organization_id, limit_id, now)
        about = ("limit", str(limit_id))
        await record(tx, organization_id, order, "limit.ended", about, {"maximum": row.maximum})
        return row


async def _find(tx: OperatorTx, organization_id: UUID, limit_id: UUID) -> LimitRow:
    row = await limits.one(tx, organization_id, limit_id)
    if row is None:
        raise NotFound("This organisation has no such limit.")
    return row


async def _subject(tx: OperatorTx, opened: Opened, wanted: NewLimit) -> tuple[UUID, str] | tuple[None, None]:
    """Whom it is about, and how they are called. An end user may be limited before the first call: who it is must be
    known from now on."""
    organization_id, subject = opened.locked.id, wanted.subject
    if subject is None:
        return None, None
    if wanted.scope == "organization":
        raise BadRequest("The scope 'organization' counts everybody together: leave the subject out.", "subject")
    key_id = await _key_id(tx, organization_id, subject)
    if wanted.scope == "key":
        if key_id is None:
            raise BadRequest("This organisation has no key of this id that still works.", "subject")
        return key_id, str(key_id)
    if key_id is not None:
        raise BadRequest("This is the id of a key: choose the scope 'key'.", "subject")
    member_id = await person.member_of(tx, organization_id, subject)
    if member_id is not None:
        return member_id, str(member_id)
    user_id = end_user_id(organization_id, subject)
    await run(tx, calls.insert_end_users([calls.EndUserRow(organization_id, user_id, subject, opened.now)]))
    return user_id, subject


async def _key_id(tx: OperatorTx, organization_id: UUID, subject: str) -> UUID | None:
    """The key of this id, if there is one that was not revoked."""
    try:
        id_ = UUID(subject)
    except ValueError:
        return None
    row = await keys.one(tx, organization_id, id_)
    return row.id if row is not None and row.revoked_at is None else None


def _about(row: LimitRow) -> tuple[object, ...]:
    return (row.scope, row.subject_id, row.model_id, row.meter, row.period)

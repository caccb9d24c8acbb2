"""An organisation's own limits: made, changed and ended by an operator, and with the keys that they are about by who
manages these (flows/key.py); each in one transaction with its audit row.

They hold from the next call on: the teller reads them under the lock that is taken here.
"""

import os
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from uuid import UUID

from tollhouse.core.audit import Detail
from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.core.key import end_user_id, ordered_id
from tollhouse.core.money import format_credits
from tollhouse.core.period import Kind
from tollhouse.core.quota import OwnMeter, Scope
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
LIMITS_MAX = 200


@dataclass(frozen=True, slots=True)
class NewLimit:
    """`subject` is a member's id or the host application's id of an end user (scope person), or a key's id (scope key);
    None: all together, each person, or each key. `model_id` None: all models together. `maximum` of credits is in
    micro-credits."""

    scope: Scope
    subject: str | None
    model_id: str | None
    meter: OwnMeter
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
    """A limit that counts from now on. BadRequest for an unknown model, for credits a minute and for a subject that is
    not of the scope's kind, Conflict when there is one about the same already, and for one limit too many."""
    async with db.operator() as tx:
        opened = await open_organization(tx, organization_id, order.now)
        act = partial(_create, tx, order, opened, wanted)
        return await do_once(tx, organization_id, once, order.now, LimitRow, act)


async def _create(tx: OperatorTx, order: Order, opened: Opened, wanted: NewLimit) -> LimitRow:
    organization_id, now = opened.locked.id, opened.now
    if wanted.model_id is not None and wanted.model_id not in opened.catalogue.models:
        raise BadRequest(f"There is no model {wanted.model_id!r} in the catalogue.", "model")
    if wanted.meter == "credits" and wanted.period == "minute":
        raise BadRequest("Credits are limited per day, week, month or lifetime. Choose one of these.", "period")
    subject_id, subject = await _subject(tx, opened, wanted)
    row = LimitRow(
        ordered_id(now, os.urandom(10)), wanted.scope, subject_id, subject, wanted.model_id, wanted.meter,
        wanted.period, wanted.maximum, now, None,
    )  # fmt: skip
    for one in await limits.in_force(tx, organization_id):
        if _about(one) == _about(row):
            told = format_credits(one.maximum) if one.meter == "credits" else one.maximum
            raise Conflict(f"The limit {one.id} is about the same already, with a maximum of {told}. Change it.")
    await _insert(tx, order, opened, row)
    return row


async def _insert(tx: OperatorTx, order: Order, opened: Opened, row: LimitRow) -> None:
    organization_id = opened.locked.id
    if len(await limits.in_force(tx, organization_id)) >= LIMITS_MAX:
        await end_of_ended_keys(tx, order, opened)
        if len(await limits.in_force(tx, organization_id)) >= LIMITS_MAX:
            raise Conflict(f"This organisation has {LIMITS_MAX} limits already. End one that is not needed.")
    await limits.insert(tx, organization_id, row)
    subject = str(row.subject_id) if row.subject_id else None  # never the host application's id of somebody
    details: dict[str, Detail] = {"scope": row.scope, "subject": subject, "model": row.model_id}
    details |= {"meter": row.meter, "period": row.period, "maximum": row.maximum}
    await record(tx, organization_id, order, "limit.created", ("limit", str(row.id)), details)


async def change_limit(
    db: Database, order: Order, organization_id: UUID, limit_id: UUID, maximum: int, *, in_credits: bool = False
) -> LimitRow:
    """Another maximum; what was counted stays counted. NotFound when the organisation has no such limit, Conflict when
    it has ended, BadRequest when the maximum is in another unit than the limit."""
    async with db.operator() as tx:
        await open_organization(tx, organization_id, order.now)
        row = await _find(tx, organization_id, limit_id)
        if row.ended_at is not None:
            raise Conflict("This limit has ended. Make a new one.")
        if in_credits != (row.meter == "credits"):
            unit = 'a decimal string such as "12.5"' if row.meter == "credits" else "a whole number"
            raise BadRequest(f"This limit counts {row.meter}: send {unit}.", "maximum")
        await _change(tx, order, organization_id, row, maximum)
        return replace(row, maximum=maximum)


async def _change(tx: OperatorTx, order: Order, organization_id: UUID, row: LimitRow, maximum: int) -> None:
    """The audit row is what the ledger's proof knows the former maximum by."""
    await limits.set_maximum(tx, organization_id, row.id, maximum)
    details: dict[str, Detail] = {"from": row.maximum, "to": maximum}
    await record(tx, organization_id, order, "limit.changed", ("limit", str(row.id)), details)


async def set_of_key(
    tx: OperatorTx, order: Order, opened: Opened, key_id: UUID, about: tuple[OwnMeter, Kind], maximum: int | None
) -> None:
    """Gives the key a limit of its own for meter and period, changes it, or takes it away (None). `key_id` is what it
    counts as."""
    organization_id, (meter, period) = opened.locked.id, about
    row = LimitRow(
        ordered_id(opened.now, os.urandom(10)), "key", key_id, str(key_id), None, meter, period, maximum or 0,
        opened.now, None,
    )  # fmt: skip
    known = next((one for one in await limits.in_force(tx, organization_id) if _about(one) == _about(row)), None)
    if maximum is None:
        if known is not None:
            await _end(tx, order, organization_id, known.id, opened.now, known.maximum)
    elif known is None:
        await _insert(tx, order, opened, row)
    elif known.maximum != maximum:
        await _change(tx, order, organization_id, known, maximum)


async def end_of_ended_keys(tx: OperatorTx, order: Order, opened: Opened) -> None:
    """Ends the limits of keys that work no more, nor any that replaced them: they are read with every call."""
    organization_id = opened.locked.id
    for limit_id in await limits.of_ended_keys(tx, organization_id, opened.now):
        row = await _find(tx, organization_id, limit_id)
        await _end(tx, order, organization_id, limit_id, opened.now, row.maximum)


async def end_limit(db: Database, order: Order, organization_id: UUID, limit_id: UUID) -> LimitRow:
    """It binds no more, from the next call on. Safe to repeat: the first end counts. NotFound when the organisation has
    no such limit."""
    async with db.operator() as tx:
        now = (await open_organization(tx, organization_id, order.now)).now
        row = await _find(tx, organization_id, limit_id)
        await _end(tx, order, organization_id, limit_id, row.ended_at or now, row.maximum)
        return replace(row, ended_at=row.ended_at or now)


async def _end(
    tx: OperatorTx, order: Order, organization_id: UUID, limit_id: UUID, at: datetime, maximum: int
) -> None:  # fmt: skip
    await limits.end(tx, organization_id, limit_id, at)
    await record(tx, organization_id, order, "limit.ended", ("limit", str(limit_id)), {"maximum": maximum})


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
    """What the key of this id counts as, if there is one that was not revoked."""
    try:
        id_ = UUID(subject)
    except ValueError:
        return None
    row = await keys.one(tx, organization_id, id_)
    return row.counted_as if row is not None and row.revoked_at is None else None


def _about(row: LimitRow) -> tuple[object, ...]:
    return (row.scope, row.subject_id, row.model_id, row.meter, row.period)

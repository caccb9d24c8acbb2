"""API keys: made, changed, replaced and revoked by who manages an organisation, and by operators; each in one
transaction with its audit row. All of it counts from the next call on: the teller reads the key under the lock that is
taken here.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from tollhouse.core.admission import check_alive, check_suspended
from tollhouse.core.ask import Credential
from tollhouse.core.audit import Detail
from tollhouse.core.catalogue import Catalogue
from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.core.key import check_may_give, digest, make_key, networks_of, ordered_id, shown
from tollhouse.core.membership import check_role_may
from tollhouse.core.money import format_credits
from tollhouse.core.period import Kind
from tollhouse.core.quota import OwnMeter
from tollhouse.flows.audit import record
from tollhouse.flows.connection import Policy
from tollhouse.flows.govern import Opened, open_organization
from tollhouse.flows.limit import end_of_ended_keys, set_of_key
from tollhouse.flows.order import MadeKey, NewKey, Order
from tollhouse.store import key as keys
from tollhouse.store import member as members
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database, OperatorTx
from tollhouse.store.key import ApiKey

KEYS_MAX = 500  # that work at the same time, of one organisation
OVERLAP_MAX = timedelta(days=7)
A_MONTH: tuple[OwnMeter, Kind] = ("credits", "month")
A_MINUTE: tuple[OwnMeter, Kind] = ("messages", "minute")


@dataclass(frozen=True, slots=True)
class Manager:
    """Whose keys they are, and by whose order something is done with them: who came `by` a key or a session of the
    organisation; None: an operator."""

    organization_id: UUID
    order: Order
    by: Credential | None


@dataclass(frozen=True, slots=True)
class KeyChange:
    """The key as it is wanted, from what it is: what is left out stays."""

    fields: Mapping[str, object]

    def of(self, row: ApiKey) -> ApiKey:
        return replace(row, **self.fields)  # type: ignore[arg-type]  # who makes it knows the types


async def create(db: Database, policy: Policy, manager: Manager, wanted: NewKey) -> MadeKey:
    """A new key of the organisation. BadRequest for an expiry that has passed, an unknown model and the scope
    `operator` outside the platform; Forbidden for what the manager may not give away."""
    async with db.operator() as tx:
        opened = await _enter(tx, manager)
        models = None if wanted.models is None else sorted(set(wanted.models))
        row = ApiKey(
            manager.organization_id, ordered_id(opened.now, os.urandom(10)), wanted.name, "", list(wanted.scopes),
            wanted.mode, wanted.expires_at, None, opened.now, models, manager.order.actor,
            credits_micros_per_month=wanted.credits_micros_per_month, requests_per_minute=wanted.requests_per_minute,
            networks=None if wanted.networks is None else networks_of(wanted.networks),
        )  # fmt: skip
        await _check(tx, opened, manager, row)
        made = await _insert(tx, opened, policy, row)
        await _set_limits(tx, opened, manager, None, made.row)
        details = {"name": row.name, "start": made.row.start, "scopes": list(row.scopes), "mode": row.mode}
        about = ("key", str(row.id))
        await record(tx, row.organization_id, manager.order, "key.created", about, details | _told(row))
        return made


async def read(db: Database, manager: Manager) -> list[ApiKey]:
    """The organisation's keys that work now, newest first, for an operator: who looks leaves a trace."""
    async with db.operator() as tx:
        now = (await _enter(tx, manager)).now
        about = ("organization", str(manager.organization_id))
        await record(tx, manager.organization_id, manager.order, "key.read", about, {})
        return await keys.live(tx, manager.organization_id, now)


async def change(db: Database, manager: Manager, key_id: UUID, wanted: KeyChange) -> ApiKey:
    """Another name, other models, networks and limits, an earlier expiry. NotFound when the organisation has no such
    key, Conflict for one that works no more, BadRequest for a later expiry, Forbidden as in `create`; no key changes
    itself."""
    async with db.operator() as tx:
        opened = await _enter(tx, manager)
        before = await _working(tx, opened, key_id)
        after = wanted.of(before)
        if before.expires_at is not None and (after.expires_at is None or after.expires_at > before.expires_at):
            raise BadRequest("A key expires earlier than it was to, never later. Make a new one.", "expires_at")
        await _check(tx, opened, manager, after, before)
        if after.networks is not None:
            after = replace(after, networks=networks_of(after.networks))
        await keys.change(tx, after)
        await _set_limits(tx, opened, manager, before, after)
        old, new = _told(before) | {"name": before.name}, _told(after) | {"name": after.name}
        changed = {name: {"from": old[name], "to": new[name]} for name in new if old[name] != new[name]}
        await record(tx, after.organization_id, manager.order, "key.changed", ("key", str(key_id)), changed)
        return after


async def rotate(
    db: Database, policy: Policy, manager: Manager, key_id: UUID, overlap: timedelta, expires_at: datetime | None
) -> MadeKey:
    """A new key in the place of this one, which ends after the overlap. It has the same rights; limits go on counting,
    for both together. `expires_at` None: that of the old one. NotFound, Conflict and Forbidden as in `change`."""
    async with db.operator() as tx:
        opened = await _enter(tx, manager)
        old, now = await _working(tx, opened, key_id), opened.now
        row = replace(
            old, id=ordered_id(now, os.urandom(10)), expires_at=expires_at or old.expires_at, created_at=now,
            created_by=manager.order.actor, last_used_at=None, counts_as=old.counted_as,
        )  # fmt: skip
        await _check(tx, opened, manager, row, replace(old, expires_at=row.expires_at))
        made = await _insert(tx, opened, policy, row)
        ends = now + overlap if old.expires_at is None else min(now + overlap, old.expires_at)
        revoked_at = None if overlap else now
        await keys.replace(tx, old.organization_id, old.id, row.id, ends if overlap else old.expires_at, revoked_at)
        details = {"name": old.name, "by": str(row.id), "start": made.row.start, "expires_at": _written(row.expires_at),
                   "former_ends_at": _written(ends)}  # fmt: skip
        await record(tx, old.organization_id, manager.order, "key.rotated", ("key", str(old.id)), details)
        return made


async def revoke(db: Database, manager: Manager, key_id: UUID) -> ApiKey:
    """The key works no more, from the next call on; those under way end within seconds. Safe to repeat; NotFound when
    the organisation has no such key."""
    async with db.operator() as tx:
        opened = await _enter(tx, manager)
        await _find(tx, manager.organization_id, key_id)
        await keys.revoke(tx, manager.organization_id, key_id, opened.now)
        await end_of_ended_keys(tx, manager.order, opened)
        row = await _find(tx, manager.organization_id, key_id)
        await record(
            tx, row.organization_id, manager.order, "key.revoked", ("key", str(key_id)), {"name": row.name}
        )  # fmt: skip
        return row


async def _enter(tx: OperatorTx, manager: Manager) -> Opened:
    """The organisation under its lock. Forbidden when it is suspended, or when the manager's key or role is gone
    meanwhile; operators may whatever has become of it."""
    opened = await open_organization(tx, manager.organization_id, manager.order.now)
    if manager.by is None:
        return opened
    check_suspended(opened.locked.suspended)
    if manager.by.kind == "person":
        check_role_may(await members.role_of(tx, manager.organization_id, manager.by.id), "keys.manage")
    else:
        giver = await _find(tx, manager.organization_id, manager.by.id)
        check_alive(giver.revoked_at, giver.expires_at, opened.now)
    return opened


async def _find(tx: OperatorTx, organization_id: UUID, key_id: UUID) -> ApiKey:
    row = await keys.one(tx, organization_id, key_id)
    if row is None:
        raise NotFound("This organisation has no such key.")
    return row


async def _working(tx: OperatorTx, opened: Opened, key_id: UUID) -> ApiKey:
    row = await _find(tx, opened.locked.id, key_id)
    if row.replaced_by is not None:
        raise Conflict(f"This key was replaced by {row.replaced_by}: that one is to be changed, or replaced in turn.")
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= opened.now):
        raise Conflict("This key works no more. Make a new one.")
    return row


async def _check(
    tx: OperatorTx, opened: Opened, manager: Manager, after: ApiKey, before: ApiKey | None = None
) -> None:  # fmt: skip
    """Whether the key may be so, and by this manager, who takes into the hand what it was `before` too."""
    if "operator" in after.scopes and not (manager.by is None and after.organization_id == PLATFORM_ID):
        raise BadRequest("Only keys of the platform take the scope 'operator', and operators make them.", "scopes")
    if after.expires_at is not None and after.expires_at <= opened.now and after != before:
        raise BadRequest(f"It is {_written(opened.now)} for this organisation: send a later time.", "expires_at")
    if before is None or after.model_ids != before.model_ids:
        _check_models(after.model_ids or (), opened.catalogue)
    if manager.by is not None and manager.by.kind == "key":
        giver = await _find(tx, manager.organization_id, manager.by.id)
        for row in (after,) if before is None else (before, after):
            check_may_give(giver.rights, row.rights)


def _check_models(model_ids: Iterable[str], catalogue: Catalogue) -> None:
    unknown = next((one for one in model_ids if one not in catalogue.models), None)
    if unknown is not None:
        raise BadRequest(f"There is no model {unknown[:80]!r} in the catalogue.", "models")


async def _insert(tx: OperatorTx, opened: Opened, policy: Policy, row: ApiKey) -> MadeKey:
    if len(await keys.live(tx, row.organization_id, opened.now)) >= KEYS_MAX:
        raise Conflict(f"This organisation has {KEYS_MAX} keys already. Revoke one that is not needed.")
    key = make_key(row.mode, os.urandom(64))
    row = replace(row, start=shown(key))
    await keys.insert(tx, row, digest(policy.keyring.current, key))
    return MadeKey(row, key)


async def _set_limits(
    tx: OperatorTx, opened: Opened, manager: Manager, before: ApiKey | None, after: ApiKey
) -> None:  # fmt: skip
    for about, was, is_ in (
        (A_MONTH, before and before.credits_micros_per_month, after.credits_micros_per_month),
        (A_MINUTE, before and before.requests_per_minute, after.requests_per_minute),
    ):
        if was != is_:
            await set_of_key(tx, manager.order, opened, after.counted_as, about, is_)


def _told(row: ApiKey) -> dict[str, Detail]:
    """What of a key may change, as the audit log has it."""
    credits = row.credits_micros_per_month
    return {
        "expires_at": _written(row.expires_at),
        "models": row.model_ids,
        "credits_per_month": None if credits is None else format_credits(credits),
        "requests_per_minute": row.requests_per_minute,
        "networks": row.networks,
    }


def _written(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None

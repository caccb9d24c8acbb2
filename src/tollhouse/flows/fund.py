"""Where credits come from and when they end, on a locked organisation: load, ask the core, write."""

import os
from datetime import datetime
from uuid import UUID

from tollhouse.core import fund
from tollhouse.core.catalogue import Catalogue, Plan
from tollhouse.core.credit import Account, Grant
from tollhouse.core.fund import NewId, Standing
from tollhouse.core.key import ordered_id
from tollhouse.store import account as store
from tollhouse.store import organization as organizations
from tollhouse.store.account import Locked
from tollhouse.store.db import MoneyTx
from tollhouse.store.exchange import run


def ids_at(now: datetime) -> NewId:
    """New ids, in the order of their time."""
    return lambda: ordered_id(now, os.urandom(10))


async def lock_one(tx: MoneyTx, organization_id: UUID) -> Locked | None:
    """The organisation under its lock, or None when there is none of that id."""
    _, found = await run(tx, store.lock([organization_id]), store.locked([organization_id]))
    return found[0] if found else None


async def load_account(tx: MoneyTx, locked: Locked) -> Account:
    """The account of a locked organisation, with the grants that pay debt; without debt none is needed to book what
    comes and what ends, however many there are."""
    if locked.balance.debt_micros == 0:
        return Account(locked.balance, {}, known_to=())
    (found,) = await run(tx, store.heads([locked.id], None))
    return Account(locked.balance, {row.grant.id: row.grant for row in found})


async def write(tx: MoneyTx, account: Account, made: list[Grant]) -> None:
    """Writes an account and the grants that were made for it."""
    for grant in made:
        await store.insert_grant(tx, account.balance.organization_id, grant)
    await store.write(tx, account)


async def begin(tx: MoneyTx, organization_id: UUID, plan: Plan, now: datetime) -> None:
    """What a new organisation begins with."""
    locked = await lock_one(tx, organization_id)
    assert locked is not None
    account = await load_account(tx, locked)
    await write(tx, account, fund.begin(account, plan, now, ids_at(now)))


async def catch_up(tx: MoneyTx, locked: Locked, catalogue: Catalogue, now: datetime) -> None:
    """Brings a locked organisation to `now`, its own time. Safe to run at any time, any number of times."""
    account = await load_account(tx, locked)
    due = await store.due_grants(tx, locked.id, now)
    account.grants |= {grant.id: grant for grant in due}
    before = Standing(locked.plan_id, locked.pending_plan_id)
    standing, made = fund.catch_up(account, before, catalogue.plans, locked.period_anchor, now, ids_at(now))
    if standing != before:
        await organizations.apply_pending_plan(tx, locked.id)
    await write(tx, account, made)
    # the grants that were not loaded have their moments too; those just written count as they are now
    fund.look_again(account, [await store.next_grant_event(tx, locked.id, now)], now)
    await store.write(tx, Account(account.balance, {}))

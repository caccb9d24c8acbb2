"""Where credits come from: monthly allocations, grants, and what ends."""

import os
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from tollhouse.core.access import Catalogue, Plan
from tollhouse.core.credit import PRIORITY, Account, Grant, Source
from tollhouse.core.key import ordered_id
from tollhouse.core.period import month_containing
from tollhouse.store import account as store
from tollhouse.store import organization as organizations
from tollhouse.store.account import Locked
from tollhouse.store.db import MoneyTx
from tollhouse.store.exchange import run


def new_grant(
    source: Source,
    amount_micros: int,
    now: datetime,
    *,
    priority: int | None = None,
    paid: bool = False,
    effective_at: datetime | None = None,
    expires_at: datetime | None = None,
    period_start: datetime | None = None,
    plan_id: str | None = None,
    note: str = "",
) -> Grant:
    """A grant of so many micro-credits; without a begin it begins now, without an end it never ends."""
    return Grant(
        id=ordered_id(now, os.urandom(10)),
        source=source,
        priority=PRIORITY[source] if priority is None else priority,
        paid=paid,
        amount_micros=amount_micros,
        remaining_micros=amount_micros,
        reserved_micros=0,
        active=effective_at is None or effective_at <= now,
        effective_at=effective_at or now,
        expires_at=expires_at,
        period_start=period_start,
        plan_id=plan_id,
        created_at=now,
        note=note,
    )


async def give(tx: MoneyTx, account: Account, grant: Grant, now: datetime, actor: str) -> None:
    """Books a grant on the locked account; one that begins later is written down and counts from its begin on."""
    await store.insert_grant(tx, account.balance.organization_id, grant)
    if grant.active:
        account.add(grant, now, actor)
    else:
        account.schedule(grant)
    events = [moment for moment in (grant.effective_at, grant.expires_at) if moment is not None and moment > now]
    account.balance.next_due_at = min([account.balance.next_due_at, *events])
    account.touched = True


async def allocate(tx: MoneyTx, account: Account, plan: Plan, now: datetime, note: str = "") -> None:
    """The plan's monthly credits for the balance's period, once: the ledger has one allocation per period."""
    balance = account.balance
    balance.allocated_micros = plan.monthly_credits_micros
    account.touched = True
    if plan.monthly_credits_micros > 0:
        grant = new_grant(
            "plan",
            plan.monthly_credits_micros,
            now,
            expires_at=balance.period_end,
            period_start=balance.period_start,
            plan_id=plan.id,
            note=note or f"{plan.name}, monthly credits",
        )
        await give(tx, account, grant, now, "system")


async def welcome(tx: MoneyTx, account: Account, plan: Plan, now: datetime) -> None:
    """The plan's welcome bonus, once in an organisation's lifetime: the ledger has one per plan."""
    given = await store.welcome_given(tx, account.balance.organization_id, plan.id)
    if plan.welcome_bonus_micros > 0 and not given:
        note = f"{plan.name}, welcome bonus"
        grant = new_grant("welcome", plan.welcome_bonus_micros, now, plan_id=plan.id, note=note)
        await give(tx, account, grant, now, "system")


async def load_account(tx: MoneyTx, locked: Locked) -> Account:
    """The whole account of a locked organisation: every grant that has something free."""
    (found,) = await run(tx, store.heads([locked.id], None))
    return Account(locked.balance, {row.grant.id: row.grant for row in found})


async def catch_up(tx: MoneyTx, locked: Locked, catalogue: Catalogue, now: datetime) -> None:
    """Brings a locked organisation to `now`, its own time: what has ended expires, a new period begins with its one
    allocation (and a pending change of plan), what was scheduled begins. Safe to run at any time, any number of times;
    after a long sleep it lands in the current period. Debt is carried over."""
    account = await load_account(tx, locked)
    due = [account.grants.get(grant.id, grant) for grant in await store.due_grants(tx, locked.id, now)]
    account.grants |= {grant.id: grant for grant in due}
    for grant in due:
        if grant.active:
            account.expire(grant.id, now)
    balance = account.balance
    if now >= balance.period_end:
        plan_id = locked.pending_plan_id or locked.plan_id
        if locked.pending_plan_id is not None:
            await organizations.apply_pending_plan(tx, locked.id)
        skipped = balance.period_end
        period = month_containing(now, locked.period_anchor)
        balance.period_start, balance.period_end = period.start, period.end
        balance.next_due_at = period.end
        note = "" if skipped == period.start else f"{catalogue.plans[plan_id].name}, monthly credits after a pause"
        await allocate(tx, account, catalogue.plans[plan_id], now, note)
    for grant in due:
        if not grant.active and (grant.expires_at is None or grant.expires_at > now):
            account.add(grant, now, "system")
        elif not grant.active:  # began and ended while nobody looked: both are booked
            account.add(grant, now, "system")
            account.expire(grant.id, now)
    await store.write(tx, account)
    event = await store.next_grant_event(tx, locked.id, now)
    next_due_at = min(balance.period_end, event) if event else balance.period_end
    closing = Account(replace(balance, next_due_at=next_due_at), {}, touched=True)
    await store.write(tx, closing)


async def lock_one(tx: MoneyTx, organization_id: UUID) -> Locked | None:
    """The organisation under its lock, or None when there is none of that id."""
    (found,) = await run(tx, store.lock([organization_id]))
    return found[0] if found else None

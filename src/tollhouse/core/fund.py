"""Where credits come from and when they end: grants, monthly allocations, welcome bonuses, changes of plan, periods.

The rules work on the account of one organisation. Grants that they make are returned: their rows must be there before
the account is written. `now` is the organisation's own time; doing a thing again at the same time changes nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from tollhouse.core.catalogue import Plan
from tollhouse.core.credit import PRIORITY, Account, Balance, Grant, Source
from tollhouse.core.errors import BadRequest, Conflict
from tollhouse.core.money import MICROS_MAX, format_credits
from tollhouse.core.period import Period, month_containing

NewId = Callable[[], UUID]
MONTHLY: frozenset[Source] = frozenset({"plan", "plan_change"})  # credits that end with their period


@dataclass(frozen=True, slots=True)
class Standing:
    """The plan in force, and the one that takes its place when the period ends."""

    plan_id: str
    pending_plan_id: str | None = None


@dataclass(frozen=True, slots=True)
class PlanChange:
    """`given_micros`: by how much the organisation is better off at once."""

    standing: Standing
    made: list[Grant]
    given_micros: int
    at_once: bool


# --------------------------------------------------------------------------------------------------------------- grants


def new_grant(
    id_: UUID,
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
        id=id_,
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


def accepted(grant: Grant, balance: Balance, anchor: datetime, now: datetime) -> Grant:
    """A grant as somebody wants to give it, with its end: monthly credits end with the period in which they begin.
    BadRequest when it could never be spent, Conflict when the organisation would hold more than one amount may be."""
    begins, ends = max(grant.effective_at, now), grant.expires_at
    if ends is None and grant.source in MONTHLY:
        ends = _period(begins, anchor).end
    if ends is not None and ends <= begins:
        raise BadRequest(
            f"These credits would end before they begin or before now, {now.isoformat().replace('+00:00', 'Z')}.",
            "expires_at",
        )
    if balance.remaining_micros + grant.amount_micros > MICROS_MAX:
        raise Conflict(f"The organisation would hold more than {format_credits(MICROS_MAX)} credits. Give less.")
    return replace(grant, expires_at=ends)


def give(account: Account, grant: Grant, now: datetime, actor: str) -> None:
    """Books a grant; one that begins later is written down and counts from its begin on."""
    if grant.active:
        account.add(grant, now, actor)
    else:
        account.schedule(grant)
    look_again(account, [_next_event(grant)], now)


def look_again(account: Account, moments: Iterable[datetime | None], now: datetime) -> None:
    """The account is due at the earliest of these moments, if not before; None and the past do not count."""
    to_come = [moment for moment in moments if moment is not None and moment > now]
    account.balance.next_due_at = min([account.balance.next_due_at, *to_come])
    account.touched = account.arranged = True


def set_overdraft(account: Account, limit_micros: int) -> None:
    """How far the organisation may spend below zero. Conflict below what is in use already, which may only grow."""
    balance = account.balance
    in_use = balance.debt_micros + balance.overdraft_reserved_micros
    if limit_micros < min(in_use, balance.overdraft_limit_micros):
        raise Conflict(
            f"{format_credits(in_use)} credits of the overdraft are in use. Set that much, or settle it first."
        )
    balance.overdraft_limit_micros = limit_micros
    account.touched = account.arranged = True


# -------------------------------------------------------------------------------------------------------------- periods


def first_balance(organization_id: UUID, anchor: datetime, now: datetime) -> Balance:
    """The empty balance of a new organisation, in the period of `now`."""
    period = _period(now, anchor)
    return Balance(
        organization_id,
        remaining_micros=0,
        reserved_micros=0,
        debt_micros=0,
        overdraft_limit_micros=0,
        overdraft_reserved_micros=0,
        allocated_micros=0,
        seq=0,
        period_start=period.start,
        period_end=period.end,
        next_due_at=period.end,
    )


def begin(account: Account, plan: Plan, now: datetime, new_id: NewId) -> list[Grant]:
    """What a new organisation begins with: the first period's credits and the welcome bonus."""
    return [*_allocate(account, plan, now, new_id), *_welcome(account, plan, False, now, new_id)]


def catch_up(
    account: Account, standing: Standing, plans: Mapping[str, Plan], anchor: datetime, now: datetime, new_id: NewId
) -> tuple[Standing, list[Grant]]:
    """Brings an account to `now`: what has ended expires, a new period begins with its one allocation (and a pending
    change of plan), what was scheduled begins. After a long sleep it lands in the current period. Debt is carried over.
    Of the grants it needs those that are due, and with debt those that have something free."""
    due = _due(account, now)
    made: list[Grant] = []
    for grant in due:
        if grant.active:
            account.expire(grant.id, now)
    if now >= account.balance.period_end:
        standing = Standing(standing.pending_plan_id or standing.plan_id)
        made = _roll(account, plans[standing.plan_id], anchor, now, new_id)
    for grant in due:
        if not grant.active:
            account.add(grant, now, "system")
            if grant.expires_at is not None and grant.expires_at <= now:  # nobody looked meanwhile: both are booked
                account.expire(grant.id, now)
    account.balance.next_due_at = account.balance.period_end
    look_again(account, map(_next_event, account.grants.values()), now)
    return standing, made


def _period(moment: datetime, anchor: datetime) -> Period:
    """Whatever zone the anchor was told in, periods are counted in UTC: no switch to summer time moves them."""
    return month_containing(moment, anchor.astimezone(UTC))


def _due(account: Account, now: datetime) -> list[Grant]:
    """Grants that have ended with something free, and grants that have begun without counting yet: what ends first
    before what ends later (never last), then by age, the monthly credits before an upgrade's of the same moment."""
    found = [
        grant
        for grant in account.grants.values()
        if (not grant.active and grant.effective_at <= now)
        or (grant.active and grant.free_micros > 0 and grant.expires_at is not None and grant.expires_at <= now)
    ]
    return sorted(found, key=lambda one: ((one.expires_at is None, one.expires_at), one.created_at, one.source, one.id))


def _next_event(grant: Grant) -> datetime | None:
    """When a grant begins or, if it has, ends; None when it never ends or nothing is left to end."""
    if not grant.active:
        return grant.effective_at
    return grant.expires_at if grant.remaining_micros > 0 else None


def _roll(account: Account, plan: Plan, anchor: datetime, now: datetime, new_id: NewId) -> list[Grant]:
    balance, period = account.balance, _period(now, anchor)
    pause = "" if balance.period_end == period.start else " after a pause"
    balance.period_start, balance.period_end = period.start, period.end
    balance.period_seq = balance.seq
    return _allocate(account, plan, now, new_id, pause)


def _allocate(account: Account, plan: Plan, now: datetime, new_id: NewId, pause: str = "") -> list[Grant]:
    """The plan's monthly credits for the balance's period. The caller has just begun it: each period has one."""
    balance = account.balance
    balance.allocated_micros = plan.monthly_credits_micros
    if plan.monthly_credits_micros == 0:
        return []
    grant = new_grant(
        new_id(), "plan", plan.monthly_credits_micros, now, expires_at=balance.period_end,
        period_start=balance.period_start, plan_id=plan.id, note=f"{plan.name}, monthly credits{pause}",
    )  # fmt: skip
    give(account, grant, now, "system")
    return [grant]


def _welcome(account: Account, plan: Plan, given_before: bool, now: datetime, new_id: NewId) -> list[Grant]:
    """The plan's welcome bonus, once in an organisation's lifetime."""
    if plan.welcome_bonus_micros == 0 or given_before:
        return []
    note = f"{plan.name}, welcome bonus"
    grant = new_grant(new_id(), "welcome", plan.welcome_bonus_micros, now, plan_id=plan.id, note=note)
    give(account, grant, now, "system")
    return [grant]


# ---------------------------------------------------------------------------------------------------------------- plans


def change_plan(
    account: Account, before: Plan, wanted: Plan, welcomed: bool, now: datetime, new_id: NewId, actor: str
) -> PlanChange:
    """Upwards at once, with what it gives. Downwards when the period ends. To the plan in force: what waits is
    cancelled. Each replaces a change that waits. `welcomed`: the wanted plan's bonus was given before."""
    if wanted.rank < before.rank:
        return PlanChange(Standing(before.id, wanted.id), [], 0, at_once=False)
    if wanted.rank == before.rank:
        return PlanChange(Standing(before.id), [], 0, at_once=True)
    made = [
        *_upgrade(account, wanted, now, new_id, actor),
        *_welcome(account, wanted, welcomed, now, new_id),
    ]
    return PlanChange(Standing(wanted.id), made, sum(grant.amount_micros for grant in made), at_once=True)


def _upgrade(account: Account, plan: Plan, now: datetime, new_id: NewId, actor: str) -> list[Grant]:
    """What the plan gives above the highest allocation of this period, until the period ends: changing to and fro gives
    nothing twice."""
    balance = account.balance
    more = plan.monthly_credits_micros - balance.allocated_micros
    if more <= 0:
        return []
    balance.allocated_micros = plan.monthly_credits_micros
    note = f"Upgrade to {plan.name}"
    grant = new_grant(new_id(), "plan_change", more, now, expires_at=balance.period_end, note=note)
    give(account, grant, now, actor)
    return [grant]

"""An organisation's credits: grants burned in order, reserved before a call and settled after it.

Two numbers, never one: every grant and the balance keep what remains apart from what is reserved. An `Account` is the
working copy of one organisation inside one transaction: operations are decided one after another on it, and it
remembers what must be written. It reads no clock; amounts are micro-credits.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

Source = Literal["plan", "plan_change", "welcome", "promo", "topup", "adjustment"]
PRIORITY: dict[Source, int] = {"plan": 10, "plan_change": 10, "welcome": 20, "promo": 20, "topup": 30, "adjustment": 30}
TRANSACTION_OF: dict[Source, str] = {
    "plan": "plan_allocation",
    "plan_change": "plan_change_adjustment",
    "welcome": "welcome_bonus",
    "promo": "promo_bonus",
    "topup": "topup_purchase",
    "adjustment": "admin_adjustment",
}


@dataclass(slots=True)
class Grant:
    """A lot of credits. Effective inclusive, expiry exclusive; `active` once it counts in the balance."""

    id: UUID
    source: Source
    priority: int
    paid: bool
    amount_micros: int
    remaining_micros: int
    reserved_micros: int
    active: bool
    effective_at: datetime
    expires_at: datetime | None
    period_start: datetime | None
    plan_id: str | None
    created_at: datetime
    note: str = ""

    @property
    def free_micros(self) -> int:
        return self.remaining_micros - self.reserved_micros

    def is_open(self, now: datetime) -> bool:
        return self.active and self.effective_at <= now and (self.expires_at is None or now < self.expires_at)

    def burn_key(self) -> tuple[object, ...]:
        """Priority, then what ends first (never last), promotional before paid, effective, created, id."""
        ends = (0, self.expires_at) if self.expires_at else (1,)
        return (self.priority, ends, self.paid, self.effective_at, self.created_at, self.id)


@dataclass(slots=True)
class Balance:
    """What the grants of an organisation hold together, and what it owes."""

    organization_id: UUID
    remaining_micros: int
    reserved_micros: int
    debt_micros: int
    overdraft_limit_micros: int
    overdraft_reserved_micros: int
    allocated_micros: int
    seq: int
    period_start: datetime
    period_end: datetime
    next_due_at: datetime
    low_armed: bool = True
    depleted_armed: bool = True
    period_seq: int = 0

    @property
    def available_micros(self) -> int:
        """May be below zero: debt."""
        return self.remaining_micros - self.reserved_micros - self.debt_micros - self.overdraft_reserved_micros

    @property
    def spendable_micros(self) -> int:
        """What the next call may reserve at most."""
        return max(0, self.available_micros + self.overdraft_limit_micros)

    @property
    def held_micros(self) -> int:
        return self.reserved_micros + self.overdraft_reserved_micros

    @property
    def left(self) -> "Left":
        return Left(self.spendable_micros, self.allocated_micros)


@dataclass(frozen=True, slots=True)
class Left:
    """What the next call may take at most, where so much is given each period."""

    spendable_micros: int
    allocated_micros: int

    @property
    def level(self) -> Literal["none", "low", "ok"]:
        """Low is less than a fifth of what is given each period."""
        if self.spendable_micros <= 0:
            return "none"
        return "low" if self.spendable_micros * 5 < self.allocated_micros else "ok"


@dataclass(frozen=True, slots=True)
class Hold:
    """What one reservation took: from which grants, in burn order, and how much of it from the overdraft."""

    grants: tuple[tuple[UUID, int], ...]
    overdraft_micros: int

    @property
    def amount_micros(self) -> int:
        return sum(micros for _, micros in self.grants) + self.overdraft_micros


@dataclass(slots=True)
class Transaction:
    """A row of the ledger, as it will be written; `grant_id` None made or paid debt."""

    organization_id: UUID
    seq: int
    type: str
    amount_micros: int
    balance_after_micros: int
    grant_id: UUID | None
    reservation_id: UUID | None
    estimation_variance_micros: int | None
    note: str
    actor: str
    created_at: datetime


class MoreGrantsNeeded(Exception):
    """The grants loaded so far do not hold what the balance says there is: load all of them and decide again."""


@dataclass(slots=True)
class Account:
    """One organisation's working copy. `grants` need not be all: those at the head of the burn order, and those that
    the reservations being closed drew from. `arranged`: of the balance not only amounts were changed, but its period,
    its limits or its warnings."""

    balance: Balance
    grants: dict[UUID, Grant]
    known_to: tuple[object, ...] | None = None  # the burn key up to which open grants are loaded; None: all are
    entries: list[Transaction] = field(default_factory=list)
    changed: set[UUID] = field(default_factory=set)
    touched: bool = False
    arranged: bool = False
    _order: list[Grant] = field(default_factory=list)

    def hold(self, amount_micros: int, now: datetime) -> Hold:
        """Reserves the amount, the overdraft last. The caller has compared it with `balance.spendable_micros`."""
        taken, left = self._burn(amount_micros, now)
        for grant_id, micros in taken:
            self.grants[grant_id].reserved_micros += micros
        self.balance.reserved_micros += amount_micros - left
        self.balance.overdraft_reserved_micros += left
        self.touched = True
        return Hold(tuple(taken), left)

    def settle(self, reservation_id: UUID, hold: Hold, charge_micros: int, now: datetime, actor: str) -> None:
        """Books the charge and gives the rest of the hold back. What is above the hold is booked too: from further
        grants, then as debt, since the provider was paid."""
        self._unhold(hold)
        first, left = len(self.entries), charge_micros
        for grant_id, held in hold.grants:
            self._spend("ai_consumption", grant_id, min(left, held), reservation_id, now, actor)
            left -= min(left, held)
        self._book("ai_consumption", left, reservation_id, now, actor)
        if len(self.entries) > first:
            self.entries[first].estimation_variance_micros = charge_micros - hold.amount_micros
        self._expire_rest(hold, now)
        self._repay(now)

    def settle_late(self, reservation_id: UUID, charge_micros: int, now: datetime, actor: str) -> None:
        """The reservation had been released or had expired, but the call ran: booked from what is free, then debt."""
        self._book("late_settle", charge_micros, reservation_id, now, actor)

    def release(self, hold: Hold, now: datetime) -> None:
        self._unhold(hold)
        self._expire_rest(hold, now)
        self._repay(now)

    def add(self, grant: Grant, now: datetime, actor: str) -> None:
        """A grant begins: it counts from now on, and pays debt first."""
        grant.active = True
        self.grants[grant.id] = grant
        self.balance.remaining_micros += grant.remaining_micros
        self.changed.add(grant.id)
        self._enter(TRANSACTION_OF[grant.source], grant.amount_micros, grant.id, now, actor, note=grant.note)
        self._repay(now)

    def schedule(self, grant: Grant) -> None:
        """A grant that begins later: written down, counted nowhere."""
        grant.active = False
        self.grants[grant.id] = grant
        self.changed.add(grant.id)

    def expire(self, grant_id: UUID, now: datetime) -> None:
        """The free part of a grant that has ended is gone; a reserved part lives on until its call is settled."""
        grant = self.grants[grant_id]
        gone = grant.free_micros
        if gone > 0:
            grant.remaining_micros -= gone
            self.balance.remaining_micros -= gone
            self.changed.add(grant_id)
            self._enter("expiry", -gone, grant_id, now, "system")

    def _in_burn_order(self) -> list[Grant]:
        if len(self._order) != len(self.grants):  # grants are only ever added
            self._order = sorted(self.grants.values(), key=Grant.burn_key)
        return self._order

    def _burn(self, amount_micros: int, now: datetime) -> tuple[list[tuple[UUID, int]], int]:
        """Which grants give how much, in burn order, and what they cannot give."""
        taken: list[tuple[UUID, int]] = []
        left = amount_micros
        if left > 0:
            for grant in self._in_burn_order():
                free = grant.free_micros
                if free <= 0 or not grant.is_open(now):
                    continue
                if self.known_to is not None and grant.burn_key() > self.known_to:
                    break  # others that are not loaded may come before it
                used = min(left, free)
                taken.append((grant.id, used))
                left -= used
                if left == 0:
                    break
        if left > 0 and self.known_to is not None:
            raise MoreGrantsNeeded
        self.changed.update(grant_id for grant_id, _ in taken)
        return taken, left

    def _book(self, type_: str, amount: int, reservation_id: UUID, now: datetime, actor: str) -> None:
        taken, debt = self._burn(amount, now)
        for grant_id, micros in taken:
            self._spend(type_, grant_id, micros, reservation_id, now, actor)
        if debt > 0:
            self.balance.debt_micros += debt
            self._enter(type_, -debt, None, now, actor, reservation_id)

    def _spend(self, type_: str, grant_id: UUID, micros: int, reservation_id: UUID, now: datetime, actor: str) -> None:
        if micros > 0:
            self.grants[grant_id].remaining_micros -= micros
            self.balance.remaining_micros -= micros
            self._enter(type_, -micros, grant_id, now, actor, reservation_id)

    def _unhold(self, hold: Hold) -> None:
        for grant_id, micros in hold.grants:
            self.grants[grant_id].reserved_micros -= micros
            self.balance.reserved_micros -= micros
            self.changed.add(grant_id)
        self.balance.overdraft_reserved_micros -= hold.overdraft_micros
        self.touched = True

    def _expire_rest(self, hold: Hold, now: datetime) -> None:
        for grant_id, _ in hold.grants:
            expires_at = self.grants[grant_id].expires_at
            if expires_at is not None and expires_at <= now:
                self.expire(grant_id, now)

    def _repay(self, now: datetime) -> None:
        """Debt is paid as soon as a grant has something free."""
        if self.balance.debt_micros == 0:
            return
        owed = min(self.balance.debt_micros, self.balance.remaining_micros - self.balance.reserved_micros)
        taken, _ = self._burn(owed, now)
        for grant_id, micros in taken:
            self.grants[grant_id].remaining_micros -= micros
            self.balance.remaining_micros -= micros
            self._enter("debt_repayment", -micros, grant_id, now, "system")
            self.balance.debt_micros -= micros
            self._enter("debt_repayment", micros, None, now, "system")

    def _enter(
        self,
        type_: str,
        amount: int,
        grant_id: UUID | None,
        now: datetime,
        actor: str,
        reservation_id: UUID | None = None,
        note: str = "",
    ) -> None:
        self.balance.seq += 1
        self.touched = True
        after = self.balance.remaining_micros - self.balance.debt_micros
        row = (self.balance.organization_id, self.balance.seq, type_, amount, after, grant_id, reservation_id)
        self.entries.append(Transaction(*row, None, note, actor, now))


def by_source(grants: Iterable[Grant], sources: frozenset[str]) -> int:
    """What the grants of these sources still hold, reserved parts included."""
    return sum(grant.remaining_micros for grant in grants if grant.source in sources)

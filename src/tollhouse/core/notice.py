"""Which notices a change of an account calls for: its credits run low, or are as good as gone.

A notice is given at the edge: once when a charge leaves the account below the threshold, and not again before the
account has stood above it by a margin. That at most one of a kind goes out a day is the table's key (store/notice.py).
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal
from uuid import UUID

from tollhouse.core.credit import Account, Balance
from tollhouse.core.money import MICROS_PER_CREDIT, divide_up

Kind = Literal["low_balance", "depleted"]
CHARGES = frozenset({"ai_consumption", "late_settle"})


@dataclass(frozen=True, slots=True)
class Notice:
    """`day` is the UTC day of `created_at`, the organisation's own time; what was available then, in micro-credits, and
    the threshold: `low_balance` is below it, `depleted` at it or below."""

    organization_id: UUID
    kind: Kind
    day: date
    available_micros: int
    threshold_micros: int
    created_at: datetime


def low_threshold_micros(balance: Balance) -> int:
    """A fifth of the period's monthly credits; with 0 the balance is never low."""
    return divide_up(balance.allocated_micros, 5)


def crossed(account: Account, before_micros: int, now: datetime) -> list[Notice]:
    """The notices that the account's changes call for; its two flags are brought up to date. To be called once, when
    all changes are made and before the account is written.

    `before_micros` is what was available before them: credits that came in since the last charge count, whoever booked
    them. Without a charge nothing is called for: a new account that is empty has not run low, nor has one whose running
    calls hold much. `now` is the organisation's own time."""
    balance = account.balance
    available, low = balance.available_micros, low_threshold_micros(balance)
    if balance.low_armed and balance.depleted_armed and available >= low and available > MICROS_PER_CREDIT:
        return []  # as nearly always: this is on the way of every call
    best, armed = max(before_micros, available), (balance.low_armed, balance.depleted_armed)
    balance.low_armed |= _well_above(best, low)
    balance.depleted_armed |= _well_above(best, MICROS_PER_CREDIT)
    found: list[tuple[Kind, int]] = []
    if any(entry.type in CHARGES for entry in account.entries):
        if balance.low_armed and available < low and low > 0:
            balance.low_armed = False
            found.append(("low_balance", low))
        if balance.depleted_armed and available <= MICROS_PER_CREDIT:
            balance.depleted_armed = False
            found.append(("depleted", MICROS_PER_CREDIT))
    if armed != (balance.low_armed, balance.depleted_armed):
        account.touched = account.arranged = True
    day = now.astimezone(UTC).date()
    return [Notice(balance.organization_id, kind, day, available, limit, now) for kind, limit in found]


def _well_above(available_micros: int, threshold_micros: int) -> bool:
    """At least 5 % above: an account that swings around the threshold is told once."""
    return available_micros * 100 >= threshold_micros * 105

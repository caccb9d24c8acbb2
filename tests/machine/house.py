"""What the machine does with an organisation, and what it sees of it: the same for the core alone and for a server.

Times lie on a grid of whole hours, from BEGIN on. A server's clock runs on while a test runs, a few seconds at most, so
no begin, end or period falls between what the two take for now. Amounts are micro-credits. Grants and reservations have
no ids here, since these are random, but numbers: a grant by its first transaction, a reservation in order of asking.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from tollhouse.core.credit import Source

BEGIN = datetime(2087, 12, 30, tzinfo=UTC)  # the end of a year, and the next one has a 29 February
HOUR = timedelta(hours=1)
PLANS = ("bare", "free", "pro", "team")


@dataclass(frozen=True, slots=True)
class Gift:
    """A grant as an operator orders it; hours count from the last time the clock was set."""

    source: Source
    micros: int
    begins: int | None
    ends: int | None
    priority: int | None
    paid: bool | None


@dataclass(frozen=True, slots=True)
class Refused:
    code: str


@dataclass(frozen=True, slots=True)
class Reserved:
    number: int
    micros: int
    parts: tuple[tuple[int, int], ...]
    overdraft_micros: int
    available_micros: int
    replayed: bool


@dataclass(frozen=True, slots=True)
class Settled:
    charged_micros: int
    variance_micros: int
    late: bool
    available_micros: int
    replayed: bool


@dataclass(frozen=True, slots=True)
class Released:
    state: str
    available_micros: int
    replayed: bool


@dataclass(frozen=True, slots=True)
class Done:
    """What an operator did; `micros` available and spendable afterwards, where the answer tells."""

    micros: tuple[int, int] | None = None


Answer = Refused | Reserved | Settled | Released | Done


@dataclass(frozen=True, slots=True)
class Entry:
    """A transaction; grant and reservation by number."""

    type: str
    micros: int
    balance_after_micros: int
    grant: int | None
    reservation: int | None
    variance_micros: int | None


@dataclass(frozen=True, slots=True)
class Plans:
    plan: str
    pending: str | None


@dataclass(frozen=True, slots=True)
class Reservation:
    """`charged_micros` None until it is settled, late or in time."""

    state: str
    micros: int
    charged_micros: int | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What an owner sees. Grants that count, in burn order: number, source, remaining, reserved."""

    available_micros: int
    spendable_micros: int
    reserved_micros: int
    debt_micros: int
    overdraft_limit_micros: int
    used_this_period_micros: int
    period_start: datetime
    period_end: datetime
    grants: tuple[tuple[int, str, int, int], ...]
    ledger: tuple[Entry, ...]


class House(Protocol):
    """Reservations are named by their number; `again` repeats an earlier asking, by its number, with the same key."""

    def found(self, plan: str, anchor: datetime) -> None:
        """A new organisation, its clock at BEGIN."""

    def give(self, gift: Gift) -> Answer: ...

    def reserve(self, amount: int, ttl_s: int) -> Answer: ...

    def again(self, asking: int) -> Answer: ...

    def renew(self, reservation: int, ttl_s: int) -> Answer: ...

    def settle(self, reservation: int, charge: int) -> Answer: ...

    def release(self, reservation: int) -> Answer: ...

    def change_plan(self, plan: str) -> Answer: ...

    def set_overdraft(self, limit: int) -> Answer: ...

    def move(self, to: datetime) -> Answer: ...

    def seen(self) -> Seen: ...

    def plans(self) -> Plans: ...

    def reservation(self, number: int) -> Reservation: ...

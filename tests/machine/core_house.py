"""An organisation that lives in the core alone: an account, the rules of plans and periods, and a list of what it has
reserved. Catches up before each step, as whoever waits for the organisation's lock does."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import accumulate, count
from uuid import UUID

from tests.machine import house
from tests.machine.house import BEGIN, HOUR, Answer, Done, Entry, Gift, Plans, Refused, Released, Reserved, Settled
from tollhouse.core import fund
from tollhouse.core.admission import decide
from tollhouse.core.ask import Ask, CreditsWant, Facts
from tollhouse.core.catalogue import Catalogue, Plan
from tollhouse.core.credit import Account, Balance, Grant, Hold
from tollhouse.core.errors import Conflict, TollhouseError
from tollhouse.core.fund import Standing
from tollhouse.core.limits import Takes
from tollhouse.core.quota import Windows
from tollhouse.core.rate import Rates
from tollhouse.seed.plans import PLANS

ORGANIZATION = UUID(int=1)
OPENED = BEGIN - 400 * timedelta(days=1)  # founded long before its clock was set: it has slept over a year
CATALOGUE = Catalogue(
    1,
    {
        row.id: Plan(
            row.id, row.name, row.rank, row.monthly_credits_micros, row.welcome_bonus_micros, row.monthly_tokens,
            row.daily_messages, row.max_output_tokens, frozenset(row.charged_channels), row.price_cents,
        )
        for row in PLANS
    }
    | {"bare": Plan("bare", "Bare", 1, 0, 0, None, None, 16_384, frozenset({"api"}))},
    {}, {}, (), {},
)  # fmt: skip


@dataclass
class Holding:
    """A reservation."""

    hold: Hold
    expires_at: datetime
    state: str = "pending"
    charged_micros: int | None = None


@dataclass
class CoreHouse:
    opened: bool = False
    account: Account = field(init=False)
    standing: Standing = field(init=False)
    anchor: datetime = field(init=False)
    at: datetime = BEGIN  # where the clock was set last
    ticks: int = 0
    holdings: list[Holding] = field(default_factory=list)
    askings: list[Answer] = field(default_factory=list)
    numbers: dict[UUID, int] = field(default_factory=dict)
    numbered: int = 0
    _ids: count[int] = field(default_factory=lambda: count(1))

    # ------------------------------------------------------------------------------------------------------------ steps

    def found(self, plan: str, anchor: datetime) -> None:
        self.anchor, self.standing = anchor, Standing(plan)
        self.account = Account(fund.first_balance(ORGANIZATION, anchor, OPENED), {})
        fund.begin(self.account, CATALOGUE.plans[plan], OPENED, self._new_id)
        self._catch_up(BEGIN)
        self.opened = True

    def give(self, gift: Gift) -> Answer:
        now = self._now()
        paid = gift.source == "topup" if gift.paid is None else gift.paid
        wanted = fund.new_grant(
            self._new_id(), gift.source, gift.micros, now, priority=gift.priority, paid=paid,
            effective_at=self._hours(gift.begins), expires_at=self._hours(gift.ends), note="a gift",
        )  # fmt: skip
        try:
            grant = fund.accepted(wanted, self.balance, self.anchor, now)
        except TollhouseError as refusal:
            return Refused(refusal.code)
        fund.give(self.account, grant, now, "operator")
        return self._done()

    def reserve(self, amount: int, ttl_s: int) -> Answer:
        answer = self._reserve(amount, timedelta(seconds=ttl_s))
        self.askings.append(answer)
        return answer

    def again(self, asking: int) -> Answer:
        self._now()
        answer = self.askings[asking]
        return replace(answer, replayed=True) if isinstance(answer, Reserved) else answer

    def _reserve(self, micros: int, ttl: timedelta) -> Answer:
        now = self._now()
        plan = CATALOGUE.plans[self.standing.plan_id]
        ask = Ask(ORGANIZATION, None, ORGANIZATION, "api", CreditsWant(micros))
        facts = Facts(now, plan, False, None, frozenset(), CATALOGUE, "test")
        before = self.balance.spendable_micros
        try:
            hold = decide(ask, facts, Takes([], []), self.account, Windows(), Rates()).hold
        except TollhouseError as refusal:
            assert micros > before, "refused although it could be paid"
            return Refused(refusal.code)
        assert hold.amount_micros == micros <= before, "more than could be paid"
        assert self.balance.spendable_micros == before - micros
        self.holdings.append(Holding(hold, now + ttl))
        parts = tuple((self._number(grant_id), part) for grant_id, part in hold.grants)
        number = len(self.holdings) - 1
        return Reserved(number, micros, parts, hold.overdraft_micros, self.balance.available_micros, replayed=False)

    def renew(self, reservation: int, ttl_s: int) -> Answer:
        now, holding = self._now(), self.holdings[reservation]
        if holding.state != "pending":
            return Refused(Conflict.code)
        holding.expires_at = max(holding.expires_at, now + timedelta(seconds=ttl_s))
        return Done()

    def settle(self, reservation: int, charge: int) -> Answer:
        now, holding = self._now(), self.holdings[reservation]
        late, replayed = holding.state in ("released", "expired"), holding.charged_micros is not None
        if not replayed:
            id_ = UUID(int=reservation)
            if late:
                self.account.settle_late(id_, charge, now, "system")
            else:
                self.account.settle(id_, holding.hold, charge, now, "system")
                holding.state = "settled"
            holding.charged_micros = charge
        charged = holding.charged_micros or 0
        variance = charged - holding.hold.amount_micros
        return Settled(charged, variance, late, self.balance.available_micros, replayed)

    def release(self, reservation: int) -> Answer:
        now, holding = self._now(), self.holdings[reservation]
        if holding.charged_micros is not None:
            return Refused(Conflict.code)
        replayed = holding.state != "pending"
        if not replayed:
            self._give_back(holding, "released", now)
        return Released(holding.state, self.balance.available_micros, replayed)

    def change_plan(self, plan: str) -> Answer:
        now = self._now()
        before, wanted = CATALOGUE.plans[self.standing.plan_id], CATALOGUE.plans[plan]
        welcomed = any(one.source == "welcome" and one.plan_id == plan for one in self.account.grants.values())
        change = fund.change_plan(
            self.account, before, wanted, welcomed, now, self._new_id, "operator"
        )  # fmt: skip
        self.standing = change.standing
        return self._done()

    def set_overdraft(self, limit: int) -> Answer:
        self._now()
        try:
            fund.set_overdraft(self.account, limit)
        except TollhouseError as refusal:
            return Refused(refusal.code)
        return self._done()

    def move(self, to: datetime) -> Answer:
        if to < self._now():
            return Refused(Conflict.code)
        self.at, self.ticks = to, 0
        self._catch_up(to)
        outlived = [one for one in self.holdings if one.state == "pending" and one.expires_at <= to]
        for holding in sorted(outlived, key=lambda one: one.expires_at):
            self._give_back(holding, "expired", to)
        return self._done()

    # --------------------------------------------------------------------------------------------------------- what is

    @property
    def balance(self) -> Balance:
        return self.account.balance

    def seen(self) -> house.Seen:
        self._now()
        balance, entries = self.balance, self.account.entries
        used = [
            -entry.amount_micros
            for entry in entries
            if entry.seq > balance.period_seq and entry.type in ("ai_consumption", "late_settle")
        ]
        return house.Seen(
            available_micros=balance.available_micros,
            spendable_micros=balance.spendable_micros,
            reserved_micros=balance.held_micros,
            debt_micros=balance.debt_micros,
            overdraft_limit_micros=balance.overdraft_limit_micros,
            used_this_period_micros=sum(used),
            period_start=balance.period_start,
            period_end=balance.period_end,
            grants=tuple(
                (self._number(one.id), one.source, one.remaining_micros, one.reserved_micros)
                for one in sorted(self.account.grants.values(), key=Grant.burn_key)
                if one.active and one.remaining_micros > 0
            ),
            ledger=tuple(
                Entry(
                    one.type, one.amount_micros, one.balance_after_micros,
                    None if one.grant_id is None else self._number(one.grant_id),
                    None if one.reservation_id is None else one.reservation_id.int, one.estimation_variance_micros,
                )
                for one in entries
            ),
        )  # fmt: skip

    def plans(self) -> Plans:
        self._now()
        return Plans(self.standing.plan_id, self.standing.pending_plan_id)

    def reservation(self, number: int) -> house.Reservation:
        holding = self.holdings[number]
        return house.Reservation(holding.state, holding.hold.amount_micros, holding.charged_micros)

    def check(self) -> None:
        """What must hold at any time, reckoned from the ledger and the reservations alone."""
        self._now()
        balance, grants = self.balance, self.account.grants.values()
        sums = list(accumulate(entry.amount_micros for entry in self.account.entries))
        assert [entry.seq for entry in self.account.entries] == [*range(1, balance.seq + 1)]
        assert [entry.balance_after_micros for entry in self.account.entries] == sums
        assert (sums or [0])[-1] == balance.remaining_micros - balance.debt_micros
        self._check_holds()
        for grant in grants:
            booked = [one.amount_micros for one in self.account.entries if one.grant_id == grant.id]
            assert sum(booked) == (grant.remaining_micros if grant.active else 0)
            assert booked[:1] == ([grant.amount_micros] if grant.active else [])
            assert 0 <= grant.reserved_micros <= grant.remaining_micros <= grant.amount_micros
            ended = grant.expires_at is not None and grant.expires_at <= self.at
            if grant.free_micros > 0 and grant.active:
                assert not ended and balance.debt_micros == 0, "what has ended or is owed is not free"
        periods = [one.period_start for one in grants if one.period_start is not None]
        assert len(periods) == len(set(periods)), "one allocation each"
        assert balance.period_start <= self.at < balance.period_end

    def _check_holds(self) -> None:
        balance, entries = self.balance, self.account.entries
        open_holds = [one.hold for one in self.holdings if one.state == "pending"]
        held = Counter[UUID]()
        for hold in open_holds:
            held.update(dict(hold.grants))
        assert {one.id: one.reserved_micros for one in self.account.grants.values() if one.reserved_micros} == held
        assert balance.reserved_micros == held.total()
        assert balance.overdraft_reserved_micros == sum(hold.overdraft_micros for hold in open_holds)
        for number, holding in enumerate(self.holdings):
            booked = [one for one in entries if one.reservation_id == UUID(int=number)]
            assert -sum(one.amount_micros for one in booked) == (holding.charged_micros or 0)
            assert {one.type for one in booked} <= {"ai_consumption" if holding.state == "settled" else "late_settle"}

    # ---------------------------------------------------------------------------------------------------------- inside

    def _now(self) -> datetime:
        """A little later than the step before."""
        self.ticks += 1
        now = self.at + timedelta(microseconds=self.ticks)
        self._catch_up(now)
        return now

    def _catch_up(self, now: datetime) -> None:
        self.standing, _ = fund.catch_up(
            self.account, self.standing, CATALOGUE.plans, self.anchor, now, self._new_id
        )  # fmt: skip

    def _give_back(self, holding: Holding, state: str, now: datetime) -> None:
        self.account.release(holding.hold, now)
        holding.state = state

    def _done(self) -> Done:
        return Done((self.balance.available_micros, self.balance.spendable_micros))

    def _hours(self, number: int | None) -> datetime | None:
        return None if number is None else self.at + number * HOUR

    def _new_id(self) -> UUID:
        return UUID(int=next(self._ids))

    def _number(self, grant_id: UUID) -> int:
        """In the order of the ledger, which begins with a grant as it counts."""
        for entry in self.account.entries[self.numbered :]:
            if entry.grant_id is not None:
                self.numbers.setdefault(entry.grant_id, len(self.numbers))
        self.numbered = len(self.account.entries)
        return self.numbers[grant_id]

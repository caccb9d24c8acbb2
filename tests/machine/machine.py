"""The machine: anything that may happen to an organisation's credits, in any order, in one house or in two side by
side. After every step all houses have answered the same, and an owner sees the same in each."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.machine.core_house import CoreHouse
from tests.machine.house import HOUR, PLANS, Answer, Gift, House, Reserved, Seen
from tollhouse.core.credit import PRIORITY
from tollhouse.core.money import MICROS_MAX

CREDIT = 1_000_000
ANCHORS = [
    datetime.fromisoformat(f"{hour}:00:00+00:00")
    for hour in ("2026-01-29T00", "2026-01-30T07", "2026-01-31T23", "2024-02-29T12", "2026-03-01T00", "2087-12-30T00",
                 "2087-11-30T01", "2088-01-15T05", "2026-12-31T23")
]  # fmt: skip
LATEST = datetime(2099, 1, 1, tzinfo=UTC)  # later times are none that the API takes, grants end after it
plans = st.sampled_from(PLANS)
amounts = st.integers(1, 30 * CREDIT) | st.integers(1, 3_000 * CREDIT)
leases = st.sampled_from([2_000, 9_000, 30_000, 80_000])  # seconds, far apart: no delay changes the order of their ends
gifts = st.builds(
    Gift,
    source=st.sampled_from(list(PRIORITY)),
    micros=st.sampled_from([amounts] * 15 + [st.just(MICROS_MAX // 2)]).flatmap(lambda kind: kind),
    begins=st.sampled_from([None, None, -24, 1, 2, 5, 12, 30]),
    ends=st.sampled_from([None, 0, 1, 3, 6, 12, 24, 36, 72, 200, 2_000]),
    priority=st.sampled_from([None, None, 0, 25]),
    paid=st.none() | st.booleans(),
)
picks = st.integers(0, 20)  # which of several, counted round


class Machine(RuleBasedStateMachine):
    """With one house it is the rules alone. `first` is the core; what comes next is compared with it."""

    def __init__(self, *others: House) -> None:
        super().__init__()
        self.first = CoreHouse()
        self.houses: tuple[House, ...] = (self.first, *others)

    # ------------------------------------------------------------------------------------------------------------ steps

    @initialize(plan=plans, anchor=st.sampled_from(ANCHORS), presents=st.lists(gifts, max_size=5))
    def found(self, plan: str, anchor: datetime, presents: list[Gift]) -> None:
        for one in self.houses:
            one.found(plan, anchor)
        self._compare()
        for gift in presents:
            self.give(gift)

    @rule(gift=gifts)
    def give(self, gift: Gift) -> None:
        self._do("give", gift)

    @rule(micros=amounts, ttl_s=leases)
    def reserve(self, micros: int, ttl_s: int) -> None:
        self._do("reserve", micros, ttl_s)

    @rule(per_cent=st.integers(1, 100) | st.just(100), above=st.sampled_from([0, 0, 1]), ttl_s=leases)
    def reserve_of_what_there_is(self, per_cent: int, above: int, ttl_s: int) -> None:
        micros = self.first.balance.spendable_micros * per_cent // 100 + above
        self._do("reserve", min(MICROS_MAX, max(1, micros)), ttl_s)

    @precondition(lambda self: self.first.askings)
    @rule(pick=picks)
    def ask_again(self, pick: int) -> None:
        self._do("again", pick % len(self.first.askings))

    @precondition(lambda self: self._of("pending"))
    @rule(pick=picks, ttl_s=leases)
    def renew(self, pick: int, ttl_s: int) -> None:
        self._do("renew", self._pick(pick, "pending"), ttl_s)

    @precondition(lambda self: self._of("pending"))
    @rule(pick=picks, per_cent=st.integers(0, 99) | st.just(100) | st.integers(101, 500))
    def settle(self, pick: int, per_cent: int) -> None:
        """Below, at or above what was reserved."""
        number = self._pick(pick, "pending")
        self._do("settle", number, min(MICROS_MAX, self.first.holdings[number].hold.amount_micros * per_cent // 100))

    @precondition(lambda self: self._of("released", "expired"))
    @rule(pick=picks, micros=amounts | st.just(0))
    def settle_late(self, pick: int, micros: int) -> None:
        self._do("settle", self._pick(pick, "released", "expired"), micros)

    @precondition(lambda self: self._of("pending"))
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        self._do("release", self._pick(pick, "pending"))

    @precondition(lambda self: self._of("settled", "released", "expired"))
    @rule(pick=picks, step=st.sampled_from(["settle", "release", "renew"]))
    def do_again_what_is_done(self, pick: int, step: str) -> None:
        number = self._pick(pick, "settled", "released", "expired")
        self._do(step, number, *{"settle": [CREDIT], "release": [], "renew": [300]}[step])

    @rule(plan=plans)
    def change_plan(self, plan: str) -> None:
        self._do("change_plan", plan)

    @rule(micros=st.integers(0, 100 * CREDIT))
    def set_overdraft(self, micros: int) -> None:
        self._do("set_overdraft", micros)

    @rule(hours=st.integers(0, 12) | st.integers(1, 48) | st.integers(600, 3_000))
    def move_the_clock(self, hours: int) -> None:
        """0: back to where it was set, a moment ago."""
        self._move(self.first.at + hours * HOUR)

    @rule(moment=st.sampled_from(["next_due_at", "period_end"]), before=st.integers(0, 1))
    def move_the_clock_to_where_something_begins_or_ends(self, moment: str, before: int) -> None:
        to: datetime = getattr(self.first.balance, moment) - before * HOUR
        if to > self.first.at:
            self._move(to)

    # -------------------------------------------------------------------------------------------------- what must hold

    @invariant()
    def the_books_hold(self) -> None:
        if self.first.opened:
            self.first.check()

    def teardown(self) -> None:
        for number in range(len(self.first.holdings)):
            self._compare_reservation(number)

    def _do(self, step: str, *words: Any) -> Answer:
        answers: list[Answer] = [getattr(one, step)(*words) for one in self.houses]
        assert all(answer == answers[0] for answer in answers), answers
        self._compare()
        if step in ("settle", "release", "renew"):
            self._compare_reservation(words[0])
        if isinstance(answers[0], Reserved):
            self._compare_reservation(answers[0].number)
        if step in ("change_plan", "move"):
            standings = [one.plans() for one in self.houses]
            assert all(one == standings[0] for one in standings), standings
        return answers[0]

    def _move(self, to: datetime) -> None:
        if to < LATEST:
            self._do("move", to)

    def _compare(self) -> None:
        seen: list[Seen] = [one.seen() for one in self.houses]
        for other in seen[1:]:
            assert other == seen[0]

    def _compare_reservation(self, number: int) -> None:
        seen = [one.reservation(number) for one in self.houses]
        assert all(one == seen[0] for one in seen), seen

    def _of(self, *states: str) -> list[int]:
        """The reservations in these states; a charge makes one that was released or has expired settled."""
        return [
            number
            for number, one in enumerate(self.first.holdings)
            if ("settled" if one.charged_micros is not None else one.state) in states
        ]

    def _pick(self, pick: int, *states: str) -> int:
        found = self._of(*states)
        return found[pick % len(found)]

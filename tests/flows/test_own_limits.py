"""An organisation's own limits through the teller: exact, however many ask at once, and counted from their making."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.flows.cast import CREDIT, FAILED, SOMEBODY, TOKENS, Clock, add_key, answer, ask, change, found, rows, settle
from tests.ledger import assert_ledger_holds
from tollhouse.core.ask import CapabilityWant, CreditsWant
from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.core.price import Usage
from tollhouse.core.refusals import LimitExceeded, QuotaExceeded
from tollhouse.flows import limit as limits
from tollhouse.flows.limit import NewLimit
from tollhouse.flows.operation import Admit, Admitted, Explain, Release
from tollhouse.flows.order import Order
from tollhouse.flows.spend import Teller
from tollhouse.store.db import Database
from tollhouse.store.limit import LimitRow

OTHER = UUID(int=78)


class Office:
    """An operator at a desk; the clock is the teller's."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    @property
    def order(self) -> Order:
        return Order("system", self._clock())

    async def limit(self, organization_id: UUID, maximum: int, **about: Any) -> LimitRow:
        """Of the organisation's messages a day, if nothing else is said."""
        usual = NewLimit("organization", None, None, "messages", "day", maximum)
        return (await limits.create_limit(self._db, self.order, organization_id, replace(usual, **about))).result()

    async def change(self, organization_id: UUID, limit: LimitRow, maximum: int) -> LimitRow:
        return await limits.change_limit(self._db, self.order, organization_id, limit.id, maximum)

    async def end(self, organization_id: UUID, limit: LimitRow) -> LimitRow:
        return await limits.end_limit(self._db, self.order, organization_id, limit.id)


@pytest.fixture
async def office(books: str, clock: Clock) -> AsyncIterator[Office]:
    db = Database(books)
    await db.open()
    yield Office(db, clock)
    await db.close()


@pytest.fixture
async def hers(books: str, clock: Clock) -> UUID:
    return await found(books, clock(), 500 * CREDIT)


async def kinds(teller: Teller, *asks: Admit) -> Counter[type]:
    """How often each kind of answer came, when all ask at once."""
    return Counter(type(one) for one in await asyncio.gather(*(answer(teller, one) for one in asks)))


async def used(url: str, limit: LimitRow) -> list[tuple[int, int]]:
    """What is used and what is reserved of the limit, in each window by its start."""
    found_rows = await rows(
        url, "SELECT used, reserved FROM quota_window WHERE limit_id = %s ORDER BY starts_at, subject_id", limit.id
    )
    return [(row[0], row[1]) for row in found_rows]


# ------------------------------------------------------------------------------------------------------ many at once


@pytest.mark.parametrize(
    ("about", "maximum", "refusal"),
    [
        ({}, 7, LimitExceeded),
        ({"period": "lifetime", "model_id": "sandbox"}, 7, LimitExceeded),
        ({"scope": "person", "period": "week"}, 7, LimitExceeded),
        ({"scope": "person", "subject": str(SOMEBODY), "period": "month"}, 50, None),
        ({"period": "minute"}, 7, LimitExceeded),
        ({"meter": "tokens"}, 7 * TOKENS + TOKENS - 1, QuotaExceeded),
        ({"meter": "tokens", "period": "minute"}, 7 * TOKENS, QuotaExceeded),
    ],
    ids=["day", "model", "each-person", "another-person", "minute", "tokens", "tokens-of-a-minute"],
)
async def test_of_fifty_at_once_as_many_pass_as_the_limit_says(
    teller: Teller, office: Office, hers: UUID, about: dict[str, Any], maximum: int, refusal: type | None
) -> None:
    """`str(SOMEBODY)` is no member, so it is an end user of that name: somebody else."""
    await office.limit(hers, maximum, **about)
    answers = await kinds(teller, *(ask(hers) for _ in range(50)))
    assert answers == ({Admitted: 50} if refusal is None else {Admitted: 7, refusal: 43})


async def test_two_tellers_together_admit_no_more_than_one(
    books: str, teller: Teller, office: Office, clock: Clock, hers: UUID
) -> None:
    other = Teller(books, "test", clock)
    await other.open()
    rule = await office.limit(hers, 9)
    answers = await asyncio.gather(*(answer((teller, other)[n % 2], ask(hers)) for n in range(50)))
    await other.close()
    assert Counter(type(one) for one in answers) == {Admitted: 9, LimitExceeded: 41}
    assert await used(books, rule) == [(0, 9)]


async def test_calls_that_give_back_make_room_for_others_and_none_is_let_past(
    books: str, teller: Teller, office: Office, hers: UUID
) -> None:
    rule = await office.limit(hers, 10)
    done = 0

    async def call(number: int) -> None:
        nonlocal done
        admitted = await answer(teller, ask(hers))
        if isinstance(admitted, Admitted):
            if number % 3:
                await teller.do(Release(hers, admitted.id, FAILED))
            else:
                await teller.do(settle(hers, admitted.id))
                done += 1

    for _ in range(6):
        await asyncio.gather(*(call(number) for number in range(50)))
        ((spent, reserved),) = await used(books, rule)
        assert (spent, reserved) == (done, 0)
        assert spent <= 10
    assert done == 10


async def test_changing_and_ending_a_limit_while_many_ask_passes_none_of_them(
    teller: Teller, office: Office, hers: UUID
) -> None:
    """Whatever comes first, the ledger's proof holds; who asks after the change finds it."""
    rule = await office.limit(hers, 5)

    first = asyncio.gather(*(answer(teller, ask(hers)) for _ in range(50)))
    await office.change(hers, rule, 8)
    second = await asyncio.gather(*(answer(teller, ask(hers)) for _ in range(50)))
    admitted = sum(isinstance(one, Admitted) for one in [*await first, *second])
    assert admitted == 8
    await office.end(hers, rule)
    assert await kinds(teller, ask(hers)) == {Admitted: 1}


# -------------------------------------------------------------------------------------------------- what is counted


async def test_a_limit_counts_from_its_making_on(books: str, teller: Teller, office: Office, hers: UUID) -> None:
    before: Any = await teller.do(ask(hers))
    rule = await office.limit(hers, 2)
    assert await kinds(teller, *(ask(hers) for _ in range(5))) == {Admitted: 2, LimitExceeded: 3}
    await teller.do(settle(hers, before.id))  # it began before
    assert await used(books, rule) == [(0, 2)]


async def test_tokens_are_held_by_the_estimate_and_counted_by_what_was_used(
    books: str, teller: Teller, office: Office, hers: UUID
) -> None:
    rule = await office.limit(hers, 2_000, meter="tokens")
    first: Any = await teller.do(ask(hers))
    assert await used(books, rule) == [(0, TOKENS)]
    assert await kinds(teller, ask(hers)) == {QuotaExceeded: 1}
    await teller.do(settle(hers, first.id, Usage(500, 50)))
    assert await used(books, rule) == [(550, 0)]
    second: Any = await teller.do(ask(hers))
    await teller.do(settle(hers, second.id, Usage(1_000, 4_000)))  # above its estimate: booked, since it was used
    assert await used(books, rule) == [(5_550, 0)]
    assert await kinds(teller, ask(hers, input_tokens=0, output_tokens=1)) == {QuotaExceeded: 1}


async def test_a_use_of_a_capability_counts_as_tokens_and_not_as_a_message(
    books: str, teller: Teller, office: Office, hers: UUID
) -> None:
    await office.limit(hers, 0)
    rule = await office.limit(hers, 100, meter="tokens")
    use = replace(ask(hers), endpoint=None)
    use.ask = replace(use.ask, channel="capability", want=CapabilityWant("question_generation"))
    admitted: Any = await teller.do(use)
    assert await used(books, rule) == [(0, 1)]
    finished = settle(hers, admitted.id, Usage(90, 11))
    finished.outcome = finished.by = None
    await teller.do(finished)
    assert await used(books, rule) == [(101, 0)]
    again = replace(use)
    assert await kinds(teller, again) == {QuotaExceeded: 1}


async def test_plain_credits_touch_no_limit(books: str, teller: Teller, office: Office, hers: UUID) -> None:
    rules = [await office.limit(hers, 0), await office.limit(hers, 0, meter="tokens")]
    plain = replace(ask(hers), endpoint=None)
    plain.ask = replace(plain.ask, want=CreditsWant(CREDIT))
    assert await kinds(teller, plain) == {Admitted: 1}
    assert [await used(books, rule) for rule in rules] == [[], []]


async def test_each_subject_has_a_count_of_their_own(books: str, teller: Teller, office: Office, hers: UUID) -> None:
    keys = [await add_key(books, hers), await add_key(books, hers)]
    persons = await office.limit(hers, 3, scope="person")
    of_keys = await office.limit(hers, 4, scope="key")
    asks = [ask(hers, subject_id=(SOMEBODY, OTHER)[n % 2]) for n in range(20)]
    assert await kinds(teller, *asks) == {Admitted: 6, LimitExceeded: 14}
    assert await used(books, persons) == [(0, 3), (0, 3)]
    for key_id in keys:  # on nobody's behalf
        asks = [ask(hers, subject_id=hers, key_id=key_id) for _ in range(10)]
        assert await kinds(teller, *asks) == {Admitted: 4, LimitExceeded: 6}
    assert await used(books, of_keys) == [(0, 4), (0, 4)]


async def test_a_member_is_named_by_the_id_that_calls_are_counted_under(
    books: str, teller: Teller, office: Office, clock: Clock, hers: UUID
) -> None:
    await change(
        books,
        """WITH made AS (INSERT INTO person (id, email, created_at) VALUES (%s, 'ada@example.com', now()) RETURNING id)
           INSERT INTO member (organization_id, person_id, role, created_at)
           SELECT %s, id, 'member', now() FROM made""",
        OTHER, hers,
    )  # fmt: skip
    rule = await office.limit(hers, 1, scope="person", subject=str(OTHER).upper())
    assert (rule.subject_id, rule.subject) == (OTHER, str(OTHER))
    assert await rows(books, "SELECT count(*) FROM end_user WHERE organization_id = %s", hers) == [(0,)]
    asks = [ask(hers, subject_id=subject_id) for subject_id in (OTHER, OTHER, SOMEBODY, SOMEBODY)]
    assert await kinds(teller, *asks) == {Admitted: 3, LimitExceeded: 1}


@pytest.mark.parametrize(("period", "days"), [("day", 1), ("week", 7), ("month", 31)])
async def test_the_next_window_is_empty_again(
    books: str, teller: Teller, office: Office, clock: Clock, hers: UUID, period: Any, days: int
) -> None:
    rule = await office.limit(hers, 2, period=period)
    asks = [ask(hers) for _ in range(5)]
    assert await kinds(teller, *asks) == {Admitted: 2, LimitExceeded: 3}
    clock.move(days=days)
    assert await kinds(teller, *(ask(hers) for _ in range(5))) == {Admitted: 2, LimitExceeded: 3}
    assert await used(books, rule) == [(0, 2), (0, 2)]


async def test_a_minute_of_calls_is_any_sixty_seconds(teller: Teller, office: Office, clock: Clock, hers: UUID) -> None:
    await office.limit(hers, 2, period="minute")
    assert await kinds(teller, ask(hers)) == {Admitted: 1}
    clock.move(seconds=40)
    assert await kinds(teller, ask(hers), ask(hers)) == {Admitted: 1, LimitExceeded: 1}
    clock.move(seconds=21)  # the first one is a minute old, the second is not
    assert await kinds(teller, ask(hers)) == {Admitted: 1}
    refusal = await answer(teller, ask(hers))
    assert (refusal.retry_after_s, refusal.meter, refusal.period) == (40, "requests", "minute")


async def test_of_several_limits_the_tightest_decides_and_a_refusal_counts_in_none(
    books: str, teller: Teller, office: Office, hers: UUID
) -> None:
    wide = await office.limit(hers, 5)
    tight = await office.limit(hers, 2, scope="person")
    tokens = await office.limit(hers, 10 * TOKENS, meter="tokens", period="month")
    assert await kinds(teller, *(ask(hers) for _ in range(9))) == {Admitted: 2, LimitExceeded: 7}
    assert [await used(books, rule) for rule in (wide, tight, tokens)] == [[(0, 2)], [(0, 2)], [(0, 2 * TOKENS)]]


async def test_the_explanation_tells_every_limit_that_binds(teller: Teller, office: Office, hers: UUID) -> None:
    await office.limit(hers, 5, period="week")
    await office.limit(hers, 3, scope="person", period="minute")
    await office.limit(hers, 9, scope="person", subject="ada")
    await teller.do(ask(hers))
    told = await teller.do(Explain(hers, ask(hers).ask))
    own = [(one.scope, one.meter, one.period, one.limit, one.remaining) for one in told.limits]
    assert ("organization", "messages", "week", 5, 4) in own
    assert ("person", "requests", "minute", 3, 2) in own
    assert not any(one[3] == 9 for one in own)


# -------------------------------------------------------------------------------------------------- changed and ended


async def test_a_changed_maximum_goes_on_with_the_count_and_the_proof_still_holds(
    books: str, teller: Teller, office: Office, clock: Clock, hers: UUID
) -> None:
    rule = await office.limit(hers, 5)
    for admitted in await asyncio.gather(*(answer(teller, ask(hers)) for _ in range(5))):
        await teller.do(settle(hers, admitted.id))
    await office.change(hers, rule, 2)
    refusal = await answer(teller, ask(hers))
    assert (refusal.limit, refusal.used, refusal.remaining) == (2, 5, 0)
    await assert_ledger_holds(books)
    await office.change(hers, rule, 6)
    assert await kinds(teller, ask(hers), ask(hers)) == {Admitted: 1, LimitExceeded: 1}
    clock.move(days=1)
    await office.change(hers, rule, 1)
    assert await kinds(teller, ask(hers), ask(hers)) == {Admitted: 1, LimitExceeded: 1}
    assert await used(books, rule) == [(5, 1), (0, 1)]


async def test_an_ended_limit_keeps_its_counters_and_a_call_that_it_counted_settles_into_them(
    books: str, teller: Teller, office: Office, hers: UUID
) -> None:
    rule = await office.limit(hers, 1)
    admitted: Any = await teller.do(ask(hers))
    ended = await office.end(hers, rule)
    assert ended.ended_at is not None
    assert await kinds(teller, *(ask(hers) for _ in range(3))) == {Admitted: 3}
    await teller.do(settle(hers, admitted.id))
    assert await used(books, rule) == [(1, 0)]


async def test_a_limit_of_another_organisation_is_not_found_and_one_that_ended_is_not_changed(
    books: str, office: Office, clock: Clock, hers: UUID
) -> None:
    his = await found(books, clock())
    rule = await office.limit(hers, 5)
    for order in (office.change(his, rule, 9), office.end(his, rule), office.limit(uuid4(), 5)):
        with pytest.raises(NotFound):
            await order
    await office.end(hers, rule)
    with pytest.raises(Conflict, match="Make a new one"):
        await office.change(hers, rule, 9)


async def test_an_order_that_is_refused_leaves_nothing_behind(books: str, office: Office, hers: UUID) -> None:
    await office.limit(hers, 5)
    for about, kind in (({}, Conflict), ({"model_id": "none"}, BadRequest), ({"subject": "ada"}, BadRequest),
                        ({"scope": "key", "subject": "ada"}, BadRequest)):  # fmt: skip
        with pytest.raises(kind):
            await office.limit(hers, 9, **about)
    count = "SELECT count(*) FROM usage_limit WHERE organization_id = %s"
    assert await rows(books, count, hers) == [(1,)]
    assert await rows(books, "SELECT count(*) FROM end_user WHERE organization_id = %s", hers) == [(0,)]
    assert await rows(books, "SELECT count(*) FROM audit WHERE organization_id = %s", hers) == [(1,)]

"""Keys as they are made, changed, replaced and revoked, and what limits count of those that replaced one another."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.conftest import TEST_POLICY, TEST_SECRET
from tests.flows.cast import CREDIT, FAILED, SANDBOX_PRICE, Clock, answer, ask, change, found, rows, settle
from tollhouse.core.ask import Credential
from tollhouse.core.errors import BadRequest, Conflict, Forbidden, NotFound, Unauthenticated
from tollhouse.core.key import digest
from tollhouse.core.price import Usage
from tollhouse.core.refusals import LimitExceeded
from tollhouse.flows import key
from tollhouse.flows.key import KEYS_MAX, KeyChange, Manager
from tollhouse.flows.limit import LIMITS_MAX, NewLimit, create_limit
from tollhouse.flows.operation import Admit, Admitted, Attempt, Release
from tollhouse.flows.order import MadeKey, NewKey, Order
from tollhouse.flows.spend import Teller
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database
from tollhouse.store.key import ApiKey

PLAIN = NewKey("laptop", ("gateway",), "test")
DAY = timedelta(days=1)


@dataclass
class Keys:
    """The keys of one organisation, in an operator's hands if nothing else is said."""

    db: Database
    url: str
    clock: Clock
    organization_id: UUID

    def manager(self, by: Credential | None = None) -> Manager:
        return Manager(self.organization_id, Order("system", self.clock()), by)

    async def make(self, by: Credential | None = None, **wanted: Any) -> MadeKey:
        return await key.create(self.db, TEST_POLICY, self.manager(by), replace(PLAIN, **wanted))

    async def change(self, row: ApiKey, by: Credential | None = None, **fields: Any) -> ApiKey:
        return await key.change(self.db, self.manager(by), row.id, KeyChange(fields))

    async def rotate(self, row: ApiKey, overlap: timedelta = DAY, by: Credential | None = None, **more: Any) -> MadeKey:
        expires_at = more.get("expires_at")
        return await key.rotate(self.db, TEST_POLICY, self.manager(by), row.id, overlap, expires_at)

    async def revoke(self, row: ApiKey, by: Credential | None = None) -> ApiKey:
        return await key.revoke(self.db, self.manager(by), row.id)

    async def named(self) -> list[str]:
        return [row.name for row in await key.read(self.db, self.manager())]

    async def with_manage(self, **more: Any) -> Credential:
        made = await self.make(name="manages", scopes=("manage",), **more)
        return Credential("key", made.row.id)

    async def audited(self, *actions: str) -> list[tuple[str, Any]]:
        found_rows = await rows(
            self.url, "SELECT action, details FROM audit WHERE organization_id = %s ORDER BY seq", self.organization_id
        )
        return [(row[0], row[1]) for row in found_rows if not actions or row[0] in actions]

    def ask(self, row: ApiKey, **about: Any) -> Admit:
        return ask(self.organization_id, key_id=row.id, **about)


@pytest.fixture
async def hers(books: str, clock: Clock) -> AsyncIterator[Keys]:
    db = Database(books)
    await db.open()
    yield Keys(db, books, clock, await found(books, clock(), 500 * CREDIT))
    await db.close()


async def kinds(teller: Teller, *asks: Admit) -> Counter[type]:
    return Counter(type(one) for one in await asyncio.gather(*(answer(teller, one) for one in asks)))


async def windows(hers: Keys, meter: str) -> list[tuple[int, int]]:
    found_rows = await rows(
        hers.url, "SELECT used, reserved FROM quota_window WHERE organization_id = %s AND meter = %s",
        hers.organization_id, meter,
    )  # fmt: skip
    return [(row[0], row[1]) for row in found_rows]


# ----------------------------------------------------------------------------------------------------- make and revoke


async def test_of_a_key_only_the_digest_is_stored(hers: Keys) -> None:
    made = await hers.make()
    again = await hers.rotate(made.row)
    stored = await rows(hers.url, "SELECT digest FROM api_key WHERE id = %s", again.row.id)
    assert stored == [(digest(TEST_SECRET, again.key),)]
    everything = await rows(hers.url, "SELECT k::text FROM api_key k UNION ALL SELECT a::text FROM audit a")
    assert not any(made.key in row[0] or again.key in row[0] for row in everything)


async def test_the_scope_operator_is_for_keys_of_the_platform_made_by_operators(hers: Keys) -> None:
    with pytest.raises(BadRequest, match="platform"):
        await hers.make(scopes=("operator",))
    platform = replace(hers, organization_id=PLATFORM_ID)
    made = await platform.make(scopes=("operator",))
    assert made.row.scopes == ["operator"]
    manages = await platform.with_manage()
    with pytest.raises(BadRequest, match="operators make them"):
        await platform.make(manages, scopes=("operator",))
    with pytest.raises(BadRequest, match="operators make them"):
        await platform.rotate(made.row, by=manages)


async def test_a_key_is_revoked_once_and_only_by_its_own_organisation(hers: Keys, clock: Clock) -> None:
    made = await hers.make()
    his = replace(hers, organization_id=await found(hers.url, clock()))
    for attempt in (his.revoke(made.row), his.change(made.row, name="mine"), his.rotate(made.row)):
        with pytest.raises(NotFound):
            await attempt
    first = await hers.revoke(made.row)
    at = clock()
    clock.move(hours=1)
    again = await hers.revoke(made.row)
    assert first.revoked_at == again.revoked_at == at
    for attempt in (hers.change(made.row, name="back"), hers.rotate(made.row)):
        with pytest.raises(Conflict, match="works no more"):
            await attempt


async def test_keys_that_work_are_listed_newest_first(hers: Keys, clock: Clock) -> None:
    made = []
    for number in range(4):
        expires_at = clock() + timedelta(hours=1) if number == 0 else None
        made.append(await hers.make(name=f"key {number}", expires_at=expires_at))
        clock.move(minutes=1)
    await hers.revoke(made[2].row)
    clock.move(hours=1)
    assert await hers.named() == ["key 3", "key 1"]


async def test_what_cannot_be_is_refused_and_leaves_nothing(hers: Keys, clock: Clock) -> None:
    wrong: dict[str, Any]
    for wrong, field in (
        ({"expires_at": clock()}, "expires_at"),
        ({"models": ("sandbox", "nonsense")}, "models"),
    ):  # fmt: skip
        with pytest.raises(BadRequest) as refused:
            await hers.make(**wrong)
        assert refused.value.field == field
    made = await hers.make(expires_at=clock() + DAY)
    fields: dict[str, Any]
    for fields in ({"expires_at": clock() + 2 * DAY}, {"expires_at": None}, {"expires_at": clock()},
                  {"model_ids": ["nonsense"]}):  # fmt: skip
        with pytest.raises(BadRequest):
            await hers.change(made.row, **fields)
    assert [action for action, _ in await hers.audited()] == ["key.created"]


async def test_there_is_an_end_to_how_many_keys_an_organisation_has(hers: Keys) -> None:
    await change(
        hers.url,
        """INSERT INTO api_key (organization_id, id, name, digest, start, scopes, mode, created_at)
           SELECT %s, gen_random_uuid(), 'many', sha256(n::text::bytea), 'th_test_many', '{gateway}', 'test', now()
           FROM generate_series(1, %s) AS n""",
        hers.organization_id, KEYS_MAX,
    )  # fmt: skip
    with pytest.raises(Conflict, match="Revoke one"):
        await hers.make()


# ---------------------------------------------------------------------------------------------------- whose hand it is


async def test_a_key_gives_no_more_than_it_has_and_touches_none_that_governs(hers: Keys, clock: Clock) -> None:
    bound = await hers.with_manage(models=("sandbox",), expires_at=clock() + DAY, requests_per_minute=5)
    within: dict[str, Any] = {"models": ("sandbox",), "expires_at": clock() + DAY, "requests_per_minute": 5}
    made = await hers.make(bound, **within)
    for wider in ({"models": None}, {"expires_at": None}, {"requests_per_minute": 6}, {"scopes": ("manage",)}):
        with pytest.raises(Forbidden):
            await hers.make(bound, **within | wider)
    for fields in ({"model_ids": None}, {"requests_per_minute": None}):
        with pytest.raises(Forbidden):
            await hers.change(made.row, bound, **fields)
    strong = await hers.make(name="strong")
    for attempt in (hers.change(strong.row, bound, name="x"), hers.rotate(strong.row, by=bound)):
        with pytest.raises(Forbidden):  # what reaches further than itself is not its to hold
            await attempt
    free = await hers.with_manage()
    own = next(row for row in await key.read(hers.db, hers.manager()) if row.id == free.id)
    for attempt in (hers.change(own, free, name="x"), hers.rotate(own, by=free)):
        with pytest.raises(Forbidden, match="'manage'"):
            await attempt
    await hers.revoke(strong.row, free)
    assert (await hers.make(free, scopes=("gateway", "credits", "act_as"))).row.created_by == "system"


async def test_who_lost_key_or_role_meanwhile_does_nothing_more(hers: Keys) -> None:
    lost = await hers.with_manage()
    await change(hers.url, "UPDATE api_key SET revoked_at = now() - interval '1 hour' WHERE id = %s", lost.id)
    with pytest.raises(Unauthenticated):
        await hers.make(lost)
    with pytest.raises(Forbidden, match="not a member"):
        await hers.make(Credential("person", uuid4()))
    kept = await hers.with_manage()
    await change(hers.url, "UPDATE organization SET suspended_at = now() WHERE id = %s", hers.organization_id)
    with pytest.raises(Forbidden, match="suspended"):
        await hers.make(kept)
    await hers.make()  # an operator's hand


# -------------------------------------------------------------------------------------------------- models and changes


async def test_the_models_of_a_key_count_from_the_next_call_on(hers: Keys, teller: Teller) -> None:
    made = await hers.make(models=("sandbox",))
    assert (await answer(teller, hers.ask(made.row, model_id="gpt-4o-mini"))).code == "model_not_allowed"
    assert await kinds(teller, hers.ask(made.row)) == {Admitted: 1}
    await hers.change(made.row, model_ids=["gpt-4o-mini"])
    assert (await answer(teller, hers.ask(made.row))).code == "model_not_allowed"
    assert await kinds(teller, hers.ask(made.row, model_id="gpt-4o-mini")) == {Admitted: 1}
    await hers.change(made.row, model_ids=None)
    assert await kinds(teller, hers.ask(made.row), hers.ask(made.row, model_id="gpt-4o-mini")) == {Admitted: 2}


async def test_a_change_says_from_what_to_what_and_leaves_the_rest(hers: Keys, clock: Clock) -> None:
    made = await hers.make(models=("sandbox",), credits_micros_per_month=5 * CREDIT)
    soon = clock() + DAY
    after = await hers.change(made.row, name="desk", expires_at=soon, credits_micros_per_month=7 * CREDIT)
    assert (after.name, after.model_ids, after.expires_at) == ("desk", ["sandbox"], soon)
    (listed,) = await key.read(hers.db, hers.manager())
    assert replace(listed, last_used_at=None) == after
    told = await hers.audited("key.changed", "limit.changed")
    assert told == [
        ("limit.changed", {"from": 5 * CREDIT, "to": 7 * CREDIT}),
        ("key.changed", {
            "name": {"from": "laptop", "to": "desk"},
            "expires_at": {"from": None, "to": soon.isoformat().replace("+00:00", "Z")},
            "credits_per_month": {"from": "5", "to": "7"},
        }),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------------- own limits


async def test_credits_of_a_key_are_exact_however_many_ask_and_what_goes_back_can_be_spent(
    hers: Keys, teller: Teller
) -> None:
    made = await hers.make(credits_micros_per_month=7 * SANDBOX_PRICE + SANDBOX_PRICE - 1)
    other = await hers.make()
    answers = await asyncio.gather(*(answer(teller, hers.ask(made.row)) for _ in range(50)))
    admitted = [one for one in answers if isinstance(one, Admitted)]
    refused = [one for one in answers if not isinstance(one, Admitted)]
    assert len(admitted) == 7
    assert {(one.code, one.meter, one.scope, one.period) for one in refused} == {
        ("rate_limit_exceeded", "credits", "key", "month")
    }
    assert await kinds(teller, hers.ask(other.row)) == {Admitted: 1}
    await teller.do(Release(hers.organization_id, admitted[0].id, FAILED))
    await teller.do(settle(hers.organization_id, admitted[1].id, Usage(0, 0)))
    await asyncio.gather(*(teller.do(settle(hers.organization_id, one.id)) for one in admitted[2:]))
    assert await windows(hers, "credits") == [(5 * SANDBOX_PRICE, 0)]
    assert await kinds(teller, *(hers.ask(made.row) for _ in range(5))) == {Admitted: 2, LimitExceeded: 3}


async def test_a_settlement_above_its_reservation_and_a_late_one_are_counted_in_full(
    hers: Keys, teller: Teller
) -> None:
    made = await hers.make(credits_micros_per_month=3 * SANDBOX_PRICE)
    first: Any = await teller.do(hers.ask(made.row))
    await teller.do(settle(hers.organization_id, first.id, Usage(4_000, 100)))
    charged = SANDBOX_PRICE + 3_000 * 50
    assert await windows(hers, "credits") == [(charged, 0)]
    await hers.change(made.row, credits_micros_per_month=charged + SANDBOX_PRICE)
    second: Any = await teller.do(hers.ask(made.row))
    await teller.do(Release(hers.organization_id, second.id, FAILED))
    await teller.do(settle(hers.organization_id, second.id))
    assert await windows(hers, "credits") == [(charged + SANDBOX_PRICE, 0)]
    assert await kinds(teller, hers.ask(made.row)) == {LimitExceeded: 1}


async def test_a_limit_that_a_key_gets_later_counts_from_then_on_and_one_taken_away_binds_no_more(
    hers: Keys, teller: Teller
) -> None:
    made = await hers.make()
    await teller.do(hers.ask(made.row))
    await hers.change(made.row, requests_per_minute=1)
    assert await kinds(teller, *(hers.ask(made.row) for _ in range(3))) == {Admitted: 1, LimitExceeded: 2}
    await hers.change(made.row, requests_per_minute=None)
    assert await kinds(teller, *(hers.ask(made.row) for _ in range(3))) == {Admitted: 3}
    assert [action for action, _ in await hers.audited("limit.created", "limit.ended")] == [
        "limit.created", "limit.ended",
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- rotate


async def test_after_a_rotation_both_work_until_the_overlap_ends(hers: Keys, teller: Teller, clock: Clock) -> None:
    old = await hers.make(models=("sandbox",), expires_at=clock() + 90 * DAY)
    new = await hers.rotate(old.row)
    assert new.key != old.key
    assert (new.row.name, new.row.scopes, new.row.model_ids, new.row.expires_at) == (
        "laptop", ["gateway"], ["sandbox"], old.row.expires_at,
    )  # fmt: skip
    assert await kinds(teller, hers.ask(old.row), hers.ask(new.row)) == {Admitted: 2}
    clock.move(days=1)
    assert await kinds(teller, hers.ask(old.row), hers.ask(new.row)) == {Unauthenticated: 1, Admitted: 1}
    with pytest.raises(Conflict, match=str(new.row.id)):
        await hers.rotate(old.row)


async def test_a_rotation_without_overlap_ends_the_old_key_at_once(hers: Keys, teller: Teller) -> None:
    old = await hers.make()
    new = await hers.rotate(old.row, timedelta())
    assert await kinds(teller, hers.ask(old.row), hers.ask(new.row)) == {Unauthenticated: 1, Admitted: 1}


async def test_of_two_rotations_at_once_one_makes_a_key(hers: Keys) -> None:
    old = await hers.make()
    done = await asyncio.gather(*(hers.rotate(old.row) for _ in range(5)), return_exceptions=True)
    assert Counter(type(one) for one in done) == {MadeKey: 1, Conflict: 4}
    assert len(await hers.named()) == 2


async def test_limits_go_on_counting_over_rotations_for_old_and_new_together(
    hers: Keys, teller: Teller, clock: Clock
) -> None:
    first = await hers.make(credits_micros_per_month=6 * SANDBOX_PRICE)
    assert await kinds(teller, hers.ask(first.row), hers.ask(first.row)) == {Admitted: 2}
    second = await hers.rotate(first.row)
    third = await hers.rotate(second.row)
    assert third.row.credits_micros_per_month == 6 * SANDBOX_PRICE
    asks = [hers.ask(row) for row in (first.row, second.row, third.row) for _ in range(5)]
    assert await kinds(teller, *asks) == {Admitted: 4, LimitExceeded: 11}
    await hers.change(third.row, credits_micros_per_month=7 * SANDBOX_PRICE)
    assert await kinds(teller, *asks) == {Admitted: 1, LimitExceeded: 14}


async def test_a_limit_of_each_key_is_not_escaped_by_rotating(hers: Keys, teller: Teller) -> None:
    each = NewLimit("key", None, None, "messages", "day", 3)
    (await create_limit(hers.db, hers.manager().order, hers.organization_id, each)).result()
    first = await hers.make()
    second = await hers.rotate(first.row)
    asks = [hers.ask(row) for row in (first.row, second.row) for _ in range(5)]
    assert await kinds(teller, *asks) == {Admitted: 3, LimitExceeded: 7}


async def test_a_limit_set_for_the_new_key_is_one_of_the_whole_chain(hers: Keys, teller: Teller) -> None:
    first = await hers.make()
    second = await hers.rotate(first.row)
    of_one = NewLimit("key", str(second.row.id), None, "messages", "day", 2)
    limit = (await create_limit(hers.db, hers.manager().order, hers.organization_id, of_one)).result()
    assert limit.subject_id == first.row.id
    asks = [hers.ask(row) for row in (first.row, second.row) for _ in range(3)]
    assert await kinds(teller, *asks) == {Admitted: 2, LimitExceeded: 4}


async def test_a_fallback_of_a_rotated_key_is_counted_with_the_first_one(hers: Keys, teller: Teller) -> None:
    """The rule is about the model that answers in the end."""
    first = await hers.make()
    about = NewLimit("key", str(first.row.id), "gpt-4o-mini", "credits", "day", 3 * CREDIT)
    (await create_limit(hers.db, hers.manager().order, hers.organization_id, about)).result()
    second = await hers.rotate(first.row)
    admitted: Any = await teller.do(hers.ask(second.row))
    moved = Attempt(hers.organization_id, admitted.id, 2, "gpt-4o-mini", "openai", None, False, FAILED)
    await teller.do(moved)
    assert await windows(hers, "credits") == [(0, SANDBOX_PRICE)]
    (subject,) = await rows(hers.url, "SELECT subject_id FROM quota_window WHERE meter = 'credits'")
    assert subject == (first.row.id,)
    await teller.do(Release(hers.organization_id, admitted.id, FAILED))
    assert await windows(hers, "credits") == [(0, 0)]


async def test_limits_end_with_the_last_key_of_the_chain(hers: Keys) -> None:
    first = await hers.make(credits_micros_per_month=CREDIT, requests_per_minute=9)
    second = await hers.rotate(first.row)
    await hers.revoke(first.row)
    assert await hers.audited("limit.ended") == []
    await hers.revoke(second.row)
    assert [action for action, _ in await hers.audited("limit.ended")] == ["limit.ended"] * 2


async def test_limits_of_keys_that_expired_make_room_for_others(hers: Keys, clock: Clock) -> None:
    await hers.make(expires_at=clock() + DAY, requests_per_minute=1)
    await change(
        hers.url,
        """INSERT INTO usage_limit (organization_id, id, scope, subject_id, meter, period, maximum, created_at)
           SELECT %s, gen_random_uuid(), 'person', gen_random_uuid(), 'messages', 'day', 1, now()
           FROM generate_series(1, %s)""",
        hers.organization_id, LIMITS_MAX - 1,
    )  # fmt: skip
    with pytest.raises(Conflict, match="limits already"):
        await hers.make(requests_per_minute=1)
    clock.move(days=2)
    assert (await hers.make(requests_per_minute=1)).row.requests_per_minute == 1
    assert await hers.audited("limit.ended") == [("limit.ended", {"maximum": 1})]

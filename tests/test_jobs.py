"""Every job may run twice at once, be cut anywhere or come days late, and the result is the same."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog

from tests.fake_provider import FakeProvider
from tests.flows.cast import (
    CREDIT,
    FAILED,
    INPUT_PRICE,
    SANDBOX_PRICE,
    Clock,
    ask,
    balance,
    change,
    found,
    give,
    ledger,
    rows,
    settle,
)
from tests.ledger import assert_ledger_holds
from tollhouse import jobs
from tollhouse.config import Config
from tollhouse.core.ask import CreditsWant
from tollhouse.core.period import months_after
from tollhouse.core.price import Usage
from tollhouse.core.routing import PLATFORM_ID
from tollhouse.core.vault import Keyring
from tollhouse.flows.connection import Policy
from tollhouse.flows.once import Once
from tollhouse.flows.operation import LEASE, Admit, Release, Renew
from tollhouse.flows.seed import DEMO_ID
from tollhouse.flows.site import Site
from tollhouse.flows.spend import Teller
from tollhouse.jobs import AT_ONCE, Checks, Jobs, Notices
from tollhouse.store import content, kept_answer
from tollhouse.store.db import Database

MONTHLY, WELCOME = 500 * CREDIT, 25 * CREDIT
Run = Callable[[Jobs], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Office:
    """Two worker processes on one database, with one time; calls go through the first one's teller."""

    url: str
    clock: Clock
    teller: Teller
    workers: tuple[Jobs, Jobs]
    db: Database

    @property
    def checks(self) -> Checks:
        return Checks(self.db, Policy(Keyring(b"a secret"), "test"), self.clock)

    @property
    def notices(self) -> Notices:
        return Notices(self.db, Site("https://ai.example.com", "test", Keyring(b"a secret")), self.clock)

    async def do(self, run: Run) -> None:
        await run(self.workers[0])

    async def do_twice_at_once(self, run: Run) -> None:
        await asyncio.gather(*(run(worker) for worker in self.workers))

    async def do_cut(self, run: Run) -> None:
        """The job is cut after its first steps, again a little later, and so on; then it runs to its end."""
        for steps in (1, 2, 4, 8, 16, 32, 64, 128):
            job = asyncio.ensure_future(run(self.workers[0]))
            for _ in range(steps):
                await asyncio.sleep(0)
            job.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await job
        await run(self.workers[1])

    async def admitted(self, operation: Admit) -> UUID:
        answer: Any = await self.teller.do(operation)
        id_: UUID = answer.id
        return id_


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    """When the test is over, the ledger must hold."""
    clock, db = Clock(), Database(database_url)
    tellers = Teller(database_url, "test", clock), Teller(database_url, "test", clock)
    await db.open()
    for teller in tellers:
        await teller.open()
    first, second = (Jobs(db, teller, clock) for teller in tellers)
    yield Office(database_url, clock, tellers[0], (first, second), db)
    for teller in tellers:
        await teller.close()
    await db.close()
    await assert_ledger_holds(database_url)


ways = pytest.mark.parametrize("way", [Office.do, Office.do_twice_at_once, Office.do_cut], ids=["once", "twice", "cut"])
Way = Callable[[Office, Run], Awaitable[None]]

# -------------------------------------------------------------------------------------------------------------- reaping


@ways
async def test_what_nobody_finished_is_charged_by_its_last_checkpoint_or_given_back(office: Office, way: Way) -> None:
    hers = await found(office.url, office.clock(), 10 * CREDIT)
    half_way, silent, over = [await office.admitted(ask(hers)) for _ in range(3)]
    of_the_host = await office.admitted(
        Admit(hers, ask(hers, want=CreditsWant(CREDIT), channel="capability").ask, None)
    )
    await office.teller.do(Renew(hers, half_way, 500, 50))
    await office.teller.do(settle(hers, over))
    office.clock.now += LEASE
    alive = await office.admitted(ask(hers))
    await way(office, lambda worker: worker.reap(0))
    states = await rows(office.url, "SELECT id, state, charged_micros, closed_at FROM reservation")
    assert {row[0]: row[1:] for row in states} == {
        half_way: ("settled", SANDBOX_PRICE // 2, office.clock()),
        silent: ("settled", INPUT_PRICE, office.clock()),
        over: ("settled", SANDBOX_PRICE, office.clock() - LEASE),
        of_the_host: ("expired", None, office.clock()),
        alive: ("pending", None, None),
    }
    assert sorted(await ledger(office.url, hers)) == [
        ("ai_consumption", -SANDBOX_PRICE), ("ai_consumption", -SANDBOX_PRICE // 2), ("ai_consumption", -INPUT_PRICE),
        ("topup_purchase", 10 * CREDIT),
    ]  # fmt: skip
    assert await rows(office.url, "SELECT estimated FROM usage_event WHERE reservation_id = %s", half_way) == [(True,)]


async def test_however_many_were_left_open_all_are_closed(office: Office) -> None:
    hers = await found(office.url, office.clock(), 1000 * CREDIT)
    wanted = AT_ONCE + 20
    await asyncio.gather(*(office.teller.do(ask(hers)) for _ in range(wanted)))
    office.clock.move(days=3)
    await office.do_twice_at_once(lambda worker: worker.reap(0))
    assert await rows(office.url, "SELECT state, count(*) FROM reservation GROUP BY 1") == [("settled", wanted)]


async def test_one_that_cannot_be_closed_keeps_no_other_open_and_is_reported(office: Office) -> None:
    hers = await found(office.url, office.clock(), 10 * CREDIT)
    broken, whole = [await office.admitted(ask(hers)) for _ in range(2)]
    for id_ in (broken, whole):
        await office.teller.do(Renew(hers, id_, 500, 50))
    version = "UPDATE reservation SET price_version = %s WHERE id = %s"
    await change(office.url, version, 99, broken)
    office.clock.now += LEASE
    with pytest.raises(RuntimeError), structlog.testing.capture_logs() as logs:
        await office.do(lambda worker: worker.reap(0))
    assert [(one["failed"], one["of"]) for one in logs if "failed" in one] == [(1, 2)]
    states = "SELECT state FROM reservation WHERE id = %s"
    assert [await rows(office.url, states, id_) for id_ in (broken, whole)] == [[("pending",)], [("settled",)]]
    await change(office.url, version, 1, broken)
    await office.do(lambda worker: worker.reap(0))
    assert await rows(office.url, states, broken) == [("settled",)]


# -------------------------------------------------------------------------------------------------------------- periods


@ways
async def test_after_three_missed_periods_there_is_one_allocation_of_the_plan_that_was_to_come(
    office: Office, way: Way
) -> None:
    await change(office.url, "UPDATE organization SET pending_plan_id = 'free' WHERE id = %s", DEMO_ID)
    ((starts,),) = await rows(office.url, "SELECT period_start FROM credit_balance WHERE organization_id = %s", DEMO_ID)
    running = await office.admitted(ask(DEMO_ID))
    office.clock.now = months_after(starts, 3) + timedelta(days=2)
    await way(office, lambda worker: worker.catch_up(0))
    assert await ledger(office.url, DEMO_ID) == [
        ("plan_allocation", MONTHLY),
        ("welcome_bonus", WELCOME),
        ("expiry", SANDBOX_PRICE - MONTHLY),
        ("plan_allocation", 10 * CREDIT),
    ]
    assert await rows(
        office.url,
        """SELECT plan_id, pending_plan_id, period_start, period_end, next_due_at, period_seq
           FROM organization o JOIN credit_balance b ON b.organization_id = o.id WHERE o.id = %s""",
        DEMO_ID,
    ) == [("free", None, months_after(starts, 3), months_after(starts, 4), months_after(starts, 4), 3)]
    await office.teller.do(Release(DEMO_ID, running, FAILED))
    assert await balance(office.url, DEMO_ID) == (WELCOME + 10 * CREDIT, 0, 0)


@ways
async def test_grants_end_and_begin_though_nobody_asks(office: Office, way: Way) -> None:
    hers = await found(office.url, office.clock())
    now = office.clock()
    hour = timedelta(hours=1)
    await give(office.url, hers, 3 * CREDIT, now, "promo", expires_at=now + hour)
    await give(office.url, hers, 4 * CREDIT, now, "promo", effective_at=now + 2 * hour, expires_at=now + 3 * hour)
    await give(office.url, hers, 5 * CREDIT, now, "promo", effective_at=now + 4 * hour)
    office.clock.move(days=9)
    await way(office, lambda worker: worker.catch_up(0))
    assert sorted(await ledger(office.url, hers)) == sorted(
        [("promo_bonus", 3 * CREDIT), ("expiry", -3 * CREDIT), ("promo_bonus", 4 * CREDIT), ("expiry", -4 * CREDIT),
         ("promo_bonus", 5 * CREDIT)]
    )  # fmt: skip
    assert await balance(office.url, hers) == (5 * CREDIT, 0, 0)


async def test_many_periods_that_end_together_are_all_booked(office: Office) -> None:
    many = [await found(office.url, office.clock(), plan_id="free") for _ in range(45)]
    office.clock.move(days=32)
    await office.do_twice_at_once(lambda worker: worker.catch_up(0))
    for id_ in many:
        assert await ledger(office.url, id_) == [("plan_allocation", 10 * CREDIT)]


# -------------------------------------------------------------------------------------------------------------- rollups


@ways
async def test_usage_is_rolled_up_day_by_day_however_late(office: Office, way: Way) -> None:
    office.clock.now = office.clock.now.replace(hour=12)
    for days in (0, 1, 3):
        office.clock.move(days=days)
        await office.teller.do(settle(DEMO_ID, await office.admitted(ask(DEMO_ID)), Usage(100, 10)))
    office.clock.move(days=5)
    await way(office, lambda worker: worker.roll_up(0))
    last = office.clock().date()
    assert await rows(office.url, "SELECT day, requests, input_tokens FROM usage_day ORDER BY day") == [
        (last - timedelta(days=days), 1, 100) for days in (9, 8, 5)
    ]
    assert await rows(office.url, "SELECT count(*), max(day) FROM usage_day_done") == [(9, last - timedelta(days=1))]


# ----------------------------------------------------------------------------------------------------------- tidying up


async def answered(office: Office, key: str, *, done: bool) -> UUID:
    """A call with an idempotency key, which runs or is done."""
    operation = ask(DEMO_ID)
    operation.once = Once("/v1/chat/completions", key, b"hash")
    id_ = await office.admitted(operation)
    if done:
        await change(office.url, "UPDATE idempotency SET status = 200, response = '{}' WHERE key = %s", key)
        await office.teller.do(settle(DEMO_ID, id_))
    return id_


@ways
async def test_answers_are_forgotten_after_a_day_but_not_while_their_call_runs(office: Office, way: Way) -> None:
    await answered(office, "old", done=True)
    running = await answered(office, "running", done=False)
    lost = await answered(office, "lost", done=False)
    office.clock.move(hours=24, seconds=1)
    await answered(office, "young", done=True)
    await office.teller.do(Renew(DEMO_ID, running))
    await office.do(lambda worker: worker.reap(0))
    assert await rows(office.url, "SELECT state FROM reservation WHERE id = %s", lost) == [("settled",)]
    await way(office, lambda worker: worker.tidy(0))
    kept = [("running",), ("young",)]
    assert await rows(office.url, "SELECT key FROM idempotency ORDER BY key") == kept
    await office.teller.do(settle(DEMO_ID, running))
    await change(office.url, "UPDATE idempotency SET status = 200, response = '{}' WHERE key = 'running'")
    await office.do(lambda worker: worker.tidy(0))
    assert await rows(office.url, "SELECT key FROM idempotency ORDER BY key") == kept[1:]


@ways
async def test_partitions_are_there_three_months_ahead(office: Office, way: Way) -> None:
    office.clock.move(days=60)
    await way(office, lambda worker: worker.tidy(0))
    wanted = {f"usage_event_{months_after(office.clock().replace(day=1), number):%Y_%m}" for number in range(4)}
    assert wanted <= {row[0] for row in await rows(office.url, "SELECT relname FROM pg_class WHERE relkind = 'r'")}


async def test_after_a_pause_in_which_partitions_ran_out_the_next_ones_are_made(office: Office) -> None:
    """What was recorded meanwhile stays where it is."""
    office.clock.move(days=900)
    await office.teller.do(settle(DEMO_ID, await office.admitted(ask(DEMO_ID))))
    partitions = "SELECT tableoid::regclass::text FROM usage_event ORDER BY recorded_at"
    assert await rows(office.url, partitions) == [("usage_event_default",)]
    await office.do_twice_at_once(lambda worker: worker.tidy(0))
    await office.teller.do(settle(DEMO_ID, await office.admitted(ask(DEMO_ID))))
    office.clock.move(days=40)
    await office.teller.do(settle(DEMO_ID, await office.admitted(ask(DEMO_ID))))
    of_its_own = f"usage_event_{office.clock():%Y_%m}"
    assert await rows(office.url, partitions) == [("usage_event_default",), ("usage_event_default",), (of_its_own,)]


@ways
async def test_what_was_said_is_forgotten_after_thirty_days_and_kept_answers_when_they_expire(
    office: Office, way: Way
) -> None:
    hers = await found(office.url, office.clock())
    for days_ago in (31, 30, 29):
        at = office.clock() - timedelta(days=days_ago)
        async with office.db.tenant(hers) as tx:
            await content.keep(tx, hers, uuid4(), {"days ago": days_ago}, None, at)
            for ttl_s in (1, 30 * 86_400):
                key = f"{days_ago} {ttl_s}".encode().ljust(32)
                await kept_answer.keep(tx, hers, key, f"{days_ago} {ttl_s}", {}, at, ttl_s)
    office.clock.move(seconds=-1)  # the last moment of those that are thirty days old
    await way(office, lambda worker: worker.tidy(0))
    left = await rows(office.url, "SELECT prompt FROM request_content ORDER BY created_at")
    assert [row[0]["days ago"] for row in left] == [30, 29]
    kept = await rows(office.url, "SELECT model_id FROM kept_answer ORDER BY created_at")
    assert [row[0] for row in kept] == ["30 2592000", "29 2592000"]


@ways
async def test_what_was_said_is_kept_for_as_many_days_as_its_organisation_chose(office: Office, way: Way) -> None:
    chosen = {}
    for days in (1, 30, 400):
        chosen[days] = await found(office.url, office.clock())
        await change(office.url, "UPDATE organization SET retention_days = %s WHERE id = %s", days, chosen[days])
        async with office.db.tenant(chosen[days]) as tx:
            await content.keep(tx, chosen[days], uuid4(), {"days": days}, None, office.clock())
    left = "SELECT prompt FROM request_content ORDER BY organization_id"
    begun = office.clock()
    for days in (1, 30, 400):
        for moment, kept in ((timedelta(microseconds=-1), True), (timedelta(), False)):
            office.clock.now = begun + timedelta(days=days) + moment
            await way(office, lambda worker: worker.tidy(0))
            found_days = {row[0]["days"] for row in await rows(office.url, left)}
            assert found_days == {one for one in chosen if one > days or (kept and one == days)}


@ways
async def test_chats_are_kept_as_long_as_chosen_and_answers_nobody_writes_are_finished(
    office: Office, way: Way
) -> None:
    hers, now = await found(office.url, office.clock()), office.clock()
    await change(office.url, "UPDATE organization SET chat_retention_days = 30 WHERE id = %s", hers)
    person = uuid4()
    await change(
        office.url, "INSERT INTO person (id, email, name, created_at) VALUES (%s, 'p@x.org', 'P', now())", person
    )
    for days, written_s in ((31, 61), (29, 61), (0, 59)):
        said, answer = uuid4(), uuid4()
        await change(
            office.url,
            """INSERT INTO conversation (organization_id, id, person_id, title, created_at, updated_at)
               VALUES (%s, %s, %s, %s, %s, %s)""",
            hers, said, person, f"{days} days ago", now, now - timedelta(days=days),
        )  # fmt: skip
        await change(
            office.url,
            """INSERT INTO message (organization_id, conversation_id, id, person_id, author, state, content, created_at,
                   written_at)
               VALUES (%s, %s, %s, %s, 'assistant', 'writing', '', %s, %s)""",
            hers, said, answer, person, now, now - timedelta(seconds=written_s),
        )  # fmt: skip
    await way(office, lambda worker: worker.finish_answers(0))
    await way(office, lambda worker: worker.tidy(0))
    left = (
        "SELECT c.title, m.state FROM conversation c JOIN message m ON m.conversation_id = c.id ORDER BY c.updated_at"
    )
    assert await rows(office.url, left) == [("29 days ago", "incomplete"), ("0 days ago", "writing")]


@ways
async def test_of_sessions_links_and_invitations_that_ended_nothing_is_left_after_thirty_days(
    office: Office, way: Way
) -> None:
    person_id, hers, now = uuid4(), await found(office.url, office.clock()), office.clock()
    await change(
        office.url, "INSERT INTO person (id, email, created_at) VALUES (%s, 'ada@example.com', now())", person_id
    )
    for days in (1, 2):
        ends = now + timedelta(days=days)
        await change(
            office.url,
            """INSERT INTO session (person_id, id, digest, organization_id, method, created_at, seen_at, expires_at,
                   proved_at) VALUES (%s, %s, %s, %s, 'password', %s, %s, %s, %s)""",
            person_id, uuid4(), uuid4().bytes, hers, now, now, ends, now,
        )  # fmt: skip
        await change(
            office.url,
            """INSERT INTO one_time_token (digest, purpose, person_id, email, created_at, expires_at)
               VALUES (%s, 'sign_in', %s, 'ada@example.com', %s, %s)""",
            uuid4().bytes, person_id, now, ends,
        )  # fmt: skip
        await change(
            office.url,
            """INSERT INTO invitation (organization_id, id, email, role, digest, invited_by, created_at, expires_at)
               VALUES (%s, %s, %s, 'member', %s, 'system', %s, %s)""",
            hers, uuid4(), f"{days}@example.com", uuid4().bytes, now, ends,
        )  # fmt: skip
    counts = "SELECT (SELECT count(*) FROM session), (SELECT count(*) FROM one_time_token), count(*) FROM invitation"
    for days, left in ((31, 2), (32, 1), (33, 0)):
        office.clock.now = now + timedelta(days=days)
        await way(office, lambda worker: worker.tidy(0))
        assert (await rows(office.url, counts))[0] == (left, left, left), days


# ------------------------------------------------------------------------------------------------------------- checking

ANSWERS = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"data":[]}'
REFUSES = b"HTTP/1.1 401 No\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nsk-it-leaks"


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as running:
        yield running


async def connect(office: Office, base_url: str, enabled: bool = True, owner: UUID = PLATFORM_ID) -> UUID:
    id_ = uuid4()
    await change(
        office.url,
        """INSERT INTO connection (organization_id, id, provider_id, base_url, origin, enabled, created_at)
           VALUES (%s, %s, 'openai', %s, 'operator', %s, now())""",
        owner, id_, base_url, enabled,
    )  # fmt: skip
    return id_


async def health(office: Office) -> dict[UUID, tuple[Any, ...]]:
    """When each connection was checked, the error, and failures in a row."""
    found = await rows(office.url, "SELECT connection_id, checked_at, error, failures FROM connection_health")
    return {row[0]: row[1:] for row in found}


async def test_each_enabled_connection_is_checked_once_a_minute_though_workers_ask_at_once(
    office: Office, provider: FakeProvider
) -> None:
    office.clock.now = office.clock().replace(second=0, microsecond=0)
    ids = [await connect(office, provider.url) for _ in range(jobs.CHECKS_AT_ONCE + 10)]
    off = await connect(office, provider.url, enabled=False)
    for minute in range(1, 3):
        provider.raw_answers += [ANSWERS] * len(ids)
        at = office.clock()
        await asyncio.gather(*(office.checks.check_connections(0) for _ in range(4)))
        office.clock.move(seconds=59, microseconds=999_999)
        await office.checks.check_connections(0)
        assert provider.calls == minute * len(ids)
        assert await health(office) == {id_: (at, None, 0) for id_ in ids}
        office.clock.move(microseconds=1)
    assert off not in await health(office)


async def test_failures_in_a_row_are_counted_and_end_with_an_answer_and_the_connection_stays_enabled(
    office: Office, provider: FakeProvider
) -> None:
    id_ = await connect(office, provider.url)
    version = await rows(office.url, "SELECT version FROM catalogue_version")
    seen = []
    for raw in (REFUSES, REFUSES, REFUSES, ANSWERS, REFUSES):
        provider.raw_answers.append(raw)
        office.clock.move(minutes=1)
        await office.checks.check_connections(0)
        at, error, failures = (await health(office))[id_]
        assert at == office.clock()
        assert error is None or ("refuses the key" in error and "sk-it-leaks" not in error)
        seen.append((error is None, failures))
    assert seen == [(False, 1), (False, 2), (False, 3), (True, 0), (False, 1)]
    assert await rows(office.url, "SELECT enabled FROM connection") == [(True,)]
    assert await rows(office.url, "SELECT version FROM catalogue_version") == version


async def test_an_organisations_connection_that_leads_inside_is_not_called(
    office: Office, provider: FakeProvider
) -> None:
    hers = await connect(office, provider.url, owner=await found(office.url, office.clock()))
    await office.checks.check_connections(0)
    assert provider.calls == 0
    assert (await health(office))[hers][2] == 1


async def test_a_check_that_was_cut_is_made_in_the_next_minute_and_was_no_failure(
    office: Office, provider: FakeProvider
) -> None:
    id_ = await connect(office, provider.url)
    provider.raw_answers.append(FakeProvider.HOLD)
    checking = asyncio.ensure_future(office.checks.check_connections(0))
    await provider.call(0)
    checking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await checking
    assert (await health(office))[id_][2] == 0
    provider.raw_answers.append(ANSWERS)
    office.clock.move(minutes=1)
    await office.checks.check_connections(0)
    assert await health(office) == {id_: (office.clock(), None, 0)}


async def test_what_a_minute_is_too_short_for_comes_first_in_the_next(
    office: Office, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "CHECKS_AT_ONCE", 2)
    office.clock.now = office.clock().replace(second=0, microsecond=0)
    ids = {await connect(office, provider.url) for _ in range(5)}

    class Slow(Checks):
        """Every batch takes half a minute."""

        async def _check(self, endpoint: Any) -> Any:
            office.clock.move(seconds=15)
            return await super()._check(endpoint)

    slow = Slow(office.db, Policy(Keyring(b"a secret"), "test"), office.clock)
    provider.raw_answers += [ANSWERS] * 9
    await slow.check_connections(0)
    first = set(await health(office))
    assert len(first) == 4
    office.clock.now = office.clock().replace(second=0) + timedelta(minutes=1)
    at = office.clock()
    await slow.check_connections(0)
    late = {id_: row for id_, row in (await health(office)).items() if id_ not in first}
    assert set(late) == ids - first
    assert all(row[0] - at <= timedelta(seconds=30) for row in late.values())


async def test_one_check_that_breaks_keeps_nobody_else_from_theirs_and_is_raised(
    office: Office, provider: FakeProvider
) -> None:
    good, bad = await connect(office, provider.url), await connect(office, provider.url)

    class Breaking(Checks):
        async def _check(self, endpoint: Any) -> Any:
            if endpoint.id == bad:
                raise RuntimeError("nobody expected this")
            return await super()._check(endpoint)

    provider.raw_answers.append(ANSWERS)
    with pytest.raises(RuntimeError, match="nobody expected"):
        await Breaking(office.db, Policy(Keyring(b"a secret"), "test"), office.clock).check_connections(0)
    assert (await health(office))[good] == (office.clock(), None, 0)
    assert (await health(office))[bad][2] == 0


# ----------------------------------------------------------------------------------------------------------- the queue


async def test_the_nightly_proof_reports_what_does_not_hold_and_repairs_nothing(office: Office) -> None:
    with structlog.testing.capture_logs() as quiet:
        await office.do_twice_at_once(lambda worker: worker.prove(0))
    damage = "UPDATE credit_balance SET remaining_micros = remaining_micros + %s WHERE organization_id = %s"
    await change(office.url, damage, 1, DEMO_ID)
    with structlog.testing.capture_logs() as loud:
        await office.do(lambda worker: worker.prove(0))
    assert (quiet, [one["invariant"] for one in loud]) == ([], [2])
    await change(office.url, damage, -1, DEMO_ID)


async def test_each_job_is_in_the_queue_and_runs(office: Office) -> None:
    """By a worker that stops when there is nothing left to do."""
    app = jobs.build(Config(database_url=office.url), office.workers[0], office.checks, office.notices)
    names = {
        "reap", "catch_up", "check_connections", "do_privacy_tasks", "finish_answers", "mail_notices", "roll_up",
        "tidy", "prove", "sweep",
    }  # fmt: skip
    assert {task.task.name for task in app.periodic_registry.periodic_tasks.values()} == names
    async with app.open_async():
        for name in names:
            await app.configure_task(name).defer_async(timestamp=0)
        await app.run_worker_async(wait=False, install_signal_handlers=False, delete_jobs="successful")
    assert await rows(office.url, "SELECT task_name, status FROM procrastinate.procrastinate_jobs") == []


async def test_what_a_killed_worker_had_begun_does_not_stay_in_the_queue(office: Office) -> None:
    app = jobs.build(Config(database_url=office.url), office.workers[0], office.checks, office.notices)
    async with app.open_async():
        for name in ("reap", "tidy"):
            await app.configure_task(name).defer_async(timestamp=0)
        running = await app.job_manager.register_worker()
        await change(
            office.url,
            "UPDATE procrastinate.procrastinate_jobs SET status = 'doing', worker_id = %s WHERE task_name = 'tidy'",
            running,
        )
        await change(
            office.url, "UPDATE procrastinate.procrastinate_jobs SET status = 'doing' WHERE task_name = 'reap'"
        )
        await asyncio.gather(jobs.sweep_queue(app), jobs.sweep_queue(app))
        left = "SELECT task_name FROM procrastinate.procrastinate_jobs"
        assert await rows(office.url, left) == [("tidy",)]
        await change(
            office.url, "UPDATE procrastinate.procrastinate_workers SET last_heartbeat = now() - interval '1 minute'"
        )
        await jobs.sweep_queue(app)
        assert await rows(office.url, left) == []

"""The proof of the ledger finds what is wrong, and only that."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any, LiteralString
from uuid import UUID

import pytest
from psycopg import AsyncConnection

from tests.conftest import Cluster, SeededTemplate
from tests.flows.cast import DONE, FAILED, SOMEBODY, TOKENS, Clock, add_key, answer, answered, ask, change, rows, settle
from tests.ledger import assert_ledger_holds
from tollhouse.core.ask import CapabilityWant, CreditsWant
from tollhouse.core.errors import TollhouseError
from tollhouse.core.price import Stated, Usage
from tollhouse.core.quota import Rule
from tollhouse.flows.govern import change_plan
from tollhouse.flows.once import Once
from tollhouse.flows.operation import Admit, CatchUp, Reap, Release, Settle
from tollhouse.flows.order import Order
from tollhouse.flows.seed import DEMO_ID
from tollhouse.flows.spend import Teller
from tollhouse.store import usage
from tollhouse.store.db import Database
from tollhouse.store.proof import examine, prove

ONCE = Once("/v1/chat/completions", "the key", b"the hash of the body")
CAPABILITY = "question_generation"


async def add_rule(
    url: str,
    scope: str,
    meter: str,
    maximum: int,
    model_id: str | None = None,
    period: str = "month",
    age_s: int = 3600,
) -> None:
    """A rule of the demo organisation's own, so many seconds old."""
    await change(
        url,
        """INSERT INTO usage_limit (organization_id, id, scope, meter, model_id, period, maximum, created_at)
           VALUES (%s, gen_random_uuid(), %s, %s, %s, %s, %s, now() - %s * interval '1 second')""",
        DEMO_ID, scope, meter, model_id, period, maximum, age_s,
    )  # fmt: skip


async def made(teller: Teller, admit: Admit, used: Usage | Stated | None = None) -> UUID:
    """A call or another use that was admitted and settled."""
    admitted: Any = await teller.do(admit)
    operation = settle(DEMO_ID, admitted.id, by=answered(admitted.admission.terms.model.id) if admit.endpoint else None)
    if used is not None:
        here = admit.endpoint is not None
        operation = Settle(DEMO_ID, admitted.id, used, DONE if here else None, operation.by if here else None)
    await teller.do(operation)
    id_: UUID = admitted.id
    return id_


async def talk(url: str, teller: Teller) -> None:
    """Somebody says something to an assistant whose tokens are limited."""
    ((assistant_id,),) = await rows(url, "SELECT id FROM assistant WHERE slug = 'marcus'")
    admit = ask(DEMO_ID, channel="chat")
    rule = Rule(assistant_id, "person", None, None, "tokens", "month", 1_000_000)
    admit.ask = replace(admit.ask, rules=(rule,))
    request_id = await made(teller, admit)
    await change(url, "INSERT INTO assistant_use VALUES (%s, %s, %s, %s, 'sandbox', NULL, now())",
                 DEMO_ID, request_id, SOMEBODY, assistant_id)  # fmt: skip


async def some_calls(url: str) -> None:
    """The demo organisation has rules of its own and a use of every kind: settled, on trial, released, settled late,
    stated in credits, of a capability, and still running, for an idempotency key. The day is rolled up."""
    clock = Clock()
    key_id = await add_key(url, DEMO_ID)
    await add_rule(url, "organization", "messages", 100)
    await add_rule(url, "person", "tokens", 100_000, model_id="sandbox", period="minute")
    await add_rule(url, "key", "messages", 50, period="week")
    await change(url, "UPDATE usage_limit SET subject_id = %s WHERE scope = 'key'", key_id)
    teller = Teller(url, "test", clock)
    await teller.open()
    for model_id in ("sandbox", "gpt-4o"):
        await made(teller, ask(DEMO_ID, model_id))
    await made(teller, ask(DEMO_ID, key_id=key_id))
    await made(teller, ask(DEMO_ID, subject_id=DEMO_ID))
    for used in (None, Usage(10, 10)):
        admitted: Any = await teller.do(ask(DEMO_ID))
        await teller.do(Release(DEMO_ID, admitted.id, FAILED))
        if used is not None:
            await teller.do(settle(DEMO_ID, admitted.id, used))
    for want in (CreditsWant(1_000), CapabilityWant(CAPABILITY)):
        for stated in (Stated(0), Stated(700), Stated(9_999_999)):
            await made(teller, Admit(DEMO_ID, ask(DEMO_ID, want=want, channel="capability").ask, None), stated)
    await made(teller, Admit(DEMO_ID, ask(DEMO_ID, want=CapabilityWant(CAPABILITY), channel="capability").ask, None),
               Usage(300, 30))  # fmt: skip
    await talk(url, teller)
    running = ask(DEMO_ID)
    running.once = ONCE
    await teller.do(running)
    await teller.close()
    await roll_up(url, clock)
    await change(
        url,
        "INSERT INTO notice VALUES (%s, 'low_balance', current_date, 1, 2, now())",
        DEMO_ID,
    )


async def roll_up(url: str, clock: Clock) -> None:
    """The day of now, as if it were over."""
    db = Database(url)
    await db.open()
    async with db.worker() as tx:
        assert await usage.roll_up(tx, clock().date(), clock())
    await db.close()


async def numbers(url: str) -> set[int]:
    async with await AsyncConnection.connect(url) as connection:
        return {failure.number for failure in await prove(connection)}


@pytest.fixture(scope="module")
def some_books(cluster: Cluster, seeded_template: SeededTemplate) -> Iterator[str]:
    """The owner's URL of a database with some calls, for tests that leave it as it is."""
    with cluster.database(seeded_template.name) as url:
        asyncio.run(some_calls(url))
        yield url


async def test_books_that_the_teller_kept_hold(some_books: str) -> None:
    await assert_ledger_holds(some_books)


@pytest.mark.parametrize(
    ("number", "damage"),
    [
        (1, "UPDATE credit_grant SET remaining_micros = remaining_micros - 1 WHERE source = 'welcome'"),
        (1, "UPDATE credit_grant SET active = false WHERE source = 'welcome'"),
        (2, "UPDATE credit_balance SET remaining_micros = remaining_micros + 1"),
        (2, "UPDATE credit_transaction SET balance_after_micros = balance_after_micros + 1 WHERE seq = 1"),
        (2, "DELETE FROM credit_transaction WHERE seq = 2"),
        (3, "UPDATE credit_grant SET reserved_micros = reserved_micros + 1 WHERE source = 'plan'"),
        (3, "UPDATE credit_balance SET overdraft_reserved_micros = 1"),
        (3, "UPDATE quota_window SET reserved = reserved + 1 WHERE meter = 'messages'"),
        (3, "DELETE FROM quota_window WHERE reserved > 0"),
        (4, "UPDATE credit_balance SET debt_micros = 5"),
        (5, "UPDATE reservation SET amount_micros = amount_micros + 1 WHERE state = 'released'"),
        (5, "UPDATE reservation SET charged_micros = charged_micros + 1 WHERE state = 'settled'"),
        (5, "UPDATE reservation SET state = 'released' WHERE state = 'settled'"),
        (5, "DELETE FROM usage_event WHERE trial"),
        (6, "UPDATE reservation SET expires_at = now() - interval '61 seconds' WHERE state = 'pending'"),
        (6, "UPDATE request SET state = 'done', finished_at = now() WHERE state = 'running'"),
        (7, "UPDATE attempt SET started_at = started_at - interval '1 second'"),
        (8, "UPDATE usage_event SET charged_micros = charged_micros + 1"),
        (8, "UPDATE usage_event SET cost_nanos = cost_nanos - 1 WHERE cost_nanos > 0"),
        (8, "UPDATE usage_event SET charged_micros = charged_micros + 1 WHERE price_version IS NULL"),
        (8, "UPDATE usage_event SET cost_nanos = 1 WHERE price_version IS NULL"),
        (8, "UPDATE usage_event SET price_version = 99 WHERE price_version IS NOT NULL"),
        (8, "UPDATE usage_event SET price_version = NULL WHERE cost_nanos > 0"),
        (8, "UPDATE usage_event SET rate_version = 99 WHERE rate_version IS NOT NULL"),
        (8, "UPDATE reservation SET charged = false WHERE model_id IS NULL"),
        (9, "UPDATE quota_window SET used = used + 1 WHERE meter = 'tokens'"),
        (9, "UPDATE quota_window SET used = used - 1 WHERE meter = 'trial_messages'"),
        (9, "UPDATE quota_window SET used = used + 1 WHERE meter = 'requests'"),
        (9, "UPDATE quota_window SET used = used + 1 WHERE limit_id IS NOT NULL AND meter = 'tokens'"),
        (9, "UPDATE quota_window SET used = used + 1 WHERE limit_id IS NOT NULL AND meter = 'messages'"),
        (9, "DELETE FROM quota_window WHERE limit_id IS NOT NULL AND used > 0 AND meter = 'tokens'"),
        (9, "UPDATE quota_window SET used = used + 1 WHERE limit_id IN (SELECT id FROM assistant)"),
        (9, "UPDATE quota_window SET limit_id = gen_random_uuid() WHERE limit_id IN (SELECT id FROM assistant)"),
        (9, "UPDATE quota_window SET subject_id = organization_id WHERE limit_id IN (SELECT id FROM assistant)"),
        (9, "UPDATE assistant_use SET assistant_id = gen_random_uuid()"),
        (9, "UPDATE usage_event SET channel = 'api' WHERE channel = 'chat'"),
        (9, "UPDATE usage_event SET capability = NULL WHERE capability IS NOT NULL"),
        (9, "UPDATE usage_event SET messages = 1 WHERE messages = 0 AND model_id IS NOT NULL"),
        (9, "UPDATE usage_event SET key_id = gen_random_uuid() WHERE key_id IS NOT NULL"),
        (9, "UPDATE usage_limit SET scope = 'organization' WHERE scope = 'person'"),
        (9, "UPDATE usage_limit SET subject_id = gen_random_uuid() WHERE scope = 'key'"),
        (9, "UPDATE usage_limit SET created_at = now() + interval '2 minutes' WHERE scope = 'key'"),
        (9, "UPDATE usage_limit SET ended_at = now() - interval '2 minutes' WHERE scope = 'person'"),
        (9, "UPDATE usage_limit SET period = 'day' WHERE scope = 'person'"),
        (9, "UPDATE usage_limit SET model_id = 'gpt-4o' WHERE scope = 'person'"),
        (
            9,
            """INSERT INTO usage_limit (organization_id, id, scope, meter, period, maximum, created_at)
               SELECT organization_id, gen_random_uuid(), 'organization', 'tokens', 'day', 1000000, created_at
               FROM usage_limit WHERE scope = 'key'""",
        ),
        (9, "UPDATE usage_limit SET maximum = 3 WHERE scope = 'organization'"),
        (9, "UPDATE usage_limit SET maximum = 0 WHERE scope = 'key'"),
        (9, "ALTER TABLE plan DISABLE TRIGGER touch; UPDATE plan SET daily_messages = 2 WHERE id = 'pro'"),
        (9, "ALTER TABLE plan DISABLE TRIGGER touch; UPDATE plan SET monthly_tokens = 2000 WHERE id = 'pro'"),
        (9, "ALTER TABLE model DISABLE TRIGGER touch; UPDATE model SET daily_messages = 1 WHERE id = 'sandbox'"),
        (9, "ALTER TABLE plan_capability DISABLE TRIGGER touch; UPDATE plan_capability SET requests_per_day = 3"),
        (10, "UPDATE usage_day SET requests = requests + 1"),
        (10, "UPDATE usage_day SET charged_micros = charged_micros - 1 WHERE model_id = 'gpt-4o'"),
        (10, "UPDATE usage_day SET trial_messages = 0 WHERE trial_messages > 0"),
        (10, "UPDATE usage_day SET capability = '' WHERE capability <> ''"),
        (10, "UPDATE usage_event SET reasoning_tokens = reasoning_tokens + 1 WHERE trial"),
        (10, "UPDATE usage_event SET estimated = true WHERE trial"),
        (10, "DELETE FROM usage_day WHERE model_id = ''"),
        (10, "DELETE FROM usage_day_done"),
        (10, "UPDATE usage_day_done SET day = day - 1"),
        (11, "UPDATE idempotency SET reservation_id = gen_random_uuid()"),
        (11, "DELETE FROM reservation WHERE state = 'pending'"),
        (
            11,
            """WITH r AS (UPDATE reservation SET closed_at = now() - interval '61 seconds' WHERE state = 'released'
                          RETURNING id)
               UPDATE idempotency SET reservation_id = r.id FROM r""",
        ),
        (
            13,
            """INSERT INTO credit_grant (organization_id, id, source, priority, paid, amount_micros, remaining_micros,
                   active, effective_at, expires_at, period_start, created_at)
               SELECT organization_id, gen_random_uuid(), 'plan', 10, false, 1, 1, false, effective_at, expires_at,
                   period_start + interval '1 day', created_at FROM credit_grant WHERE source = 'plan'""",
        ),
        (13, "UPDATE credit_balance SET period_seq = 1 WHERE seq > 0"),
        (13, "UPDATE credit_balance SET period_start = period_start - interval '1 day'"),
        (13, "UPDATE credit_balance SET period_end = period_end + interval '1 day'"),
        (14, "UPDATE quota_window SET used = 3 WHERE meter = 'trial_messages'"),
        (15, "UPDATE credit_transaction SET grant_id = gen_random_uuid() WHERE seq = 1"),
        (15, "DELETE FROM request"),
        (15, "UPDATE notice SET organization_id = gen_random_uuid()"),
        (15, "UPDATE usage_day SET organization_id = gen_random_uuid()"),
        (15, "UPDATE quota_window SET organization_id = gen_random_uuid()"),
        (15, "UPDATE idempotency SET organization_id = gen_random_uuid()"),
        (15, "INSERT INTO request_rate VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '[]')"),
        (
            16,
            """INSERT INTO audit (organization_id, seq, at, actor, action, object_type, object_id, details,
                   previous_hash, hash)
               SELECT id, 1, now(), 'system', 'x', 'y', 'z', '{}', '', '' FROM organization WHERE kind = 'team'""",
        ),
    ],
)
async def test_a_damage_is_found(some_books: str, number: int, damage: LiteralString) -> None:
    """The damage is undone in the end, so that all may have the same books."""
    async with await AsyncConnection.connect(some_books) as connection:
        cursor = await connection.execute(damage)
        while cursor.nextset():
            pass
        assert cursor.rowcount > 0
        assert number in {failure.number for failure in await examine(connection)}
        await connection.rollback()


async def test_a_change_of_what_is_append_only_is_found(database_url: str) -> None:
    await some_calls(database_url)
    async with await AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute("UPDATE credit_transaction SET note = 'nicer' WHERE seq = 1")
        await connection.execute("SELECT pg_stat_force_next_flush()")  # the server counts updates with a delay
    assert await numbers(database_url) == {17}


@pytest.mark.parametrize(
    "damage",
    [
        "ALTER TABLE reservation NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE usage_event_default DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON quota_window; DROP POLICY owner ON quota_window; "
        "DROP POLICY teller ON quota_window; DROP POLICY operator ON quota_window",
        "ALTER FUNCTION find_api_key RESET search_path",
        "CREATE VIEW everything AS SELECT * FROM reservation",
        "CREATE TABLE stray (organization_id uuid)",
    ],
)
async def test_a_table_or_function_that_is_not_fenced_is_found(database_url: str, damage: LiteralString) -> None:
    async with await AsyncConnection.connect(database_url) as connection:
        await connection.execute(damage)
    assert await numbers(database_url) == {18}


# ------------------------------------------------------------------------------------------ what looks wrong and is not


@pytest.fixture
async def teller(database_url: str, clock: Clock) -> AsyncIterator[Teller]:
    """The ledger must hold when the test is over."""
    made = Teller(database_url, "test", clock)
    await made.open()
    yield made
    await made.close()
    await assert_ledger_holds(database_url)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE model SET trial_messages = 0",
        "UPDATE model SET daily_messages = 1",
        "UPDATE plan SET daily_messages = 1, monthly_tokens = 1",
        "UPDATE plan_capability SET requests_per_day = 1",
        "DELETE FROM plan_capability",
    ],
)
async def test_what_was_allowed_when_it_was_done_is_no_damage(some_books: str, statement: LiteralString) -> None:
    async with await AsyncConnection.connect(some_books) as connection:
        await connection.execute(statement)
        assert [one.statement for one in await examine(connection) if one.number in (9, 14)] == []
        await connection.rollback()


async def test_what_was_allowed_by_a_plan_that_the_organisation_had_before_is_no_damage(
    teller: Teller, database_url: str, clock: Clock
) -> None:
    for _ in range(3):
        await made(teller, ask(DEMO_ID))
    db = Database(database_url)
    await db.open()
    order = Order("key:somebody", clock())
    await change_plan(db, order, DEMO_ID, "free")
    clock.move(days=31)
    await teller.do(CatchUp(DEMO_ID))
    await db.close()
    async with await AsyncConnection.connect(database_url) as connection:
        await connection.execute("ALTER TABLE plan DISABLE TRIGGER touch")
    await change(database_url, "UPDATE plan SET daily_messages = 2 WHERE id = 'free'")
    assert await rows(database_url, "SELECT plan_id FROM organization WHERE id = %s", DEMO_ID) == [("free",)]
    assert 9 not in await numbers(database_url)
    await change(database_url, "UPDATE plan SET daily_messages = 2 WHERE id = 'pro'")
    assert 9 in await numbers(database_url)
    await change(database_url, "UPDATE plan SET daily_messages = NULL WHERE id = 'pro'")


async def test_a_limit_that_was_lowered_while_the_organisations_clock_was_ahead_is_no_damage(
    teller: Teller, database_url: str
) -> None:
    await change(database_url, "UPDATE organization SET clock_offset_micros = 86400000000 WHERE id = %s", DEMO_ID)
    for _ in range(2):
        await made(teller, ask(DEMO_ID, "gpt-4o"))
    await change(database_url, "UPDATE model SET daily_messages = 1, trial_messages = 1 WHERE tier = 'premium'")
    await change(database_url, "UPDATE plan SET daily_messages = 1")


async def test_a_rule_may_be_passed_by_a_settlement_above_its_reservation(teller: Teller, database_url: str) -> None:
    await add_rule(database_url, "person", "tokens", TOKENS)
    await made(teller, ask(DEMO_ID), Usage(1_000, 5_000))
    assert isinstance(await answer(teller, ask(DEMO_ID)), TollhouseError)
    assert await rows(database_url, "SELECT used FROM quota_window WHERE limit_id IS NOT NULL") == [(6_000,)]
    await assert_ledger_holds(database_url)
    await change(database_url, "UPDATE quota_window SET reserved = 1 WHERE limit_id IS NOT NULL")
    assert await numbers(database_url) == {3, 9}
    await change(database_url, "UPDATE quota_window SET reserved = 0 WHERE limit_id IS NOT NULL")


async def test_a_rule_may_be_passed_by_a_call_that_was_given_back_and_ran_after_all(
    teller: Teller, database_url: str
) -> None:
    await add_rule(database_url, "organization", "messages", 1, period="day")
    first: Any = await teller.do(ask(DEMO_ID))
    await teller.do(Release(DEMO_ID, first.id, FAILED))
    await made(teller, ask(DEMO_ID))
    await teller.do(settle(DEMO_ID, first.id))
    assert await rows(database_url, "SELECT used FROM quota_window WHERE limit_id IS NOT NULL") == [(2,)]


async def test_a_rule_counts_from_its_begin_to_its_end(teller: Teller, database_url: str, clock: Clock) -> None:
    await made(teller, ask(DEMO_ID))
    await add_rule(database_url, "organization", "messages", 10, age_s=0)
    await made(teller, ask(DEMO_ID))
    clock.move(minutes=5)
    await made(teller, ask(DEMO_ID))
    clock.move(minutes=5)
    await change(database_url, "UPDATE usage_limit SET ended_at = %s", clock())
    await made(teller, ask(DEMO_ID))
    clock.move(minutes=5)
    await made(teller, ask(DEMO_ID))
    assert await rows(database_url, "SELECT used FROM quota_window WHERE limit_id IS NOT NULL") == [(2,)]


async def test_a_rule_binds_whom_and_what_it_names_and_nothing_else(teller: Teller, database_url: str) -> None:
    for scope in ("person", "key"):
        await add_rule(database_url, scope, "messages", 10)
        await add_rule(database_url, scope, "tokens", 100_000, model_id="gpt-4o", period="lifetime")
    await add_rule(database_url, "organization", "tokens", 100_000, model_id="sandbox", period="minute")
    await add_rule(database_url, "organization", "messages", 10, period="minute")
    await change(database_url, "UPDATE usage_limit SET subject_id = %s WHERE scope = 'person'", SOMEBODY)
    key_id = await add_key(database_url, DEMO_ID)
    for about in ({}, {"subject_id": DEMO_ID}, {"subject_id": UUID(int=78)}, {"key_id": key_id}):
        await made(teller, ask(DEMO_ID, **about))  # type: ignore[arg-type]  # ids only
    await made(teller, ask(DEMO_ID, "gpt-4o", key_id=key_id))
    for channel, want in (("capability", CapabilityWant(CAPABILITY)), ("api", CreditsWant(5))):
        await made(teller, Admit(DEMO_ID, ask(DEMO_ID, want=want, channel=channel).ask, None), Stated(4))


async def test_a_call_whose_process_was_lost_may_stay_without_its_answer(
    teller: Teller, database_url: str, clock: Clock
) -> None:
    """The caller is told so, and the key is forgotten after a day."""
    running = ask(DEMO_ID)
    running.once = ONCE
    admitted: Any = await teller.do(running)
    await change(database_url, "UPDATE organization SET clock_offset_micros = 180000000 WHERE id = %s", DEMO_ID)
    assert await teller.do(Reap(DEMO_ID, admitted.id)) is True
    await change(database_url, "UPDATE organization SET clock_offset_micros = 900000000 WHERE id = %s", DEMO_ID)
    assert await rows(database_url, "SELECT status FROM idempotency") == [(None,)]


async def test_a_trial_message_that_was_given_back_and_used_after_all_is_no_damage(teller: Teller) -> None:
    first: Any = await teller.do(ask(DEMO_ID, "gpt-4o"))
    await teller.do(Release(DEMO_ID, first.id, FAILED))
    for _ in range(2):
        await made(teller, ask(DEMO_ID, "gpt-4o"))
    await teller.do(settle(DEMO_ID, first.id, by=answered("gpt-4o")))


async def test_charges_are_proved_to_the_last_digit(database_url: str) -> None:
    """At this price a token costs a whole number of micro-credits and a quadrillionth: rounded up, one more."""
    rate = 100_000_001
    price = pow(rate, -1, 10**15)
    await change(database_url, "UPDATE rate_card SET micros_per_usd = %s", rate)
    await change(
        database_url,
        """INSERT INTO model_price (model_id, version, effective_from, input_nanos_per_million,
               cached_input_nanos_per_million, output_nanos_per_million)
           VALUES ('sandbox', 2, now() - interval '1 minute', %s, 0, 0)""",
        price,
    )
    teller = Teller(database_url, "test", Clock())
    await teller.open()
    admitted = await teller.admit(ask(DEMO_ID, input_tokens=1))
    settled = await teller.do(settle(DEMO_ID, admitted.id, Usage(1, 0)))
    await teller.close()
    assert settled.charged_micros == price * rate // 10**15 + 1
    await assert_ledger_holds(database_url)

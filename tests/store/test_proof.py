"""The proof of the ledger finds what is wrong, and only that."""

from typing import LiteralString

import pytest
from psycopg import AsyncConnection

from tests.flows.cast import FAILED, Clock, ask, change, settle
from tests.ledger import assert_ledger_holds
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Release
from tollhouse.flows.seed import DEMO_ID
from tollhouse.flows.spend import Teller
from tollhouse.store.proof import prove


async def some_calls(url: str) -> None:
    """The demo organisation has a call of every kind: settled, on trial, released, settled late, and still running."""
    teller = Teller(url, "test", Clock())
    await teller.open()
    for model_id in ("sandbox", "gpt-4o"):
        admitted = await teller.admit(ask(DEMO_ID, model_id))
        await teller.settle(settle(DEMO_ID, admitted.id))
    for usage in (None, Usage(10, 10)):
        admitted = await teller.admit(ask(DEMO_ID))
        await teller.do(Release(DEMO_ID, admitted.id, FAILED))
        if usage is not None:
            await teller.settle(settle(DEMO_ID, admitted.id, usage))
    await teller.admit(ask(DEMO_ID))
    await teller.close()


async def numbers(url: str) -> set[int]:
    async with await AsyncConnection.connect(url) as connection:
        return {failure.number for failure in await prove(connection)}


async def test_books_that_the_teller_kept_hold(database_url: str) -> None:
    await some_calls(database_url)
    await assert_ledger_holds(database_url)


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
        (9, "UPDATE quota_window SET used = used + 1 WHERE meter = 'tokens'"),
        (9, "UPDATE quota_window SET used = used - 1 WHERE meter = 'trial_messages'"),
        (
            13,
            """INSERT INTO credit_grant (organization_id, id, source, priority, paid, amount_micros, remaining_micros,
                   active, effective_at, expires_at, period_start, created_at)
               SELECT organization_id, gen_random_uuid(), 'plan', 10, false, 1, 1, false, effective_at, expires_at,
                   period_start + interval '1 day', created_at FROM credit_grant WHERE source = 'plan'""",
        ),
        (14, "UPDATE quota_window SET used = 3 WHERE meter = 'trial_messages'"),
        (15, "UPDATE credit_transaction SET grant_id = gen_random_uuid() WHERE seq = 1"),
        (15, "DELETE FROM request"),
        (
            16,
            """INSERT INTO audit (organization_id, seq, at, actor, action, object_type, object_id, details,
                   previous_hash, hash)
               SELECT id, 1, now(), 'system', 'x', 'y', 'z', '{}', '', '' FROM organization WHERE kind = 'team'""",
        ),
        (17, "UPDATE credit_transaction SET note = 'nicer' WHERE seq = 1"),
    ],
)
async def test_a_damage_is_found(database_url: str, number: int, damage: LiteralString) -> None:
    await some_calls(database_url)
    async with await AsyncConnection.connect(database_url) as connection:
        assert (await connection.execute(damage)).rowcount > 0
        await connection.commit()
        await connection.execute("SELECT pg_stat_force_next_flush()")  # the server counts updates with a delay
    assert number in await numbers(database_url)


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


async def test_trials_that_were_allowed_when_they_were_made_are_no_damage(database_url: str) -> None:
    await some_calls(database_url)
    await change(database_url, "UPDATE model SET trial_messages = 0 WHERE id = 'gpt-4o'")
    await assert_ledger_holds(database_url)


async def test_a_trial_message_that_was_given_back_and_used_after_all_is_no_damage(database_url: str) -> None:
    teller = Teller(database_url, "test", Clock())
    await teller.open()
    first = await teller.admit(ask(DEMO_ID, "gpt-4o"))
    await teller.do(Release(DEMO_ID, first.id, FAILED))
    for _ in range(2):
        admitted = await teller.admit(ask(DEMO_ID, "gpt-4o"))
        await teller.settle(settle(DEMO_ID, admitted.id))
    await teller.settle(settle(DEMO_ID, first.id))
    await teller.close()
    await assert_ledger_holds(database_url)


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
    settled = await teller.settle(settle(DEMO_ID, admitted.id, Usage(1, 0)))
    await teller.close()
    assert settled.charged_micros == price * rate // 10**15 + 1
    await assert_ledger_holds(database_url)

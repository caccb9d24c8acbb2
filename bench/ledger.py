"""``python -m bench.ledger``: how many reserve-and-settle pairs one process and its PostgreSQL keep books of.

One teller, no HTTP; 64 callers, each reserving for a model call with every rule on and settling it by usage. Prints
pairs per second, what a pair costs in CPU, and how long a reservation takes; then what the decision alone costs.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import psycopg
import uvloop

from bench import cost
from tollhouse import migrations
from tollhouse.app import spare_the_collector
from tollhouse.core.admission import decide
from tollhouse.core.ask import Ask, CallWant, Facts, Size
from tollhouse.core.credit import Account, Balance
from tollhouse.core.fund import new_grant
from tollhouse.core.key import ordered_id
from tollhouse.core.limits import takes_of
from tollhouse.core.price import Usage
from tollhouse.core.quota import Windows
from tollhouse.core.rate import Rates
from tollhouse.core.vault import Keyring
from tollhouse.embedded import EmbeddedPostgres
from tollhouse.flows.connection import Policy
from tollhouse.flows.operation import Admit, Admitted, Settle
from tollhouse.flows.seed import SeedInput, seed
from tollhouse.flows.spend import Teller
from tollhouse.store import catalogue
from tollhouse.store.proof import prove

MODEL = "gpt-4o-mini"
WANT = CallWant(MODEL, Size(1_200, 100))
USED = Usage(800, 60)
GRANT_MICROS = 10**14
GOALS = {"pairs_per_second": 8_000.0, "reserve_p50_ms": 3.0, "reserve_p99_ms": 10.0, "decision_p95_us": 100.0}


@dataclass(frozen=True, slots=True)
class Setup:
    """So many organisations with so many grants each, and so many callers at once."""

    name: str
    organizations: int
    callers: int = 64
    grants: int = 1


SETUPS = (
    Setup("1,000 organisations", 1_000),
    Setup("one organisation", 1),
    Setup("one with 10 grants", 1, grants=10),
    Setup("one with 100,000 grants", 1, grants=100_000),
)


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        os.chmod(name, 0o755)  # noqa: S103 - the embedded PostgreSQL of root runs as another user
        postgres = EmbeddedPostgres(Path(name) / "data")
        try:
            url = postgres.start()
            assert postgres.process is not None
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(_measure(url, postgres.process.pid, options))
        finally:
            postgres.stop()
    print(json.dumps(found))
    return 0 if not found["ledger_failures"] else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="whose medians are shown (default 3)")
    parser.add_argument("--only", help="only setups whose name holds this")
    return parser.parse_args()


async def _measure(url: str, database_pid: int, options: argparse.Namespace) -> dict[str, Any]:
    migrations.upgrade(url)
    now = datetime.now(UTC)
    await seed(url, SeedInput(Policy(Keyring(b"x" * 48), "test"), None, ()), now)
    found: dict[str, Any] = {}
    teller = Teller(url, "test", lambda: datetime.now(UTC))
    await teller.open()
    setups = [one for one in SETUPS if not options.only or options.only in one.name]
    ids = {setup.name: await _fill(url, setup, now) for setup in setups}
    spare_the_collector()  # as the web process does
    runs: dict[str, list[dict[str, float]]] = {setup.name: [] for setup in setups}
    for setup in setups:
        await _run(teller, ids[setup.name], setup.callers, 0.5, database_pid)  # prepared statements, caches
    for _ in range(options.rounds):
        for setup in setups:
            runs[setup.name].append(await _run(teller, ids[setup.name], setup.callers, options.seconds, database_pid))
    await teller.close()
    for setup in setups:
        row = {name: median(run[name] for run in runs[setup.name]) for name in runs[setup.name][0]}
        found[setup.name] = row
        print(f"{setup.name:26}" + "".join(f"{name} {value:9.1f}  " for name, value in row.items()), file=sys.stderr)
    found["decision"] = await _decision(url, now)
    print("decision in memory", found["decision"], file=sys.stderr)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        failures = await prove(connection)
    found["ledger_failures"] = [failure.statement for failure in failures]
    return found


async def _fill(url: str, setup: Setup, now: datetime) -> list[UUID]:
    """Organisations on the plan without limits of tokens and messages, with grants written in one go."""
    ids = [ordered_id(now, os.urandom(10)) for _ in range(setup.organizations)]
    end, each = now + timedelta(days=30), GRANT_MICROS // setup.grants
    async with await psycopg.AsyncConnection.connect(url) as connection:
        for id_ in ids:
            await connection.execute(
                """INSERT INTO organization (id, name, kind, plan_id, period_anchor, created_at)
                   VALUES (%s, 'Bench', 'team', 'enterprise', %s, %s)""",
                (id_, now, now),
            )
            await connection.execute(
                """INSERT INTO credit_balance (organization_id, remaining_micros, seq, period_start, period_end,
                       next_due_at)
                   VALUES (%s, %s, %s, %s, %s, %s)""",
                (id_, each * setup.grants, setup.grants, now, end, end),
            )
            await connection.execute(
                """WITH made AS (
                       INSERT INTO credit_grant (organization_id, id, source, priority, paid, amount_micros,
                           remaining_micros, active, effective_at, created_at)
                       SELECT %(id)s, gen_random_uuid(), 'topup', 30, true, %(each)s, %(each)s, true, %(now)s, %(now)s
                       FROM generate_series(1, %(count)s) RETURNING id)
                   INSERT INTO credit_transaction (organization_id, seq, id, type, amount_micros, balance_after_micros,
                       grant_id, actor, created_at)
                   SELECT %(id)s, n, gen_random_uuid(), 'topup_purchase', %(each)s, n * %(each)s, id, 'bench', %(now)s
                   FROM (SELECT id, row_number() OVER () AS n FROM made) AS numbered""",
                {"id": id_, "each": each, "count": setup.grants, "now": now},
            )
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("VACUUM (ANALYZE) credit_grant, credit_balance, organization")
    return ids


async def _run(teller: Teller, ids: list[UUID], callers: int, seconds: float, database_pid: int) -> dict[str, float]:
    waits: list[float] = []
    pairs = 0
    until = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        nonlocal pairs
        turn = number * 7_919
        while time.perf_counter() < until:
            id_ = ids[turn % len(ids)]
            turn += callers
            ask = Ask(id_, None, id_, "api", WANT)
            begin = time.perf_counter()
            admitted = await teller.do(Admit(id_, ask, None))
            waits.append(time.perf_counter() - begin)
            assert isinstance(admitted, Admitted)
            await teller.do(Settle(id_, admitted.id, USED, None, None))
            pairs += 1

    cpu, database_cpu, begin = time.process_time(), cost.cpu_seconds(database_pid), time.perf_counter()
    await asyncio.gather(*map(caller, range(callers)))
    took = time.perf_counter() - begin
    waits.sort()
    return {
        "pairs_per_second": pairs / took,
        "cpu_us": (time.process_time() - cpu) / pairs * 1e6,
        "database_cpu_us": (cost.cpu_seconds(database_pid) - database_cpu) / pairs * 1e6,
        "reserve_p50_ms": waits[len(waits) // 2] * 1e3,
        "reserve_p99_ms": waits[len(waits) * 99 // 100] * 1e3,
    }


async def _decision(url: str, now: datetime) -> dict[str, float]:
    """Microseconds of one decision with its facts in memory: limits found, checked and taken, credits reserved."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        known = await catalogue.load(connection)
    id_, plan = UUID(int=5), known.plans["pro"]
    balance = Balance(id_, 0, 0, 0, 0, 0, 0, 0, now, now + timedelta(days=30), next_due_at=now + timedelta(days=30))
    ask, facts = Ask(id_, None, id_, "api", WANT), Facts(now, plan, False, None, frozenset(), known, "test")
    account = Account(balance, {})
    account.add(new_grant(UUID(int=6), "topup", GRANT_MICROS, now), now, "bench")
    taken: list[float] = []

    def one(books: Account, windows: Windows, rates: Rates) -> None:
        decide(ask, facts, takes_of(ask, facts), books, windows, rates)

    timed: Callable[..., None] = one
    for _ in range(5_000):
        books, windows, rates = deepcopy(account), Windows(), Rates()
        begin = time.perf_counter()
        timed(books, windows, rates)
        taken.append((time.perf_counter() - begin) * 1e6)
    taken.sort()
    return {"p50_us": round(taken[len(taken) // 2], 1), "p95_us": round(taken[len(taken) * 95 // 100], 1)}


if __name__ == "__main__":
    sys.exit(main())

"""Background jobs, kept in PostgreSQL by procrastinate. Each may run twice at once, crash anywhere or be days late:
what it does is decided again under the organisation's lock, so the result is the same."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import psycopg
import structlog
from procrastinate import App, PsycopgConnector

from tollhouse.config import Config
from tollhouse.flows.operation import CatchUp, Reap
from tollhouse.flows.spend import Teller
from tollhouse.store import call, idempotency, organization, proof, usage
from tollhouse.store.db import Database, role_conninfo

AT_ONCE = 500
PARTITIONS_AHEAD = timedelta(days=92)
ANSWERS_KEPT = timedelta(hours=24)

log = structlog.get_logger()


class Jobs:
    """What the jobs share in a worker process."""

    def __init__(self, url: str, db: Database, teller: Teller, clock: Callable[[], datetime]) -> None:
        self._url = url
        self._db = db
        self._teller = teller
        self._clock = clock

    async def reap(self, timestamp: int) -> None:
        """Closes the reservations of calls whose process is gone, or whose host application never came back."""
        while True:
            async with self._db.worker() as tx:
                found = await call.overdue(tx, self._clock(), AT_ONCE)
            closed = await asyncio.gather(*(self._teller.do(Reap(*key)) for key in found))
            if any(closed):
                log.info("reaped reservations", closed=sum(map(bool, closed)))
            if len(found) < AT_ONCE or not any(closed):
                return

    async def catch_up(self, timestamp: int) -> None:
        """Period ends, expiries and scheduled grants of organisations that nobody asks for at the moment."""
        while True:
            async with self._db.worker() as tx:
                due = await organization.due(tx, self._clock(), AT_ONCE)
            await asyncio.gather(*(self._teller.do(CatchUp(id_)) for id_ in due))
            if len(due) < AT_ONCE:
                return

    async def tidy(self, timestamp: int) -> None:
        """Partitions for the months to come; stored answers of idempotent calls are kept for a day."""
        now = self._clock()
        async with self._db.worker() as tx:
            await usage.create_partitions(tx, now, now + PARTITIONS_AHEAD)
            await idempotency.forget(tx, now - ANSWERS_KEPT)

    async def prove(self, timestamp: int) -> None:
        """The nightly proof of the ledger: differences are reported, never repaired."""
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            for failure in await proof.prove(connection):
                log.error(
                    "the ledger does not hold", invariant=failure.number, statement=failure.statement, rows=failure.rows
                )


def build(config: Config, jobs: Jobs) -> App:
    """The queue with its periodic jobs. The last of six cron fields is the second."""
    assert config.database_url is not None
    conninfo = role_conninfo(config.database_url, "tollhouse_worker")
    app = App(connector=PsycopgConnector(conninfo=conninfo, kwargs={}, configure=_configure, min_size=1, max_size=4))
    for name, cron, run in (
        ("reap", "* * * * * */15", jobs.reap),
        ("catch_up", "* * * * *", jobs.catch_up),
        ("tidy", "17 * * * *", jobs.tidy),
        ("prove", "40 3 * * *", jobs.prove),
    ):
        app.periodic(cron=cron)(app.task(name=name, queueing_lock=name, pass_context=False)(run))
    return app


async def _configure(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
    """procrastinate's tables live in a schema of their own."""
    await connection.execute("SET search_path TO procrastinate, public")
    await connection.commit()


async def run(config: Config, clock: Callable[[], datetime]) -> None:
    """Works until SIGTERM or SIGINT; the job at hand has 5 s to finish, and is safe to cut."""
    assert config.database_url is not None
    db = Database(config.database_url)
    teller = Teller(config.database_url, config.mode, clock)
    await db.open()
    await teller.open()
    app = build(config, Jobs(config.database_url, db, teller, clock))
    try:
        async with app.open_async():
            await app.run_worker_async(concurrency=4, delete_jobs="successful", shutdown_graceful_timeout=5)
    finally:
        await teller.close()
        await db.close()

"""Background jobs, kept in PostgreSQL by procrastinate. Each may run twice at once, crash anywhere or be days late:
what it does is decided again under the organisation's lock, so the result is the same."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

import psycopg
import structlog
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status

from tollhouse.config import Config
from tollhouse.flows import mail, notice
from tollhouse.flows.connection import Policy, check
from tollhouse.flows.erasure import erase
from tollhouse.flows.export import export
from tollhouse.flows.govern import prove_ledger
from tollhouse.flows.operation import AnyOperation, CatchUp, Reap
from tollhouse.flows.order import Order
from tollhouse.flows.site import Site
from tollhouse.flows.spend import Teller
from tollhouse.flows.writing import INTERRUPTED, SILENT
from tollhouse.outside.mail import MailServer
from tollhouse.store import (
    call,
    connection,
    content,
    conversation,
    idempotency,
    kept_answer,
    message,
    organization,
    privacy,
    retention,
    throttle,
    usage,
)
from tollhouse.store.connection import Checked, Endpoint
from tollhouse.store.db import Database, role_conninfo

AT_ONCE = 500
# Period ends are booked one after another, 1 ms each, and until the last is committed all of a batch wait: so few.
PERIODS_AT_ONCE = 20
PARTITIONS_AHEAD = timedelta(days=92)
ANSWERS_KEPT = timedelta(hours=24)
# Sessions, links and invitations that have ended: for so long it can still be seen that they were there.
ENDED_KEPT = timedelta(days=30)
# Checks wait for other companies' servers, 10 s at most: so many wait at once, and after so long no more are begun.
CHECKS_AT_ONCE = 50
CHECKS_BEGIN_WITHIN = timedelta(seconds=45)
FAILURES_KEPT_H = 24 * 7

log = structlog.get_logger()
Found = TypeVar("Found")


class Jobs:
    """What the jobs share in a worker process."""

    def __init__(self, db: Database, teller: Teller, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._teller = teller
        self._clock = clock

    async def reap(self, timestamp: int) -> None:
        """Closes the reservations of calls whose process is gone, or whose host application never came back."""

        async def find(limit: int) -> list[tuple[UUID, UUID]]:
            async with self._db.worker() as tx:
                return await call.overdue(tx, self._clock(), limit)

        closed = await self._each(find, lambda key: Reap(*key), AT_ONCE)
        if any(closed):
            log.info("reaped reservations", closed=sum(map(bool, closed)))

    async def catch_up(self, timestamp: int) -> None:
        """Period ends, expiries and scheduled grants of organisations that nobody asks for at the moment."""

        async def find(limit: int) -> list[UUID]:
            async with self._db.worker() as tx:
                return await organization.due(tx, self._clock(), limit)

        await self._each(find, CatchUp, PERIODS_AT_ONCE)

    async def _each(
        self, find: Callable[[int], Awaitable[list[Found]]], make: Callable[[Found], AnyOperation], together: int
    ) -> list[object]:
        """Has the teller do what is found, until nothing else is found, and gives its answers. One that fails keeps
        nobody else from their turn; the first failure is raised in the end."""
        tried: set[Found] = set()
        answers: list[object] = []
        while fresh := [one for one in await find(AT_ONCE + len(tried)) if one not in tried]:
            tried.update(fresh)
            for start in range(0, len(fresh), together):
                batch = [self._teller.do(make(one)) for one in fresh[start : start + together]]
                answers += await asyncio.gather(*batch, return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        if failures:
            log.error("some could not be served", failed=len(failures), of=len(answers))
            raise failures[0]
        return answers

    async def tidy(self, timestamp: int) -> None:
        """Stored answers of idempotent calls are kept for a day, answers to be given again, prompts and answers, and
        chats for as long as their organisation chose, exports for seven days, sessions and links that ended for thirty,
        mail and throttles as long as they say something; partitions for the months to come."""
        now = self._clock()
        async with self._db.worker() as tx:
            await idempotency.forget(tx, now - ANSWERS_KEPT)
        async with self._db.worker() as tx:
            await kept_answer.forget_expired(tx, now)
        async with self._db.worker() as tx:
            await content.forget_outlived(tx, now)
        async with self._db.worker() as tx:
            await conversation.delete_outlived(tx, now)
        async with self._db.worker() as tx:
            await privacy.forget_results(tx, now)
        async with self._db.worker() as tx:
            await retention.forget_ended(tx, now - ENDED_KEPT)
        async with self._db.worker() as tx:
            await throttle.forget_whole(tx, now)
        await mail.tidy(self._db, now)
        async with self._db.worker() as tx:
            await usage.create_partitions(tx, now, now + PARTITIONS_AHEAD)

    async def finish_answers(self, timestamp: int) -> None:
        """Answers in chats on which nobody writes any more: their process is gone. What they cost is the reaper's."""
        async with self._db.worker() as tx:
            finished = await message.abandon_all(tx, self._clock() - SILENT, INTERRUPTED)
        if finished:
            log.info("finished answers on which nobody wrote any more", finished=finished)

    async def do_privacy_tasks(self, timestamp: int) -> None:
        """Exports and erasures that were ordered. One that breaks keeps no other from its turn; the first failure is
        raised in the end, and all are tried again in a minute."""
        async with self._db.worker() as tx:
            ordered = await privacy.unfinished(tx)
        failures: list[Exception] = []
        for kind, organization_id, task_id in ordered:
            try:
                await (export if kind == "export" else erase)(self._db, self._clock, organization_id, task_id)
            except Exception as error:
                log.error("a privacy task was not done", task=str(task_id), error=repr(error))
                failures.append(error)
        if failures:
            raise failures[0]

    async def roll_up(self, timestamp: int) -> None:
        """Usage by day, of the days that are over. Each day is a transaction: cut short, it goes on where it was."""
        async with self._db.worker() as tx:
            days = await usage.days_to_roll_up(tx, self._clock())
        for day in days:
            async with self._db.worker() as tx:
                if not await usage.roll_up(tx, day, self._clock()):
                    return

    async def prove(self, timestamp: int) -> None:
        """The nightly proof of the ledger: differences are reported, never repaired."""
        for failure in await prove_ledger(self._db, Order("system", self._clock())):
            log.error(
                "the ledger does not hold", invariant=failure.number, statement=failure.statement, rows=failure.rows
            )


class Checks:
    """Asks the providers that are connected whether they answer. Nothing is switched off by what is found."""

    def __init__(self, db: Database, policy: Policy, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._policy = policy
        self._clock = clock

    async def check_connections(self, timestamp: int) -> None:
        """Each enabled connection once in a minute of the clock, however many workers ask; those that the minute was
        too short for come first in the next. One whose check breaks keeps nobody else from theirs."""
        began = self._clock()
        this_minute = began.replace(second=0, microsecond=0)
        failures: list[BaseException] = []
        while (now := self._clock()) < began + CHECKS_BEGIN_WITHIN:
            async with self._db.worker() as tx:
                claimed = await connection.claim(tx, now, this_minute, CHECKS_AT_ONCE)
            if not claimed:
                break
            found = await asyncio.gather(*map(self._check, claimed), return_exceptions=True)
            failures += [one for one in found if isinstance(one, BaseException)]
            async with self._db.worker() as tx:
                await connection.write_checked(tx, [one for one in found if isinstance(one, Checked)])
        if failures:
            raise failures[0]

    async def _check(self, endpoint: Endpoint) -> Checked:
        tried = await check(endpoint, self._policy)
        error = None if tried.ok else tried.message
        return Checked(endpoint.organization_id, endpoint.id, self._clock(), error, tried.duration_ms)


class Notices:
    """Writes to those who see to an organisation's credits."""

    def __init__(self, db: Database, site: Site, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._site = site
        self._clock = clock

    async def mail_notices(self, timestamp: int) -> None:
        await notice.write_mail(self._db, self._site, self._clock())


class Post:
    """Hands in at the mail server what was written."""

    def __init__(self, db: Database, server: MailServer, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._server = server
        self._clock = clock

    async def send_mail(self, timestamp: int) -> None:
        await mail.send_due(self._db, self._server, self._clock)


def build(config: Config, jobs: Jobs, checks: Checks, notices: Notices, post: Post | None = None) -> App:
    """The queue with its periodic jobs. The last of six cron fields is the second. Without `post` mail stays where it
    is."""
    assert config.database_url is not None
    conninfo = role_conninfo(config.database_url, "tollhouse_worker")
    # A worker that is told to stop while the database is away says good-bye to nobody: it waits no longer than this.
    connector = PsycopgConnector(conninfo=conninfo, kwargs={}, configure=_configure, min_size=1, max_size=4, timeout=3)
    app = App(connector=connector)
    for name, cron, run in (
        ("reap", "* * * * * */15", jobs.reap),
        ("catch_up", "* * * * *", jobs.catch_up),
        ("finish_answers", "* * * * *", jobs.finish_answers),
        ("check_connections", "* * * * *", checks.check_connections),
        ("do_privacy_tasks", "* * * * *", jobs.do_privacy_tasks),
        ("mail_notices", "* * * * *", notices.mail_notices),
        ("tidy", "17 * * * *", jobs.tidy),
        ("roll_up", "12 * * * *", jobs.roll_up),
        ("prove", "40 3 * * *", jobs.prove),
    ):
        app.periodic(cron=cron)(app.task(name=name, queueing_lock=name, pass_context=False)(run))
    if post is not None:
        send = app.task(name="send_mail", queueing_lock="send_mail", pass_context=False)(post.send_mail)
        app.periodic(cron="* * * * * */5")(send)

    @app.periodic(cron="47 * * * *")
    @app.task(name="sweep", queueing_lock="sweep", pass_context=False)
    async def sweep(timestamp: int) -> None:
        await sweep_queue(app)

    return app


async def sweep_queue(app: App) -> None:
    """The queue does not grow: what a worker that was killed had begun is dropped, since its next turn does the same;
    failures are kept for a week."""
    for job in await app.job_manager.get_stalled_jobs():
        assert job.id is not None
        with contextlib.suppress(ConnectorException):  # another worker has just dropped it
            await app.job_manager.finish_job_by_id_async(job.id, Status.FAILED, delete_job=True)
    await app.job_manager.delete_old_jobs(FAILURES_KEPT_H, include_failed=True, include_aborted=True)


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
    checks = Checks(db, Policy(config.keyring(), config.mode, config.allow_private_providers), clock)
    post = None
    if config.smtp_url is not None:
        post = Post(db, MailServer.of(config.smtp_url.get_secret_value(), config.mail_from), clock)
    notices = Notices(db, Site(config.origin, config.mode, config.keyring(), name=config.brand_name), clock)
    app = build(config, Jobs(db, teller, clock), checks, notices, post)
    try:
        async with app.open_async():
            await app.run_worker_async(concurrency=4, delete_jobs="successful", shutdown_graceful_timeout=5)
    finally:
        await teller.close()
        await db.close()

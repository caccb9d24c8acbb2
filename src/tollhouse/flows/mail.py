"""Mail: written as a row in the transaction of what it tells about, sent by a job after that has committed."""

import asyncio
import os
import re
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from tollhouse.core.errors import Forbidden
from tollhouse.core.key import Mode, ordered_id
from tollhouse.core.routing import PLATFORM_ID
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.outside.mail import Letter, MailServer, NotSent
from tollhouse.store import mail
from tollhouse.store.db import Database, OperatorTx, PersonTx, TenantTx, WorkerTx
from tollhouse.store.mail import Posted

SUBJECT_MAX = 200
# How long after each failed attempt the next one is made; a server that knows nobody yet wants to be asked again later.
WAITS = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1), timedelta(hours=4))
ATTEMPTS_MAX = len(WAITS) + 1
TOO_LATE = timedelta(days=1)
# Longer than a letter may take (outside.mail.LETTER_TIMEOUT_S), or two would send it at once.
CLAIMED_FOR = timedelta(minutes=5)
AT_ONCE = 4
BEGIN_WITHIN = timedelta(seconds=45)
TEXT_KEPT, MAIL_KEPT = timedelta(days=1), timedelta(days=30)

log = structlog.get_logger()
_MAILBOX = re.compile(r"[^\s\x00-\x1f\x7f-\x9f\u2028\u2029,;:<>()\"\\\[\]]+")
# What would end a header, or hide in one: line ends and control characters, also those of Unicode.
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
_UNFIT_IN_BODY = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


async def write(
    tx: OperatorTx | TenantTx | PersonTx | WorkerTx,
    recipient: str,
    kind: str,
    subject: str,
    body: str,
    now: datetime,
) -> None:
    """One mail to one address, when the transaction commits. `kind` is a word for whoever looks into the outbox, such
    as "reset_password"; `body` is plain text. Names that people chose may stand in subject and body: what no header may
    hold becomes a space. ValueError when `recipient` is not one plain address, which signing up has made sure of."""
    if _MAILBOX.fullmatch(recipient) is None or not 0 < recipient.find("@") < len(recipient) - 1:
        raise ValueError("a mail goes to one address, without a name")
    title = " ".join(_UNFIT.sub(" ", subject).split())[:SUBJECT_MAX]
    text = _UNFIT_IN_BODY.sub(" ", body.replace("\r\n", "\n")).strip() + "\n"
    await mail.insert(tx, mail.Mail(ordered_id(now, os.urandom(10)), recipient, kind, title, text, now))


async def send_due(db: Database, server: MailServer, clock: Callable[[], datetime]) -> None:
    """Sends what is due, several letters at once; begins no more after `BEGIN_WITHIN`. A letter is claimed before it is
    sent: no two processes send it at once. One whose sender dies is sent again later, under the same Message-ID."""
    end = clock() + BEGIN_WITHIN
    async with db.worker() as tx:
        given_up = await mail.give_up(tx, clock(), ATTEMPTS_MAX, clock() - TOO_LATE)
    if given_up:
        log.warning("mail was given up unsent", count=given_up)

    async def work() -> None:
        while clock() < end and await _send_next(db, server, clock):
            pass

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


async def _send_next(db: Database, server: MailServer, clock: Callable[[], datetime]) -> bool:
    """False when nothing is due."""
    now = clock()
    async with db.worker() as tx:
        claimed = await mail.claim(tx, now, now + CLAIMED_FOR)
    if claimed is None:
        return False
    letter = Letter(claimed.id, claimed.recipient, claimed.subject, claimed.body, claimed.created_at)
    try:
        await server.send(letter)
    except NotSent as failure:
        last = failure.for_good or claimed.attempts >= ATTEMPTS_MAX
        due_at = None if last else clock() + WAITS[claimed.attempts - 1]
        log.warning("mail was not sent", mail=str(claimed.id), kind=claimed.kind, given_up=last, error=str(failure))
        async with db.worker() as tx:
            await mail.write_failed(tx, claimed.id, str(failure), due_at)
        return True
    async with db.worker() as tx:
        await mail.write_sent(tx, claimed.id, clock())
    return True


async def tidy(db: Database, now: datetime) -> None:
    """Mail is forgotten after thirty days, its text a day after it was sent."""
    async with db.worker() as tx:
        await mail.blank(tx, now - TEXT_KEPT)
        await mail.forget(tx, now - MAIL_KEPT)


async def outbox(db: Database, order: Order, mode: Mode, limit: int) -> list[Posted]:
    """What was written last, newest first. Forbidden in live mode: with the links in it, its reader is whoever asked
    for one."""
    if mode != "test":
        raise Forbidden(
            "In live mode nobody reads the mail of others. Set TOLLHOUSE_SMTP_URL to have it sent; whoever has the "
            "server's own shell can run: tollhouse outbox"
        )
    async with db.operator() as tx:
        found = await mail.latest(tx, limit)
        await record(tx, PLATFORM_ID, order, "outbox.read", ("outbox", "all"), {"mails": len(found)})
    return found

"""Erasing somebody: first who they were, in one transaction, then what they said, once their last call is over.

Each step is a transaction that also counts it: cut anywhere, it is begun again; two workers never do one at once."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from tollhouse.core.audit import Detail
from tollhouse.core.errors import Conflict
from tollhouse.core.privacy import GIVES_UP_AFTER, Subject, check_may_erase
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.flows.organization import close
from tollhouse.flows.privacy import subject_of
from tollhouse.store import erasure, member, organization, person, privacy
from tollhouse.store.db import Database, OperatorTx
from tollhouse.store.privacy import Task


async def erase(db: Database, clock: Callable[[], datetime], organization_id: UUID, task_id: UUID) -> None:
    """As many steps as can be done now. What must wait for calls that run is gone on with when this is called again; a
    refusal, and a wait of more than a day, end it as failed."""
    more = True
    while more:
        async with db.operator() as tx:
            task = await privacy.take(tx, organization_id, task_id)
            more = task is not None and await _step(tx, task, clock())


async def _step(tx: OperatorTx, task: Task, now: datetime) -> bool:
    """Does the next step; whether another one may follow at once."""
    subject = await subject_of(tx, task)
    order = Order(task.requested_by, now)
    if task.steps_done == 0:
        return await _identity(tx, task, subject, order)
    if not await privacy.is_quiet(tx, subject, now):
        if now > task.requested_at + GIVES_UP_AFTER:
            await _fail(tx, task, order, "Calls were running for a whole day. Order it again once they have ended.")
        return False
    await erasure.forget_content(tx, subject)
    await privacy.finish(tx, task, now)
    about = (task.subject_kind, str(task.subject_id))
    await record(tx, task.organization_id, order, "erasure.done", about, _details(task))
    return False


async def _identity(tx: OperatorTx, task: Task, subject: Subject, order: Order) -> bool:
    """Who they were. What it depends on is read under the locks of all organisations that it changes."""
    left = [] if subject.kind == "end_user" else await privacy.memberships(tx, subject.id, subject.within)
    await erasure.lock(tx, [task.organization_id, *(organization_id for organization_id, _ in left)])
    if subject.account:
        await person.lock_superadmins(tx)
    try:
        check_may_erase(subject, await privacy.standing(tx, subject))
    except Conflict as refusal:
        await _fail(tx, task, order, str(refusal))
        return False
    await erasure.forget_exports(tx, subject, order.now)
    if subject.kind == "end_user":
        await erasure.forget_end_user(tx, subject.organization_id, subject.id)
    else:
        await _forget_person(tx, task, subject, order)
    await privacy.advance(tx, task.organization_id, task.id, 1)
    return True


async def _forget_person(tx: OperatorTx, task: Task, subject: Subject, order: Order) -> None:
    await erasure.forget_invitations(tx, subject.id, subject.within)
    for organization_id, role in await privacy.memberships(tx, subject.id, subject.within):
        if organization_id not in subject.own:
            await member.delete(tx, organization_id, subject.id)
            details: dict[str, Detail] = {"role": role, "erasure": str(task.id)}
            await record(tx, organization_id, order, "member.removed", ("person", str(subject.id)), details)
    if not subject.account:
        return
    for organization_id in subject.own:
        row = await organization.lock(tx, organization_id)
        if row is not None and row.deleted_at is None:
            await close(tx, order, row)
        await erasure.forget_names(tx, organization_id)
    await erasure.forget_mail(tx, subject.id)
    await erasure.forget_sign_in(tx, subject.id)
    await erasure.forget_person(tx, subject.id, order.now)


async def _fail(tx: OperatorTx, task: Task, order: Order, reason: str) -> None:
    await privacy.finish(tx, task, order.now, error=reason)
    about = (task.subject_kind, str(task.subject_id))
    await record(tx, task.organization_id, order, "erasure.failed", about, _details(task))


def _details(task: Task) -> dict[str, Detail]:
    return {"task": str(task.id), "account": task.account}

"""Exports and erasures of what is known of somebody: ordered here, done by a job (erasure.py and export.py beside).

Three may order one: the person of their own account, an organisation of what it has of a member or an end user, and an
operator of either."""

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from tollhouse.core.audit import Detail
from tollhouse.core.errors import BadRequest, NotFound
from tollhouse.core.key import end_user_id, ordered_id
from tollhouse.core.privacy import ERASURE_STEPS, Kind, Subject, check_may_erase
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.store import erasure, export, privacy
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database, OperatorTx
from tollhouse.store.privacy import Task

PART_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Whom:
    """A member by id, or an end user by the host application's id (or by ours, once that is erased)."""

    member_id: UUID | None = None
    end_user: str | None = None


# ------------------------------------------------------------------------------------------------------------- ordering


async def order_own(db: Database, order: Order, person_id: UUID, kind: Kind, typed_email: str | None = None) -> Task:
    """Of the person's own account. An erasure takes their own address, typed as it is; BadRequest for another.
    Conflict, with the remedy, for an erasure that must not be."""
    async with db.operator() as tx:
        email = await _email(tx, person_id)
        if kind == "erasure" and (typed_email or "").strip().lower() != email:
            raise BadRequest("This is not the address of your account. Type it as it stands there.", "email")
        return await _order(tx, order, kind, await account_of(tx, person_id))


async def order_account(db: Database, order: Order, kind: Kind, person_id: UUID) -> Task:
    """Of a person's account, by an operator."""
    async with db.operator() as tx:
        await _email(tx, person_id)
        return await _order(tx, order, kind, await account_of(tx, person_id))


async def order_of(db: Database, order: Order, organization_id: UUID, kind: Kind, whom: Whom) -> Task:
    """Of what the organisation has of one of its own: an account is not touched. NotFound for everybody else, Conflict
    for an owner and for somebody whose calls run."""
    async with db.operator() as tx:
        return await _order(tx, order, kind, await _subject(tx, organization_id, whom))


async def account_of(tx: OperatorTx, person_id: UUID) -> Subject:
    """A person's account. What is done with it is kept in the organisation that is theirs; in the platform's for a
    person who has none."""
    own = await privacy.own_organizations(tx, person_id)
    return Subject("person", person_id, own[0] if own else PLATFORM_ID, account=True, own=own)


async def subject_of(tx: OperatorTx, task: Task) -> Subject:
    """Whose data a task is about. An account that has left its own organisation, as it does when it is erased, is known
    by the task's."""
    if not task.account:
        return Subject(task.subject_kind, task.subject_id, task.organization_id)
    own = {*await privacy.own_organizations(tx, task.subject_id), task.organization_id} - {PLATFORM_ID}
    return Subject("person", task.subject_id, task.organization_id, account=True, own=tuple(sorted(own)))


async def _email(tx: OperatorTx, person_id: UUID) -> str:
    found = await privacy.find_person(tx, person_id)
    if found is None:
        raise NotFound("There is no such person.")
    return found[0]


async def _subject(tx: OperatorTx, organization_id: UUID, whom: Whom) -> Subject:
    if whom.member_id is not None:
        if not await privacy.find_person_of(tx, organization_id, whom.member_id):
            raise NotFound("Nobody of this id belongs to this organisation.")
        if organization_id in await privacy.own_organizations(tx, whom.member_id):
            raise BadRequest("This organisation is the person's own. They export or erase their account.", "member")
        return Subject("person", whom.member_id, organization_id)
    for id_ in _ids(organization_id, whom.end_user or ""):
        if await privacy.find_end_user(tx, organization_id, id_):
            return Subject("end_user", id_, organization_id)
    raise NotFound("This organisation has no such end user.")


def _ids(organization_id: UUID, user: str) -> list[UUID]:
    ids = [end_user_id(organization_id, user)]
    with contextlib.suppress(ValueError):
        ids.append(UUID(user))
    return ids


async def _order(tx: OperatorTx, order: Order, kind: Kind, subject: Subject) -> Task:
    """The order and its audit row. What was ordered before and is not finished yet is that order."""
    await erasure.lock(tx, [subject.organization_id])
    known = await privacy.open_like(tx, subject, kind)
    if known is not None:
        return known
    if kind == "erasure":
        check_may_erase(subject, await privacy.standing(tx, subject))
    steps = len(ERASURE_STEPS) if kind == "erasure" else len(export.parts_of(subject))
    id_ = ordered_id(order.now, os.urandom(10))
    task = Task(
        subject.organization_id, id_, kind, subject.kind, subject.id, subject.account, "waiting", 0, steps,
        order.actor, order.now,
    )  # fmt: skip
    await privacy.insert(tx, task)
    details: dict[str, Detail] = {"task": str(id_), "account": subject.account}
    about = (subject.kind, str(subject.id))
    await record(tx, subject.organization_id, order, f"{kind}.ordered", about, details)
    return task


# -------------------------------------------------------------------------------------------------------------- looking


async def own_tasks(db: Database, person_id: UUID, before: UUID | None, limit: int) -> list[Task]:
    """What was ordered for the person's account, newest first."""
    async with db.operator() as tx:
        subject = await account_of(tx, person_id)
        return await privacy.of(tx, subject.organization_id, person_id, before, limit)


async def any_tasks(
    db: Database, order: Order, organization_id: UUID, person_id: UUID | None, before: UUID | None, limit: int
) -> list[Task]:
    """The same for an operator, whose look leaves a trace: of a person's account, or of what the organisation ordered.
    NotFound when there is no such organisation."""
    async with db.operator() as tx:
        if person_id is not None:
            organization_id = (await account_of(tx, person_id)).organization_id
        try:
            await record(tx, organization_id, order, "privacy.read", ("organization", str(organization_id)), {})
        except LookupError:
            raise NotFound("There is no such organisation.") from None
        return await privacy.of(tx, organization_id, person_id, before, limit)


async def open_own_result(db: Database, order: Order, person_id: UUID, task_id: UUID) -> Task:
    """The task whose file its person is about to read, which is written down. NotFound for another's, and when there is
    no file (any more)."""
    async with db.operator() as tx:
        subject = await account_of(tx, person_id)
        task = await privacy.one(tx, subject.organization_id, task_id)
        mine = task is not None and task.account and task.subject_id == person_id
        return await _open(tx, order, task if mine else None)


async def open_result(db: Database, order: Order, organization_id: UUID, task_id: UUID) -> Task:
    """The same for an organisation's export of what it has of one of its own: never an account."""
    async with db.operator() as tx:
        task = await privacy.one(tx, organization_id, task_id)
        return await _open(tx, order, None if task is None or task.account else task)


async def open_any_result(db: Database, order: Order, organization_id: UUID, task_id: UUID) -> Task:
    """The same for an operator."""
    async with db.operator() as tx:
        return await _open(tx, order, await privacy.one(tx, organization_id, task_id))


async def _open(tx: OperatorTx, order: Order, task: Task | None) -> Task:
    if task is None or task.result_until is None or task.result_until <= order.now:
        raise NotFound("There is no such file. It is made shortly after it was ordered, and kept for seven days.")
    about = (task.subject_kind, str(task.subject_id))
    await record(tx, task.organization_id, order, "export.downloaded", about, {"task": str(task.id)})
    return task


async def result(db: Database, order: Order, task: Task) -> AsyncIterator[bytes]:
    """The file, some at a time; no transaction is open between two parts."""
    start = 0
    while True:
        async with db.operator() as tx:
            part = await privacy.result_part(tx, task.organization_id, task.id, order.now, start, PART_BYTES)
        if not part:
            return
        yield part
        start += len(part)

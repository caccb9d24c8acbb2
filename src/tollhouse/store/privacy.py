"""Exports and erasures that were ordered, and the facts that they are decided on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.access import Role
from tollhouse.core.privacy import QUIET, Kind, Standing, State, Subject, SubjectKind
from tollhouse.store.db import OperatorTx, TenantTx, WorkerTx


@dataclass(frozen=True, slots=True)
class Task:
    """`account`: of a person's whole account, and not of what this organisation has of them. `result_until` None: there
    is no file."""

    organization_id: UUID
    id: UUID
    kind: Kind
    subject_kind: SubjectKind
    subject_id: UUID
    account: bool
    state: State
    steps_done: int
    steps: int
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None = None
    error: str | None = None
    result_until: datetime | None = None


async def insert(tx: OperatorTx, task: Task) -> None:
    await tx.execute(
        """INSERT INTO privacy_task (organization_id, id, kind, subject_kind, subject_id, account, state, steps_done,
               steps, requested_by, requested_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (task.organization_id, task.id, task.kind, task.subject_kind, task.subject_id, task.account, task.state,
         task.steps_done, task.steps, task.requested_by, task.requested_at),
    )  # fmt: skip


async def of(
    tx: TenantTx | OperatorTx, organization_id: UUID, account_of: UUID | None, before: UUID | None, limit: int
) -> list[Task]:
    """At most so many, newest first, of those with an id below `before`: of a person's account, or, None, of what the
    organisation has of its own."""
    async with tx.cursor(row_factory=class_row(Task)) as cursor:
        await cursor.execute(
            """SELECT organization_id, id, kind, subject_kind, subject_id, account, state, steps_done, steps,
                      requested_by, requested_at, finished_at, error, result_until
               FROM privacy_task
               WHERE organization_id = %(organization)s AND account = (%(person)s::uuid IS NOT NULL)
                 AND (%(person)s::uuid IS NULL OR subject_id = %(person)s)
                 AND (%(before)s::uuid IS NULL OR id < %(before)s)
               ORDER BY id DESC LIMIT %(limit)s""",
            {"organization": organization_id, "person": account_of, "before": before, "limit": limit},
        )
        return await cursor.fetchall()


async def one(tx: TenantTx | OperatorTx, organization_id: UUID, task_id: UUID) -> Task | None:
    async with tx.cursor(row_factory=class_row(Task)) as cursor:
        await cursor.execute(
            """SELECT organization_id, id, kind, subject_kind, subject_id, account, state, steps_done, steps,
                      requested_by, requested_at, finished_at, error, result_until
               FROM privacy_task WHERE organization_id = %s AND id = %s""",
            (organization_id, task_id),
        )
        return await cursor.fetchone()


async def open_like(tx: OperatorTx, subject: Subject, kind: Kind) -> Task | None:
    """The same, ordered before and not finished yet."""
    async with tx.cursor(row_factory=class_row(Task)) as cursor:
        await cursor.execute(
            """SELECT organization_id, id, kind, subject_kind, subject_id, account, state, steps_done, steps,
                      requested_by, requested_at, finished_at, error, result_until
               FROM privacy_task
               WHERE organization_id = %s AND kind = %s AND subject_kind = %s AND subject_id = %s AND account = %s
                 AND state IN ('waiting', 'running')""",
            (subject.organization_id, kind, subject.kind, subject.id, subject.account),
        )
        return await cursor.fetchone()


# ------------------------------------------------------------------------------------------------------------- the work


async def unfinished(tx: WorkerTx) -> list[tuple[Kind, UUID, UUID]]:
    """Kind, organisation and id of what is to be done, longest waiting first."""
    cursor = await tx.execute(
        """SELECT kind, organization_id, id FROM privacy_task
           WHERE state IN ('waiting', 'running') ORDER BY requested_at, id"""
    )
    return [(row[0], row[1], row[2]) for row in await cursor.fetchall()]


async def take(tx: OperatorTx, organization_id: UUID, task_id: UUID) -> Task | None:
    """The task, until the end of this transaction nobody else's; None when it is finished or somebody has it."""
    async with tx.cursor(row_factory=class_row(Task)) as cursor:
        await cursor.execute(
            """SELECT organization_id, id, kind, subject_kind, subject_id, account, state, steps_done, steps,
                      requested_by, requested_at, finished_at, error, result_until
               FROM privacy_task
               WHERE organization_id = %s AND id = %s AND state IN ('waiting', 'running')
               FOR UPDATE SKIP LOCKED""",
            (organization_id, task_id),
        )
        return await cursor.fetchone()


async def hold(tx: OperatorTx, task_id: UUID) -> bool:
    """Whether nobody else works on the task; then nobody else does until the end of this transaction, which may only
    read."""
    cursor = await tx.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", (str(task_id),))
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def advance(tx: WorkerTx | OperatorTx, organization_id: UUID, task_id: UUID, steps_done: int) -> None:
    await tx.execute(
        """UPDATE privacy_task SET state = 'running', steps_done = %s
           WHERE organization_id = %s AND id = %s AND state IN ('waiting', 'running')""",
        (steps_done, organization_id, task_id),
    )


async def finish(
    tx: OperatorTx, task: Task, now: datetime, *, error: str | None = None, result: bytes | None = None,
    result_until: datetime | None = None,
) -> bool:  # fmt: skip
    """Done, or failed with an error. False when it was finished before."""
    cursor = await tx.execute(
        """UPDATE privacy_task
           SET state = CASE WHEN %(error)s::text IS NULL THEN 'done' ELSE 'failed' END, error = %(error)s,
               steps_done = CASE WHEN %(error)s::text IS NULL THEN steps ELSE steps_done END, finished_at = %(now)s,
               result = %(result)s, result_until = %(until)s
           WHERE organization_id = %(organization)s AND id = %(id)s AND state IN ('waiting', 'running')""",
        {"error": error, "now": now, "result": result, "until": result_until, "organization": task.organization_id,
         "id": task.id},
    )  # fmt: skip
    return cursor.rowcount > 0


async def result_part(
    tx: TenantTx | OperatorTx, organization_id: UUID, task_id: UUID, now: datetime, start: int, length: int
) -> bytes | None:
    """So many bytes of the file from `start` on, b"" after its end; None when there is none (any more)."""
    cursor = await tx.execute(
        """SELECT substring(result FROM %s FOR %s) FROM privacy_task
           WHERE organization_id = %s AND id = %s AND result_until > %s AND result IS NOT NULL""",
        (start + 1, length, organization_id, task_id, now),
    )
    row = await cursor.fetchone()
    return None if row is None else bytes(row[0])


async def forget_results(tx: WorkerTx, now: datetime) -> None:
    """The files whose time is over; that they were made stays."""
    await tx.execute("UPDATE privacy_task SET result = NULL, result_until = NULL WHERE result_until <= %s", (now,))


# ------------------------------------------------------------------------------------------------------------ the facts


async def own_organizations(tx: OperatorTx, person_id: UUID) -> tuple[UUID, ...]:
    """Those that are this person's alone; also when they were erased before."""
    cursor = await tx.execute(
        """SELECT o.id FROM organization o JOIN member m ON m.organization_id = o.id
           WHERE o.kind = 'personal' AND m.person_id = %s ORDER BY o.id""",
        (person_id,),
    )
    return tuple(row[0] for row in await cursor.fetchall())


async def find_person(tx: OperatorTx, person_id: UUID) -> tuple[str, bool] | None:
    """The e-mail address of somebody who has an account here, and whether they are a superadmin."""
    cursor = await tx.execute("SELECT email, superadmin FROM person WHERE id = %s AND erased_at IS NULL", (person_id,))
    row = await cursor.fetchone()
    return None if row is None else (row[0], row[1])


async def find_person_of(tx: OperatorTx, organization_id: UUID, person_id: UUID) -> bool:
    """Whether the organisation has anything of this person: a member, or one who was and has called."""
    cursor = await tx.execute(
        """SELECT EXISTS (SELECT FROM member WHERE organization_id = %(organization)s AND person_id = %(person)s)
               OR (EXISTS (SELECT FROM person WHERE id = %(person)s)
                   AND EXISTS (SELECT FROM reservation
                               WHERE organization_id = %(organization)s AND subject_id = %(person)s))""",
        {"organization": organization_id, "person": person_id},
    )
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def find_end_user(tx: OperatorTx, organization_id: UUID, end_user_id: UUID) -> bool:
    cursor = await tx.execute(
        "SELECT FROM end_user WHERE organization_id = %s AND id = %s", (organization_id, end_user_id)
    )
    return await cursor.fetchone() is not None


async def standing(tx: OperatorTx, subject: Subject) -> Standing:
    """What may stand against the erasure."""
    cursor = await tx.execute(
        """SELECT (SELECT count(*) FROM reservation
                   WHERE state = 'pending' AND (organization_id = ANY(%(own)s) OR (subject_id = %(subject)s
                       AND (%(within)s::uuid IS NULL OR organization_id = %(within)s)))),
                  (SELECT role FROM member WHERE organization_id = %(within)s AND person_id = %(subject)s),
                  (SELECT coalesce(array_agg(o.name ORDER BY o.name), '{}')
                   FROM member m JOIN organization o ON o.id = m.organization_id
                   WHERE m.person_id = %(subject)s AND m.role = 'owner' AND o.kind = 'team' AND o.deleted_at IS NULL
                     AND NOT EXISTS (SELECT FROM member x JOIN person p ON p.id = x.person_id
                                     WHERE x.organization_id = o.id AND x.role = 'owner' AND x.person_id <> m.person_id
                                       AND p.suspended_at IS NULL AND p.erased_at IS NULL)),
                  EXISTS (SELECT FROM person WHERE id = %(subject)s AND superadmin)
                      AND NOT EXISTS (SELECT FROM person WHERE id <> %(subject)s AND superadmin
                                      AND suspended_at IS NULL AND erased_at IS NULL)""",
        {"own": list(subject.own), "subject": subject.id, "within": subject.within},
    )
    row = await cursor.fetchone()
    assert row is not None
    return Standing(row[0], row[1], tuple(row[2]), row[3])


async def is_quiet(tx: OperatorTx, subject: Subject, now: datetime, quiet: timedelta = QUIET) -> bool:
    """Whether no call of theirs runs, and none has ended just now: what was said in it may still be being stored."""
    cursor = await tx.execute(
        """SELECT NOT EXISTS (
               SELECT FROM reservation r JOIN organization o ON o.id = r.organization_id
               WHERE (r.organization_id = ANY(%(own)s) OR (r.subject_id = %(subject)s
                      AND (%(within)s::uuid IS NULL OR r.organization_id = %(within)s)))
                 AND (r.state = 'pending'
                      OR r.closed_at > %(since)s + o.clock_offset_micros * interval '1 microsecond'))""",
        {"own": list(subject.own), "subject": subject.id, "within": subject.within, "since": now - quiet},
    )
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def memberships(tx: OperatorTx, person_id: UUID, within: UUID | None) -> Sequence[tuple[UUID, Role]]:
    """Organisation and role, in the order in which organisations are locked."""
    cursor = await tx.execute(
        """SELECT organization_id, role FROM member
           WHERE person_id = %(person)s AND (%(within)s::uuid IS NULL OR organization_id = %(within)s)
           ORDER BY organization_id""",
        {"person": person_id, "within": within},
    )
    return [(row[0], row[1]) for row in await cursor.fetchall()]

"""The installation as a whole, as operators see it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import OperatorTx
from tollhouse.store.privacy import Task


@dataclass(frozen=True, slots=True)
class Numbers:
    """How much there is of what. The platform's own organisation, and what was deleted or erased, does not count;
    `mail_given_up` is of the last thirty days."""

    organizations: int
    organizations_suspended: int
    people: int
    people_suspended: int
    superadmins: int
    reservations_open: int
    reserved_micros: int
    mail_waiting: int
    mail_given_up: int
    privacy_tasks_open: int


@dataclass(frozen=True, slots=True)
class Proved:
    """When the ledger was proved, and how many invariants did not hold."""

    at: datetime
    failures: int


async def numbers(tx: OperatorTx) -> Numbers:
    async with tx.cursor(row_factory=class_row(Numbers)) as cursor:
        await cursor.execute(
            """SELECT o.organizations, o.organizations_suspended, p.people, p.people_suspended, p.superadmins,
                      r.reservations_open, r.reserved_micros, m.mail_waiting, m.mail_given_up,
                      (SELECT count(*) FROM privacy_task WHERE state IN ('waiting', 'running')) AS privacy_tasks_open
               FROM (SELECT count(*) AS organizations,
                            count(*) FILTER (WHERE suspended_at IS NOT NULL) AS organizations_suspended
                     FROM organization WHERE kind <> 'platform' AND deleted_at IS NULL) o,
                    (SELECT count(*) AS people, count(*) FILTER (WHERE suspended_at IS NOT NULL) AS people_suspended,
                            count(*) FILTER (WHERE superadmin) AS superadmins
                     FROM person WHERE erased_at IS NULL) p,
                    (SELECT count(*) AS reservations_open, coalesce(sum(amount_micros), 0)::bigint AS reserved_micros
                     FROM reservation WHERE state = 'pending') r,
                    (SELECT count(*) FILTER (WHERE sent_at IS NULL AND NOT given_up) AS mail_waiting,
                            count(*) FILTER (WHERE given_up) AS mail_given_up FROM mail) m"""
        )
        found = await cursor.fetchone()
    assert found is not None
    return found


async def last_proof(tx: OperatorTx) -> Proved | None:
    """None: the ledger was not proved yet."""
    async with tx.cursor(row_factory=class_row(Proved)) as cursor:
        await cursor.execute(
            """SELECT at, (details->>'failures')::int AS failures FROM audit
               WHERE organization_id = %s AND action = 'ledger.proved' ORDER BY seq DESC LIMIT 1""",
            (PLATFORM_ID,),
        )
        return await cursor.fetchone()


async def privacy_tasks(tx: OperatorTx, before: UUID | None, limit: int) -> list[Task]:
    """Exports and erasures of all organisations: at most so many, newest first, of those with an id below `before`."""
    async with tx.cursor(row_factory=class_row(Task)) as cursor:
        await cursor.execute(
            """SELECT organization_id, id, kind, subject_kind, subject_id, account, state, steps_done, steps,
                      requested_by, requested_at, finished_at, error, result_until
               FROM privacy_task WHERE %(before)s::uuid IS NULL OR id < %(before)s
               ORDER BY id DESC LIMIT %(limit)s""",
            {"before": before, "limit": limit},
        )
        return await cursor.fetchall()

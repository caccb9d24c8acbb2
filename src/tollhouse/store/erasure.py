"""Taking out who somebody was and what they said. What is counted and charged stays, under their id."""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from tollhouse.core.privacy import Subject, erased_email, pseudonym
from tollhouse.store.db import OperatorTx

# Each scans the calls of everybody: it may take its time, and holds no lock that a call waits for.
PATIENCE = "15min"

# ------------------------------------------------------------------------------------------------------------- identity


async def forget_sign_in(tx: OperatorTx, person_id: UUID) -> None:
    """How they sign in, where they are signed in, also in the place of others, and what links in mail are worth."""
    await tx.execute("DELETE FROM session WHERE person_id = %(id)s OR impersonator_id = %(id)s", {"id": person_id})
    await tx.execute("DELETE FROM one_time_token WHERE person_id = %s", (person_id,))
    await tx.execute("DELETE FROM linked_identity WHERE person_id = %s", (person_id,))
    await tx.execute("DELETE FROM recovery_code WHERE person_id = %s", (person_id,))
    await tx.execute("DELETE FROM totp WHERE person_id = %s", (person_id,))
    await tx.execute("DELETE FROM password WHERE person_id = %s", (person_id,))


async def forget_mail(tx: OperatorTx, person_id: UUID) -> None:
    """Mail to them, also to an address that a link was sent to, and mail to others that names them: by address, or by
    name where it has gone out."""
    await tx.execute(
        """DELETE FROM mail m USING person p
           WHERE p.id = %s AND (lower(m.recipient) = p.email
               OR lower(m.recipient) IN (SELECT lower(t.email) FROM one_time_token t WHERE t.person_id = p.id)
               OR position(p.email IN lower(m.subject || ' ' || m.body)) > 0
               OR (p.name <> '' AND (m.sent_at IS NOT NULL OR m.given_up)
                   AND position(p.name IN m.subject || ' ' || m.body) > 0))""",
        (person_id,),
    )


async def forget_invitations(tx: OperatorTx, person_id: UUID, within: UUID | None) -> None:
    """Those to their address."""
    await tx.execute(
        """DELETE FROM invitation i USING person p
           WHERE p.id = %(person)s AND i.email = p.email
             AND (%(within)s::uuid IS NULL OR i.organization_id = %(within)s)""",
        {"person": person_id, "within": within},
    )


async def forget_names(tx: OperatorTx, organization_id: UUID) -> None:
    """What somebody called their own organisation, its keys and its end users."""
    await tx.execute("UPDATE organization SET name = 'Erased' WHERE id = %s", (organization_id,))
    await tx.execute("UPDATE api_key SET name = 'Erased' WHERE organization_id = %s", (organization_id,))
    await tx.execute("DELETE FROM invitation WHERE organization_id = %s", (organization_id,))
    await tx.execute(
        "UPDATE end_user SET external_id = 'erased-' || id::text WHERE organization_id = %s", (organization_id,)
    )


async def forget_person(tx: OperatorTx, person_id: UUID, now: datetime) -> None:
    """Suspended as well: who was just signing in does not get in any more."""
    await tx.execute(
        """UPDATE person SET name = '', email = %(email)s, superadmin = false, email_verified_at = NULL,
               erased_at = coalesce(erased_at, %(now)s), suspended_at = coalesce(suspended_at, %(now)s)
           WHERE id = %(id)s""",
        {"email": erased_email(person_id), "now": now, "id": person_id},
    )


async def forget_end_user(tx: OperatorTx, organization_id: UUID, end_user_id: UUID) -> None:
    """Whoever calls again under the same id stays behind the pseudonym: the id is derived from it."""
    await tx.execute(
        "UPDATE end_user SET external_id = %s WHERE organization_id = %s AND id = %s",
        (pseudonym(end_user_id), organization_id, end_user_id),
    )


async def forget_exports(tx: OperatorTx, subject: Subject, now: datetime) -> None:
    """Files that were made of their data, and orders for such files."""
    await tx.execute(
        """UPDATE privacy_task
           SET result = NULL, result_until = NULL,
               state = CASE WHEN state IN ('waiting', 'running') THEN 'failed' ELSE state END,
               error = CASE WHEN state IN ('waiting', 'running') THEN 'What it asked for was erased.' ELSE error END,
               finished_at = coalesce(finished_at, %(now)s)
           WHERE kind = 'export' AND (organization_id = ANY(%(own)s) OR (subject_id = %(subject)s
               AND (%(within)s::uuid IS NULL OR organization_id = %(within)s)))""",
        {"now": now, "own": list(subject.own), "subject": subject.id, "within": subject.within},
    )


# -------------------------------------------------------------------------------------------------------------- content

# `own`: what is one person's in an organisation, and all in those that are theirs alone.
_OWN: LiteralString = """(r.organization_id = ANY(%(own)s) OR (r.person_id = %(subject)s
    AND (%(within)s::uuid IS NULL OR r.organization_id = %(within)s)))"""

# `theirs`: the calls of the subject. What was said in one is stored, given again under an idempotency key or from the
# organisation's cache, or stands in what the host application noted; an error may repeat what a provider was sent.
_THEIRS: LiteralString = """(r.organization_id = ANY(%(own)s) OR (r.subject_id = %(subject)s
    AND (%(within)s::uuid IS NULL OR r.organization_id = %(within)s)))"""
_CONTENT: Sequence[LiteralString] = (
    f"""DELETE FROM request_content c USING reservation r
        WHERE r.organization_id = c.organization_id AND r.id = c.request_id AND {_THEIRS}""",
    # an answer of which nobody noted whose it was, from before that was noted, may be theirs
    f"""DELETE FROM kept_answer k USING reservation r
        WHERE r.organization_id = k.organization_id AND (k.request_id IS NULL OR r.id = k.request_id) AND {_THEIRS}""",
    f"""DELETE FROM idempotency i USING reservation r
        WHERE r.organization_id = i.organization_id AND r.id = i.reservation_id AND {_THEIRS}""",
    f"UPDATE reservation r SET metadata = NULL WHERE r.metadata IS NOT NULL AND {_THEIRS}",
    # the ledger's proof knows this word
    f"""UPDATE request r SET error = 'erased'
        WHERE r.error NOT IN ('erased', 'process lost') AND r.state <> 'running' AND {_THEIRS}""",
    f"""UPDATE attempt a SET error = 'erased' FROM reservation r
        WHERE r.organization_id = a.organization_id AND r.id = a.request_id
          AND a.error NOT IN ('erased', 'process lost') AND {_THEIRS}""",
    f"UPDATE entitlement r SET note = '' WHERE r.note <> '' AND {_THEIRS}",
    f"DELETE FROM conversation r WHERE {_OWN}",
    f"DELETE FROM notice_read r WHERE {_OWN}",
    f"DELETE FROM own_model r WHERE {_OWN}",
    f"DELETE FROM preference r WHERE {_THEIRS}",
    f"DELETE FROM persona_override r WHERE {_THEIRS}",
    f"""DELETE FROM document d USING assistant r
        WHERE r.organization_id = d.organization_id AND r.id = d.assistant_id AND {_OWN}""",
    # the ledger's proof knows the assistant by its id
    f"""UPDATE assistant r SET slug = 'erased-' || id::text, name = 'Erased', description = '', role = '',
            system_message = 'Erased', tasks = '[]', tags = '{{}}', is_active = false,
            deleted_at = coalesce(deleted_at, updated_at)
        WHERE {_OWN}""",
)


async def forget_content(tx: OperatorTx, subject: Subject) -> None:
    """What they said and were told. Safe to repeat."""
    await tx.execute("SELECT set_config('statement_timeout', %s, true)", (PATIENCE,))
    about = {"own": list(subject.own), "subject": subject.id, "within": subject.within}
    for statement in _CONTENT:
        await tx.execute(statement, about)


async def lock(tx: OperatorTx, organization_ids: Sequence[UUID]) -> None:
    """These organisations, in the order in which everybody locks them, until the end of the transaction."""
    await tx.execute(
        "SELECT FROM organization WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE", (list(organization_ids),)
    )

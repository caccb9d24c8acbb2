"""What somebody has chosen in an organisation: a person, or an end user of a host application."""

from datetime import datetime
from uuid import UUID

from tollhouse.core.preference import Preferences
from tollhouse.store.db import TenantTx


async def read(tx: TenantTx, organization_id: UUID, subject_id: UUID) -> Preferences:
    """Those of who has chosen nothing are the empty ones."""
    cursor = await tx.execute(
        """SELECT p.default_model_id, coalesce(p.about, ''), coalesce(p.mail_notices, true),
                  coalesce((SELECT json_object_agg(o.assistant_id, o.model_id) FROM persona_override o
                            WHERE o.organization_id = %(organization)s AND o.subject_id = %(subject)s), '{}')
           FROM (SELECT) AS one
           LEFT JOIN preference p ON p.organization_id = %(organization)s AND p.subject_id = %(subject)s""",
        {"organization": organization_id, "subject": subject_id},
    )
    row = await cursor.fetchone()
    assert row is not None
    default_model_id, about, mail_notices, overrides = row
    return Preferences(default_model_id, {UUID(one): model for one, model in overrides.items()}, about, mail_notices)


async def lock(tx: TenantTx, organization_id: UUID, subject_id: UUID, now: datetime) -> Preferences:
    """The same, for who changes some of them: nobody else does until this transaction ends."""
    await tx.execute(
        """INSERT INTO preference (organization_id, subject_id, updated_at) VALUES (%s, %s, %s)
           ON CONFLICT (organization_id, subject_id) DO UPDATE SET updated_at = EXCLUDED.updated_at""",
        (organization_id, subject_id, now),
    )
    return await read(tx, organization_id, subject_id)


async def write(tx: TenantTx, organization_id: UUID, subject_id: UUID, preferences: Preferences, now: datetime) -> None:
    """All of them, in place of those before; `lock` comes first."""
    await tx.execute(
        """INSERT INTO preference (organization_id, subject_id, default_model_id, about, mail_notices, updated_at)
           VALUES (%s, %s, %s, %s, %s, %s)
           ON CONFLICT (organization_id, subject_id) DO UPDATE
           SET default_model_id = EXCLUDED.default_model_id, about = EXCLUDED.about,
               mail_notices = EXCLUDED.mail_notices, updated_at = EXCLUDED.updated_at""",
        (organization_id, subject_id, preferences.default_model_id, preferences.about, preferences.mail_notices, now),
    )
    await tx.execute(
        """WITH wanted AS MATERIALIZED (
               SELECT * FROM unnest(%(assistants)s::uuid[], %(models)s::text[]) AS x(assistant_id, model_id)),
           gone AS (
               DELETE FROM persona_override o
               WHERE o.organization_id = %(organization)s AND o.subject_id = %(subject)s
                 AND o.assistant_id <> ALL (%(assistants)s::uuid[]))
           INSERT INTO persona_override (organization_id, subject_id, assistant_id, model_id)
           SELECT %(organization)s, %(subject)s, assistant_id, model_id FROM wanted
           ON CONFLICT (organization_id, subject_id, assistant_id) DO UPDATE SET model_id = EXCLUDED.model_id""",
        {
            "organization": organization_id,
            "subject": subject_id,
            "assistants": list(preferences.overrides),
            "models": list(preferences.overrides.values()),
        },
    )

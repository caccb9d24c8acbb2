"""Who an actor of the audit log is, as the organisation knows them."""

from collections.abc import Iterable
from uuid import UUID

from tollhouse.store.db import TenantTx


async def names(tx: TenantTx, organization_id: UUID, actors: Iterable[str]) -> dict[str, str]:
    """By `person:<id>`, `key:<id>` and `issuer:<id>`: the name of a member, else their address, and that of a key or an
    issuer. Those whom the organisation does not know (any more) are left out."""
    ids = [(kind, id_) for kind, _, id_ in (actor.partition(":") for actor in set(actors)) if id_]
    cursor = await tx.execute(
        """WITH wanted AS (SELECT kind, id::uuid AS id FROM unnest(%(kinds)s::text[], %(ids)s::text[]) AS w (kind, id))
           SELECT 'person:' || p.id, coalesce(nullif(p.name, ''), p.email)
           FROM wanted w JOIN person p ON p.id = w.id
           JOIN member m ON m.person_id = p.id AND m.organization_id = %(organization)s WHERE w.kind = 'person'
           UNION ALL
           SELECT 'key:' || k.id, k.name FROM wanted w JOIN api_key k ON k.id = w.id
           WHERE w.kind = 'key' AND k.organization_id = %(organization)s
           UNION ALL
           SELECT 'issuer:' || i.id, i.name FROM wanted w JOIN jwt_issuer i ON i.id = w.id
           WHERE w.kind = 'issuer' AND i.organization_id = %(organization)s""",
        {"kinds": [kind for kind, _ in ids], "ids": [id_ for _, id_ in ids], "organization": organization_id},
    )
    return {row[0]: row[1] for row in await cursor.fetchall()}

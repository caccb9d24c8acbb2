"""API keys: only their digest is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg.rows import class_row

from tollhouse.core.key import Mode, Rights, Scope
from tollhouse.store.db import OperatorTx, TenantTx, WorkerTx


@dataclass(frozen=True, slots=True)
class KeyFound:
    """What a digest leads to: the key, and what of its organisation decides whether it may be used."""

    organization_id: UUID
    id: UUID
    scopes: list[Scope]
    mode: Mode
    expires_at: datetime | None
    revoked_at: datetime | None
    clock_offset_micros: int
    suspended_at: datetime | None
    networks: list[str] | None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its owner may see it; `start` is enough to recognise it by. Times are the organisation's, except
    `last_used_at`, which is real and to the minute. `model_ids` None: all models. `replaced_by` is the key that was
    made in its place; `counts_as` is the first of those that replaced one another, under which limits count them all,
    None for the first. The limits are the key's own in force; `networks`: from where it may come, None: from
    anywhere."""

    organization_id: UUID
    id: UUID
    name: str
    start: str
    scopes: list[Scope]
    mode: Mode
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime
    model_ids: list[str] | None = None
    created_by: str = "system"
    last_used_at: datetime | None = None
    replaced_by: UUID | None = None
    counts_as: UUID | None = None
    credits_micros_per_month: int | None = None
    requests_per_minute: int | None = None
    networks: list[str] | None = None

    @property
    def counted_as(self) -> UUID:
        return self.counts_as or self.id

    @property
    def rights(self) -> Rights:
        models = None if self.model_ids is None else frozenset(self.model_ids)
        return Rights(
            frozenset(self.scopes), self.mode, self.expires_at, models, self.credits_micros_per_month,
            self.requests_per_minute, None if self.networks is None else tuple(self.networks),
        )  # fmt: skip


_COLUMNS: LiteralString = """k.organization_id, k.id, k.name, k.start, k.scopes, k.mode, k.expires_at, k.revoked_at,
    k.created_at, k.model_ids, k.created_by, k.last_used_at, k.replaced_by, k.counts_as, k.networks,
    (SELECT l.maximum FROM usage_limit l
     WHERE l.organization_id = k.organization_id AND l.ended_at IS NULL AND l.scope = 'key' AND l.model_id IS NULL
       AND l.subject_id = coalesce(k.counts_as, k.id) AND (l.meter, l.period) = ('credits', 'month')
    ) AS credits_micros_per_month,
    (SELECT l.maximum FROM usage_limit l
     WHERE l.organization_id = k.organization_id AND l.ended_at IS NULL AND l.scope = 'key' AND l.model_id IS NULL
       AND l.subject_id = coalesce(k.counts_as, k.id) AND (l.meter, l.period) = ('messages', 'minute')
    ) AS requests_per_minute"""


async def find(tx: TenantTx | OperatorTx, digests: Sequence[bytes]) -> KeyFound | None:
    """Whose key has one of these digests, the first that is known: the one look-up that comes before a tenant is
    known."""
    async with tx.cursor(row_factory=class_row(KeyFound)) as cursor:
        await cursor.execute(
            """SELECT organization_id, id, scopes, mode, expires_at, revoked_at, clock_offset_micros, suspended_at,
                      networks
               FROM unnest(%s::bytea[]) WITH ORDINALITY AS wanted (digest, place), find_api_key(wanted.digest)
               ORDER BY place LIMIT 1""",
            (list(digests),),
        )
        return await cursor.fetchone()


async def insert(tx: OperatorTx, row: ApiKey, digest: bytes) -> None:
    """Its own limits are rows of theirs: store/limit.py."""
    await tx.execute(
        """INSERT INTO api_key (organization_id, id, name, digest, start, scopes, mode, expires_at, revoked_at,
               created_at, model_ids, created_by, counts_as, networks)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (row.organization_id, row.id, row.name, digest, row.start, row.scopes, row.mode, row.expires_at, row.revoked_at,
         row.created_at, row.model_ids, row.created_by, row.counts_as, row.networks),
    )  # fmt: skip


async def change(tx: OperatorTx, row: ApiKey) -> None:
    """What of a key may change: its name, models, networks and expiry."""
    await tx.execute(
        """UPDATE api_key SET name = %s, model_ids = %s, networks = %s, expires_at = %s
           WHERE organization_id = %s AND id = %s""",
        (row.name, row.model_ids, row.networks, row.expires_at, row.organization_id, row.id),
    )


async def replace(
    tx: OperatorTx, organization_id: UUID, key_id: UUID, by: UUID, expires_at: datetime | None,
    revoked_at: datetime | None,
) -> None:  # fmt: skip
    """Another key was made in its place: it ends then."""
    await tx.execute(
        """UPDATE api_key SET replaced_by = %s, expires_at = %s, revoked_at = %s
           WHERE organization_id = %s AND id = %s""",
        (by, expires_at, revoked_at, organization_id, key_id),
    )


async def revoke(tx: OperatorTx, organization_id: UUID, key_id: UUID, at: datetime) -> None:
    """The first revocation counts."""
    await tx.execute(
        "UPDATE api_key SET revoked_at = coalesce(revoked_at, %s) WHERE organization_id = %s AND id = %s",
        (at, organization_id, key_id),
    )


async def live(tx: TenantTx | OperatorTx, organization_id: UUID, now: datetime) -> list[ApiKey]:
    """The organisation's keys that work at `now`, its own time; newest first."""
    async with tx.cursor(row_factory=class_row(ApiKey)) as cursor:
        await cursor.execute(
            f"""SELECT {_COLUMNS} FROM api_key k
               WHERE k.organization_id = %s AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > %s)
               ORDER BY k.id DESC""",
            (organization_id, now),
        )
        return await cursor.fetchall()


async def page(
    tx: TenantTx, organization_id: UUID, now: datetime, limit: int, before: UUID | None, *, ended: bool
) -> list[ApiKey]:
    """At most `limit` of the organisation's keys, newest first and older than `before`: those that work at the real
    time `now`, or with `ended` all that there ever were."""
    async with tx.cursor(row_factory=class_row(ApiKey)) as cursor:
        await cursor.execute(
            f"""SELECT {_COLUMNS} FROM api_key k JOIN organization o ON o.id = k.organization_id
               WHERE k.organization_id = %(organization)s AND (%(before)s::uuid IS NULL OR k.id < %(before)s)
                 AND (%(ended)s OR (k.revoked_at IS NULL AND (k.expires_at IS NULL
                      OR k.expires_at > %(now)s + o.clock_offset_micros * interval '1 microsecond')))
               ORDER BY k.id DESC LIMIT %(limit)s""",
            {"organization": organization_id, "before": before, "ended": ended, "now": now, "limit": limit},
        )
        return await cursor.fetchall()


async def one(tx: TenantTx | OperatorTx, organization_id: UUID, key_id: UUID) -> ApiKey | None:
    """The organisation's key of this id, whatever has become of it."""
    async with tx.cursor(row_factory=class_row(ApiKey)) as cursor:
        await cursor.execute(
            f"SELECT {_COLUMNS} FROM api_key k WHERE k.organization_id = %s AND k.id = %s", (organization_id, key_id)
        )
        return await cursor.fetchone()


async def models(tx: TenantTx, organization_id: UUID, key_id: UUID) -> frozenset[str] | None:
    """The models that the key may call; None: all."""
    cursor = await tx.execute(
        "SELECT model_ids FROM api_key WHERE organization_id = %s AND id = %s", (organization_id, key_id)
    )
    row = await cursor.fetchone()
    return None if row is None or row[0] is None else frozenset(row[0])


async def write_last_used(tx: WorkerTx, used: Mapping[tuple[UUID, UUID], datetime]) -> None:
    """When keys, by organisation and id, were used, to the minute. What works no more was tried, not used; what is
    later already stays. Rows are locked in their order first, so that two processes do not wait for each other."""
    wanted = sorted(used)
    await tx.execute(
        """WITH x AS MATERIALIZED (
               SELECT k.organization_id, k.id, date_trunc('minute', x.at, 'UTC') AS at
               FROM unnest(%s::uuid[], %s::uuid[], %s::timestamptz[]) AS x (organization_id, id, at)
               JOIN api_key k ON k.organization_id = x.organization_id AND k.id = x.id
               WHERE (k.revoked_at IS NULL OR k.revoked_at > x.at) AND (k.expires_at IS NULL OR k.expires_at > x.at)
                 AND (k.last_used_at IS NULL OR k.last_used_at < date_trunc('minute', x.at, 'UTC'))
               ORDER BY k.organization_id, k.id FOR NO KEY UPDATE OF k)
           UPDATE api_key k SET last_used_at = greatest(k.last_used_at, x.at)
           FROM x WHERE k.organization_id = x.organization_id AND k.id = x.id""",
        ([one[0] for one in wanted], [one[1] for one in wanted], [used[one] for one in wanted]),
    )

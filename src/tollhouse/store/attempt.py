"""Attempts at a call after the first, and what a running one has used so far, as the teller's batch reads and writes
them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tollhouse.store.call import Parts
from tollhouse.store.exchange import Rows, Statement, Write, keys


@dataclass(frozen=True, slots=True)
class CheckpointFound:
    """The last attempt of a call that nobody finished."""

    organization_id: UUID
    request_id: UUID
    number: int
    model_id: str
    provider_id: str
    own_key: bool
    input_tokens: int | None
    output_tokens: int | None


@dataclass(slots=True)
class AttemptOpened:
    """The next candidate is asked: the attempt before it has failed. `moved`: it is another model, so the reservation
    is for that one from now on, at its price, with what is taken from its windows; `reason` says why."""

    organization_id: UUID
    id: UUID
    number: int
    model_id: str
    provider_id: str
    connection_id: UUID | None
    own_key: bool
    started_at: datetime
    status_before: int | None
    error_before: str | None
    moved: bool
    price_version: int | None
    parts: Parts
    reason: str | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A call still runs: its lease goes on, and what it used so far is written down."""

    organization_id: UUID
    id: UUID
    expires_at: datetime
    input_tokens: int | None
    output_tokens: int | None


_checkpoints = Rows(
    CheckpointFound,
    """SELECT a.* FROM json_to_recordset($1::json) AS x(o uuid, id uuid)
       CROSS JOIN LATERAL (
           SELECT organization_id, request_id, number, model_id, provider_id, own_key, input_tokens, output_tokens
           FROM attempt WHERE organization_id = x.o AND request_id = x.id ORDER BY number DESC LIMIT 1) a""",
)
# What the first attempt reckoned for the input stands for the next one too.
_open_attempts = Write(
    """WITH x AS MATERIALIZED (
           SELECT * FROM json_to_recordset($1::json) AS x(organization_id uuid, id uuid, number smallint, model_id text,
               provider_id text, connection_id uuid, own_key boolean, started_at timestamptz, status_before smallint,
               error_before text, moved boolean, price_version int, parts jsonb, reason text)),
       failed AS (
           UPDATE attempt a SET finished_at = x.started_at, outcome = 'failed', status = x.status_before,
               error = x.error_before
           FROM x CROSS JOIN LATERAL (
               SELECT ctid FROM attempt
               WHERE organization_id = x.organization_id AND request_id = x.id AND number < x.number
               ORDER BY number DESC LIMIT 1) AS k
           WHERE a.ctid = k.ctid AND a.finished_at IS NULL),
       moved AS (
           UPDATE reservation r SET model_id = x.model_id, price_version = x.price_version, parts = x.parts,
               trial = false
           FROM x CROSS JOIN LATERAL (
               SELECT ctid FROM reservation WHERE organization_id = x.organization_id AND id = x.id LIMIT 1) AS k
           WHERE r.ctid = k.ctid AND x.moved),
       explained AS (
           UPDATE request q SET model_id = x.model_id, reason = concat_ws('; ', q.reason, x.reason)
           FROM x CROSS JOIN LATERAL (
               SELECT ctid FROM request WHERE organization_id = x.organization_id AND id = x.id LIMIT 1) AS k
           WHERE q.ctid = k.ctid AND x.moved)
       INSERT INTO attempt (organization_id, request_id, number, model_id, provider_id, connection_id, own_key,
           input_tokens, started_at)
       SELECT x.organization_id, x.id, x.number, x.model_id, x.provider_id, x.connection_id, x.own_key,
           k.input_tokens, x.started_at
       FROM x CROSS JOIN LATERAL (
           SELECT input_tokens FROM attempt WHERE organization_id = x.organization_id AND request_id = x.id
           ORDER BY number DESC LIMIT 1) AS k
       ON CONFLICT DO NOTHING"""
)
_checkpoint = Write(
    """WITH x AS MATERIALIZED (SELECT * FROM json_to_recordset($1::json) AS x(organization_id uuid, id uuid,
           expires_at timestamptz, input_tokens bigint, output_tokens bigint)),
       lease AS (UPDATE reservation r SET expires_at = x.expires_at FROM x
           CROSS JOIN LATERAL (
               SELECT ctid FROM reservation WHERE organization_id = x.organization_id AND id = x.id LIMIT 1) AS k
           WHERE r.ctid = k.ctid)
       UPDATE attempt a SET input_tokens = coalesce(x.input_tokens, a.input_tokens),
           output_tokens = coalesce(x.output_tokens, a.output_tokens)
       FROM x CROSS JOIN LATERAL (
           SELECT ctid FROM attempt WHERE organization_id = x.organization_id AND request_id = x.id
           ORDER BY number DESC LIMIT 1) AS k
       WHERE a.ctid = k.ctid AND a.finished_at IS NULL"""
)


def checkpoints(wanted: Iterable[tuple[UUID, UUID]]) -> Statement[CheckpointFound]:
    """The last attempt of each of these calls."""
    return _checkpoints(keys(wanted))


def open_attempts(rows: Iterable[AttemptOpened]) -> Statement[None]:
    """Durable before the next provider is called; done once, however often it is sent."""
    return _open_attempts(list(rows))


def write_checkpoints(rows: Iterable[Checkpoint]) -> Statement[None]:
    return _checkpoint(list(rows))

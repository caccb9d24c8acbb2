"""Calls as the teller's batch reads and writes them: a reservation, its request, its first attempt and its usage event;
the attempts after that one are in store/attempt.py."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from tollhouse.core.ask import Channel
from tollhouse.core.credit import Hold
from tollhouse.core.key import Mode, Scope
from tollhouse.store.account import GrantRow
from tollhouse.store.db import WorkerTx
from tollhouse.store.exchange import Rows, Statement, Write, keys
from tollhouse.store.quota import WindowRow

Origin = Literal["provider", "own_key", "cache"]


@dataclass(frozen=True, slots=True)
class AskRow:
    """What is looked up for one ask; `n` is its number in the batch."""

    n: int
    organization_id: UUID
    credential_id: UUID | None
    subject_id: UUID
    models: tuple[str, ...] = ()  # those of which it must be known whether they are unlocked


@dataclass(frozen=True, slots=True)
class AskFacts:
    """What was come with, as it is at this moment (`scopes` None: it counts no more), and those of the models that are
    unlocked."""

    n: int
    scopes: tuple[Scope, ...] | None
    mode: Mode | None
    expires_at: datetime | None
    revoked_at: datetime | None
    model_ids: frozenset[str] | None
    counts_as: UUID | None
    networks: tuple[str, ...] | None
    entitled: frozenset[str]


class Taken(NamedTuple):
    """What was taken from a window; `model_id` is the one model that the window counts, '' when it counts all."""

    window_id: UUID
    meter: str
    amount: int
    model_id: str = ""


@dataclass(frozen=True, slots=True)
class Parts:
    """How a reservation's parts are stored: [grant, micro-credits], overdraft, [window, meter, amount, model]."""

    grants: tuple[tuple[UUID, int], ...]
    overdraft: int
    windows: tuple[Taken, ...]


@dataclass(slots=True)
class OpenReservation:
    """A reservation as it stands, for the model that is being asked; `charged_micros` is set once, by the one
    settlement."""

    organization_id: UUID
    id: UUID
    key_id: UUID | None
    subject_id: UUID
    channel: Channel
    capability: str | None
    model_id: str | None
    price_version: int | None
    rate_version: int | None
    multiplier_permille: int
    charged: bool
    amount_micros: int
    parts: Parts
    state: str
    created_at: datetime
    expires_at: datetime
    charged_micros: int | None

    @property
    def hold(self) -> Hold:
        return Hold(self.parts.grants, self.parts.overdraft)


@dataclass(frozen=True, slots=True)
class Closings:
    """Reservations that something is to be done with, and the windows and grants that they took from."""

    reservations: list[OpenReservation]
    windows: list[WindowRow]
    grants: list[GrantRow]


@dataclass(slots=True)
class CallOpened:
    """What was admitted: a reservation; for a call that is made here (`endpoint` is not None) also its request and its
    first attempt, all with one id."""

    organization_id: UUID
    id: UUID
    key_id: UUID | None
    subject_id: UUID
    channel: str
    endpoint: str | None
    stream: bool
    capability: str | None
    quality: str | None
    asked_model: str | None
    reason: str | None
    experiment_id: UUID | None
    model_id: str | None
    provider_id: str | None
    connection_id: UUID | None
    own_key: bool
    input_tokens: int | None
    price_version: int | None
    rate_version: int | None
    multiplier_permille: int
    charged: bool
    trial: bool
    amount_micros: int
    parts: Parts
    created_at: datetime
    expires_at: datetime
    metadata: dict[str, Any] | None


class Ended(NamedTuple):
    """How the request and the attempt of a call that was made here have ended; `request_state` None: there are none.
    `attempt` None: the last one."""

    request_state: str | None = None
    client_left: bool = False
    error: str | None = None
    attempt: int | None = None
    outcome: str | None = None
    status: int | None = None
    first_token_ms: int | None = None
    duration_ms: int | None = None


@dataclass(slots=True)
class CallClosed:
    """What has ended: the reservation gets its final state; then the fields of `Ended`. With a charge (0 is one) it
    leaves a usage event, of which `usage_id` is the id and the token counts are the content; `stated`: the charge was
    stated in credits, no price led to it."""

    organization_id: UUID
    id: UUID
    state: str
    charged_micros: int | None
    closed_at: datetime
    reason: str | None
    request_state: str | None
    client_left: bool
    error: str | None
    attempt: int | None
    outcome: str | None
    status: int | None
    first_token_ms: int | None
    duration_ms: int | None
    stated: bool = False
    usage_id: UUID | None = None
    recorded_at: datetime | None = None
    provider_id: str | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated: bool | None = None
    cost_nanos: int | None = None
    cache_write_tokens: int | None = None
    origin: Origin = "provider"


@dataclass(frozen=True, slots=True)
class EndUserRow:
    organization_id: UUID
    id: UUID
    external_id: str
    created_at: datetime


_ask_facts = Rows(
    AskFacts,
    """SELECT a.n, k.scopes, k.mode, k.expires_at, k.revoked_at, k.model_ids, k.counts_as, k.networks, (
              SELECT coalesce(json_agg(m.id), '[]') FROM json_array_elements_text(a.models) AS m(id)
              WHERE EXISTS (
                  SELECT FROM entitlement e JOIN organization o ON o.id = e.organization_id
                  WHERE e.organization_id = a.organization_id AND e.model_id = m.id
                    AND (e.subject_id IS NULL OR e.subject_id = a.subject_id) AND e.revoked_at IS NULL
                    AND e.starts_at <= $2::timestamptz + o.clock_offset_micros * interval '1 microsecond'
                    AND (e.expires_at IS NULL
                         OR e.expires_at > $2::timestamptz + o.clock_offset_micros * interval '1 microsecond'))
              ) AS entitled
       FROM json_to_recordset($1::json) AS a(n int, organization_id uuid, credential_id uuid, subject_id uuid,
                                                     models json)
       LEFT JOIN LATERAL (
           SELECT scopes, mode, expires_at, revoked_at, model_ids, counts_as, networks FROM api_key
           WHERE organization_id = a.organization_id AND id = a.credential_id
           UNION ALL
           SELECT ARRAY['gateway', 'credits'], NULL, NULL, NULL, NULL, NULL, NULL FROM jwt_issuer
           WHERE organization_id = a.organization_id AND id = a.credential_id AND enabled
           UNION ALL
           SELECT ARRAY['gateway', 'credits'], NULL, NULL, NULL, NULL, NULL, NULL
           FROM member m JOIN person p ON p.id = m.person_id
           WHERE m.organization_id = a.organization_id AND m.person_id = a.credential_id AND p.suspended_at IS NULL
           LIMIT 1) k ON true""",
)
# Each window and each grant once, of however many reservations took from it.
_closings = Rows(
    Closings,
    """WITH r AS MATERIALIZED (
           SELECT r.* FROM json_to_recordset($1::json) AS x(o uuid, id uuid)
           CROSS JOIN LATERAL (
               SELECT organization_id, id, key_id, subject_id, channel, capability, model_id, price_version,
                      rate_version, multiplier_permille, charged, amount_micros, parts, state, created_at,
                      expires_at, charged_micros
               FROM reservation WHERE organization_id = x.o AND id = x.id LIMIT 1) r)
       SELECT (SELECT coalesce(json_agg(r), '[]') FROM r) AS reservations,
              (SELECT coalesce(json_agg(w), '[]')
               FROM (SELECT DISTINCT organization_id AS o, (part ->> 0)::uuid AS id
                     FROM r CROSS JOIN LATERAL jsonb_array_elements(parts -> 'windows') AS part) AS k
               CROSS JOIN LATERAL (
                   SELECT organization_id, id, used, reserved FROM quota_window
                   WHERE organization_id = k.o AND id = k.id LIMIT 1) w) AS windows,
              (SELECT coalesce(json_agg(json_build_object('organization_id', k.o, 'grant', row_to_json(g))), '[]')
               FROM (SELECT DISTINCT organization_id AS o, (part ->> 0)::uuid AS id
                     FROM r CROSS JOIN LATERAL jsonb_array_elements(parts -> 'grants') AS part) AS k
               CROSS JOIN LATERAL (
                   SELECT * FROM credit_grant WHERE organization_id = k.o AND id = k.id LIMIT 1) g) AS grants""",
)
_open_calls = Write(
    """WITH x AS MATERIALIZED (
           SELECT * FROM json_to_recordset($1::json) AS x(organization_id uuid, id uuid, key_id uuid, subject_id uuid,
               channel text, endpoint text, stream boolean, capability text, quality text,
               asked_model text, reason text, experiment_id uuid, model_id text, provider_id text, connection_id uuid,
               own_key boolean, input_tokens bigint, price_version int, rate_version int, multiplier_permille int,
               charged boolean, trial boolean, amount_micros bigint, parts jsonb,
               created_at timestamptz, expires_at timestamptz, metadata jsonb)),
       reserved AS (
           INSERT INTO reservation (organization_id, id, key_id, subject_id, channel, capability, quality, model_id,
               price_version, rate_version, multiplier_permille, charged, trial, amount_micros, parts, state,
               created_at, expires_at, metadata)
           SELECT organization_id, id, key_id, subject_id, channel, capability, quality, model_id, price_version,
               rate_version, multiplier_permille, charged, trial, amount_micros, parts, 'pending', created_at,
               expires_at, metadata FROM x),
       requested AS (
           INSERT INTO request (organization_id, id, key_id, subject_id, endpoint, channel, model_id, stream, state,
               created_at, asked_model, reason, experiment_id)
           SELECT organization_id, id, key_id, subject_id, endpoint, channel, model_id, stream, 'running', created_at,
               asked_model, reason, experiment_id
           FROM x WHERE endpoint IS NOT NULL)
       INSERT INTO attempt (organization_id, request_id, number, model_id, provider_id, connection_id, own_key,
           input_tokens, started_at)
       SELECT organization_id, id, 1, model_id, provider_id, connection_id, own_key, input_tokens, created_at FROM x
       WHERE endpoint IS NOT NULL"""
)
# Rows are found by their key and changed at their place: as in store/account.py.
_close_calls = Write(
    """WITH x AS MATERIALIZED (
           SELECT * FROM json_to_recordset($1::json) AS x(organization_id uuid, id uuid, state text,
               charged_micros bigint, closed_at timestamptz, reason text, request_state text, client_left boolean,
               error text, attempt smallint, outcome text, status smallint, first_token_ms int, duration_ms int,
               stated boolean, usage_id uuid, recorded_at timestamptz, provider_id text, input_tokens bigint,
               cached_input_tokens bigint, output_tokens bigint, reasoning_tokens bigint, estimated boolean,
               cost_nanos bigint, cache_write_tokens bigint, origin text)),
       closed AS (
           UPDATE reservation r SET state = x.state, charged_micros = x.charged_micros, closed_at = x.closed_at,
               reason = coalesce(x.reason, r.reason)
           FROM x CROSS JOIN LATERAL (
               SELECT ctid FROM reservation WHERE organization_id = x.organization_id AND id = x.id LIMIT 1) AS k
           WHERE r.ctid = k.ctid),
       finished AS (
           UPDATE request q SET state = x.request_state, client_left = x.client_left, error = x.error,
               finished_at = x.closed_at
           FROM x CROSS JOIN LATERAL (
               SELECT ctid FROM request WHERE organization_id = x.organization_id AND id = x.id LIMIT 1) AS k
           WHERE q.ctid = k.ctid AND x.request_state IS NOT NULL),
       ended AS (
           UPDATE attempt a SET first_byte_at = a.started_at + x.first_token_ms * interval '1 millisecond',
               finished_at = x.closed_at, outcome = x.outcome, status = x.status,
               input_tokens = coalesce(x.input_tokens, a.input_tokens),
               output_tokens = coalesce(x.output_tokens, a.output_tokens), cost_nanos = x.cost_nanos, error = x.error
           FROM x CROSS JOIN LATERAL (
               SELECT ctid FROM attempt
               WHERE organization_id = x.organization_id AND request_id = x.id
                 AND number = coalesce(x.attempt, number)
               ORDER BY number DESC LIMIT 1) AS k
           WHERE a.ctid = k.ctid AND x.request_state IS NOT NULL)
       INSERT INTO usage_event (organization_id, id, recorded_at, started_at, reservation_id, subject_id, key_id,
           channel, capability, quality, model_id, provider_id, price_version, rate_version, multiplier_permille,
           messages, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, trial, estimated, cost_nanos,
           charged_micros, duration_ms, first_token_ms, cache_write_tokens, origin)
       SELECT r.organization_id, x.usage_id, x.recorded_at, r.created_at, r.id, r.subject_id, r.key_id, r.channel,
           r.capability, r.quality, r.model_id, x.provider_id, CASE WHEN NOT x.stated THEN r.price_version END,
           CASE WHEN NOT x.stated THEN r.rate_version END, r.multiplier_permille,
           (r.model_id IS NOT NULL AND r.channel <> 'capability')::int, x.input_tokens, x.cached_input_tokens,
           x.output_tokens, x.reasoning_tokens, r.trial, x.estimated, x.cost_nanos, x.charged_micros, x.duration_ms,
           x.first_token_ms, x.cache_write_tokens, x.origin
       FROM x CROSS JOIN LATERAL (
           SELECT * FROM reservation WHERE organization_id = x.organization_id AND id = x.id LIMIT 1) AS r
       WHERE x.charged_micros IS NOT NULL"""
)
_end_users = Write(
    """INSERT INTO end_user (organization_id, id, external_id, created_at)
       SELECT organization_id, id, external_id, created_at
       FROM json_to_recordset($1::json) AS x(organization_id uuid, id uuid, external_id text, created_at timestamptz)
       ON CONFLICT DO NOTHING"""
)


def ask_facts(asks: list[AskRow], now: datetime) -> Statement[AskFacts]:
    """What must be known of each ask; `now` is real time, each organisation's clock is added."""
    return _ask_facts(asks, now)


def closings(wanted: Iterable[tuple[UUID, UUID]]) -> Statement[Closings]:
    """These reservations, by organisation and id, whatever their state, in one row or none."""
    return _closings(keys(wanted))


def open_calls(rows: Iterable[CallOpened]) -> Statement[None]:
    """Durable before any provider is called."""
    return _open_calls(list(rows))


def close_calls(rows: Iterable[CallClosed]) -> Statement[None]:
    """The final state of each call and, where it was charged, its usage event. A settlement that comes late keeps the
    reservation's state and sets its charge."""
    return _close_calls(list(rows))


def insert_end_users(rows: Iterable[EndUserRow]) -> Statement[None]:
    """End users seen for the first time; those known already stay as they are."""
    return _end_users(list(rows))


async def overdue(tx: WorkerTx, now: datetime, limit: int) -> list[tuple[UUID, UUID]]:
    """Open reservations whose lease has run out by their organisation's own time, longest ago first."""
    cursor = await tx.execute(
        """SELECT r.organization_id, r.id FROM reservation r JOIN organization o ON o.id = r.organization_id
           WHERE r.state = 'pending' AND r.expires_at <= %s + o.clock_offset_micros * interval '1 microsecond'
           ORDER BY r.expires_at LIMIT %s""",
        (now, limit),
    )
    found: list[Any] = await cursor.fetchall()
    return [(row[0], row[1]) for row in found]

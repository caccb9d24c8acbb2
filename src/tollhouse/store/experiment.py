"""Experiments with models: what operators set up, and what came of it. Those that go on are read with the catalogue."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec
from psycopg.rows import class_row

from tollhouse.core.experiment import Arm, Experiment
from tollhouse.store.db import OperatorTx


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """An experiment, and when it was made (real time)."""

    experiment: Experiment
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ArmOutcome:
    """What came of the calls for which this model was drawn, whoever answered them in the end. `errors` are those that
    failed or broke off, `running` have no end yet; times are milliseconds from the call's begin, None where there is
    none to tell; tokens, cost (nano-dollars) and charge (micro-credits) are sums."""

    model_id: str
    requests: int
    running: int
    errors: int
    duration_mean_ms: int | None
    duration_p95_ms: int | None
    first_token_mean_ms: int | None
    first_token_p95_ms: int | None
    input_tokens: int
    output_tokens: int
    cost_nanos: int
    charged_micros: int


async def insert(tx: OperatorTx, row: ExperimentRow) -> None:
    one = row.experiment
    await tx.execute(
        """INSERT INTO experiment (id, name, model_id, capability_id, quality_id, starts_at, ends_at, created_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
        (one.id, one.name, one.model_id, one.capability_id, one.quality_id, one.starts_at, one.ends_at, row.created_at),
    )
    await tx.execute(
        """INSERT INTO experiment_arm (experiment_id, model_id, weight)
           SELECT %s, model_id, weight FROM json_to_recordset(%s::json) AS x(model_id text, weight int)""",
        (one.id, msgspec.json.encode(one.arms).decode()),
    )


async def read(tx: OperatorTx, wanted: UUID | None = None) -> list[ExperimentRow]:
    """All of them, or the one of this id, newest first."""
    cursor = await tx.execute(
        """SELECT e.id, e.name, e.model_id, e.capability_id, e.quality_id, e.starts_at, e.ends_at, e.created_at,
                  (SELECT json_agg(json_build_array(a.model_id, a.weight) ORDER BY a.model_id)
                   FROM experiment_arm a WHERE a.experiment_id = e.id)
           FROM experiment e WHERE e.id = coalesce(%s::uuid, e.id) ORDER BY e.created_at DESC, e.id DESC""",
        (wanted,),
    )
    return [
        ExperimentRow(
            Experiment(id_, name, model, capability, quality, starts_at, ends_at, tuple([Arm(*one) for one in arms])),
            made_at,
        )
        for id_, name, model, capability, quality, starts_at, ends_at, made_at, arms in await cursor.fetchall()
    ]  # fmt: skip


async def end(tx: OperatorTx, id_: UUID, at: datetime) -> None:
    await tx.execute("UPDATE experiment SET ends_at = %s WHERE id = %s", (at, id_))


async def delete(tx: OperatorTx, id_: UUID) -> None:
    await tx.execute("DELETE FROM experiment WHERE id = %s", (id_,))


async def outcomes(tx: OperatorTx, id_: UUID) -> list[ArmOutcome]:
    """Of each arm that was called, by its model. The model that was drawn is that of the first attempt."""
    async with tx.cursor(row_factory=class_row(ArmOutcome)) as cursor:
        await cursor.execute(
            """SELECT f.model_id, count(*) AS requests, count(*) FILTER (WHERE q.state = 'running') AS running,
                      count(*) FILTER (WHERE q.state IN ('failed', 'incomplete')) AS errors,
                      round(avg(t.took))::bigint AS duration_mean_ms,
                      round(percentile_cont(0.95) WITHIN GROUP (ORDER BY t.took))::bigint AS duration_p95_ms,
                      round(avg(t.first))::bigint AS first_token_mean_ms,
                      round(percentile_cont(0.95) WITHIN GROUP (ORDER BY t.first))::bigint AS first_token_p95_ms,
                      coalesce(sum(l.input_tokens) FILTER (WHERE r.charged_micros IS NOT NULL), 0)::bigint
                          AS input_tokens,
                      coalesce(sum(l.output_tokens) FILTER (WHERE r.charged_micros IS NOT NULL), 0)::bigint
                          AS output_tokens,
                      coalesce(sum(l.cost_nanos), 0)::bigint AS cost_nanos,
                      coalesce(sum(r.charged_micros), 0)::bigint AS charged_micros
               FROM request q
               JOIN attempt f ON f.organization_id = q.organization_id AND f.request_id = q.id AND f.number = 1
               JOIN reservation r ON r.organization_id = q.organization_id AND r.id = q.id
               CROSS JOIN LATERAL (
                   SELECT * FROM attempt WHERE organization_id = q.organization_id AND request_id = q.id
                   ORDER BY number DESC LIMIT 1) l
               CROSS JOIN LATERAL (
                   SELECT 1000 * extract(epoch FROM q.finished_at - q.created_at)::float8 AS took,
                          1000 * extract(epoch FROM l.first_byte_at - q.created_at)::float8 AS first) t
               WHERE q.experiment_id = %s GROUP BY f.model_id ORDER BY f.model_id""",
            (id_,),
        )
        return await cursor.fetchall()

"""The counters and rates of limits. The teller writes them, under the organisation's lock; others only look."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tollhouse.core.period import Kind
from tollhouse.core.quota import Meter, Window, Windows
from tollhouse.core.rate import Rates
from tollhouse.store.db import OperatorTx, TenantTx
from tollhouse.store.exchange import Rows, Statement, Write, keys


@dataclass(frozen=True, slots=True)
class WindowRow:
    """The numbers of a window that exists."""

    organization_id: UUID
    id: UUID
    used: int
    reserved: int


@dataclass(frozen=True, slots=True)
class NewWindowRow:
    organization_id: UUID
    id: UUID
    subject_id: UUID
    meter: Meter
    model_id: str
    period: Kind
    starts_at: datetime
    used: int
    reserved: int
    capability: str
    limit_id: UUID | None


@dataclass(frozen=True, slots=True)
class RateRow:
    organization_id: UUID
    id: UUID
    subject_id: UUID
    seconds: list[tuple[int, int]]


_windows = Rows(
    WindowRow,
    """SELECT w.* FROM json_to_recordset($1::json) AS x(o uuid, id uuid)
       CROSS JOIN LATERAL (
           SELECT organization_id, id, used, reserved FROM quota_window
           WHERE organization_id = x.o AND id = x.id LIMIT 1) w""",
)
_rates = Rows(
    RateRow,
    """SELECT r.* FROM json_to_recordset($1::json) AS x(o uuid, id uuid)
       CROSS JOIN LATERAL (
           SELECT organization_id, id, subject_id, seconds FROM request_rate
           WHERE organization_id = x.o AND id = x.id LIMIT 1) r""",
)
_write_rates = Write(
    """INSERT INTO request_rate (organization_id, id, subject_id, seconds)
       SELECT organization_id, id, subject_id, seconds
       FROM json_to_recordset($1::json) AS x(organization_id uuid, id uuid, subject_id uuid, seconds jsonb)
       ON CONFLICT (organization_id, id) DO UPDATE SET seconds = EXCLUDED.seconds"""
)


def windows(wanted: Iterable[tuple[UUID, UUID]]) -> Statement[WindowRow]:
    """Those of these windows, by organisation and id, that exist; one that does not is at zero."""
    return _windows(keys(wanted))


def rates(wanted: Iterable[tuple[UUID, UUID]]) -> Statement[RateRow]:
    """Those of these rates, by organisation and id, that exist; of one that does not nothing was asked yet."""
    return _rates(keys(wanted))


def write_rates(rates_of: Mapping[UUID, Rates]) -> Statement[None]:
    """The rates that were changed, by organisation."""
    return _write_rates(
        [
            RateRow(organization_id, id_, found.by_id[id_].subject_id, found.by_id[id_].seconds)
            for organization_id, found in rates_of.items()
            for id_ in found.changed
        ]
    )


def changed(desks: Mapping[UUID, Windows]) -> tuple[list[WindowRow], list[NewWindowRow]]:
    """The windows that must be written, by organisation: those that exist, and those that do not yet."""
    known: list[WindowRow] = []
    new: list[NewWindowRow] = []
    for organization_id, found in desks.items():
        for id_ in found.changed:
            window = found.by_id[id_]
            about = window.counter
            if about is None:
                known.append(WindowRow(organization_id, id_, window.used, window.reserved))
                continue
            new.append(
                NewWindowRow(
                    organization_id, id_, about.subject_id, about.meter, about.model_id, about.period,
                    about.starts_at, window.used, window.reserved, about.capability, about.limit_id,
                )
            )  # fmt: skip
    return known, new


async def read(tx: TenantTx | OperatorTx, organization_id: UUID, ids: list[UUID]) -> dict[UUID, Window]:
    """For those who look: the windows of these ids that exist."""
    cursor = await tx.execute(
        "SELECT id, used, reserved FROM quota_window WHERE organization_id = %s AND id = ANY(%s)",
        (organization_id, ids),
    )
    return {row[0]: Window(None, row[1], row[2]) for row in await cursor.fetchall()}

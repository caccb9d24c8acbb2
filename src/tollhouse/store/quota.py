"""The counters of limits. The teller writes them, under the organisation's lock; others only look."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tollhouse.core.period import Kind
from tollhouse.core.quota import Counter, Meter, Window, Windows
from tollhouse.store.db import OperatorTx, TenantTx
from tollhouse.store.exchange import Rows, Statement, keys


@dataclass(frozen=True, slots=True)
class WindowRow:
    organization_id: UUID
    id: UUID
    subject_id: UUID
    meter: Meter
    model_id: str
    period: Kind
    starts_at: datetime
    used: int
    reserved: int


_windows = Rows(
    WindowRow,
    """SELECT w.* FROM json_to_recordset($1::json) AS x(o uuid, id uuid)
       CROSS JOIN LATERAL (
           SELECT organization_id, id, subject_id, meter, model_id, period, starts_at, used, reserved
           FROM quota_window WHERE organization_id = x.o AND id = x.id LIMIT 1) w""",
)
_taken = Rows(
    WindowRow,
    """SELECT w.* FROM json_to_recordset($1::json) AS x(o uuid, id uuid)
       CROSS JOIN LATERAL (SELECT parts FROM reservation WHERE organization_id = x.o AND id = x.id LIMIT 1) r
       CROSS JOIN LATERAL jsonb_array_elements(r.parts -> 'windows') AS part
       CROSS JOIN LATERAL (
           SELECT organization_id, id, subject_id, meter, model_id, period, starts_at, used, reserved
           FROM quota_window WHERE organization_id = x.o AND id = (part ->> 0)::uuid LIMIT 1) w""",
)


def windows(wanted: Iterable[tuple[UUID, UUID]]) -> Statement[WindowRow]:
    """Those of these windows, by organisation and id, that exist; one that does not is at zero."""
    return _windows(keys(wanted))


def taken(reservations: Iterable[tuple[UUID, UUID]]) -> Statement[WindowRow]:
    """The windows that these reservations, by organisation and id, took from."""
    return _taken(keys(reservations))


def working_copies(rows: Iterable[WindowRow]) -> Windows:
    return Windows({(row.organization_id, row.id): _window(row) for row in rows})


def changed(found: Windows) -> list[WindowRow]:
    """The windows that must be written, as rows."""
    return [_row(*key, found.by_id[key]) for key in found.changed]


async def read(tx: TenantTx | OperatorTx, organization_id: UUID, ids: list[UUID]) -> dict[UUID, Window]:
    """For those who look: the windows of these ids that exist."""
    cursor = await tx.execute(
        """SELECT organization_id, id, subject_id, meter, model_id, period, starts_at, used, reserved FROM quota_window
           WHERE organization_id = %s AND id = ANY(%s)""",
        (organization_id, ids),
    )
    return {row[1]: _window(WindowRow(*row)) for row in await cursor.fetchall()}


def _window(row: WindowRow) -> Window:
    return Window(Counter(row.subject_id, row.meter, row.period, row.starts_at, row.model_id), row.used, row.reserved)


def _row(organization_id: UUID, id_: UUID, window: Window) -> WindowRow:
    about = window.counter
    return WindowRow(
        organization_id, id_, about.subject_id, about.meter, about.model_id, about.period, about.starts_at, window.used,
        window.reserved,
    )  # fmt: skip

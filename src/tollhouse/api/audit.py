"""The audit log: who changed what, when, from where, from what to what."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from tollhouse.api.body import Id, Moment, StrictRoute
from tollhouse.api.caller import Acting, Allowed, Operator
from tollhouse.api.state import Shared, State
from tollhouse.core.audit import Row
from tollhouse.core.cursor import cursor_of, number_in
from tollhouse.core.errors import BadRequest
from tollhouse.flows import audit as flow
from tollhouse.flows.audit import Format, Range
from tollhouse.flows.order import Order
from tollhouse.store.audit import Filter
from tollhouse.store.catalogue import PLATFORM_ID

router = APIRouter(prefix="/api/audit", tags=["audit"], route_class=StrictRoute)
operator_router = APIRouter(prefix="/api/operator/audit", tags=["operator"], route_class=StrictRoute)

Reader = Annotated[Acting, Depends(Allowed("audit.read"))]
Word = Annotated[str, Field(min_length=1, max_length=200)]
_MEDIA_TYPES: dict[Format, str] = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}


class AuditQuery(BaseModel):
    """`action` is the beginning of one, such as "key." or "key.created". `from` is inclusive, `to` exclusive; `cursor`
    is the `next_cursor` of the page before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    actor: Word | None = None
    action: Word | None = None
    object_type: Word | None = None
    object_id: Word | None = None
    since: Annotated[Moment | None, Field(alias="from")] = None
    until: Annotated[Moment | None, Field(alias="to")] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=100)] = None

    def wanted(self) -> Filter:
        if self.since and self.until and self.since >= self.until:
            raise BadRequest("'from' must lie before 'to'.", "from")
        return Filter(self.actor, self.action, self.object_type, self.object_id, self.since, self.until)


class ExportQuery(BaseModel):
    """`from` is inclusive, `to` exclusive; without them, the last 31 days. At most 366 days."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Format = "jsonl"
    since: Annotated[Moment | None, Field(alias="from")] = None
    until: Annotated[Moment | None, Field(alias="to")] = None


class OperatorAuditQuery(AuditQuery):
    """`organization_id` left out: the platform's own log."""

    organization_id: Id = PLATFORM_ID


class OperatorExportQuery(ExportQuery):
    organization_id: Id = PLATFORM_ID


class AuditRowView(BaseModel):
    """`actor` is person:<id>, key:<id>, issuer:<id> or system; `address` null: not over the network. `hash` is of this
    row and the hash of the row before."""

    seq: int
    at: datetime
    actor: str
    action: str
    object_type: str
    object_id: str
    details: dict[str, Any]
    address: str | None
    hash: str

    @classmethod
    def of(cls, row: Row) -> Self:
        return cls(
            seq=row.seq, at=row.at, actor=row.actor, action=row.action, object_type=row.object_type,
            object_id=row.object_id, details=dict(row.details), address=row.address, hash=row.hash.hex(),
        )  # fmt: skip


class AuditView(BaseModel):
    """Newest first. `next_cursor` null: this was the last page."""

    items: list[AuditRowView]
    next_cursor: str | None


@router.get("", summary="The organisation's audit log, newest first")
async def read_audit(state: Shared, reader: Reader, query: Annotated[AuditQuery, Query()]) -> AuditView:
    return await _page(state, reader.order, reader.organization_id, query, outside=False)


@router.get("/export", summary="The same as a file, oldest first", response_class=StreamingResponse)
async def export_audit(state: Shared, reader: Reader, query: Annotated[ExportQuery, Query()]) -> StreamingResponse:
    return await _export(state, reader.order, reader.organization_id, query)


@operator_router.get("", summary="The audit log of an organisation, or of the platform")
async def read_any_audit(state: Shared, order: Operator, query: Annotated[OperatorAuditQuery, Query()]) -> AuditView:
    outside = query.organization_id != PLATFORM_ID
    return await _page(state, order, query.organization_id, query, outside=outside)


@operator_router.get("/export", summary="The same as a file, oldest first", response_class=StreamingResponse)
async def export_any_audit(
    state: Shared, order: Operator, query: Annotated[OperatorExportQuery, Query()]
) -> StreamingResponse:
    return await _export(state, order, query.organization_id, query)


async def _page(state: State, order: Order, organization_id: UUID, query: AuditQuery, *, outside: bool) -> AuditView:
    wanted, before = query.wanted(), number_in("audit", query.cursor)
    rows = await flow.page(state.db, order, organization_id, wanted, query.limit + 1, before, outside=outside)
    items = rows[: query.limit]
    more = cursor_of("audit", str(items[-1].seq)) if len(rows) > query.limit else None
    return AuditView(items=[AuditRowView.of(row) for row in items], next_cursor=more)


async def _export(state: State, order: Order, organization_id: UUID, query: ExportQuery) -> StreamingResponse:
    over = Range.of(query.since, query.until, order.now)
    lines = await flow.export(state.db, order, organization_id, over, query.format)
    name = f"audit-{organization_id}-{over.since:%Y%m%d}-{over.until:%Y%m%d}.{query.format}"
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return StreamingResponse(lines, media_type=_MEDIA_TYPES[query.format], headers=headers)

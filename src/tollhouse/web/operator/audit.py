"""The audit log of the platform, or of any organisation."""

from uuid import UUID

from starlette.responses import Response, StreamingResponse

from tollhouse.core.cursor import cursor_of, number_in
from tollhouse.core.errors import BadRequest
from tollhouse.flows import audit
from tollhouse.flows.audit import Format, Range
from tollhouse.store.audit import Filter
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.web.language import _
from tollhouse.web.operator.frame import PER_PAGE, address, day, end_of, show, word
from tollhouse.web.route import SUPERADMIN, page
from tollhouse.web.visit import Visit

PATH = "/operator/audit"
_NARROWED = ("organization", "actor", "action", "object_type", "object_id", "from", "to")
_TYPES: dict[Format, str] = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}


async def index(visit: Visit) -> Response:
    organization_id, said = _organization(visit), {name: word(visit, name) for name in _NARROWED}
    cursor = word(visit, "cursor") or None
    since, until = day(visit, "from"), end_of(day(visit, "to"))
    wanted = Filter(
        said["actor"] or None, said["action"] or None, said["object_type"] or None, said["object_id"] or None,
        since, until,
    )  # fmt: skip
    rows = await audit.page(
        visit.state.db, visit.order, organization_id, wanted, PER_PAGE + 1, number_in("audit", cursor),
        outside=organization_id != PLATFORM_ID,
    )  # fmt: skip
    items = rows[:PER_PAGE]
    following = None
    if len(rows) > PER_PAGE:
        following = address(PATH, **said, cursor=cursor_of("audit", str(items[-1].seq)))
    exports = {
        kind: address(
            f"{PATH}/export", organization=said["organization"], format=kind, **{"from": said["from"], "to": said["to"]}
        )
        for kind in _TYPES
    }
    return show(
        visit, "operator/audit.html", items=items, narrowed=said, following=following, exports=exports,
        of_platform=organization_id == PLATFORM_ID, paged=bool(cursor),
    )  # fmt: skip


async def export(visit: Visit) -> Response:
    organization_id = _organization(visit)
    over = Range.of(day(visit, "from"), end_of(day(visit, "to")), visit.now)
    format_: Format = "csv" if word(visit, "format") == "csv" else "jsonl"
    lines = await audit.export(visit.state.db, visit.order, organization_id, over, format_)
    name = f"audit-{organization_id}-{over.since:%Y%m%d}-{over.until:%Y%m%d}.{format_}"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(lines, media_type=_TYPES[format_], headers=headers)


def _organization(visit: Visit) -> UUID:
    """The platform's own when none is named."""
    given = word(visit, "organization")
    try:
        return UUID(given) if given else PLATFORM_ID
    except ValueError:
        raise BadRequest(_("This is no id of an organisation. Open the organisation's own page first.")) from None


PAGES = (
    page(PATH, index, needs=SUPERADMIN),
    page(f"{PATH}/export", export, needs=SUPERADMIN),
)

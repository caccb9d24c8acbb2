"""Exports and erasures of all organisations, and their files."""

from starlette.responses import Response, StreamingResponse

from tollhouse.flows import platform, privacy
from tollhouse.web.operator.frame import PER_PAGE, address, show, word
from tollhouse.web.route import SUPERADMIN, page
from tollhouse.web.visit import Visit

PATH = "/operator/privacy"


async def index(visit: Visit) -> Response:
    cursor = word(visit, "cursor") or None
    found = await platform.privacy_tasks(visit.state.db, visit.order, cursor, PER_PAGE)
    following = found.next_cursor and address(PATH, cursor=found.next_cursor)
    return show(visit, "operator/privacy.html", items=found.items, following=following, paged=bool(cursor))


async def download(visit: Visit) -> Response:
    db, order = visit.state.db, visit.order
    task = await privacy.open_any_result(db, order, visit.id("organization_id"), visit.id("task_id"))
    headers = {"content-disposition": f'attachment; filename="export-{task.id}.zip"'}
    return StreamingResponse(privacy.result(db, order, task), media_type="application/zip", headers=headers)


PAGES = (
    page(PATH, index, needs=SUPERADMIN),
    page(PATH + "/{organization_id:uuid}/{task_id:uuid}", download, needs=SUPERADMIN),
)

"""Exports and erasures of what the organisation has of its members and its host application's end users."""

from typing import Any

from starlette.responses import Response, StreamingResponse

from tollhouse.core.cursor import cursor_of, id_in
from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.core.privacy import Kind
from tollhouse.core.session import check_proved
from tollhouse.flows import privacy as flow
from tollhouse.flows.privacy import Whom
from tollhouse.store import actor, member, privacy
from tollhouse.web import forms, typed
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _
from tollhouse.web.listing import CURSOR, LENGTH, Ways, asked
from tollhouse.web.route import page
from tollhouse.web.visit import Visit

HERE = "/admin/privacy"
MEMBERS_MAX = 500
_ORDER = (Field("member", required=False, most=36), Field("end_user", required=False))


async def index(visit: Visit) -> Response:
    """What was ordered, newest first, and how far it has come; the list asks for itself again while something runs."""
    here, form = visit.who.organization_id, asked(visit.request, CURSOR)
    before = id_in("privacy", form["cursor"] or None)
    async with visit.state.db.tenant(here) as tx:
        found = await privacy.of(tx, here, None, before, LENGTH + 1)
        rows = found[:LENGTH]
        about = [f"{row.subject_kind}:{row.subject_id}" for row in rows]
        names = await actor.names(tx, here, [*about, *(row.requested_by for row in rows)])
    more = cursor_of("privacy", str(rows[-1].id)) if len(found) > LENGTH else None
    shown: dict[str, Any] = {
        "rows": rows, "names": names, "ways": Ways.of(HERE, form, more),
        "busy": any(row.state in ("waiting", "running") for row in rows),
    }  # fmt: skip
    if visit.is_htmx:
        return visit.part("privacy/tasks.html", "tasks", **shown)
    return visit.page("privacy/tasks.html", **shown)


async def choose_export(visit: Visit) -> Response:
    return await _choose(visit, "export")


async def choose_erasure(visit: Visit) -> Response:
    check_proved(visit.who, visit.now)
    return await _choose(visit, "erasure")


async def order_export(visit: Visit) -> Response:
    return await _order(visit, "export")


async def order_erasure(visit: Visit) -> Response:
    check_proved(visit.who, visit.now)
    return await _order(visit, "erasure")


async def _choose(visit: Visit, kind: Kind) -> Response:
    chosen = asked(visit.request, Field("member", required=False, most=36))
    return await _form(visit, 200, kind, forms.blank(_ORDER, {"member": chosen["member"]}))


async def _order(visit: Visit, kind: Kind) -> Response:
    form = visit.form(*_ORDER)
    if form.ok:
        try:
            await flow.order_of(visit.state.db, visit.order, visit.who.organization_id, kind, _whom(form))
        except (BadRequest, Conflict, NotFound) as error:
            form = form.refused_by(error)
        else:
            exports = _("The export is being made. It takes a few minutes.")
            return visit.go(HERE, exports if kind == "export" else _("The erasure has begun. It takes a few minutes."))
    return await _form(visit, 422, kind, form)


async def _form(visit: Visit, status: int, kind: Kind, form: Form) -> Response:
    here = visit.who.organization_id
    async with visit.state.db.tenant(here) as tx:
        members = await member.page(tx, here, None, MEMBERS_MAX)
    return visit.page("privacy/order.html", status, kind=kind, form=form, members=members)


def _whom(form: Form) -> Whom:
    if bool(form["member"]) == bool(form["end_user"]):
        raise BadRequest(_("Choose a member, or type the id of an end user: one of the two."))
    if form["end_user"]:
        return Whom(end_user=form["end_user"])
    return Whom(member_id=typed.id_of(form, "member"))


async def download(visit: Visit) -> Response:
    task_id = visit.id("task_id")
    db, order = visit.state.db, visit.order
    task = await flow.open_result(db, order, visit.who.organization_id, task_id)
    headers = {"content-disposition": f'attachment; filename="export-{task.id}.zip"'}
    return StreamingResponse(flow.result(db, order, task), media_type="application/zip", headers=headers)


PAGES = (
    page("/admin/privacy", index, needs="privacy.manage"),
    page("/admin/privacy/export", choose_export, needs="privacy.manage"),
    page("/admin/privacy/export", order_export, ("POST",), needs="privacy.manage"),
    page("/admin/privacy/erasure", choose_erasure, needs="privacy.manage"),
    page("/admin/privacy/erasure", order_erasure, ("POST",), needs="privacy.manage"),
    page("/admin/privacy/{task_id:uuid}/file", download, needs="privacy.manage"),
)

"""What is known of oneself: a file of all of it, and its erasure."""

from typing import Any

from starlette.responses import Response, StreamingResponse

from tollhouse.core.errors import TollhouseError
from tollhouse.core.session import check_own, check_proved
from tollhouse.flows import privacy as flow
from tollhouse.web import forms
from tollhouse.web.language import _
from tollhouse.web.route import SIGNED_IN, page
from tollhouse.web.sign_in import EMAIL
from tollhouse.web.visit import Visit

HERE = "/settings/privacy"
_SHOWN = 20
_EMAIL = (EMAIL,)


async def index(visit: Visit) -> Response:
    check_own(visit.who)
    context = await _tasks(visit)
    if visit.is_htmx:
        return visit.part("own_privacy/index.html", "tasks", **context)
    return visit.page("own_privacy/index.html", **context)


async def export(visit: Visit) -> Response:
    visit.form()
    check_own(visit.who)
    await flow.order_own(visit.state.db, visit.order, visit.who.person_id, "export")
    return visit.go(HERE, _("Your file is being made. It can be downloaded here in a few minutes."))


async def download(visit: Visit) -> Response:
    check_own(visit.who)
    task_id = visit.id("task_id")
    task = await flow.open_own_result(visit.state.db, visit.order, visit.who.person_id, task_id)
    headers = {"content-disposition": f'attachment; filename="export-{task.id}.zip"'}
    return StreamingResponse(
        flow.result(visit.state.db, visit.order, task), media_type="application/zip", headers=headers
    )


async def ask_erasure(visit: Visit) -> Response:
    check_proved(visit.who, visit.now)
    return visit.page("own_privacy/erase.html", form=forms.blank(_EMAIL))


async def erase(visit: Visit) -> Response:
    check_proved(visit.who, visit.now)
    form = visit.form(*_EMAIL)
    if not form.ok:
        return visit.again("own_privacy/erase.html", form)
    try:
        await flow.order_own(visit.state.db, visit.order, visit.who.person_id, "erasure", form["email"])
    except TollhouseError as error:
        return visit.again("own_privacy/erase.html", form, error)
    return visit.go(HERE, _("Your account is being erased. You will be signed out when it is done."), "warning")


async def _tasks(visit: Visit) -> dict[str, Any]:
    tasks = await flow.own_tasks(visit.state.db, visit.who.person_id, None, _SHOWN)
    return {"tasks": tasks, "running": any(one.state in ("waiting", "running") for one in tasks)}


PAGES = (
    page(HERE, index, needs=SIGNED_IN),
    page("/settings/privacy/export", export, ("POST",), needs=SIGNED_IN),
    page("/settings/privacy/erase", ask_erasure, needs=SIGNED_IN),
    page("/settings/privacy/erase", erase, ("POST",), needs=SIGNED_IN),
    page("/settings/privacy/{task_id:uuid}/file", download, needs=SIGNED_IN),
)

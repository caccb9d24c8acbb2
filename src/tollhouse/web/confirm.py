"""Proving once more who one is, before money and security; then back to where one came from."""

from typing import Any

from starlette.responses import Response

from tollhouse.core.errors import BadRequest, TollhouseError
from tollhouse.core.path import local_path
from tollhouse.core.session import check_own
from tollhouse.flows import step_up
from tollhouse.web import forms
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _
from tollhouse.web.route import SIGNED_IN, page
from tollhouse.web.sign_in import NEXT, rotated, wanted
from tollhouse.web.visit import Visit

_FIELDS = (Field("password", required=False, secret=True), Field("code", required=False, most=40), NEXT)


async def index(visit: Visit) -> Response:
    check_own(visit.who)
    return await _page(visit, forms.blank(_FIELDS, {"next": wanted(visit)}))


async def prove(visit: Visit) -> Response:
    """By the one that was filled in."""
    check_own(visit.who)
    form = visit.form(*_FIELDS)
    if not form.ok:
        return await _page(visit, form)
    db, site = visit.state.db, visit.state.site
    try:
        if form["code"]:
            cookie = await step_up.prove_with_code(db, site, visit.order, visit.who, form["code"])
        elif form["password"]:
            cookie = await step_up.prove_with_password(db, site, visit.order, visit.who, form["password"])
        else:
            raise BadRequest(_("Fill in your password or a code."))
    except TollhouseError as error:
        return await _page(visit, form, error)
    return rotated(visit, cookie, form["next"], _("Thank you. You can go on now."))


async def _page(visit: Visit, form: Form, error: TollhouseError | None = None) -> Response:
    context: dict[str, Any] = {
        "ways": await step_up.ways(visit.state.db, visit.who),
        "offered": await visit.state.open_id.offered(),
        "back": local_path(form["next"]),
    }
    if form.sent:
        return visit.again("sign_in/confirm.html", form, error, **context)
    return visit.page("sign_in/confirm.html", form=form, **context)


PAGES = (
    page("/confirm", index, needs=SIGNED_IN),
    page("/confirm", prove, ("POST",), needs=SIGNED_IN),
)

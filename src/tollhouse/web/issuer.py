"""Issuers whose tokens the organisation trusts."""

import re

from starlette.responses import Response

from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.core.issuer import default_audience
from tollhouse.flows import issuer as flow
from tollhouse.flows.issuer import Change, NewIssuer, Ordered, Tried
from tollhouse.store import jwt_issuer as store
from tollhouse.store.jwt_issuer import JwtIssuer
from tollhouse.web import forms
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _
from tollhouse.web.route import page
from tollhouse.web.visit import Visit

HERE = "/admin/issuers"
_CHANGE = (
    Field("name", most=200),
    Field("jwks_url", most=2000),
    Field("user_claim", most=100),
    Field("enabled", required=False, most=3),
)
_NEW = (
    Field("name", most=200),
    Field("issuer", most=500),
    Field("audience", required=False, most=500),
    Field("jwks_url", most=2000),
    Field("user_claim", most=100),
    Field("do", most=4),
)
_CLAIM = re.compile(r"[!-~]+")


def ordered(visit: Visit) -> Ordered:
    return Ordered(visit.who.organization_id, visit.order)


async def index(visit: Visit) -> Response:
    return visit.page("issuer/index.html", rows=await flow.read(visit.state.db, visit.who.organization_id))


async def new(visit: Visit) -> Response:
    return _new(visit, 200, forms.blank(_NEW, {"user_claim": "sub"}))


async def make(visit: Visit) -> Response:
    """Tests what was typed, or trusts it, whichever button was pressed."""
    form, tried = visit.form(*_NEW), None
    state = visit.state
    if form.ok:
        try:
            wanted = NewIssuer(
                form["name"], form["issuer"], form["audience"] or None, form["jwks_url"], _claim(form)
            )  # fmt: skip
            if form["do"] == "test":
                tried = await flow.try_draft(state.db, state.policy, state.key_sets, ordered(visit), wanted)
            else:
                row = await flow.create(state.db, state.policy, state.key_sets, ordered(visit), wanted)
                return visit.go(HERE, _("Tokens of %(name)s are trusted from now on.", name=row.name))
        except (BadRequest, Conflict) as error:
            form = form.refused_by(error)
    return _new(visit, 200 if form.ok else 422, form, tried)


def _new(visit: Visit, status: int, form: Form, tried: Tried | None = None) -> Response:
    own = default_audience(visit.who.organization_id)
    return visit.page("issuer/new.html", status, form=form, tried=tried, own_audience=own)


def _claim(form: Form) -> str:
    if not _CLAIM.fullmatch(form["user_claim"]):
        raise BadRequest(_("The name of a claim has no spaces, such as sub or user_id."), "user_claim")
    return form["user_claim"]


# ----------------------------------------------------------------------------------------------------------- one issuer


async def show(visit: Visit) -> Response:
    return await _show(visit, 200, None)


async def change(visit: Visit) -> Response:
    form, state = visit.form(*_CHANGE), visit.state
    if form.ok:
        try:
            wanted = Change(form["name"], form["jwks_url"], _claim(form), form.chosen("enabled", "yes"))
            row = await flow.change(
                state.db, state.policy, state.key_sets, ordered(visit), visit.id("issuer_id"), wanted
            )  # fmt: skip
        except BadRequest as error:
            form = form.refused_by(error)
        else:
            return visit.go(HERE, _("%(name)s is changed. It counts within five seconds.", name=row.name))
    return await _show(visit, 422, form)


async def test(visit: Visit) -> Response:
    visit.form()
    state = visit.state
    tried = await flow.try_stored(state.db, state.policy, state.key_sets, ordered(visit), visit.id("issuer_id"))
    return visit.go(f"{HERE}/{visit.id('issuer_id')}", tried.message, "success" if tried.ok else "error")


async def delete(visit: Visit) -> Response:
    visit.form()
    await flow.delete(visit.state.db, ordered(visit), visit.id("issuer_id"))
    return visit.go(HERE, _("The issuer is trusted no more."))


async def _show(visit: Visit, status: int, form: Form | None) -> Response:
    async with visit.state.db.tenant(visit.who.organization_id) as tx:
        row = await store.one(tx, visit.who.organization_id, visit.id("issuer_id"))
    if row is None:
        raise NotFound(_("There is no such issuer here."))
    return visit.page("issuer/show.html", status, row=row, form=form or _blank(row))


def _blank(row: JwtIssuer) -> Form:
    shown = {"name": row.name, "jwks_url": row.jwks_url, "user_claim": row.user_claim}
    return forms.blank(_CHANGE, shown | ({"enabled": "yes"} if row.enabled else {}))


PAGES = (
    page("/admin/issuers", index, needs="issuers.manage"),
    page("/admin/issuers/new", new, needs="issuers.manage"),
    page("/admin/issuers/new", make, ("POST",), needs="issuers.manage"),
    page("/admin/issuers/{issuer_id:uuid}", show, needs="issuers.manage"),
    page("/admin/issuers/{issuer_id:uuid}", change, ("POST",), needs="issuers.manage"),
    page("/admin/issuers/{issuer_id:uuid}/test", test, ("POST",), needs="issuers.manage"),
    page("/admin/issuers/{issuer_id:uuid}/delete", delete, ("POST",), needs="issuers.manage"),
)

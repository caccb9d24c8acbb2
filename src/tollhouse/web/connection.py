"""The organisation's own connections to providers. No page shows a key."""

import re

from starlette.responses import Response

from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.flows import connection as flow
from tollhouse.flows.connection import Change, NewConnection, Owner, Rekey, Tried
from tollhouse.store import connection as store
from tollhouse.store.connection import ConnectionRow
from tollhouse.web import forms, language, typed
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _
from tollhouse.web.route import page
from tollhouse.web.visit import Visit

HERE = "/admin/connections"
_SHARED = (
    Field("name", required=False, most=200),
    Field("base_url", required=False, most=2000),
    Field("key", required=False, most=1000, secret=True),
    Field("priority", required=False, most=6),
)
_NEW = (Field("provider", most=80), *_SHARED, Field("do", most=4))
_CHANGE = (*_SHARED, Field("enabled", required=False, most=3), Field("without_key", required=False, most=3))
_KEY = re.compile(r"[!-~]+")


def owner(visit: Visit) -> Owner:
    return Owner(visit.who.organization_id, visit.order)


async def index(visit: Visit) -> Response:
    return visit.page("connection/index.html", rows=await flow.read(visit.state.db, owner(visit)))


async def new(visit: Visit) -> Response:
    return await _new(visit, 200, forms.blank(_NEW, {"provider": "openai", "priority": "0"}))


async def make(visit: Visit) -> Response:
    """Tests what was typed, or makes it, whichever button was pressed."""
    form, tried = visit.form(*_NEW), None
    state = visit.state
    if form.ok:
        try:
            wanted = NewConnection(
                form["provider"], form["name"], form["base_url"] or None, _key(form), True, _priority(form)
            )
            if form["do"] == "test":
                tried = await flow.try_draft(state.db, state.policy, owner(visit), wanted)
            else:
                await flow.create(state.db, state.policy, owner(visit), wanted)
                return visit.go(HERE, _("The connection is made. It is asked from the next call on."))
        except (BadRequest, Conflict) as error:
            form = form.refused_by(error)
    return await _new(visit, 200 if form.ok else 422, form, tried)


async def _new(visit: Visit, status: int, form: Form, tried: Tried | None = None) -> Response:
    async with visit.state.db.nobody() as tx:
        providers = await store.providers(tx)
    return visit.page("connection/new.html", status, form=form, tried=tried, providers=providers.values())


def _key(form: Form) -> str | None:
    key = form["key"].strip()
    if key and not _KEY.fullmatch(key):
        raise BadRequest(_("A key has no spaces and only visible ASCII characters: copy it again."), "key")
    return key or None


def _priority(form: Form) -> int:
    return typed.number(form, "priority", -1000, 1000) or 0


# ------------------------------------------------------------------------------------------------------- one connection


async def show(visit: Visit) -> Response:
    return await _show(visit, 200, None)


async def change(visit: Visit) -> Response:
    """A key that is not typed stays as it is."""
    form = visit.form(*_CHANGE)
    if form.ok:
        try:
            key = _key(form)
            rekey = Rekey(None) if form.chosen("without_key", "yes") else Rekey(key) if key else None
            wanted = Change(
                form["name"], form["base_url"] or None, rekey, form.chosen("enabled", "yes"), _priority(form)
            )  # fmt: skip
            await flow.change(visit.state.db, visit.state.policy, owner(visit), visit.id("connection_id"), wanted)
        except (BadRequest, Conflict) as error:
            form = form.refused_by(error)
        else:
            return visit.go(HERE, _("The connection is changed, from the next call on."))
    return await _show(visit, 422, form)


async def test(visit: Visit) -> Response:
    visit.form()
    tried = await flow.try_stored(visit.state.db, visit.state.policy, owner(visit), visit.id("connection_id"))
    said = f"{tried.message[:1].upper()}{tried.message[1:].rstrip('.')} ({tried.duration_ms} ms)."
    return visit.go(f"{HERE}/{visit.id('connection_id')}", said, "success" if tried.ok else "error")


async def delete(visit: Visit) -> Response:
    visit.form()
    try:
        await flow.delete(visit.state.db, owner(visit), visit.id("connection_id"))
    except Conflict as error:
        return visit.go(f"{HERE}/{visit.id('connection_id')}", language.refusal(error), "error")
    return visit.go(HERE, _("The connection and its key are deleted."))


async def _show(visit: Visit, status: int, form: Form | None) -> Response:
    async with visit.state.db.tenant(visit.who.organization_id) as tx:
        row = await store.one(tx, visit.who.organization_id, visit.id("connection_id"))
    if row is None:
        raise NotFound(_("There is no such connection here."))
    return visit.page("connection/show.html", status, row=row, form=form or _blank(row))


def _blank(row: ConnectionRow) -> Form:
    shown = {"name": row.name, "base_url": row.base_url, "priority": str(row.priority)}
    return forms.blank(_CHANGE, shown | ({"enabled": "yes"} if row.enabled else {}))


PAGES = (
    page("/admin/connections", index, needs="connections.manage"),
    page("/admin/connections/new", new, needs="connections.manage"),
    page("/admin/connections/new", make, ("POST",), needs="connections.manage"),
    page("/admin/connections/{connection_id:uuid}", show, needs="connections.manage"),
    page("/admin/connections/{connection_id:uuid}", change, ("POST",), needs="connections.manage"),
    page("/admin/connections/{connection_id:uuid}/test", test, ("POST",), needs="connections.manage"),
    page("/admin/connections/{connection_id:uuid}/delete", delete, ("POST",), needs="connections.manage"),
)

"""Models of one's own: a person's, beside their assistants, and an organisation's, beside those that its admins choose.
No page shows a key."""

import re

from starlette.responses import Response

from tollhouse.core.errors import BadRequest, Conflict
from tollhouse.core.own_model import CONTEXT_MAX, OUTPUT_MAX, OwnModel, Protocol
from tollhouse.flows import own_model as flow
from tollhouse.flows.connection import Rekey, Tried
from tollhouse.flows.own_model import Owner, Wanted
from tollhouse.store import own_model as store
from tollhouse.web import forms, typed
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import N_, _
from tollhouse.web.route import SIGNED_IN, page
from tollhouse.web.visit import Visit

MINE, OURS = "/account/ai", "/admin/ai"
PROTOCOLS: tuple[tuple[Protocol, str], ...] = (
    ("openai", N_("OpenAI, or a server that speaks like it")),
    ("anthropic", N_("Anthropic")),
    ("google", N_("Google Gemini")),
)
NAMES: dict[Protocol, str] = {"openai": "OpenAI", "anthropic": "Anthropic", "google": "Gemini"}
_FIELDS = (
    Field("name", most=100),
    Field("protocol", most=20),
    Field("base_url", most=2000),
    Field("provider_model_id", most=200),
    Field("key", required=False, most=1000, secret=True),
    Field("without_key", required=False, most=3),
    Field("context_window", most=8),
    Field("max_output_tokens", most=7),
    Field("system_message", required=False, most=20_000, lines=True),
    Field("do", most=4),
)
_USUAL = {
    "protocol": "openai", "base_url": "https://", "context_window": "128000", "max_output_tokens": "4096",
}  # fmt: skip
_KEY = re.compile(r"[!-~]+")


def owner(visit: Visit) -> Owner:
    """Of pages below /admin it is the organisation, else the person."""
    here, for_all = visit.who.organization_id, visit.request.url.path.startswith(OURS)
    return Owner(here, None if for_all else visit.who.person_id, visit.order)


def _home(visit: Visit) -> str:
    return MINE if owner(visit).person_id is not None else OURS


async def mine(visit: Visit) -> Response:
    here = visit.who.organization_id
    async with visit.state.db.tenant(here) as tx:
        found = await store.usable(tx, here, visit.who.person_id)
        room = await flow.room_in(tx, here)
    return visit.page(
        "own_model/index.html",
        own=[one for one in found if one.person_id is not None],
        shared=[one for one in found if one.person_id is None],
        room=room,
        protocols=NAMES,
    )


async def new(visit: Visit) -> Response:
    return await _new(visit, 200, forms.blank(_FIELDS, _USUAL))


async def make(visit: Visit) -> Response:
    """Tests what was typed, or adds it, whichever button was pressed."""
    form, tried, state = visit.form(*_FIELDS), None, visit.state
    if form.ok:
        try:
            if form["do"] == "test":
                tried = await flow.try_draft(state.db, state.policy, owner(visit), _wanted(form))
            else:
                row = await flow.create(state.db, state.policy, owner(visit), _wanted(form))
                return visit.go(_home(visit), _("%(name)s is added. Choose it in the chat.", name=row.name))
        except (BadRequest, Conflict) as error:
            form = form.refused_by(error)
    return await _new(visit, 200 if form.ok else 422, form, tried)


async def _new(visit: Visit, status: int, form: Form, tried: Tried | None = None) -> Response:
    room = await flow.room(visit.state.db, visit.who.organization_id)
    return _page(visit, "new", status, form=form, tried=tried, room=room, row=None)


async def show(visit: Visit) -> Response:
    row = await flow.read(visit.state.db, owner(visit), visit.id("own_model_id"))
    return _page(visit, "show", 200, form=_blank(row), tried=None, row=row)


async def change(visit: Visit) -> Response:
    """Tests what was typed, or saves it; a key that is not typed stays as it is."""
    form, tried, state, id_ = visit.form(*_FIELDS), None, visit.state, visit.id("own_model_id")
    if form.ok:
        try:
            if form["do"] == "test":
                tried = await flow.try_changed(state.db, state.policy, owner(visit), id_, _wanted(form))
            else:
                row = await flow.change(state.db, state.policy, owner(visit), id_, _wanted(form))
                return visit.go(_home(visit), _("%(name)s is changed, from the next call on.", name=row.name))
        except (BadRequest, Conflict) as error:
            form = form.refused_by(error)
    row = await flow.read(state.db, owner(visit), id_)
    return _page(visit, "show", 200 if form.ok else 422, form=form, tried=tried, row=row)


async def delete(visit: Visit) -> Response:
    visit.form()
    row = await flow.delete(visit.state.db, owner(visit), visit.id("own_model_id"))
    return visit.go(_home(visit), _("%(name)s and its key are deleted.", name=row.name))


def _page(visit: Visit, name: str, status: int, **context: object) -> Response:
    ours = owner(visit).person_id is None
    protocols = [(code, _(said)) for code, said in PROTOCOLS]
    context |= {"protocols": protocols, "home": _home(visit), "ours": ours}
    return visit.page(f"own_model/{name}.html", status, **context)


def _blank(row: OwnModel) -> Form:
    given = {
        "name": row.name, "protocol": row.protocol, "base_url": row.base_url,
        "provider_model_id": row.provider_model_id, "context_window": str(row.context_window),
        "max_output_tokens": str(row.max_output_tokens), "system_message": row.system_message,
    }  # fmt: skip
    return forms.blank(_FIELDS, given)


def _wanted(form: Form) -> Wanted:
    protocol = next((code for code, _said in PROTOCOLS if code == form["protocol"]), None)
    if protocol is None:
        raise BadRequest(_("Choose one of the list."), "protocol")
    key = form["key"].strip()
    if key and not _KEY.fullmatch(key):
        raise BadRequest(_("A key has no spaces and only visible ASCII characters: copy it again."), "key")
    window, most = typed.number(form, "context_window", 1, CONTEXT_MAX), _most(form)
    if window is not None and most > window:
        raise BadRequest(_("An answer cannot be longer than the context holds."), "max_output_tokens")
    rekey = Rekey(None) if form.chosen("without_key", "yes") else Rekey(key) if key else None
    return Wanted(
        form["name"], protocol, form["base_url"], form["provider_model_id"], form["system_message"], window or 1, most,
        rekey,
    )  # fmt: skip


def _most(form: Form) -> int:
    return typed.number(form, "max_output_tokens", 1, OUTPUT_MAX) or 1


PAGES = (
    page("/account/ai", mine, needs=SIGNED_IN),
    page("/account/ai/new", new, needs="models.use"),
    page("/account/ai/new", make, ("POST",), needs="models.use"),
    page("/account/ai/models/{own_model_id:uuid}", show, needs="models.use"),
    page("/account/ai/models/{own_model_id:uuid}", change, ("POST",), needs="models.use"),
    page("/account/ai/models/{own_model_id:uuid}/delete", delete, ("POST",), needs="models.use"),
    page("/admin/ai/models/new", new, needs="connections.manage"),
    page("/admin/ai/models/new", make, ("POST",), needs="connections.manage"),
    page("/admin/ai/models/{own_model_id:uuid}", show, needs="connections.manage"),
    page("/admin/ai/models/{own_model_id:uuid}", change, ("POST",), needs="connections.manage"),
    page("/admin/ai/models/{own_model_id:uuid}/delete", delete, ("POST",), needs="connections.manage"),
)

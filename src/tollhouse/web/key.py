"""API keys of the organisation."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from starlette.responses import Response

from tollhouse.core.ask import Credential
from tollhouse.core.cursor import cursor_of, id_in
from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.core.key import SCOPES, Mode
from tollhouse.core.money import format_credits
from tollhouse.flows import key as flow
from tollhouse.flows.key import KeyChange, Manager
from tollhouse.flows.order import MadeKey, NewKey
from tollhouse.store import actor, catalogue
from tollhouse.store import key as store
from tollhouse.store.key import ApiKey
from tollhouse.web import forms, language, typed
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import N_, _
from tollhouse.web.listing import CURSOR, LENGTH, Ways, asked
from tollhouse.web.route import page
from tollhouse.web.visit import Visit

HERE = "/admin/keys"
_LIMITS = (
    Field("models", required=False, many=True),
    Field("credits_per_month", required=False, most=20),
    Field("requests_per_minute", required=False, most=12),
    Field("expires_at", required=False, most=10),
    Field("networks", required=False, most=2500, lines=True),
)
_CHANGE = (Field("name", most=200), *_LIMITS)
_NEW = (Field("name", most=200), Field("scopes", many=True), Field("mode", most=4), *_LIMITS)
_ROTATE = (Field("overlap", most=10),)
SCOPES_SAID = (
    ("gateway", N_("Call models"), N_("Everything under /v1, with any client that speaks OpenAI or Anthropic.")),
    (
        "credits",
        N_("Use credits"),
        N_("Check access, reserve and settle for calls that your application makes itself."),
    ),
    ("act_as", N_("Act for end users"), N_("Say on whose behalf: their limits count, and their usage is told apart.")),
    (
        "manage",
        N_("Manage the organisation"),
        N_("What an admin may: members, keys, connections. It calls no models itself."),
    ),
)
OVERLAPS = (
    ("0", N_("None: it ends at once")),
    ("3600", N_("1 hour")),
    ("86400", N_("1 day")),
    ("604800", N_("7 days")),
)


def manager(visit: Visit) -> Manager:
    return Manager(visit.who.organization_id, visit.order, Credential("person", visit.who.person_id))


async def index(visit: Visit) -> Response:
    """Those that work; with `all`, also those that were revoked or have expired."""
    here, form = visit.who.organization_id, asked(visit.request, Field("all", required=False, most=1), CURSOR)
    before = id_in("key", form["cursor"] or None)
    async with visit.state.db.tenant(here) as tx:
        found = await store.page(tx, here, visit.now, LENGTH + 1, before, ended=bool(form["all"]))
    rows = found[:LENGTH]
    more = cursor_of("key", str(rows[-1].id)) if len(found) > LENGTH else None
    return visit.page(
        "key/index.html", rows=rows, ways=Ways.of(HERE, form, more), all=bool(form["all"]), own_time=own_time(visit)
    )


def own_time(visit: Visit) -> datetime:
    """The organisation's time, by which its keys expire."""
    return visit.now + timedelta(microseconds=visit.who.clock_offset_micros)


async def new(visit: Visit) -> Response:
    return await _new(visit, 200, forms.blank(_NEW, {"scopes": ("gateway",), "mode": visit.state.site.mode}))


async def make(visit: Visit) -> Response:
    form = visit.form(*_NEW)
    if form.ok:
        try:
            made = await flow.create(visit.state.db, visit.state.policy, manager(visit), _wanted(form))
        except (BadRequest, Conflict) as error:
            form = form.refused_by(error)
        else:
            return _made(visit, made, None)
    return await _new(visit, 422, form)


def _made(visit: Visit, made: MadeKey, former: ApiKey | None) -> Response:
    """The only page that ever shows the key; nothing keeps it."""
    return visit.page("key/made.html", made=made, former=former)


async def _new(visit: Visit, status: int, form: Form) -> Response:
    models = await _models(visit)
    return visit.page("key/new.html", status, form=form, scopes=_scopes(), models=models, own_time=own_time(visit))


def _scopes() -> list[tuple[str, str, str]]:
    return [(scope, _(label), _(hint)) for scope, label, hint in SCOPES_SAID]


async def _models(visit: Visit, chosen: Collection[str] = ()) -> list[tuple[str, str]]:
    """Ids and names of those that are switched on, or chosen already."""
    async with visit.state.db.nobody() as tx:
        return [(one.id, one.display_name) for one in await catalogue.models(tx) if one.enabled or one.id in chosen]


def _wanted(form: Form) -> NewKey:
    mode: Mode = "live" if form["mode"] == "live" else "test"
    scopes = tuple(scope for scope in SCOPES if form.chosen("scopes", scope))
    if set(scopes) != set(form.all("scopes")):
        raise BadRequest(_("Choose of these."), "scopes")
    return NewKey(
        form["name"], scopes, mode, typed.end_of_day(form, "expires_at"), form.all("models") or None,
        typed.credits_of(form, "credits_per_month"), typed.number(form, "requests_per_minute", 0, 10**9),
        tuple(form["networks"].split()) or None,
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- one key


async def show(visit: Visit) -> Response:
    return await _show(visit, 200, None)


async def change(visit: Visit) -> Response:
    form = visit.form(*_CHANGE)
    if form.ok:
        try:
            row = await flow.change(visit.state.db, manager(visit), visit.id("key_id"), await _changed(visit, form))
        except (BadRequest, Conflict) as error:
            form = form.refused_by(error)
        else:
            return visit.go(f"{HERE}/{row.id}", _("%(name)s is changed, from the next call on.", name=row.name))
    return await _show(visit, 422, form)


async def rotate(visit: Visit) -> Response:
    form = visit.form(*_ROTATE)
    try:
        overlap = timedelta(seconds=typed.number(form, "overlap", 0, int(flow.OVERLAP_MAX.total_seconds())) or 0)
        made = await flow.rotate(visit.state.db, visit.state.policy, manager(visit), visit.id("key_id"), overlap, None)
    except (BadRequest, Conflict) as error:
        return visit.go(f"{HERE}/{visit.id('key_id')}", language.refusal(error), "error")
    return _made(visit, made, await _read(visit))


async def revoke(visit: Visit) -> Response:
    visit.form()
    row = await flow.revoke(visit.state.db, manager(visit), visit.id("key_id"))
    return visit.go(HERE, _("%(name)s is revoked. It works no more.", name=row.name))


async def _show(visit: Visit, status: int, form: Form | None) -> Response:
    row = await _read(visit)
    async with visit.state.db.tenant(row.organization_id) as tx:
        names = await actor.names(tx, row.organization_id, [row.created_by])
    ended = row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= own_time(visit))
    return visit.page(
        "key/show.html", status, row=row, ended=ended, form=form or _blank(row), names=names, scopes=_scopes(),
        models=[] if ended else await _models(visit, row.model_ids or ()),
        overlaps=[(one, _(said)) for one, said in OVERLAPS],
        rotation=forms.blank(_ROTATE, {"overlap": "86400"}),
    )  # fmt: skip


def _blank(row: ApiKey) -> Form:
    credits = row.credits_micros_per_month
    return forms.blank(
        _CHANGE,
        {
            "name": row.name,
            "models": row.model_ids or (),
            "credits_per_month": "" if credits is None else format_credits(credits),
            "requests_per_minute": "" if row.requests_per_minute is None else str(row.requests_per_minute),
            "networks": "\n".join(row.networks or ()),
            "expires_at": "" if row.expires_at is None else typed.last_day(row.expires_at),
        },
    )


async def _changed(visit: Visit, form: Form) -> KeyChange:
    """A day that is left as it stands is no change of the moment within it."""
    before = await _read(visit)
    models = sorted(set(form.all("models")))
    fields: dict[str, Any] = {
        "name": form["name"],
        "model_ids": models or None,
        "credits_micros_per_month": typed.credits_of(form, "credits_per_month"),
        "requests_per_minute": typed.number(form, "requests_per_minute", 0, 10**9),
        "networks": form["networks"].split() or None,
    }
    if before.expires_at is None or form["expires_at"] != typed.last_day(before.expires_at):
        fields["expires_at"] = typed.end_of_day(form, "expires_at")
    return KeyChange(fields)


async def _read(visit: Visit) -> ApiKey:
    async with visit.state.db.tenant(visit.who.organization_id) as tx:
        row = await store.one(tx, visit.who.organization_id, visit.id("key_id"))
    if row is None:
        raise NotFound(_("This organisation has no such key."))
    return row


PAGES = (
    page("/admin/keys", index, needs="keys.manage"),
    page("/admin/keys/new", new, needs="keys.manage"),
    page("/admin/keys/new", make, ("POST",), needs="keys.manage"),
    page("/admin/keys/{key_id:uuid}", show, needs="keys.manage"),
    page("/admin/keys/{key_id:uuid}", change, ("POST",), needs="keys.manage"),
    page("/admin/keys/{key_id:uuid}/rotate", rotate, ("POST",), needs="keys.manage"),
    page("/admin/keys/{key_id:uuid}/revoke", revoke, ("POST",), needs="keys.manage"),
)

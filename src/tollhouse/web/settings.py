"""What the organisation is called and has chosen, and how it is handed on or ends."""

from starlette.responses import Response

from tollhouse.core.errors import BadRequest, Conflict
from tollhouse.core.membership import BUSINESS_TYPES
from tollhouse.core.session import check_proved
from tollhouse.flows import member as members
from tollhouse.flows import organization as organizations
from tollhouse.flows import settings as flow
from tollhouse.flows.organization import Change
from tollhouse.store import member as member_store
from tollhouse.store import organization as organization_store
from tollhouse.store import settings as store
from tollhouse.web import forms, typed
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import N_, _
from tollhouse.web.organization import BUSINESS_TYPE, NAME, insider
from tollhouse.web.route import page
from tollhouse.web.visit import Visit
from tollhouse.web.wording import word

HERE = "/admin/settings"
MEMBERS_MAX = 500
_ABOUT = (NAME, BUSINESS_TYPE)
_CALLS = (
    Field("cache_ttl", required=False, most=7),
    Field("stores_content", required=False, most=3),
    Field("retention_days", most=4),
)
_CHATS = (Field("chats_kept", required=False, most=4),)
_TRANSFER = (Field("member", most=36),)
_DELETE = (NAME,)
_KEPT = {
    0: N_("Not at all"),
    300: N_("5 minutes"),
    3600: N_("1 hour"),
    86400: N_("1 day"),
    604800: N_("7 days"),
    2592000: N_("30 days"),
}
# Days; 0: they are not deleted.
_CHATS_KEPT = {0: N_("Never"), 30: N_("30 days"), 90: N_("90 days"), 365: N_("365 days")}


async def show(visit: Visit) -> Response:
    return await _show(visit, 200)


async def change(visit: Visit) -> Response:
    """Name and business type."""
    form = visit.form(*_ABOUT)
    if form.ok:
        try:
            wanted = Change(form["name"], form["business_type"])
            await organizations.change(visit.state.db, insider(visit), wanted)
        except (BadRequest, Conflict) as error:
            form = form.refused_by(error)
        else:
            return visit.go(HERE, _("Saved."))
    return await _show(visit, 422, about=form)


async def change_calls(visit: Visit) -> Response:
    """What becomes of prompts and answers."""
    form = visit.form(*_CALLS)
    if form.ok:
        try:
            days = typed.number(form, "retention_days", 1, 3650)
            ttl = typed.number(form, "cache_ttl", 0, max(_KEPT)) or None
            wanted = flow.Change(flow.NewTtl(ttl), form.chosen("stores_content", "yes"), days)
            await flow.change(visit.state.db, visit.order, visit.who.organization_id, wanted)
        except BadRequest as error:
            form = form.refused_by(error)
        else:
            return visit.go(HERE, _("Saved. It counts from the next call on."))
    return await _show(visit, 422, calls=form)


async def change_chats(visit: Visit) -> Response:
    """How long members' chats are kept."""
    form = visit.form(*_CHATS)
    if form.ok:
        try:
            wanted = flow.NewChatRetention(typed.number(form, "chats_kept", 0, 3650) or None)
            await flow.change(
                visit.state.db, visit.order, visit.who.organization_id, flow.Change(chat_retention=wanted)
            )
        except BadRequest as error:
            form = form.refused_by(error)
        else:
            return visit.go(HERE, _("Saved. Older chats are deleted within the hour."))
    return await _show(visit, 422, chats=form)


async def empty_cache(visit: Visit) -> Response:
    visit.form()
    count = await flow.empty_cache(visit.state.db, visit.order, visit.who.organization_id)
    return visit.go(HERE, _("The answer cache is empty: %(count)s answers were forgotten.", count=count))


async def forget_content(visit: Visit) -> Response:
    visit.form()
    count = await flow.forget_content(visit.state.db, visit.order, visit.who.organization_id)
    return visit.go(HERE, _("Prompts and answers of %(count)s requests were deleted.", count=count))


async def _show(
    visit: Visit, status: int, about: Form | None = None, calls: Form | None = None, chats: Form | None = None
) -> Response:
    here = visit.who.organization_id
    async with visit.state.db.tenant(here) as tx:
        row, chosen = await organization_store.find(tx, here), await store.read(tx, here)
    assert row is not None
    ttl, days = chosen.cache_ttl_s or 0, chosen.chat_retention_days or 0
    stands = {
        "cache_ttl": str(ttl),
        "retention_days": str(chosen.retention_days),
        "stores_content": "yes" if chosen.stores_content else "",
    }
    return visit.page(
        "settings/show.html", status, row=row,
        about=about or forms.blank(_ABOUT, {"name": row.name, "business_type": row.business_type}),
        calls=calls or forms.blank(_CALLS, stands),
        chats=chats or forms.blank(_CHATS, {"chats_kept": str(days)}),
        chat_times=[(str(one), _days(one)) for one in sorted({days, *_CHATS_KEPT})],
        business_types=[(one, word(one)) for one in dict.fromkeys((row.business_type, *BUSINESS_TYPES))],
        times=[(str(one), _time(one)) for one in sorted({ttl, *_KEPT})],
    )  # fmt: skip


# --------------------------------------------------------------------------------------------- handing on, and the end


async def choose_owner(visit: Visit) -> Response:
    check_proved(visit.who, visit.now)
    return await _choose(visit, 200, forms.blank(_TRANSFER))


async def transfer(visit: Visit) -> Response:
    form = visit.form(*_TRANSFER)
    if form.ok:
        try:
            owner = await members.transfer(visit.state.db, insider(visit), typed.id_of(form, "member"))
        except (BadRequest, Conflict) as error:
            form = form.refused_by(error)
        else:
            return visit.go(
                "/admin", _("%(name)s owns the organisation now. You are an admin.", name=owner.name or owner.email)
            )
    return await _choose(visit, 422, form)


async def _choose(visit: Visit, status: int, form: Form) -> Response:
    here = visit.who.organization_id
    async with visit.state.db.tenant(here) as tx:
        found = await member_store.page(tx, here, None, MEMBERS_MAX)
    others = [one for one in found if one.person_id != visit.who.person_id]
    return visit.page("settings/transfer.html", status, form=form, others=others)


async def confirm_end(visit: Visit) -> Response:
    check_proved(visit.who, visit.now)
    return visit.page("settings/delete.html", form=forms.blank(_DELETE))


async def delete(visit: Visit) -> Response:
    """The session goes on in the person's own organisation."""
    form = visit.form(*_DELETE)
    if form.ok:
        try:
            await organizations.delete(visit.state.db, insider(visit), form["name"])
        except (BadRequest, Conflict) as error:
            form = form.refused_by(error)
        else:
            return visit.go("/organizations", _("%(name)s is deleted.", name=visit.who.organization_name))
    return visit.page("settings/delete.html", 422, form=form)


def _days(days: int) -> str:
    return _(_CHATS_KEPT[days]) if days in _CHATS_KEPT else _("%(count)s days", count=days)


def _time(seconds: int) -> str:
    return _(_KEPT[seconds]) if seconds in _KEPT else _("%(count)s seconds", count=seconds)


PAGES = (
    page("/admin/settings", show, needs="organization.manage"),
    page("/admin/settings", change, ("POST",), needs="organization.manage"),
    page("/admin/settings/calls", change_calls, ("POST",), needs="organization.manage"),
    page("/admin/settings/chats", change_chats, ("POST",), needs="organization.manage"),
    page("/admin/settings/cache", empty_cache, ("POST",), needs="organization.manage"),
    page("/admin/settings/content", forget_content, ("POST",), needs="organization.manage"),
    page("/admin/settings/transfer", choose_owner, needs="organization.own"),
    page("/admin/settings/transfer", transfer, ("POST",), needs="organization.own"),
    page("/admin/settings/delete", confirm_end, needs="organization.own"),
    page("/admin/settings/delete", delete, ("POST",), needs="organization.own"),
)

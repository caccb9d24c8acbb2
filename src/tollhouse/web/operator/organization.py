"""Organisations as operators see them: found, looked at, suspended."""

from typing import Any
from uuid import UUID

from starlette.responses import Response

from tollhouse.core.errors import TollhouseError
from tollhouse.flows import audit, govern, people, platform
from tollhouse.flows import key as keys
from tollhouse.flows.key import Manager
from tollhouse.flows.order import Overview
from tollhouse.flows.people import Search
from tollhouse.store import credit
from tollhouse.store.audit import Filter
from tollhouse.web import forms
from tollhouse.web.language import _, pgettext
from tollhouse.web.operator.frame import PER_PAGE, REASON, address, ask_for_proof, choice, show, word
from tollhouse.web.route import SUPERADMIN, page
from tollhouse.web.visit import Visit

PATH = "/operator/organizations"
ROWS_OF_AUDIT = 20


async def index(visit: Visit) -> Response:
    states = {"open": pgettext("state", "Open"), "suspended": _("Suspended"), "deleted": _("Deleted")}
    search, state = word(visit, "search"), choice(visit, "state", states)
    plan_ids = await platform.plan_ids(visit.state.db)
    plan = choice(visit, "plan", {one: one for one in plan_ids})
    wanted = Search(search, PER_PAGE, word(visit, "cursor") or None, plan, state)
    found = await people.search_organizations(visit.state.db, visit.order, wanted)
    following = found.next_cursor and address(PATH, search=search, state=state, plan=plan, cursor=found.next_cursor)
    return show(
        visit, "operator/organization/index.html", items=found.items, following=following, search=search, state=state,
        plan=plan, states=states, plan_ids=plan_ids, paged=bool(wanted.cursor),
    )  # fmt: skip


async def detail(visit: Visit) -> Response:
    id_ = visit.id("organization_id")
    overview = await govern.read_organization(visit.state.db, visit.order, id_)
    async with visit.state.db.tenant(id_) as tx:
        statement = await credit.statement(tx, id_, visit.now)
    return show(visit, "operator/organization/detail.html", **_about(overview), statement=statement)


async def members(visit: Visit) -> Response:
    id_ = visit.id("organization_id")
    overview = await govern.read_organization(visit.state.db, visit.order, id_)
    cursor = word(visit, "cursor") or None
    found = await people.read_members(visit.state.db, visit.order, id_, cursor, PER_PAGE)
    following = found.next_cursor and address(f"{PATH}/{id_}/members", cursor=found.next_cursor)
    return show(
        visit, "operator/organization/members.html", **_about(overview), items=found.items, following=following,
        paged=bool(cursor),
    )  # fmt: skip


async def show_keys(visit: Visit) -> Response:
    id_ = visit.id("organization_id")
    overview = await govern.read_organization(visit.state.db, visit.order, id_)
    found = await keys.read(visit.state.db, Manager(id_, visit.order, None))
    return show(visit, "operator/organization/keys.html", **_about(overview), items=found)


async def ask_revoke(visit: Visit) -> Response:
    ask_for_proof(visit)
    id_, key_id = visit.id("organization_id"), visit.id("key_id")
    overview = await govern.read_organization(visit.state.db, visit.order, id_)
    found = await keys.read(visit.state.db, Manager(id_, visit.order, None))
    key = next((one for one in found if one.id == key_id), None)
    if key is None:
        return visit.go(f"{PATH}/{id_}/keys", told=_("This key works no more already."), category="info")
    return show(visit, "operator/organization/revoke.html", **_about(overview), key=key)


async def revoke(visit: Visit) -> Response:
    visit.form()
    id_ = visit.id("organization_id")
    row = await keys.revoke(visit.state.db, Manager(id_, visit.order, None), visit.id("key_id"))
    return visit.go(f"{PATH}/{id_}/keys", told=_("The key %(name)s was revoked. It works no more.", name=row.name))


async def show_audit(visit: Visit) -> Response:
    id_ = visit.id("organization_id")
    overview = await govern.read_organization(visit.state.db, visit.order, id_)
    rows = await audit.page(visit.state.db, visit.order, id_, Filter(), ROWS_OF_AUDIT, None, outside=True)
    return show(visit, "operator/organization/audit.html", **_about(overview), items=rows)


async def ask_suspend(visit: Visit) -> Response:
    ask_for_proof(visit)
    return await _suspension(visit, forms.blank((REASON,)))


async def suspend(visit: Visit) -> Response:
    form, id_ = visit.form(REASON), visit.id("organization_id")
    if not form.ok:
        return await _suspension(visit, form, 422)
    lift = visit.request.url.path.endswith("/unsuspend")
    act = people.unsuspend_organization if lift else people.suspend_organization
    try:
        row = await act(visit.state.db, visit.order, id_, form["reason"])
    except TollhouseError as error:
        return await _suspension(visit, form.refused_by(error), error.status)
    told = (
        _("%(name)s is open again.", name=row.name)
        if lift
        else _("%(name)s is suspended: from now on nobody uses it.", name=row.name)
    )
    return visit.go(f"{PATH}/{id_}", told=told)


async def _suspension(visit: Visit, form: forms.Form, status: int = 200) -> Response:
    overview = await govern.read_organization(visit.state.db, visit.order, visit.id("organization_id"))
    lift = visit.request.url.path.endswith("/unsuspend")
    return show(visit, "operator/organization/suspend.html", status, **_about(overview), form=form, lift=lift)


def _about(overview: Overview) -> dict[str, Any]:
    row = overview.organization
    return {"row": row, "balance": overview.balance, "own_time": overview.now, "base": base_of(row.id)}


def base_of(organization_id: UUID) -> str:
    return f"{PATH}/{organization_id}"


_ONE = PATH + "/{organization_id:uuid}"
PAGES = (
    page(PATH, index, needs=SUPERADMIN),
    page(_ONE, detail, needs=SUPERADMIN),
    page(f"{_ONE}/members", members, needs=SUPERADMIN),
    page(f"{_ONE}/keys", show_keys, needs=SUPERADMIN),
    page(f"{_ONE}/audit", show_audit, needs=SUPERADMIN),
    page(f"{_ONE}/keys/{{key_id:uuid}}/revoke", ask_revoke, needs=SUPERADMIN),
    page(f"{_ONE}/keys/{{key_id:uuid}}/revoke", revoke, ("POST",), needs=SUPERADMIN),
    page(f"{_ONE}/suspend", ask_suspend, needs=SUPERADMIN),
    page(f"{_ONE}/suspend", suspend, ("POST",), needs=SUPERADMIN),
    page(f"{_ONE}/unsuspend", ask_suspend, needs=SUPERADMIN),
    page(f"{_ONE}/unsuspend", suspend, ("POST",), needs=SUPERADMIN),
)

"""What operators do to the money of an organisation: grants, its plan, its overdraft."""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from starlette.responses import Response

from tollhouse.core.credit import PRIORITY, Source
from tollhouse.core.errors import BadRequest, TollhouseError
from tollhouse.core.money import parse_credits
from tollhouse.flows import govern, platform
from tollhouse.flows.once import Once
from tollhouse.flows.order import NewGrant, Overview
from tollhouse.web import forms
from tollhouse.web.figure import credits
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import N_, _
from tollhouse.web.operator.frame import ask_for_proof, new_once, show
from tollhouse.web.operator.organization import base_of
from tollhouse.web.route import SUPERADMIN, page
from tollhouse.web.visit import Visit

# What is given by hand. Allocations of a plan and of a change of it are booked by themselves.
SOURCES: dict[Source, str] = {
    "promo": N_("Promotion: free, used before what is paid"),
    "topup": N_("Top-up: paid for"),
    "adjustment": N_("Adjustment: makes up for something"),
    "welcome": N_("Welcome bonus"),
}
GRANT = (
    Field("credits", most=20),
    Field("source"),
    Field("note", most=500),
    Field("expires_on", required=False, most=10),
    Field("once", most=40),
)
PLAN = (Field("plan", most=80),)
OVERDRAFT = (Field("credits", most=20),)


async def ask_grant(visit: Visit) -> Response:
    ask_for_proof(visit)
    return await _grant_page(visit, forms.blank(GRANT, {"source": "promo", "once": new_once()}))


async def grant(visit: Visit) -> Response:
    """Sent twice, it is given once: the form carries what its sending is known by."""
    form, id_ = visit.form(*GRANT), visit.id("organization_id")
    if not form.ok:
        return await _grant_page(visit, form, 422)
    try:
        wanted = _wanted(form)
        said = "\n".join(form[name] for name in ("credits", "source", "note", "expires_on"))
        once = Once("form: a grant", form["once"], hashlib.sha256(said.encode()).digest())
        (await govern.give_grant(visit.state.db, visit.order, id_, wanted, once)).result()
    except TollhouseError as error:
        # what was refused is remembered under its name: the next try is another one
        again = forms.blank(GRANT, {**dict(form.values), "once": new_once()})
        return await _grant_page(visit, again.refused_by(error), error.status)
    return visit.go(
        base_of(id_),
        told=_("%(amount)s credits were given.", amount=credits(wanted.amount_micros)),
    )


def _wanted(form: Form) -> NewGrant:
    source = form["source"]
    if source not in SOURCES:
        raise BadRequest(_("Choose what the credits are."), "source")
    amount = _credits(form)
    if amount == 0:
        raise BadRequest(_("Give more than nothing."), "credits")
    return NewGrant(
        source, amount, form["note"], priority=PRIORITY[source], paid=source == "topup", expires_at=_end_of_day(form)
    )


def _credits(form: Form) -> int:
    """Micro-credits, not below zero."""
    try:
        found = parse_credits(form["credits"])
    except ValueError:
        raise BadRequest(_("Write digits with at most six decimals, such as 12.5."), "credits") from None
    if found < 0:
        raise BadRequest(_("Write an amount that is not below zero."), "credits")
    return found


def _end_of_day(form: Form) -> datetime | None:
    if not form["expires_on"]:
        return None
    try:
        begin = datetime.strptime(form["expires_on"], "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise BadRequest(_("Choose a day, such as 2026-02-28."), "expires_on") from None
    return begin + timedelta(days=1)


async def _grant_page(visit: Visit, form: Form, status: int = 200) -> Response:
    sources = [(source, _(said)) for source, said in SOURCES.items()]
    return await _page(visit, "operator/organization/grant.html", form, status, sources=sources)


async def ask_plan(visit: Visit) -> Response:
    ask_for_proof(visit)
    return await _plan_page(visit, forms.blank(PLAN))


async def change_plan(visit: Visit) -> Response:
    form = visit.form(*PLAN)

    async def act() -> str:
        overview = await govern.change_plan(visit.state.db, visit.order, visit.id("organization_id"), form["plan"])
        row = overview.organization
        if row.pending_plan_id is not None:
            return _("The plan changes to %(plan)s when the period ends.", plan=row.pending_plan_id)
        return _("The plan is %(plan)s.", plan=row.plan_id)

    return await _act(visit, form, act, _plan_page)


async def _plan_page(visit: Visit, form: Form, status: int = 200) -> Response:
    plan_ids = await platform.plan_ids(visit.state.db)
    return await _page(visit, "operator/organization/plan.html", form, status, plan_ids=plan_ids)


async def ask_overdraft(visit: Visit) -> Response:
    ask_for_proof(visit)
    return await _overdraft_page(visit, forms.blank(OVERDRAFT))


async def set_overdraft(visit: Visit) -> Response:
    form = visit.form(*OVERDRAFT)

    async def act() -> str:
        limit = _credits(form)
        await govern.set_overdraft(visit.state.db, visit.order, visit.id("organization_id"), limit)
        return _("The organisation may now spend %(limit)s credits below zero.", limit=credits(limit))

    return await _act(visit, form, act, _overdraft_page)


async def _overdraft_page(visit: Visit, form: Form, status: int = 200) -> Response:
    return await _page(visit, "operator/organization/overdraft.html", form, status)


Show = Callable[[Visit, Form, int], Awaitable[Response]]


async def _act(visit: Visit, form: Form, act: Callable[[], Awaitable[str]], again: Show) -> Response:
    """Does it and goes back to the organisation, or shows the form again with what is wrong."""
    if not form.ok:
        return await again(visit, form, 422)
    try:
        told = await act()
    except TollhouseError as error:
        return await again(visit, form.refused_by(error), error.status)
    return visit.go(base_of(visit.id("organization_id")), told=told)


async def _page(visit: Visit, template: str, form: Form, status: int, **context: object) -> Response:
    overview: Overview = await govern.read_organization(visit.state.db, visit.order, visit.id("organization_id"))
    row = overview.organization
    return show(
        visit, template, status, row=row, balance=overview.balance, own_time=overview.now, base=base_of(row.id),
        form=form, **context,
    )  # fmt: skip


_ONE = "/operator/organizations/{organization_id:uuid}"
PAGES = (
    page(f"{_ONE}/grant", ask_grant, needs=SUPERADMIN),
    page(f"{_ONE}/grant", grant, ("POST",), needs=SUPERADMIN),
    page(f"{_ONE}/plan", ask_plan, needs=SUPERADMIN),
    page(f"{_ONE}/plan", change_plan, ("POST",), needs=SUPERADMIN),
    page(f"{_ONE}/overdraft", ask_overdraft, needs=SUPERADMIN),
    page(f"{_ONE}/overdraft", set_overdraft, ("POST",), needs=SUPERADMIN),
)

"""Members of the organisation, and who is invited to it."""

from uuid import UUID

from starlette.responses import Response

from tollhouse.core.access import ROLES, Role
from tollhouse.core.cursor import cursor_of, id_in
from tollhouse.core.errors import BadRequest, Conflict, Forbidden, NotFound, ProofRequired, TooManyTries
from tollhouse.flows import invitation as invitations
from tollhouse.flows import member as flow
from tollhouse.flows.invitation import Wanted
from tollhouse.store import invitation as invitation_store
from tollhouse.store import member as store
from tollhouse.store.db import TenantTx
from tollhouse.store.member import Member
from tollhouse.web import forms, language
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _
from tollhouse.web.listing import CURSOR, LENGTH, Ways, asked
from tollhouse.web.organization import insider
from tollhouse.web.route import page
from tollhouse.web.visit import Visit
from tollhouse.web.wording import within

HERE = "/admin/members"
_INVITE = (Field("email", most=254), Field("role", most=20))
_ROLE = Field("role", most=20)


async def index(visit: Visit) -> Response:
    """Everybody may see who is in; who manages members also sees who is invited."""
    here, form = visit.who.organization_id, asked(visit.request, CURSOR)
    after = id_in("members", form["cursor"] or None)
    async with visit.state.db.tenant(here) as tx:
        found = await store.page(tx, here, after, LENGTH + 1)
        waiting = await invitation_store.waiting(tx, here) if visit.may("members.manage") else []
    rows = found[:LENGTH]
    more = cursor_of("members", str(rows[-1].person_id)) if len(found) > LENGTH else None
    return visit.page("member/index.html", rows=rows, waiting=waiting, ways=Ways.of(HERE, form, more))


# ---------------------------------------------------------------------------------------------------------- invitations


async def invite(visit: Visit) -> Response:
    return visit.page("member/invite.html", form=forms.blank(_INVITE, {"role": "member"}))


async def send_invitation(visit: Visit) -> Response:
    form = visit.form(*_INVITE)
    if form.ok:
        try:
            sent = await _invite(visit, Wanted(form["email"], _role(form)))
        except (BadRequest, Conflict, TooManyTries) as error:
            form = form.refused_by(error)
        else:
            return visit.go(HERE, _("The invitation to %(sent)s is on its way.", sent=sent))
    return visit.page("member/invite.html", 422, form=form)


async def resend(visit: Visit) -> Response:
    """Another mail with another link; the former link works no more."""
    visit.form()
    here = visit.who.organization_id
    async with visit.state.db.tenant(here) as tx:
        row = await invitation_store.one(tx, here, visit.id("invitation_id"))
    if row is None or row.accepted_at is not None or row.revoked_at is not None:
        raise NotFound(_("This organisation has no such open invitation."))
    try:
        sent = await _invite(visit, Wanted(row.email, row.role))
    except (Conflict, TooManyTries) as error:
        return visit.go(HERE, language.refusal(error), "error")
    return visit.go(HERE, _("Another mail to %(sent)s is on its way. The link of the former works no more.", sent=sent))


async def revoke(visit: Visit) -> Response:
    visit.form()
    try:
        await invitations.revoke(visit.state.db, insider(visit), visit.id("invitation_id"))
    except Conflict as error:
        return visit.go(HERE, language.refusal(error), "error")
    return visit.go(HERE, _("The invitation is revoked. Its link works no more."))


async def _invite(visit: Visit, wanted: Wanted) -> str:
    """The address that it was sent to."""
    return (await invitations.invite(visit.state.db, visit.state.site, insider(visit), wanted)).email


# ----------------------------------------------------------------------------------------------------------- one member


async def show(visit: Visit) -> Response:
    return await _show(visit, 200, None)


async def change_role(visit: Visit) -> Response:
    form = visit.form(_ROLE)
    if form.ok:
        try:
            after = await flow.change_role(visit.state.db, insider(visit), visit.id("person_id"), _role(form))
        except ProofRequired:
            raise
        except (BadRequest, Conflict, Forbidden) as error:
            return await _show(visit, error.status, form.refused("role", language.refusal(error)))
        return visit.go(HERE, _("%(name)s is %(role)s now.", name=after.name or after.email, role=within(after.role)))
    return await _show(visit, 422, form)


async def remove(visit: Visit) -> Response:
    visit.form()
    try:
        await flow.remove(visit.state.db, insider(visit), visit.id("person_id"))
    except Conflict as error:
        return visit.go(f"{HERE}/{visit.id('person_id')}", language.refusal(error), "error")
    return visit.go(HERE, _("The member is removed. Their calls end within seconds."))


async def _show(visit: Visit, status: int, form: Form | None) -> Response:
    async with visit.state.db.tenant(visit.who.organization_id) as tx:
        member = await found(tx, visit.who.organization_id, visit.id("person_id"))
    form = form or forms.blank([_ROLE], {"role": member.role})
    return visit.page("member/show.html", status, member=member, form=form, roles=ROLES)


async def found(tx: TenantTx, organization_id: UUID, person_id: UUID) -> Member:
    """NotFound for who is no member."""
    member = await store.one(tx, organization_id, person_id)
    if member is None:
        raise NotFound(_("This organisation has no such member."))
    return member


def _role(form: Form) -> Role:
    role = next((one for one in ROLES if one == form["role"]), None)
    if role is None:
        there_are = ", ".join(within(one) for one in ROLES)
        raise BadRequest(_("Choose one of these roles: %(roles)s.", roles=there_are), "role")
    return role


PAGES = (
    page("/admin/members", index, needs="organization.read"),
    page("/admin/members/invite", invite, needs="members.manage"),
    page("/admin/members/invite", send_invitation, ("POST",), needs="members.manage"),
    page("/admin/members/{person_id:uuid}", show, needs="members.manage"),
    page("/admin/members/{person_id:uuid}/role", change_role, ("POST",), needs="members.manage"),
    page("/admin/members/{person_id:uuid}/remove", remove, ("POST",), needs="members.manage"),
    page("/admin/invitations/{invitation_id:uuid}/resend", resend, ("POST",), needs="members.manage"),
    page("/admin/invitations/{invitation_id:uuid}/revoke", revoke, ("POST",), needs="members.manage"),
)

"""Where the link of an invitation leads."""

from starlette.responses import Response

from tollhouse.core.errors import Conflict, NotFound
from tollhouse.flows import invitation as flow
from tollhouse.flows.session import switch_organization
from tollhouse.web import language, session
from tollhouse.web.language import _
from tollhouse.web.route import ANYONE, SIGNED_IN, page
from tollhouse.web.visit import Visit
from tollhouse.web.wording import within


async def look(visit: Visit) -> Response:
    """What it is an invitation to, and the next step for whoever has opened the link: nobody learns from it to which
    address it was sent."""
    token = visit.token
    try:
        found = await flow.look(visit.state.db, visit.state.site.keyring, token, visit.now)
    except (Conflict, NotFound) as error:
        return visit.page("invitation/over.html", error.status, message=language.refusal(error))
    signed = visit.signed
    step = "sign_in"
    if signed is not None:
        step = "other" if signed.email != found.invitation.email else "accept" if signed.verified else "verify"
    return visit.page("invitation/look.html", found=found, step=step, token=token)


async def accept(visit: Visit) -> Response:
    """Makes the person a member, and goes on there."""
    visit.form()
    state, site = visit.state, visit.state.site
    made, role = await flow.accept(state.db, site.keyring, visit.order, visit.who, visit.token)
    cookie = await switch_organization(state.db, site, visit.order, visit.who, made.id)
    response = visit.go(
        "/admin/members" if role == "member" else "/admin",
        _("You are in %(name)s now, as %(role)s.", name=made.name, role=within(role)),
    )
    session.begin(response, site, cookie)
    return response


PAGES = (
    page("/invitations/{token}", look, needs=ANYONE),
    page("/invitations/{token}", accept, ("POST",), needs=SIGNED_IN),
)

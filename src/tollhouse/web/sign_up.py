"""Signing up, and confirming the address that one signed up with."""

from typing import Any

from starlette.responses import Response

from tollhouse.core.errors import NotFound, TollhouseError
from tollhouse.flows import invitation as invitations
from tollhouse.flows import link
from tollhouse.flows import session as sessions
from tollhouse.flows import sign_in as ways
from tollhouse.flows import sign_up as flow
from tollhouse.flows.sign_up import NewPerson
from tollhouse.store.invitation import InvitationFound
from tollhouse.web import forms
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _
from tollhouse.web.route import ANYONE, page
from tollhouse.web.sign_in import EMAIL, enter, link_over
from tollhouse.web.visit import Visit

_FIELDS = (
    EMAIL,
    Field("name", required=False),
    Field("password", secret=True),
    Field("invitation", required=False, most=100),
)
_PASSWORD = (Field("password", secret=True),)


async def index(visit: Visit) -> Response:
    """With `invitation`, the token of a link in mail, for the address that this was sent to."""
    token = visit.request.query_params.get("invitation", "")
    if visit.signed is not None:
        return visit.go(f"/invitations/{token}" if token else "/")
    found = await _invitation(visit, token)
    email = found.invitation.email if found else ""
    return await _page(visit, forms.blank(_FIELDS, {"email": email, "invitation": token}), found)


async def sign_up(visit: Visit) -> Response:
    form = visit.form(*_FIELDS)
    token = form["invitation"]
    found = await _invitation(visit, token)
    if not form.ok:
        return await _page(visit, form, found)
    wanted = NewPerson(form["email"], form["name"], form["password"], token or None)
    db, site = visit.state.db, visit.state.site
    try:
        person_id = await flow.sign_up(db, site, visit.stranger, wanted)
    except TollhouseError as error:
        return await _page(visit, form, found, error)
    if person_id is None:
        return visit.page("sign_up/mail_sent.html", email=form["email"])
    begun = await sessions.begin(db, site, visit.stranger, person_id, "password", visit.browser)
    return enter(visit, begun, f"/invitations/{token}")


async def look_at_link(visit: Visit) -> Response:
    try:
        await link.look(visit.state.db, visit.state.site.keyring, "verify_email", visit.token, visit.now)
    except NotFound as error:
        return _over(visit, error)
    return visit.page("sign_up/verify_email.html", form=forms.blank(_PASSWORD))


async def verify_email(visit: Visit) -> Response:
    form = visit.form(*_PASSWORD)
    if not form.ok:
        return visit.again("sign_up/verify_email.html", form)
    try:
        begun = await ways.verify_email(
            visit.state.db, visit.state.site, visit.stranger, visit.token, form["password"], visit.browser
        )
    except NotFound as error:
        return _over(visit, error)
    except TollhouseError as error:
        return visit.again("sign_up/verify_email.html", form, error)
    return enter(visit, begun, "/")


async def _invitation(visit: Visit, token: str) -> InvitationFound | None:
    """NotFound and Conflict, which say what to do, for a link that leads nowhere."""
    if not token:
        return None
    return await invitations.look(visit.state.db, visit.state.site.keyring, token, visit.now)


async def _page(
    visit: Visit, form: Form, found: InvitationFound | None, error: TollhouseError | None = None
) -> Response:
    context: dict[str, Any] = {"found": found, "offered": await visit.state.open_id.offered()}
    if form.sent:
        return visit.again("sign_up/index.html", form, error, **context)
    return visit.page("sign_up/index.html", form=form, **context)


def _over(visit: Visit, error: NotFound) -> Response:
    return link_over(visit, error, "/sign-in", _("Sign in, and get another one"))


PAGES = (
    page("/sign-up", index, needs=ANYONE),
    page("/sign-up", sign_up, ("POST",), needs=ANYONE),
    page("/verify-email/{token}", look_at_link, needs=ANYONE),
    page("/verify-email/{token}", verify_email, ("POST",), needs=ANYONE),
)

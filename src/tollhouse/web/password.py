"""Another password for who has forgotten theirs, by a link in mail."""

from starlette.responses import Response

from tollhouse.core.errors import NotFound, TollhouseError
from tollhouse.flows import link
from tollhouse.flows import password as flow
from tollhouse.web import forms, session
from tollhouse.web.forms import Field
from tollhouse.web.language import _
from tollhouse.web.route import ANYONE, page
from tollhouse.web.sign_in import EMAIL, link_over
from tollhouse.web.visit import Visit

_MAIL_FIELDS = (EMAIL,)
_FIELDS = (Field("password", secret=True),)


async def ask_email(visit: Visit) -> Response:
    email = visit.signed.email if visit.signed is not None else ""
    return visit.page("password/forgot.html", form=forms.blank(_MAIL_FIELDS, {"email": email}))


async def send_link(visit: Visit) -> Response:
    form = visit.form(*_MAIL_FIELDS)
    if not form.ok:
        return visit.again("password/forgot.html", form)
    try:
        await flow.request_reset(visit.state.db, visit.state.site, visit.stranger, form["email"])
    except TollhouseError as error:
        return visit.again("password/forgot.html", form, error)
    return visit.page("password/mail_sent.html", email=form["email"])


async def ask_password(visit: Visit) -> Response:
    try:
        sent = await link.look(visit.state.db, visit.state.site.keyring, "reset_password", visit.token, visit.now)
    except NotFound as error:
        return _over(visit, error)
    return visit.page("password/reset.html", form=forms.blank(_FIELDS), email=sent.email)


async def reset(visit: Visit) -> Response:
    """All sessions of the person end, also one in this browser."""
    form = visit.form(*_FIELDS)
    db, site, token = visit.state.db, visit.state.site, visit.token
    try:
        email = (await link.look(db, site.keyring, "reset_password", token, visit.now)).email
    except NotFound as error:
        return _over(visit, error)
    if not form.ok:
        return visit.again("password/reset.html", form, email=email)
    try:
        await flow.reset(db, site, visit.stranger, token, form["password"])
    except NotFound as error:
        return _over(visit, error)
    except TollhouseError as error:
        return visit.again("password/reset.html", form, error, email=email)
    response = visit.go("/sign-in", _("Your password is changed. Sign in with it."))
    session.end(response, site)
    return response


def _over(visit: Visit, error: NotFound) -> Response:
    return link_over(visit, error, "/forgot-password", _("Ask for another link"))


PAGES = (
    page("/forgot-password", ask_email, needs=ANYONE),
    page("/forgot-password", send_link, ("POST",), needs=ANYONE),
    page("/reset-password/{token}", ask_password, needs=ANYONE),
    page("/reset-password/{token}", reset, ("POST",), needs=ANYONE),
)

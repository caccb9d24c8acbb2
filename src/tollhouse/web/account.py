"""What people set for themselves: their name, their e-mail address, the organisation that they work in."""

from uuid import UUID

from starlette.responses import Response

from tollhouse.core.errors import NotFound, TollhouseError
from tollhouse.core.session import check_own, check_proved
from tollhouse.flows import link, profile
from tollhouse.flows import session as sessions
from tollhouse.web import forms
from tollhouse.web.forms import Field
from tollhouse.web.language import _
from tollhouse.web.route import SIGNED_IN, page
from tollhouse.web.sign_in import EMAIL, NEXT, link_over, rotated
from tollhouse.web.visit import Visit

_NAME = (Field("name", required=False),)
_EMAIL = (EMAIL,)


async def index(visit: Visit) -> Response:
    check_own(visit.who)
    return visit.page("account/profile.html", form=forms.blank(_NAME, {"name": visit.who.name}))


async def rename(visit: Visit) -> Response:
    form = visit.form(*_NAME)
    if not form.ok:
        return visit.again("account/profile.html", form)
    try:
        await profile.rename(visit.state.db, visit.order, visit.who, form["name"])
    except TollhouseError as error:
        return visit.again("account/profile.html", form, error)
    return visit.go("/settings", _("Your name is saved."))


async def ask_email(visit: Visit) -> Response:
    check_proved(visit.who, visit.now)
    return visit.page("account/email.html", form=forms.blank(_EMAIL))


async def send_link(visit: Visit) -> Response:
    check_proved(visit.who, visit.now)
    form = visit.form(*_EMAIL)
    if not form.ok:
        return visit.again("account/email.html", form)
    try:
        await profile.request_email(visit.state.db, visit.state.site, visit.order, visit.who, form["email"])
    except TollhouseError as error:
        return visit.again("account/email.html", form, error)
    return visit.page("account/mail_sent.html", email=form["email"])


async def look_at_link(visit: Visit) -> Response:
    check_own(visit.who)
    try:
        sent = await link.look(visit.state.db, visit.state.site.keyring, "change_email", visit.token, visit.now)
    except NotFound as error:
        return _over(visit, error)
    mine = sent.person_id == visit.who.person_id
    return visit.page("account/change_email.html", 200 if mine else 403, email=sent.email, mine=mine)


async def change_email(visit: Visit) -> Response:
    visit.form()
    try:
        cookie = await profile.confirm_email(visit.state.db, visit.state.site, visit.order, visit.who, visit.token)
    except NotFound as error:
        return _over(visit, error)
    return rotated(visit, cookie, "/settings", _("Your e-mail address is changed."))


async def switch(visit: Visit) -> Response:
    """Goes on in another organisation. NotFound for one that is not the person's."""
    form = visit.form(Field("organization"), NEXT)
    try:
        organization_id = UUID(form["organization"])
    except ValueError:
        raise NotFound(_("You are not a member of such an organisation. Choose one of yours.")) from None
    cookie = await sessions.switch_organization(
        visit.state.db, visit.state.site, visit.order, visit.who, organization_id
    )
    return rotated(visit, cookie, form["next"])


def _over(visit: Visit, error: NotFound) -> Response:
    return link_over(visit, error, "/settings/email", _("Ask for another link"))


PAGES = (
    page("/settings", index, needs=SIGNED_IN),
    page("/settings", rename, ("POST",), needs=SIGNED_IN),
    page("/settings/email", ask_email, needs=SIGNED_IN),
    page("/settings/email", send_link, ("POST",), needs=SIGNED_IN),
    page("/change-email/{token}", look_at_link, needs=SIGNED_IN),
    page("/change-email/{token}", change_email, ("POST",), needs=SIGNED_IN),
    page("/organizations/switch", switch, ("POST",), needs=SIGNED_IN),
)

"""Signing in: by password, by a link in mail, with a code after either; and signing out."""

from urllib.parse import quote

from starlette.responses import Response

from tollhouse.core.errors import NotFound, TollhouseError
from tollhouse.core.path import local_path
from tollhouse.flows import link, second_factor
from tollhouse.flows import session as flow
from tollhouse.flows import sign_in as ways
from tollhouse.flows.session import Begun
from tollhouse.flows.sign_in import Given
from tollhouse.web import forms, language, session
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _
from tollhouse.web.route import ANYONE, HELD, page
from tollhouse.web.visit import Visit

EMAIL = Field("email", most=254)
NEXT = Field("next", required=False, most=1000)
_FIELDS = (EMAIL, Field("password", secret=True), NEXT)
# The button that has a link sent stands in the same form: the password may be empty, and is not looked at.
_MAIL_FIELDS = (EMAIL, Field("password", required=False, secret=True), NEXT)
_CODE_FIELDS = (Field("code", most=40), NEXT)


def wanted(visit: Visit) -> str:
    """Where to go when it is done, as the address of the page says."""
    return local_path(visit.request.query_params.get("next"))


async def index(visit: Visit) -> Response:
    if visit.signed is not None:
        return visit.go(wanted(visit))
    form = forms.blank(_FIELDS, {"next": wanted(visit)})
    return visit.page("sign_in/index.html", form=form, offered=await visit.state.open_id.offered())


async def by_password(visit: Visit) -> Response:
    form = visit.form(*_FIELDS)
    if not form.ok:
        return await _again(visit, form)
    given = Given(form["email"], form["password"])
    try:
        begun = await ways.with_password(visit.state.db, visit.state.site, visit.stranger, given, visit.browser)
    except TollhouseError as error:
        return await _again(visit, form, error)
    return enter(visit, begun, form["next"])


async def send_link(visit: Visit) -> Response:
    form = visit.form(*_MAIL_FIELDS)
    if not form.ok:
        return await _again(visit, form)
    try:
        there = local_path(form["next"])
        await ways.request_link(visit.state.db, visit.state.site, visit.stranger, form["email"], there)
    except TollhouseError as error:
        return await _again(visit, form, error)
    return visit.page("sign_in/link_sent.html", email=form["email"])


async def look_at_link(visit: Visit) -> Response:
    """Takes nothing: programs that read mail open its links."""
    try:
        sent = await link.look(visit.state.db, visit.state.site.keyring, "sign_in", visit.token, visit.now)
    except NotFound as error:
        return link_over(visit, error, "/sign-in", _("To the sign-in page"))
    return visit.page("sign_in/link.html", email=sent.email, next=wanted(visit))


async def use_link(visit: Visit) -> Response:
    form = visit.form(NEXT)
    try:
        begun = await ways.with_link(visit.state.db, visit.state.site, visit.stranger, visit.token, visit.browser)
    except NotFound as error:
        return link_over(visit, error, "/sign-in", _("To the sign-in page"))
    return enter(visit, begun, form["next"])


async def ask_code(visit: Visit) -> Response:
    form = forms.blank(_CODE_FIELDS, {"next": wanted(visit)})
    return visit.page("sign_in/code.html", form=form)


async def give_code(visit: Visit) -> Response:
    form = visit.form(*_CODE_FIELDS)
    if not form.ok:
        return visit.again("sign_in/code.html", form)
    assert visit.held is not None
    try:
        cookie = await second_factor.give(visit.state.db, visit.state.site, visit.stranger, visit.held, form["code"])
    except TollhouseError as error:
        return visit.again("sign_in/code.html", form, error)
    return rotated(visit, cookie, form["next"])


async def sign_out(visit: Visit) -> Response:
    """Safe to repeat."""
    visit.form()
    known = visit.signed or visit.held
    if known is not None:
        order = visit.order if visit.signed is not None else visit.stranger
        await flow.sign_out(visit.state.db, order, known)
    response = visit.go("/sign-in", _("You are signed out."))
    session.end(response, visit.state.site)
    return response


def enter(visit: Visit, begun: Begun, next_path: str) -> Response:
    """On with the session that has begun: to where one wanted to go, or to the second factor first."""
    there = local_path(next_path)
    if begun.awaits_code:
        there = f"/sign-in/code?next={quote(there, safe='')}"
    response = visit.go(there)
    session.begin(response, visit.state.site, begun.cookie)
    return response


def rotated(visit: Visit, cookie: str, next_path: str, told: str | None = None) -> Response:
    """On with the session's new cookie."""
    response = visit.go(local_path(next_path), told)
    session.begin(response, visit.state.site, cookie)
    return response


def link_over(visit: Visit, error: NotFound, remedy: str, label: str) -> Response:
    """A link of a mail that works no more, and where to ask for another one."""
    return visit.page(
        "sign_in/link_over.html", error.status, message=language.refusal(error), remedy=remedy, label=label
    )


async def _again(visit: Visit, form: Form, error: TollhouseError | None = None) -> Response:
    return visit.again("sign_in/index.html", form, error, offered=await visit.state.open_id.offered())


PAGES = (
    page("/sign-in", index, needs=ANYONE),
    page("/sign-in", by_password, ("POST",), needs=ANYONE),
    page("/sign-in/code", ask_code, needs=HELD),
    page("/sign-in/code", give_code, ("POST",), needs=HELD),
    page("/sign-in/link", index, needs=ANYONE),
    page("/sign-in/link", send_link, ("POST",), needs=ANYONE),
    page("/sign-in/link/{token}", look_at_link, needs=ANYONE),
    page("/sign-in/link/{token}", use_link, ("POST",), needs=ANYONE),
    page("/sign-out", sign_out, ("POST",), needs=ANYONE),
)

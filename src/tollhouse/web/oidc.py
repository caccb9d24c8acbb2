"""Signing in at an identity provider, and linking an account there: away with a form, back by the provider's answer.

Away goes a page that leads on by itself: a redirect in answer to a form may not leave this site (form-action)."""

from uuid import UUID

from starlette.responses import Response

from tollhouse.core.errors import Forbidden, ProofRequired, TollhouseError
from tollhouse.core.path import local_path
from tollhouse.core.session import check_proved
from tollhouse.core.throttle import SIGN_IN_ADDRESS
from tollhouse.flows import profile, throttle
from tollhouse.flows import session as sessions
from tollhouse.flows import sign_in as ways
from tollhouse.flows.oidc import Finished
from tollhouse.web import language
from tollhouse.web.language import _
from tollhouse.web.route import ANYONE, SIGNED_IN, page
from tollhouse.web.sign_in import NEXT, enter, index
from tollhouse.web.visit import Visit

SECURITY = "/settings/security"
INVITATION = "/invitations/"


async def start(visit: Visit) -> Response:
    form = visit.form(NEXT)
    return await _away(visit, local_path(form["next"]), None)


async def start_linking(visit: Visit) -> Response:
    visit.form()
    check_proved(visit.who, visit.now)
    return await _away(visit, SECURITY, visit.who.person_id)


async def callback(visit: Visit) -> Response:
    """The cookie of this sign-in is used up, whatever becomes of it."""
    open_id = visit.state.open_id
    try:
        await _check_address(visit)
        cookie = visit.request.cookies.get(open_id.cookie_name)
        finished = await open_id.finish(visit.id("provider_id"), dict(visit.request.query_params), cookie)
        response = await (_sign_in(visit, finished) if finished.person_id is None else _link(visit, finished))
    except ProofRequired:  # the provider's answer is used up: linking begins again
        response = visit.go(
            f"/confirm?next={SECURITY}", _("Confirm who you are, then link the account once more."), "info"
        )
    except TollhouseError as error:
        response = _refused(visit, error)
    response.headers.append("set-cookie", open_id.forget_cookie)
    return response


async def _away(visit: Visit, next_path: str, person_id: UUID | None) -> Response:
    try:
        await _check_address(visit)
        started = await visit.state.open_id.start(visit.id("provider_id"), next_path, person_id)
    except TollhouseError as error:
        return _refused(visit, error)
    response = visit.page("sign_in/away.html", url=started.url)
    response.headers.append("set-cookie", started.set_cookie)
    return response


async def _sign_in(visit: Visit, finished: Finished) -> Response:
    db, site = visit.state.db, visit.state.site
    there = finished.next_path
    invitation = there.removeprefix(INVITATION) if there.startswith(INVITATION) else None
    person_id = await ways.sign_in_with_identity(db, site, visit.stranger, finished.identity, invitation)
    begun = await sessions.begin(db, site, visit.stranger, person_id, "oidc", visit.browser)
    return enter(visit, begun, there)


async def _link(visit: Visit, finished: Finished) -> Response:
    """Only to the account that asked for it, in the browser in which it is signed in."""
    signed = visit.signed
    if signed is None or signed.person_id != finished.person_id:
        raise Forbidden(
            _("You signed in as somebody else meanwhile. Begin again with linking, under Settings, Security.")
        )
    await profile.link_identity(visit.state.db, visit.state.site, visit.order, signed, finished.identity)
    return visit.go(finished.next_path, _("The account is linked: you can sign in with it from now on."))


async def _check_address(visit: Visit) -> None:
    """Each of these has us ask another server."""
    db, keyring = visit.state.db, visit.state.site.keyring
    await throttle.check(db, keyring, SIGN_IN_ADDRESS, visit.address or "", now=visit.now)


def _refused(visit: Visit, error: TollhouseError) -> Response:
    response = visit.page("sign_in/refused.html", error.status, message=language.refusal(error))
    if error.retry_after_s is not None:
        response.headers["retry-after"] = str(error.retry_after_s)
    return response


PAGES = (
    page("/sign-in/oidc/{provider_id:uuid}", index, needs=ANYONE),
    page("/sign-in/oidc/{provider_id:uuid}", start, ("POST",), needs=ANYONE),
    page("/sign-in/oidc/{provider_id:uuid}/callback", callback, needs=ANYONE),
    page("/settings/security/identities/{provider_id:uuid}", start_linking, ("POST",), needs=SIGNED_IN),
)

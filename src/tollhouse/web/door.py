"""The one way to every page: who it is, whether they may, what they sent, and what is said when something is wrong."""

import os
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tollhouse.core.access import Permission, roles_with
from tollhouse.core.errors import Forbidden, NotFound, ProofRequired, TollhouseError, Unexpected
from tollhouse.core.key import ordered_id
from tollhouse.core.origin import READS, from_us
from tollhouse.core.session import check_proved
from tollhouse.flows.session import Signed
from tollhouse.store import credit
from tollhouse.web import forms, language
from tollhouse.web.language import _
from tollhouse.web.page import Pages
from tollhouse.web.refusal import NOWHERE, MethodNotAllowed, refusal
from tollhouse.web.route import SUPERADMIN, Access, Page
from tollhouse.web.session import Anchor, find_session, language_of
from tollhouse.web.state import State
from tollhouse.web.visit import Visit
from tollhouse.web.wording import within

SIGN_IN = "/sign-in"
SECOND_FACTOR = "/sign-in/code"
PROOF = "/confirm"
log = structlog.get_logger()


class Door:
    """All that may be done at one path, as an ASGI application. `ways` is the row of the table for each method."""

    def __init__(self, state: State, pages: Pages, ways: Mapping[str, Page]) -> None:
        self._state = state
        self._pages = pages
        self._ways = ways

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        chosen = language_of(request, self._state.site)
        with language.speaking(language.wanted(chosen, request.headers.get("accept-language", ""))):
            await self._answer(request, send)

    async def _answer(self, request: Request, send: Send) -> None:
        request_id = str(ordered_id(self._state.clock(), os.urandom(10)))
        visit = None
        try:
            way = self._way(request)
            visit = await self._enter(request)
            response = await self._serve(visit, way)
        except TollhouseError as error:
            response = refusal(self._pages, request, error, request_id, visit)
        except Exception as error:
            log.error("a page failed", exc_info=error, request_id=request_id, path=request.scope["path"])
            mistake = Unexpected(_("Something went wrong on our side. Try again in a moment, or tell your operator."))
            response = refusal(self._pages, request, mistake, request_id, visit)
        response.headers["x-request-id"] = request_id
        await response(request.scope, request.receive, send)

    async def _enter(self, request: Request) -> Visit:
        if request.method not in READS:
            self._check_origin(request)
        now = self._state.clock()
        found = await find_session(request, self._state, now)
        if isinstance(found, Signed) and found.impersonator is None:
            language.speak(found.language)
        signed, held = (found, None) if isinstance(found, Signed) else (None, found)
        anchor = Anchor(request, self._state.site, found)
        return Visit(request, self._state, self._pages, signed, held, anchor, {}, now)

    async def _serve(self, visit: Visit, way: Page) -> Response:
        request = visit.request
        elsewhere = _sent_elsewhere(visit, way)
        if elsewhere is not None:
            return visit.go(elsewhere)
        if request.method not in READS:
            fields = await forms.read_fields(request, way.form_max)
            _check_token(request, visit.anchor, fields)
            visit = replace(visit, fields=fields)
        try:
            _check_proved(visit, way)
            return await way.handler(await self._framed(visit))
        except ProofRequired:
            return visit.go(f"{PROOF}?next={quote(_wanted(visit), safe='')}")

    async def _framed(self, visit: Visit) -> Visit:
        """With what the frame of a whole page shows of the organisation's credits."""
        if visit.is_htmx or not visit.may("credits.use"):
            return visit
        async with self._state.db.tenant(visit.who.organization_id) as tx:
            return replace(visit, left=await credit.left(tx, visit.who.organization_id))

    def _check_origin(self, request: Request) -> None:
        """Forbidden for forms of other sites, which browsers send with our cookie."""
        site, headers = self._state.site, request.headers
        if not from_us(request.method, headers.get("sec-fetch-site"), headers.get("origin"), site.origin):
            raise Forbidden(
                _(
                    "This form was not sent from a page of %(name)s. Open its page here and send it again.",
                    name=site.name,
                )
            )

    def _way(self, request: Request) -> Page:
        if not self._ways or not request.scope["path"].isprintable():  # the router passes over a line break at the end
            raise NotFound(_(NOWHERE))
        method = "GET" if request.method == "HEAD" else request.method
        if method not in self._ways:
            raise MethodNotAllowed(self._ways)
        return self._ways[method]


def _sent_elsewhere(visit: Visit, way: Page) -> str | None:
    """Where those go first who may not come in yet; None for those who may. Forbidden for those who never may."""
    match way.needs:
        case Access.ANYONE:
            return None
        case Access.HELD:
            return None if visit.held is not None else "/"
        case Access.SIGNED_IN | str() as needs:
            if visit.signed is None:
                waits = visit.held is not None and visit.held.reason == "second_factor"
                return f"{SECOND_FACTOR if waits else SIGN_IN}?next={quote(_wanted(visit), safe='')}"
            if isinstance(needs, str) and needs not in visit.signed.permissions:
                raise _missing(visit.signed, needs)
            return None


def _missing(signed: Signed, permission: Permission) -> TollhouseError:
    """What is only for those who run the installation is not there for others."""
    roles = roles_with(permission)
    if not roles and signed.must_add_second_factor and signed.impersonator is None:
        return Forbidden(_("This needs a second factor. Add one under Settings, Security, and come back."))
    if not roles:
        return NotFound(_(NOWHERE))
    if signed.organization_suspended:
        return Forbidden(
            _("%(name)s is suspended. Ask those who run this installation why.", name=signed.organization_name)
        )
    return Forbidden(
        _(
            "Your role here is %(role)s, and this needs: %(roles)s. Ask an owner to change it.",
            role=within(signed.role),
            roles=_(" or ").join(within(role) for role in roles),
        )
    )


def _check_proved(visit: Visit, way: Page) -> None:
    """What a superadmin changes on the platform, they have proved a moment ago who they are: as in the API."""
    if way.needs == SUPERADMIN and visit.request.method not in READS:
        check_proved(visit.who, visit.now)


def _wanted(visit: Visit) -> str:
    """The page to come back to after signing in: the one that was asked for, or on which a form or part was."""
    asked_for_a_page = visit.request.method in READS and not visit.is_htmx
    return visit.here if asked_for_a_page else visit.came_from


def _check_token(request: Request, anchor: Anchor, fields: forms.Fields) -> None:
    """Forbidden unless the form, or the part of a page that asks, was made for this visitor."""
    given = request.headers.get("x-csrf-token") or next(iter(fields.get(forms.TOKEN, ())), "")
    if not anchor.holds(given):
        raise Forbidden(
            _("This page was open for too long, or you signed in or out meanwhile. Reload it and send again.")
        )

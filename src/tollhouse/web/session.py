"""The session's cookie, and the one of visitors without a session."""

import secrets
from datetime import datetime, timedelta
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from tollhouse.flows.auth import session_cookie
from tollhouse.flows.session import Held, Signed, find
from tollhouse.flows.site import Site
from tollhouse.web import token
from tollhouse.web.state import State

KEPT = timedelta(days=30)
_VISITOR = "visitor"
_TOLD = "told"
_FORM = "form"
_LANGUAGE = "language"
_LANGUAGE_KEPT = timedelta(days=365)
Category = Literal["success", "info", "warning", "error"]


async def find_session(request: Request, state: State, now: datetime) -> Signed | Held | None:
    """Whose session the request's cookie is, read as the API reads it. A cookie that is none stays: another request may
    just have replaced it. BadRequest for two that differ."""
    cookie = session_cookie(request.headers.raw, state.site.cookie)
    if not cookie:
        return None
    return await find(state.db, state.site.keyring, state.site.mode, cookie, now)


def begin(response: Response, site: Site, cookie: str) -> None:
    """Gives the browser a session's cookie, new or rotated."""
    _set(response, site, site.cookie, cookie, KEPT)


def end(response: Response, site: Site) -> None:
    _set(response, site, site.cookie, "", timedelta(0))


class Anchor:
    """What the tokens of a visit's forms are tied to: its session, or a cookie of the visitor's that is made with the
    first form."""

    def __init__(self, request: Request, site: Site, session: Signed | Held | None) -> None:
        self._site = site
        self._made = False
        if session is not None:
            self._tied_to = f"session {session.csrf}"
            return
        known = token.unseal(site.keyring, _VISITOR, request.cookies.get(_named(site, _VISITOR)))
        self._made = known is None
        self._visitor = known or secrets.token_urlsafe(16)
        self._tied_to = f"visitor {self._visitor}"
        self._asked = False

    def token(self) -> str:
        """For the field `csrf` of a form, or the header X-CSRF-Token."""
        self._asked = True
        return token.sign(self._site.keyring, _FORM, self._tied_to)

    def holds(self, given: str) -> bool:
        return not self._made and token.holds(self._site.keyring, _FORM, self._tied_to, given)

    def remember(self, response: Response) -> None:
        """The visitor's cookie, when a form of this answer needs one that is new."""
        if self._made and self._asked:
            sealed = token.seal(self._site.keyring, _VISITOR, self._visitor)
            _set(response, self._site, _named(self._site, _VISITOR), sealed, None)


def tell(response: Response, site: Site, category: Category, text: str) -> None:
    """A word that the next page shows."""
    _set(
        response, site, _named(site, _TOLD), token.seal(site.keyring, _TOLD, f"{category} {text}"), timedelta(minutes=2)
    )


def told(request: Request, site: Site) -> tuple[str, str] | None:
    """Category and text of what the page before wanted to say."""
    text = token.unseal(site.keyring, _TOLD, request.cookies.get(_named(site, _TOLD)))
    if text is None:
        return None
    category, _, words = text.partition(" ")
    return category, words


def forget_told(response: Response, site: Site) -> None:
    _set(response, site, _named(site, _TOLD), "", timedelta(0))


def language_of(request: Request, site: Site) -> str | None:
    """What a visitor chose as the language of pages, as the cookie says it."""
    return request.cookies.get(_named(site, _LANGUAGE))


def keep_language(response: Response, site: Site, code: str | None) -> None:
    """The language of pages in this browser; None: the one that it asks for."""
    _set(response, site, _named(site, _LANGUAGE), code or "", _LANGUAGE_KEPT if code else timedelta(0))


def _named(site: Site, name: str) -> str:
    return f"{site.cookie}-{name}"


def _set(response: Response, site: Site, name: str, value: str, kept: timedelta | None) -> None:
    seconds = None if kept is None else int(kept.total_seconds())
    response.set_cookie(name, value, max_age=seconds, path="/", secure=site.secure, httponly=True, samesite="lax")

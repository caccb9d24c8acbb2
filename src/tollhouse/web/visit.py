"""One request of a browser, as the handlers of pages see it."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from tollhouse.core.access import Permission
from tollhouse.core.credit import Left
from tollhouse.core.errors import TollhouseError
from tollhouse.core.path import local_path
from tollhouse.flows.order import Order
from tollhouse.flows.session import Browser, Held, Signed
from tollhouse.web import forms, navigation, session
from tollhouse.web.forms import Field, Fields, Form
from tollhouse.web.page import Pages
from tollhouse.web.session import Anchor, Category
from tollhouse.web.state import State


@dataclass(frozen=True, slots=True)
class Visit:
    """`signed`: who is signed in, None for visitors; `held`: a session that may do nothing yet, or no more. `fields`:
    what a form sent, none for GET; `now`: the real time of this request. `left`: what stands beside a whole page of
    those who may read it."""

    request: Request
    state: State
    pages: Pages
    signed: Signed | None
    held: Held | None
    anchor: Anchor
    fields: Fields
    now: datetime
    left: Left | None = None

    @property
    def who(self) -> Signed:
        """The person, on pages that need one."""
        assert self.signed is not None, "this page is open to visitors: look at `signed`"
        return self.signed

    @property
    def order(self) -> Order:
        """What is changed in the person's name."""
        return Order(self.who.actor, self.now, self.address)

    @property
    def stranger(self) -> Order:
        """What is changed before anybody is known, such as by signing in."""
        return Order("system", self.now, self.address)

    @property
    def browser(self) -> Browser:
        """For a session that begins in place of the one that it has."""
        return Browser(self.request.headers.get("user-agent", ""), self.signed or self.held)

    @property
    def address(self) -> str | None:
        """The network address of the browser."""
        return self.request.client.host if self.request.client else None

    @property
    def here(self) -> str:
        """The address that was asked for, as one to come back to."""
        query = self.request.url.query
        return local_path(quote(self.request.scope["path"]) + (f"?{query}" if query else ""))

    @property
    def came_from(self) -> str:
        """The page of ours on which this form, or the part of it that asks, was; "/" where the browser does not say."""
        headers = self.request.headers
        page = urlsplit(headers.get("hx-current-url") or headers.get("referer", ""))
        return local_path(page.path + (f"?{page.query}" if page.query else ""))

    @property
    def is_htmx(self) -> bool:
        """Whether a page asks for a part of itself."""
        return self.request.headers.get("hx-request") == "true"

    def id(self, name: str) -> UUID:
        """The id that stands in the path under this name."""
        found = self.request.path_params[name]
        assert isinstance(found, UUID)
        return found

    @property
    def token(self) -> str:
        """What the link in a mail holds, from the path."""
        return str(self.request.path_params["token"])

    def may(self, permission: Permission) -> bool:
        return self.signed is not None and permission in self.signed.permissions

    def form(self, *fields: Field) -> Form:
        """The form that was sent, checked. BadRequest for fields that it does not have."""
        return forms.read(fields, self.fields)

    def page(self, template: str, status: int = 200, **context: Any) -> Response:
        """The whole page. A word left by the page before is shown once."""
        said = session.told(self.request, self.state.site)
        response = HTMLResponse(self.pages.render(template, self._context(said) | context), status)
        if said is not None:
            session.forget_told(response, self.state.site)
        return self._finished(response)

    def again(self, template: str, form: Form, error: TollhouseError | None = None, **context: Any) -> Response:
        """A form that was not taken, with what was typed: something is wrong with its fields, or a flow refused it."""
        shown = form if error is None else form.refused_by(error)
        response = self.page(template, 422 if error is None else error.status, form=shown, **context)
        if error is not None and error.retry_after_s is not None:
            response.headers["retry-after"] = str(error.retry_after_s)
        return response

    def part(self, template: str, block: str, status: int = 200, **context: Any) -> Response:
        """One block of a page, for htmx."""
        return self._finished(HTMLResponse(self.pages.render_block(template, block, self._context() | context), status))

    def rendered(self, template: str, **context: Any) -> str:
        """A template alone, for what is sent in pieces."""
        return self.pages.render(template, self._context() | context)

    def piece(self, template: str, status: int = 200, **context: Any) -> Response:
        """A template alone as the answer, for scripts and htmx."""
        return self._finished(HTMLResponse(self.rendered(template, **context), status))

    def words(self, template: str, block: str, **context: Any) -> str:
        """The same as a text, for answers that come in pieces."""
        return self.pages.render_block(template, block, self._context() | context)

    def go(self, path: str, told: str | None = None, category: Category = "success") -> Response:
        """On to another page of ours, which shows `told`. htmx is told to go there as a whole."""
        response = Response(status_code=200 if self.is_htmx else 303)
        response.headers["hx-redirect" if self.is_htmx else "location"] = path
        if told is not None:
            session.tell(response, self.state.site, category, told)
        return self._finished(response)

    def _finished(self, response: Response) -> Response:
        response.headers["vary"] = "HX-Request, Cookie, Accept-Language"
        self.anchor.remember(response)
        return response

    def _context(self, said: tuple[str, str] | None = None) -> dict[str, object]:
        return {
            "signed": self.signed,
            "held": self.held,
            "path": self.request.url.path,
            "here": self.here,
            "may": self.may,
            "navigation": navigation.shown(self.may),
            "left": self.left,
            "now": self.now,
            "said": said,
            "csrf_token": self.anchor.token,
            "csrf_field": partial(csrf_field, self.anchor),
        }


def csrf_field(anchor: Anchor) -> Markup:
    """Goes into every form that posts."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(forms.TOKEN, anchor.token())

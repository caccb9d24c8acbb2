"""Refusals as pages: a sentence that names the remedy, and a way on."""

from collections.abc import Iterable
from functools import partial
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from tollhouse.core.errors import TollhouseError
from tollhouse.web import language
from tollhouse.web.language import N_, _
from tollhouse.web.page import Pages
from tollhouse.web.visit import Visit, csrf_field

NOWHERE = N_("There is no page at this address. Check it, or start from the home page.")
_TITLES = {
    400: N_("That could not be read"),
    403: N_("That is not allowed"),
    404: N_("There is nothing here"),
    405: N_("That is not how this page works"),
    409: N_("That collides with something else"),
    413: N_("That is too large"),
    429: N_("One moment, please"),
    500: N_("Something went wrong"),
    503: N_("We are busy"),
}


class MethodNotAllowed(TollhouseError):
    code, status = "method_not_allowed", 405

    def __init__(self, allowed: Iterable[str]) -> None:
        super().__init__(_("This page cannot be asked for like this. Go back and use its links and buttons."))
        self.allowed = ", ".join(sorted(allowed))


def refusal(
    pages: Pages, request: Request, error: TollhouseError, request_id: str, visit: Visit | None = None
) -> Response:
    """A page for browsers, a part of one for htmx, plain text for everybody else. Whoever acts as somebody else is told
    so here too."""
    context: dict[str, object] = {
        "status": error.status,
        "title": _(_TITLES[error.status]) if error.status in _TITLES else HTTPStatus(error.status).phrase,
        "message": language.refusal(error),
        "request_id": request_id,
    }
    if visit is not None and visit.signed is not None:
        context |= {"signed": visit.signed, "csrf_field": partial(csrf_field, visit.anchor)}
    response: Response
    if request.headers.get("hx-request") == "true":
        response = HTMLResponse(pages.render("error/part.html", context), error.status)
    elif takes_html(request):
        response = HTMLResponse(pages.render("error/page.html", context), error.status)
    else:
        response = PlainTextResponse(f"{error.status} {context['title']}\n\n{context['message']}\n", error.status)
    response.headers["vary"] = "Accept, Accept-Language, Cookie, HX-Request"
    if error.retry_after_s is not None:
        response.headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, MethodNotAllowed):
        response.headers["allow"] = error.allowed
    return response


def takes_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")

"""Refusals and mistakes as RFC 9457 problems, and the frame around every call: its id, its size, its last resort."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tollhouse.core.errors import BadRequest, NotFound, TollhouseError, Unauthenticated
from tollhouse.core.key import ordered_id

MEDIA_TYPE = "application/problem+json"
BODY_MAX = 1024 * 1024
ERRORS_SHOWN = 50
NAME_SHOWN = 80
log = structlog.get_logger()
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
_NOT_SHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one part of the request; `location` is body, query, header or path."""

    location: str
    field: str
    message: str


def response(request_id: str, error: TollhouseError, errors: Sequence[FieldError] = ()) -> Response:
    """The problem that a refusal is, with its details beside the standard members and the hints of what would help."""
    hints = [
        {name: getattr(hint, name) for name in ("kind", "price_cents", "at", "plan") if getattr(hint, name) is not None}
        for hint in error.hints()
    ]
    members = dict(error.details()) | ({"hints": hints} if hints else {})
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if not error.should_retry:
        headers["x-should-retry"] = "false"
    if "credits_used" in members:  # refused after the call had run
        headers["x-credits-used"] = str(members["credits_used"])
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = 'Bearer realm="tollhouse"'
    return _render(request_id, error.status, error.code, str(error), errors, members, headers)


def install(app: FastAPI, clock: Callable[[], datetime]) -> None:
    """Every refusal of this app becomes a problem, every response carries `x-request-id`."""
    app.add_exception_handler(TollhouseError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _not_routed)
    app.add_middleware(Frame, clock=clock)


class Frame:
    """Around every call: gives it an id, refuses a body above the cap before it is held in memory, and turns what
    nobody expected into a 500 that tells the id and nothing of the inside."""

    def __init__(self, app: ASGIApp, clock: Callable[[], datetime]) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = str(ordered_id(self._clock(), os.urandom(10)))
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            if _announced_bytes(scope) > BODY_MAX:
                raise _too_large()
            await self._app(scope, _capped(receive), send_with_id)
        except BadRequest as refusal:
            await response(request_id, refusal)(scope, receive, send_with_id)
        except ClientDisconnect:
            return  # nobody is left to answer
        except Exception as error:
            log.error("api: a call failed", request_id=request_id, path=scope["path"], exc_info=error)
            if started:
                raise
            detail = "Something went wrong here. It is logged under this request_id; please tell the operator."
            await _render(request_id, 500, "internal_error", detail)(scope, receive, send_with_id)


def _too_large() -> BadRequest:
    return BadRequest(f"The body is larger than {BODY_MAX} bytes. Send less at once.", status=413)


def _announced_bytes(scope: Scope) -> int:
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(length[:20]) if length.isdigit() else 0


def _capped(receive: Receive) -> Receive:
    """The same for a body that did not say how long it is."""
    received = 0

    async def capped() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > BODY_MAX:
                raise _too_large()
        return message

    return capped


def _id_of(request: HTTPConnection) -> str:
    request_id = request.scope["state"]["request_id"]
    assert isinstance(request_id, str)
    return request_id


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, TollhouseError)
    errors = []
    if isinstance(error, BadRequest) and error.field:
        errors.append(FieldError("query" if request.method == "GET" else "body", error.field, str(error)))
    return response(_id_of(request), error, errors)


async def _invalid(request: Request, error: Exception) -> Response:
    """Every wrong field by its name. An id in the path that cannot be one is that of nothing: 404."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(item["loc"][0] == "path" for item in found):
        return response(_id_of(request), NotFound("There is nothing of that id here."))
    errors = [_field_error(item) for item in found[:ERRORS_SHOWN]]
    first = f"{errors[0].field or errors[0].location}: {errors[0].message}"
    more = f" ({len(found) - 1} more below)" if len(found) > 1 else ""
    return response(_id_of(request), BadRequest(first + more), errors)


async def _not_routed(request: Request, error: Exception) -> Response:
    """404 and 405 of the router."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail, headers = str(error.detail), error.headers or {}
    if status == HTTPStatus.NOT_FOUND:
        detail = "There is nothing at this path. /openapi.json lists what there is."
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _methods_at(request)
        headers = {"allow": allowed}
        detail = f"This path does not take {request.method}, it takes {allowed}."
    code = status.phrase.lower().replace(" ", "_")
    return _render(_id_of(request), status, code, detail, headers=headers)


def _methods_at(request: Request) -> str:
    """All that the path takes: each of its methods is a route of its own, and the router names the first alone."""
    asked = ({**request.scope, "method": method} for method in _METHODS)
    found = [one["method"] for one in asked if any(row.matches(one)[0] is Match.FULL for row in request.app.routes)]
    return ", ".join(found)


def _field_error(item: Mapping[str, Any]) -> FieldError:
    location, *path = item["loc"]
    field = ".".join(str(part) for part in path)
    match item["type"]:
        case "missing" if not path:
            message = "a JSON body is required"
        case "missing":
            message = "is required"
        case "extra_forbidden":
            message = "is not known here; remove it, or look for a typing mistake"
        case _:
            message = str(item["msg"]).removeprefix("Value error, ")
    return FieldError(str(location), _showable(field)[:NAME_SHOWN], _showable(message))


def _showable(text: str) -> str:
    return _NOT_SHOWN.sub("\ufffd", text)


def _render(
    request_id: str,
    status: int,
    code: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    members: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = {
        "type": f"urn:tollhouse:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": int(status),
        "detail": _showable(detail),
        "code": code,
        "request_id": request_id,
        "errors": errors,
    }
    return Response(
        msgspec.json.encode(dict(members or {}) | body), status, headers=dict(headers or {}), media_type=MEDIA_TYPE
    )

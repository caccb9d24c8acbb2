"""The GETs of `/v1`: who asks is looked up in the database, so a revoked key learns nothing any more."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tollhouse.core.access import Permission
from tollhouse.core.errors import BadRequest, TollhouseError
from tollhouse.core.key import ordered_id
from tollhouse.flows.auth import Caller, require
from tollhouse.gateway.dialect import messages
from tollhouse.gateway.dialect.chat_error import error_body, error_headers
from tollhouse.gateway.http import refusal_of
from tollhouse.gateway.state import State

Look = Callable[[Request, Caller], Awaitable[object]]


class Lookup:
    """The ASGI application of a path: what `look` finds for the caller, as JSON; its refusals in the shape of the
    dialect that the client speaks."""

    policy: Permission = "models.use"

    def __init__(self, state: State, look: Look) -> None:
        self._state = state
        self._look = look

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        now = self._state.clock()
        id_ = str(ordered_id(now, os.urandom(10)))
        headers = {"x-request-id": id_} | ({"request-id": id_} if speaks_anthropic(request.scope) else {})
        try:
            caller = await self._state.authentication.authenticate(request.scope, now)
            require(caller, self.policy)
            found = msgspec.json.encode(await self._look(request, caller))
        except Exception as problem:
            error = refusal_of(problem)
            headers |= {name.decode(): value.decode() for name, value in error_headers(error)}
            return Response(_refusal(request)(error), error.status, headers, "application/json")
        return Response(found, 200, headers, "application/json")


def speaks_anthropic(scope: Scope) -> bool:
    """Anthropic's clients name the version of their API in each request."""
    return any(name == b"anthropic-version" for name, _ in scope["headers"])


def parameters(request: Request, known: Sequence[str]) -> Mapping[str, str]:
    """What stands behind the question mark. BadRequest for a name that is not known, and for one that stands twice."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise BadRequest(f"There is no parameter {name[:80]!r}. There are: {', '.join(known)}.", name[:80])
        if name in found:
            raise BadRequest(f"{name!r} stands there twice. Say it once.", name)
        found[name] = value
    return found


def page_size(text: str | None, usual: int, most: int) -> int:
    """How many entries are asked for. BadRequest for anything but a whole number from 1 to `most`."""
    if text is None:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= most):
        raise BadRequest(f"'limit' must be a whole number from 1 to {most}.", "limit")
    return int(text)


def _refusal(request: Request) -> Callable[[TollhouseError], bytes]:
    return messages.SURFACE.refusal if speaks_anthropic(request.scope) else error_body

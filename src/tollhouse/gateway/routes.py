"""The paths of `/v1`."""

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from tollhouse.core.errors import BadRequest, NotFound
from tollhouse.gateway.catalogue import Catalogue
from tollhouse.gateway.chat import ENDPOINT, Chat
from tollhouse.gateway.http import request_id, send_error
from tollhouse.gateway.state import State

PATHS = ("POST /v1/chat/completions", "GET /v1/models", "GET /v1/models/{id}", "GET /v1/key")


def build(state: State) -> ASGIApp:
    """The gateway as an ASGI application; paths it does not know are answered in OpenAI's shape too."""
    chat, catalogue = Chat(state), Catalogue(state)
    router = Router(
        [
            Route("/v1/models", catalogue.models, methods=["GET"]),
            Route("/v1/models/{model_id:path}", catalogue.model, methods=["GET"]),
            Route("/v1/key", catalogue.key, methods=["GET"]),
            Route("/v1/{rest:path}", Unknown(state)),
        ],
        redirect_slashes=False,
    )

    async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
        """The call that nearly all make does not pass the router, which costs a tenth of the rest."""
        if scope["path"] == ENDPOINT and scope["method"] == "POST":
            await chat(scope, receive, send)
        else:
            await router(scope, receive, send)

    return gateway


class Unknown:
    """Whatever the routes before it do not take, with whatever method."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path, known = scope["method"], scope["path"], ", ".join(PATHS)
        headers = [request_id(self._state.clock())]
        allowed = _allowed(path)
        if allowed is None:
            await send_error(send, NotFound(f"There is nothing at this path. There are: {known}."), headers)
            return
        headers.append((b"allow", allowed.encode()))
        await send_error(send, BadRequest(f"{method} is not for this path. There are: {known}.", status=405), headers)


def _allowed(path: str) -> str | None:
    """The method of a path that exists."""
    if path == ENDPOINT:
        return "POST"
    return "GET" if path in ("/v1/models", "/v1/key") or path.startswith("/v1/models/") else None

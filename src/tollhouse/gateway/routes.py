"""The paths of `/v1`."""

from functools import partial

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tollhouse.core.errors import BadRequest, NotFound
from tollhouse.gateway.catalogue import Catalogue
from tollhouse.gateway.count import CountTokens
from tollhouse.gateway.dialect import chat, embeddings, messages, responses
from tollhouse.gateway.dialect.chat_error import error_body
from tollhouse.gateway.endpoint import Endpoint, Refusal
from tollhouse.gateway.exchange import Chat, Embedding
from tollhouse.gateway.http import request_id, send_refusal
from tollhouse.gateway.lookup import Lookup, speaks_anthropic
from tollhouse.gateway.state import State
from tollhouse.gateway.usage import Usage

SURFACES = (chat.SURFACE, responses.SURFACE, messages.SURFACE)
COUNT = "/v1/messages/count_tokens"
LOOKED_UP = ("/v1/models", "/v1/models/{id}", "/v1/key", "/v1/usage")


class Gateway:
    """The gateway as an ASGI application. Paths it does not know are answered in a vendor's shape too. Everything at
    `posts` and behind `routes` says who may call it, what is `unknown` excepted, which does nothing."""

    def __init__(self, state: State) -> None:
        catalogue = Catalogue(state)
        self.posts: dict[str, Endpoint | CountTokens] = {
            one.path: Endpoint(state, one.path, partial(Chat, one), one.refusal) for one in SURFACES
        }
        self.posts[embeddings.PATH] = Endpoint(state, embeddings.PATH, Embedding, error_body)
        self.posts[COUNT] = CountTokens(state)
        paths = tuple(f"POST {path}" for path in self.posts) + tuple(f"GET {path}" for path in LOOKED_UP)
        self.unknown = Unknown(state, paths, frozenset(self.posts))
        self.routes = [
            Route("/v1/models", Lookup(state, catalogue.models), methods=["GET"]),
            Route("/v1/models/{model_id:path}", Lookup(state, catalogue.model), methods=["GET"]),
            Route("/v1/key", Lookup(state, catalogue.key), methods=["GET"]),
            Route("/v1/usage", Lookup(state, Usage(state).look), methods=["GET"]),
            Route("/v1/{rest:path}", self.unknown),
        ]
        self._router = Router(self.routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The calls that nearly all make do not pass the router, which costs a tenth of the rest."""
        path = scope["path"]
        endpoint = self.posts.get(path) if scope["method"] == "POST" else None
        if path.startswith(messages.SURFACE.path):
            send = with_request_id(send)
        known: ASGIApp = endpoint or self._router
        if not path.isprintable():  # the router would pass over a line break at the end
            known = self.unknown
        await known(scope, receive, send)


def with_request_id(send: Send) -> Send:
    """Anthropic's clients look for the request's id under their vendor's name of it."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            ids = [(b"request-id", value) for name, value in message["headers"] if name == b"x-request-id"]
            message = {**message, "headers": [*message["headers"], *ids]}
        await send(message)

    return sent


def refusal_at(path: str) -> Refusal:
    """How errors are written at a path: Anthropic's below its own, OpenAI's everywhere else."""
    return messages.SURFACE.refusal if path.startswith(messages.SURFACE.path) else error_body


class Unknown:
    """Whatever the routes before it do not take, with whatever method."""

    def __init__(self, state: State, paths: tuple[str, ...], posts: frozenset[str]) -> None:
        self._state = state
        self._known = ", ".join(paths)
        self._posts = posts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        refusal = messages.SURFACE.refusal if speaks_anthropic(scope) else refusal_at(path)
        headers = [request_id(self._state.clock())]
        allowed = self._allowed(path)
        if allowed is None:
            nothing = NotFound(f"There is nothing at this path. There are: {self._known}.")
            await send_refusal(send, refusal, nothing, headers)
            return
        headers.append((b"allow", allowed.encode()))
        wrong = BadRequest(f"{method} is not for this path. There are: {self._known}.", status=405)
        await send_refusal(send, refusal, wrong, headers)

    def _allowed(self, path: str) -> str | None:
        """The method of a path that exists."""
        if not path.isprintable():
            return None
        if path in self._posts:
            return "POST"
        return "GET" if path in LOOKED_UP or path.startswith("/v1/models/") else None

"""The paths of `/v1`."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from tollhouse.core.errors import BadRequest, NotFound
from tollhouse.gateway.catalogue import Catalogue
from tollhouse.gateway.chat import ENDPOINT, Chat
from tollhouse.gateway.state import State
from tollhouse.gateway.wire import error_body

PATHS = ("POST /v1/chat/completions", "GET /v1/models", "GET /v1/models/{id}", "GET /v1/key")


def build(state: State) -> Router:
    """The gateway as an ASGI application; paths it does not know are answered in OpenAI's shape too."""
    catalogue = Catalogue(state)
    return Router(
        [
            Route(ENDPOINT, Chat(state), methods=["POST"]),
            Route("/v1/models", catalogue.models, methods=["GET"]),
            Route("/v1/models/{model_id:path}", catalogue.model, methods=["GET"]),
            Route("/v1/key", catalogue.key, methods=["GET"]),
            Route("/v1/{rest:path}", _unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]),
        ],
        redirect_slashes=False,
    )


async def _unknown(request: Request) -> Response:
    known = ", ".join(PATHS)
    path = request.url.path
    if any(line.split(" ")[1] == path for line in PATHS):
        error: BadRequest | NotFound = BadRequest(
            f"{request.method} is not for this path. There are: {known}.", status=405
        )
    else:
        error = NotFound(f"There is nothing at this path. There are: {known}.")
    return Response(error_body(error), error.status, media_type="application/json")

"""The first page: what this is, and the way in."""

from starlette.responses import PlainTextResponse, Response

from tollhouse import __version__
from tollhouse.web.refusal import takes_html
from tollhouse.web.route import ANYONE, page
from tollhouse.web.visit import Visit

_TEXT = f"""Tollhouse {__version__}

Calls to models   POST /v1/chat/completions, /v1/responses, /v1/messages, /v1/embeddings
What a key may    GET /v1/models, GET /v1/key, GET /v1/usage
Own AI features   POST /api/ai/access-check, POST /api/credits/reservations
Credits           GET /api/credits/balance, GET /api/credits/transactions
All of /api       GET /openapi.json
"""


async def home(visit: Visit) -> Response:
    """Programs are told the paths instead."""
    response = visit.page("landing/home.html") if takes_html(visit.request) else PlainTextResponse(_TEXT)
    response.headers["vary"] = "Accept, Accept-Language, Cookie"
    return response


PAGES = (page("/", home, needs=ANYONE),)

"""The first page: what this is, what it costs, and the way in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.responses import PlainTextResponse, Response

from tollhouse import __version__
from tollhouse.core.catalogue import Plan
from tollhouse.core.routing import Model
from tollhouse.core.selection import is_selectable
from tollhouse.core.shelf import Metadata
from tollhouse.store import catalogue, package
from tollhouse.store import model as models
from tollhouse.store.package import Package
from tollhouse.web.refusal import takes_html
from tollhouse.web.route import ANYONE, page
from tollhouse.web.visit import Visit

START, START_OF_WHO_ACTS = "/chat", "/dashboard"  # chats are nobody's but the person's own
_TEXT = f"""Tollhouse {__version__}

Calls to models   POST /v1/chat/completions, /v1/responses, /v1/messages, /v1/embeddings
What a key may    GET /v1/models, GET /v1/key, GET /v1/usage
Own AI features   POST /api/ai/access-check, POST /api/credits/reservations
Credits           GET /api/credits/balance, GET /api/credits/transactions
All of /api       GET /openapi.json
"""


@dataclass(frozen=True, slots=True)
class Prices:
    """What the catalogue of this installation asks for: plans from the lowest to the highest, models that may be chosen
    in their order, and what more there is to know of each by its id."""

    plans: Sequence[Plan]
    free: Sequence[Model]
    premium: Sequence[Model]
    metadata: Mapping[str, Metadata]
    packages: Sequence[Package]


async def home(visit: Visit) -> Response:
    """Programs are told the paths instead; who is signed in goes where the work is."""
    if not takes_html(visit.request):
        response: Response = PlainTextResponse(_TEXT)
    elif visit.signed is not None:
        response = visit.go(START if visit.signed.impersonator is None else START_OF_WHO_ACTS)
    else:
        response = visit.page("landing/home.html", prices=await _prices(visit))
    response.headers["vary"] = "Accept, Accept-Language, Cookie"
    return response


async def _prices(visit: Visit) -> Prices:
    async with visit.state.db.nobody() as tx:
        plans = sorted(await catalogue.plans(tx), key=lambda plan: plan.rank)
        found = {model.id: model for model in await catalogue.models(tx)}
        metadata, packages = await models.metadata(tx), await package.on_sale(tx)
    shown = [model for model in found.values() if is_selectable(model.id, found) and model.id in metadata]
    free, premium = ([model for model in shown if model.tier == tier] for tier in ("free", "premium"))
    return Prices(plans, free, premium, metadata, packages)


PAGES = (page("/", home, needs=ANYONE),)

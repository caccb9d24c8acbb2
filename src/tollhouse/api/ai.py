"""Capabilities that run here: the features of the product, and those that an operator defines."""

from typing import Any, Self
from uuid import UUID

from fastapi import APIRouter, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict

from tollhouse.api.body import Body, EndUser, OptionalIdempotencyKey, StrictRoute, Word, body_hash
from tollhouse.api.caller import CreditsHolder, Holder
from tollhouse.api.state import Shared, State
from tollhouse.core.money import format_credits
from tollhouse.flows import capability
from tollhouse.flows.capability import InputInvalid, Ran, Wish
from tollhouse.flows.once import Once
from tollhouse.seed.capabilities import CAPABILITIES

router = APIRouter(prefix="/api", tags=["capabilities"], route_class=StrictRoute)


class FeatureBody(Body):
    """`quality`: a level of the plan, the lowest when it is left out. `user`: your id of the end user for whom it is
    done. The other fields are the feature's own."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    quality: Word | None = None
    user: EndUser | None = None


class RunBody(Body):
    """`input` is what the capability's schema wants."""

    quality: Word | None = None
    input: dict[str, Any]
    user: EndUser | None = None


class TokensView(BaseModel):
    input_tokens: int
    output_tokens: int


class RunView(BaseModel):
    """`id` is that of the reservation. `balance_remaining` null: the books could not be reached in time; it is charged
    all the same."""

    id: UUID
    capability: str
    quality: str
    model: str
    answer: dict[str, Any]
    usage: TokensView
    credits_used: str
    balance_remaining: str | None

    @classmethod
    def of(cls, ran: Ran) -> Self:
        return cls(
            id=ran.id,
            capability=ran.capability,
            quality=ran.quality,
            model=ran.model_id,
            answer=ran.answer,
            usage=TokensView(input_tokens=ran.input_tokens, output_tokens=ran.output_tokens),
            credits_used=format_credits(ran.charged_micros),
            balance_remaining=None if ran.available_micros is None else format_credits(ran.available_micros),
        )


def _documented(capability_id: str) -> dict[str, Any]:
    """The fields of a feature as it comes with the product; an operator may define others."""
    schema = next(one.input_schema for one in CAPABILITIES if one.id == capability_id)
    fields = {name: schema[name] for name in ("properties", "required")}
    return {"requestBody": {"content": {"application/json": {"schema": {"type": "object", **fields}}}}}


@router.post("/capabilities/{name}/run", summary="Run a capability")
async def run(
    state: Shared,
    holder: CreditsHolder,
    name: str,
    body: RunBody,
    response: Response,
    key: OptionalIdempotencyKey = None,
) -> RunView:
    once = _once(f"/api/capabilities/{name}/run", key, body, holder)
    wish = Wish(name, body.quality, body.input, holder.user(body.user), once)
    return await _run(state, holder, wish, response, ("body", "input"))


@router.post(
    "/ai/suggest-questions",
    summary="Suggest questions to ask customers about a product",
    openapi_extra=_documented("question_generation"),
)
async def suggest_questions(
    state: Shared, holder: CreditsHolder, body: FeatureBody, response: Response, key: OptionalIdempotencyKey = None
) -> RunView:
    wish = _wish("question_generation", body, holder, _once("/api/ai/suggest-questions", key, body, holder))
    return await _run(state, holder, wish, response, ("body",))


@router.post(
    "/ai/assemble-testimonial",
    summary="Turn a customer's answers into one testimonial",
    openapi_extra=_documented("testimonial_assembly"),
)
async def assemble_testimonial(
    state: Shared, holder: CreditsHolder, body: FeatureBody, response: Response, key: OptionalIdempotencyKey = None
) -> RunView:
    wish = _wish("testimonial_assembly", body, holder, _once("/api/ai/assemble-testimonial", key, body, holder))
    return await _run(state, holder, wish, response, ("body",))


@router.post(
    "/ai/polish-testimonial",
    summary="Smooth the wording of a testimonial, and keep its meaning",
    openapi_extra=_documented("testimonial_polish"),
)
async def polish_testimonial(
    state: Shared, holder: CreditsHolder, body: FeatureBody, response: Response, key: OptionalIdempotencyKey = None
) -> RunView:
    wish = _wish("testimonial_polish", body, holder, _once("/api/ai/polish-testimonial", key, body, holder))
    return await _run(state, holder, wish, response, ("body",))


def _once(path: str, key: str | None, body: RunBody | FeatureBody, holder: Holder) -> Once | None:
    if key is None:
        return None
    return Once(holder.identity.once_at(f"POST {path}"), key, body_hash(body, holder.user(body.user)))


def _wish(capability_id: str, body: FeatureBody, holder: Holder, once: Once | None) -> Wish:
    return Wish(capability_id, body.quality, body.model_extra or {}, holder.user(body.user), once)


async def _run(state: State, holder: Holder, wish: Wish, response: Response, where: tuple[str, ...]) -> RunView:
    """`where` is the place of the input in the request."""
    try:
        who, mode = holder.identity, state.policy.mode
        ran, replayed = await capability.run(state.db, state.teller, state.complete, mode, who, wish)
    except InputInvalid as error:
        wrong = [{"type": "schema", "loc": (*where, *fault.path), "msg": fault.message} for fault in error.faults]
        raise RequestValidationError(wrong) from None
    view = RunView.of(ran)
    response.headers["x-tollhouse-model"] = view.model
    response.headers["x-credits-reserved"] = format_credits(ran.reserved_micros)
    response.headers["x-credits-used"] = view.credits_used
    if view.balance_remaining is not None:
        response.headers["x-balance-remaining"] = view.balance_remaining
    if replayed:
        response.headers["idempotent-replayed"] = "true"
    return view

"""What operators define: capabilities, and which plan offers them. Every call writes a row of the audit log."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints

from tollhouse.api.body import Body, Name, PositiveCredits, StrictRoute, Word
from tollhouse.api.caller import Operator
from tollhouse.api.state import Shared
from tollhouse.core.catalogue import Capability
from tollhouse.core.money import format_credits
from tollhouse.flows import offer
from tollhouse.flows.offer import Definition, Offered
from tollhouse.store.capability import OfferRow

router = APIRouter(prefix="/api/operator", tags=["operator"], route_class=StrictRoute)

Requests = Annotated[int, Field(ge=1, le=1_000_000)]


class CapabilityBody(Body):
    """The whole definition: what is left out is as if it were empty. Without instructions the capability can be
    reserved for and not run here; with them both schemas are needed, JSON schemas (Draft 2020-12) of objects."""

    name: Name
    description: Annotated[str, StringConstraints(strip_whitespace=True, max_length=1_000)] = ""
    estimated_credits: Annotated[PositiveCredits, Field(description="What one use takes at the multiplier 1.")]
    instructions: Annotated[str, StringConstraints(strip_whitespace=True, max_length=20_000)] = ""
    input_schema: dict[str, Any] | None = None
    answer_schema: dict[str, Any] | None = None
    max_output_tokens: Annotated[int, Field(ge=16, le=1_000_000)] = 1_024
    is_active: bool = True


class OfferBody(Body):
    """`quality_levels`: of each level the models that serve it, the default first. Requests null: unlimited."""

    is_enabled: bool = True
    requests_per_minute: Requests | None = None
    requests_per_day: Requests | None = None
    quality_levels: dict[Word, Annotated[list[Word], Field(min_length=1, max_length=20)]]


class OfferView(BaseModel):
    """`inherited_from`: the lower plan that says so, since this one says nothing of any capability."""

    plan: str
    capability: str
    is_enabled: bool
    requests_per_minute: int | None
    requests_per_day: int | None
    quality_levels: Mapping[str, list[str]]
    inherited_from: str | None = None

    @classmethod
    def of(cls, row: OfferRow, inherited_from: str | None = None) -> Self:
        return cls(
            plan=row.plan_id,
            capability=row.capability_id,
            is_enabled=row.is_enabled,
            requests_per_minute=row.requests_per_minute,
            requests_per_day=row.requests_per_day,
            quality_levels=row.quality_levels,
            inherited_from=inherited_from,
        )

    @classmethod
    def of_offered(cls, offered: Offered) -> Self:
        return cls.of(offered.row, offered.inherited_from)


class CapabilityView(BaseModel):
    """`id` is the name in paths, `name` the one that is shown; `offers` are what plans say of their own."""

    id: str
    name: str
    description: str
    estimated_credits: str
    instructions: str
    input_schema: dict[str, Any] | None
    answer_schema: dict[str, Any] | None
    max_output_tokens: int
    is_active: bool
    offers: list[OfferView]

    @classmethod
    def of(cls, definition: Definition) -> Self:
        found = definition.capability
        return cls(
            id=found.id,
            name=found.name,
            description=found.description,
            estimated_credits=format_credits(found.estimated_micros),
            instructions=found.instructions,
            input_schema=found.input_schema,
            answer_schema=found.answer_schema,
            max_output_tokens=found.max_output_tokens,
            is_active=found.is_active,
            offers=[OfferView.of(row) for row in definition.offers],
        )


class CapabilitiesView(BaseModel):
    items: list[CapabilityView]


@router.get("/capabilities", summary="All capabilities, and which plans offer them")
async def read_capabilities(state: Shared, order: Operator) -> CapabilitiesView:
    found = await offer.read_capabilities(state.db, order)
    return CapabilitiesView(items=[CapabilityView.of(one) for one in found])


@router.get("/capabilities/{name}", summary="A capability, and which plans offer it")
async def read_capability(state: Shared, order: Operator, name: str) -> CapabilityView:
    return CapabilityView.of(await offer.read_capability(state.db, order, name))


@router.put("/capabilities/{name}", summary="Define a capability, or define it anew")
async def set_capability(state: Shared, order: Operator, name: str, body: CapabilityBody) -> CapabilityView:
    wanted = Capability(
        id=name,
        name=body.name,
        description=body.description,
        estimated_micros=body.estimated_credits,
        is_active=body.is_active,
        instructions=body.instructions,
        input_schema=body.input_schema,
        answer_schema=body.answer_schema,
        max_output_tokens=body.max_output_tokens,
    )
    return CapabilityView.of(await offer.set_capability(state.db, order, wanted))


@router.put("/plans/{plan}/capabilities/{name}", summary="Say what a plan offers of a capability")
async def set_offer(state: Shared, order: Operator, plan: str, name: str, body: OfferBody) -> OfferView:
    wanted = OfferRow(plan, name, body.is_enabled, body.requests_per_minute, body.requests_per_day, body.quality_levels)
    return OfferView.of_offered(await offer.set_offer(state.db, order, wanted))


@router.delete("/plans/{plan}/capabilities/{name}", summary="Take back what a plan says of a capability")
async def delete_offer(state: Shared, order: Operator, plan: str, name: str) -> OfferView:
    return OfferView.of_offered(await offer.delete_offer(state.db, order, plan, name))

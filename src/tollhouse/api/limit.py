"""An organisation's own limits, as operators set them beside those of its plan."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, PlainValidator, WithJsonSchema

from tollhouse.api.body import Body, EndUser, OptionalIdempotencyKey, StrictRoute, Word, body_hash
from tollhouse.api.caller import Operator
from tollhouse.api.state import Shared
from tollhouse.core.errors import BadRequest
from tollhouse.core.money import format_credits, parse_credits
from tollhouse.core.period import Kind
from tollhouse.core.quota import OwnMeter, Scope
from tollhouse.flows import limit as flow
from tollhouse.flows.once import Once
from tollhouse.store.limit import LimitRow

router = APIRouter(
    prefix="/api/operator/organizations/{organization_id}/limits", tags=["operator"], route_class=StrictRoute
)
MAXIMUM = 10**15


class Micros(int):
    """A maximum that came in credits, in micro-credits."""


def _maximum(value: object) -> int:
    if isinstance(value, str):
        micros = parse_credits(value)
        if micros >= 0:
            return Micros(micros)
    elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAXIMUM:
        return value
    raise ValueError('must be a whole number of messages or tokens, or credits as a decimal string such as "12.5"')


Maximum = Annotated[
    int,
    PlainValidator(_maximum),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": MAXIMUM},
                {"type": "string", "pattern": r"^[0-9]{1,11}(\.[0-9]{1,6})?$", "examples": ["12.5"]},
            ]
        }
    ),
]


class NewLimitBody(Body):
    """`scope`: the whole organisation, a person, or a key; `subject` is the member's id or your own id of the end user,
    or the key's id, and without it the limit is each person's or each key's own. `model`: calls of this model only,
    which uses of a capability are not. `messages` are calls; a limit of them per minute holds in any sixty seconds, one
    of tokens per minute in each minute of the clock. `credits` are whatever is charged; their `maximum` is a decimal
    string, and there are none per minute. The other periods are those of the calendar in UTC; what was used before the
    limit was made does not count."""

    scope: Scope
    subject: EndUser | None = None
    model: Word | None = None
    meter: OwnMeter
    period: Kind
    maximum: Maximum

    def wanted(self) -> flow.NewLimit:
        if isinstance(self.maximum, Micros) != (self.meter == "credits"):
            unit = 'credits as a decimal string such as "12.5"' if self.meter == "credits" else "a whole number"
            raise BadRequest(f"A limit of {self.meter} takes {unit}.", "maximum")
        return flow.NewLimit(self.scope, self.subject, self.model, self.meter, self.period, int(self.maximum))


class MaximumBody(Body):
    """What was counted stays counted: a maximum below it lets nothing through until the period ends."""

    maximum: Maximum


class OwnLimitView(BaseModel):
    """`maximum` of credits is a decimal string. `ended_at` null: it is in force."""

    id: UUID
    scope: Scope
    subject: str | None
    model: str | None
    meter: OwnMeter
    period: Kind
    maximum: int | str
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, row: LimitRow) -> Self:
        return cls(
            id=row.id, scope=row.scope, subject=row.subject, model=row.model_id, meter=row.meter, period=row.period,
            maximum=format_credits(row.maximum) if row.meter == "credits" else row.maximum,
            created_at=row.created_at, ended_at=row.ended_at,
        )  # fmt: skip


class OwnLimitsView(BaseModel):
    items: list[OwnLimitView]


@router.get("", summary="The organisation's own limits in force, oldest first")
async def read_limits(state: Shared, order: Operator, organization_id: UUID) -> OwnLimitsView:
    found = await flow.read_limits(state.db, order, organization_id)
    return OwnLimitsView(items=[OwnLimitView.of(row) for row in found])


@router.post("", status_code=201, summary="Limit an organisation, a person or a key, from the next call on")
async def create_limit(
    state: Shared,
    order: Operator,
    organization_id: UUID,
    body: NewLimitBody,
    response: Response,
    key: OptionalIdempotencyKey = None,
) -> OwnLimitView:
    wanted = body.wanted()
    endpoint = "POST /api/operator/organizations/{id}/limits"
    once = None if key is None else Once(endpoint, key, body_hash(body))
    done = await flow.create_limit(state.db, order, organization_id, wanted, once)
    if done.replayed:
        response.headers["idempotent-replayed"] = "true"
    return OwnLimitView.of(done.result())


@router.patch("/{limit_id}", summary="Change a limit's maximum, from the next call on")
async def change_limit(
    state: Shared, order: Operator, organization_id: UUID, limit_id: UUID, body: MaximumBody
) -> OwnLimitView:
    in_credits = isinstance(body.maximum, Micros)
    row = await flow.change_limit(state.db, order, organization_id, limit_id, int(body.maximum), in_credits=in_credits)
    return OwnLimitView.of(row)


@router.delete("/{limit_id}", summary="End a limit, from the next call on")
async def end_limit(state: Shared, order: Operator, organization_id: UUID, limit_id: UUID) -> OwnLimitView:
    return OwnLimitView.of(await flow.end_limit(state.db, order, organization_id, limit_id))

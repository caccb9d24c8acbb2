"""Credits reserved before a host application calls a model itself, and settled or released after it."""

from datetime import timedelta
from typing import Annotated, Any, Self
from uuid import UUID

import msgspec
from fastapi import APIRouter, Response
from pydantic import AfterValidator, BaseModel, Field, model_validator

from tollhouse.api.body import (
    Body,
    Credits,
    EndUser,
    IdempotencyKey,
    Note,
    PositiveCredits,
    StrictRoute,
    Word,
    body_hash,
)
from tollhouse.api.caller import CreditsHolder, Holder
from tollhouse.api.reservation_view import ReleasedView, RenewedView, ReservationView, SettledView
from tollhouse.api.state import Shared, State
from tollhouse.core.ask import Ask, CallWant, CapabilityWant, Channel, CreditsWant, Size, Want
from tollhouse.core.errors import Conflict, Forbidden, NotFound
from tollhouse.core.price import Stated, Usage
from tollhouse.flows.once import Once
from tollhouse.flows.operation import Admit, Reap, Release, Renew, Replayed, Settle
from tollhouse.flows.reserved import Reserved
from tollhouse.store import reservation

router = APIRouter(prefix="/api/credits/reservations", tags=["reservations"], route_class=StrictRoute)
ENDPOINT = "POST /api/credits/reservations"
METADATA_MAX = 16 * 1024
TOKENS_MAX = 100_000_000
Tokens = Annotated[int, Field(ge=0, le=TOKENS_MAX)]
Seconds = Annotated[int, Field(ge=5, le=86_400)]


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if len(msgspec.json.encode(value)) > METADATA_MAX:
        raise ValueError(f"must not be larger than {METADATA_MAX} bytes")
    return value


class ReservationBody(Body):
    """One of `credits`; `capability`, with a `quality` (the lowest when it is missing); or `model`, with `input_tokens`
    and, if there is one, the call's `max_output_tokens`."""

    credits: PositiveCredits | None = None
    capability: Word | None = None
    quality: Word | None = None
    model: Word | None = None
    input_tokens: Tokens | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=TOKENS_MAX)] | None = None
    user: EndUser | None = None
    ttl_seconds: Seconds = 300
    metadata: Annotated[dict[str, Any], AfterValidator(_small)] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(one is not None for one in (self.credits, self.capability, self.model)) != 1:
            raise ValueError("say what to reserve for by exactly one of 'credits', 'capability' and 'model'")
        if self.quality is not None and self.capability is None:
            raise ValueError("'quality' goes with 'capability'")
        if (self.input_tokens is None) != (self.model is None):
            raise ValueError("'model' and 'input_tokens' go together")
        if self.max_output_tokens is not None and self.model is None:
            raise ValueError("'max_output_tokens' goes with 'model'")
        return self

    def want(self) -> Want:
        if self.credits is not None:
            return CreditsWant(self.credits)
        if self.capability is not None:
            return CapabilityWant(self.capability, self.quality)
        assert self.model is not None and self.input_tokens is not None
        return CallWant(self.model, Size(self.input_tokens, self.max_output_tokens))


class UsageBody(Body):
    """Cached input is part of the input, reasoning part of the output."""

    input_tokens: Tokens
    output_tokens: Tokens
    cached_input_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0

    @model_validator(mode="after")
    def _parts(self) -> Self:
        if self.cached_input_tokens > self.input_tokens:
            raise ValueError("'cached_input_tokens' are part of 'input_tokens' and cannot be more")
        if self.reasoning_tokens > self.output_tokens:
            raise ValueError("'reasoning_tokens' are part of 'output_tokens' and cannot be more")
        return self


class SettleBody(Body):
    """One of `credits`, what it costs, and `usage`, which is priced as it was when it was reserved."""

    credits: Credits | None = None
    usage: UsageBody | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.credits is None) == (self.usage is None):
            raise ValueError("say what was used by exactly one of 'credits' and 'usage'")
        return self

    def used(self) -> Usage | Stated:
        if self.usage is not None:
            return Usage(**self.usage.model_dump())
        assert self.credits is not None
        return Stated(self.credits)


class ReleaseBody(Body):
    reason: Note


class RenewBody(Body):
    """So long from now on; a renewal never shortens."""

    ttl_seconds: Seconds


@router.post(
    "", status_code=201, response_model=ReservationView, summary="Reserve credits and limits before a model is called"
)
async def reserve(state: Shared, holder: CreditsHolder, body: ReservationBody, key: IdempotencyKey) -> Response:
    organization_id, user = holder.organization_id, holder.user(body.user)
    subject_id = holder.identity.subject_of(user)
    want = body.want()
    if isinstance(want, CreditsWant):
        _check_may_state(holder)
    channel: Channel = "capability" if isinstance(want, CapabilityWant) else "api"
    needs = holder.needs(user)
    ask = Ask(organization_id, holder.credential, subject_id, channel, want, needs, here=False)
    once = Once(holder.identity.once_at(ENDPOINT), key, body_hash(body, user))
    admit = Admit(
        organization_id, ask, None, external_user=user, once=once,
        lease=timedelta(seconds=body.ttl_seconds), metadata=body.metadata,
    )  # fmt: skip
    found = await state.teller.do(admit)
    if isinstance(found, Replayed):
        return _told(ReservationView.of_reserved(msgspec.convert(found.response, Reserved)), 201, replayed=True)
    return _told(ReservationView.of_reserved(Reserved.of(found, admit)), 201)


@router.get("/{reservation_id}", summary="A reservation as it stands")
async def read(state: Shared, holder: CreditsHolder, reservation_id: UUID) -> ReservationView:
    await holder.check(state)
    found = await _find(state, holder, reservation_id)
    if found.state == "pending" and found.expires_at <= found.now:
        await state.teller.do(Reap(holder.organization_id, reservation_id))
        found = await _find(state, holder, reservation_id)
    return ReservationView.of_row(found)


@router.post("/{reservation_id}/settle", response_model=SettledView, summary="Charge what was used, once")
async def settle(state: Shared, holder: CreditsHolder, reservation_id: UUID, body: SettleBody) -> Response:
    await _check_own(state, holder, reservation_id)
    if body.credits is not None:
        _check_may_state(holder)
    operation = Settle(holder.organization_id, reservation_id, body.used(), None, None, bearer=holder.bearer)
    settled = await state.teller.do(operation)
    return _told(SettledView.of(reservation_id, settled), 200, settled.replayed)


@router.post("/{reservation_id}/release", response_model=ReleasedView, summary="Give everything back: nothing was used")
async def release(state: Shared, holder: CreditsHolder, reservation_id: UUID, body: ReleaseBody) -> Response:
    await _check_own(state, holder, reservation_id)
    operation = Release(holder.organization_id, reservation_id, None, body.reason, bearer=holder.bearer)
    released = await state.teller.do(operation)
    if released.state == "settled":
        raise Conflict("This reservation was settled: what was used is charged and cannot be released.")
    return _told(ReleasedView.of(reservation_id, released), 200, released.replayed)


@router.post("/{reservation_id}/renew", response_model=RenewedView, summary="Keep it open while the call runs")
async def renew(state: Shared, holder: CreditsHolder, reservation_id: UUID, body: RenewBody) -> Response:
    await _check_own(state, holder, reservation_id)
    lease = timedelta(seconds=body.ttl_seconds)
    renewed = await state.teller.do(Renew(holder.organization_id, reservation_id, lease=lease, bearer=holder.bearer))
    if renewed.state != "pending":
        raise Conflict(
            f"This reservation is {renewed.state} and cannot be renewed. Settle what was used, or reserve anew."
        )
    return _told(RenewedView(id=reservation_id, expires_at=renewed.expires_at), 200)


def _check_may_state(holder: Holder) -> None:
    """Forbidden for end users: what something costs follows from what they used, not from what they say."""
    if holder.credential.kind == "issuer":
        raise Forbidden(
            "The token of an end user states no credits: reserve a model or a capability, and settle with 'usage'. "
            "Credits are stated with an API key."
        )


async def _check_own(state: State, holder: Holder, reservation_id: UUID) -> None:
    """NotFound when it is another's. A key closes whatever its organisation has reserved, a person or an end user what
    they have reserved themselves."""
    if holder.credential.kind != "key":
        await _find(state, holder, reservation_id)


async def _find(state: State, holder: Holder, reservation_id: UUID) -> reservation.ReservationRow:
    async with state.db.tenant(holder.organization_id) as tx:
        found = await reservation.find(tx, holder.organization_id, reservation_id, state.clock())
    if found is None or (holder.credential.kind != "key" and found.subject_id != holder.identity.subject_id):
        raise NotFound("There is no such reservation.")
    return found


def _told(view: BaseModel, status: int, replayed: bool = False) -> Response:
    """Written out here: validating once more what was just made would cost more than making it."""
    headers = {"idempotent-replayed": "true"} if replayed else None
    return Response(view.model_dump_json(), status, headers, media_type="application/json")

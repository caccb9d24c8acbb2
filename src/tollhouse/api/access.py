"""What would be decided, and why: asked before an AI option is shown. It takes nothing."""

from datetime import datetime
from typing import Annotated, Self, TypeGuard

from fastapi import APIRouter
from pydantic import BaseModel, Field, model_validator

from tollhouse.api.body import Body, EndUser, StrictRoute, Word
from tollhouse.api.caller import CreditsHolder
from tollhouse.api.state import Shared
from tollhouse.core.ask import Ask, CallWant, CapabilityWant, Channel, Size
from tollhouse.core.errors import BadRequest, Forbidden, Hint, NotFound, TollhouseError, Unauthenticated
from tollhouse.core.explain import Explanation, Level, LimitLeft
from tollhouse.core.money import format_credits
from tollhouse.core.refusals import ModelNotFound
from tollhouse.flows.operation import Explain

router = APIRouter(prefix="/api/ai", tags=["ai"], route_class=StrictRoute)
# What a model is asked for when nothing is said: a page of text, and half a page in return.
INPUT_TOKENS, OUTPUT_TOKENS = 1_000, 500
Tokens = Annotated[int, Field(ge=0, le=100_000_000)]


class AccessBody(Body):
    """One of `capability` (with a `quality`, the lowest when it is missing), `model` and `assistant`. For a model the
    estimate is of a call of so many tokens."""

    capability: Word | None = None
    quality: Word | None = None
    model: Word | None = None
    assistant: Word | None = None
    user: EndUser | None = None
    input_tokens: Tokens = INPUT_TOKENS
    max_output_tokens: Annotated[int, Field(ge=1, le=100_000_000)] = OUTPUT_TOKENS

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(one is not None for one in (self.capability, self.model, self.assistant)) != 1:
            raise ValueError("say what is wanted by exactly one of 'capability', 'model' and 'assistant'")
        if self.quality is not None and self.capability is None:
            raise ValueError("'quality' goes with 'capability'")
        return self

    def want(self) -> CallWant | CapabilityWant:
        if self.assistant is not None:
            raise NotFound(f"There is no assistant {self.assistant!r} here. Name a model or a capability.")
        if self.capability is not None:
            return CapabilityWant(self.capability, self.quality)
        assert self.model is not None
        return CallWant(self.model, Size(self.input_tokens, self.max_output_tokens))


class HintView(BaseModel):
    """What would help: upgrade (to `plan`), top_up, unlock (for `price_cents`) or wait (until `at`)."""

    kind: str
    price_cents: int | None
    plan: str | None
    at: datetime | None

    @classmethod
    def of(cls, hint: Hint) -> Self:
        return cls(kind=hint.kind, price_cents=hint.price_cents, plan=hint.plan, at=hint.at)


class LevelView(BaseModel):
    """`allowed`: the plan has it. `hint` is what would help when it is locked, or cannot be had at the moment."""

    name: str
    allowed: bool
    estimated_credits: str
    models: list[str]
    hint: HintView | None

    @classmethod
    def of(cls, level: Level) -> Self:
        hints = level.refusal.hints() if level.refusal is not None else ()
        return cls(
            name=level.quality_id,
            allowed=level.allowed,
            estimated_credits=format_credits(level.estimated_micros),
            models=list(level.models),
            hint=HintView.of(hints[0]) if hints else None,
        )


class CreditsView(BaseModel):
    """`estimated` null: nothing can be reckoned."""

    estimated: str | None
    spendable: str
    enough: bool


class LimitView(BaseModel):
    """`used` counts what is settled; `remaining` is less by what running calls hold; all are decimal strings for
    credits. `resets_at` null: never, or for a limit per minute that something is left."""

    scope: str
    meter: str
    period: str
    limit: int | str
    used: int | str
    remaining: int | str
    resets_at: datetime | None
    model: str | None
    capability: str | None

    @classmethod
    def of(cls, left: LimitLeft) -> Self:
        numbers: list[int | str] = [left.limit, left.used, left.remaining]
        if left.meter == "credits":
            numbers = [format_credits(one) for one in (left.limit, left.used, left.remaining)]
        limit, used, remaining = numbers
        return cls(
            scope=left.scope, meter=left.meter, period=left.period, limit=limit, used=used, remaining=remaining,
            resets_at=left.resets_at, model=left.model_id, capability=left.capability,
        )  # fmt: skip


class AccessView(BaseModel):
    """`reason` is the code with which the same ask would be refused, null when it may proceed; `model` is the one that
    would answer, `models` are all that may, in their order."""

    can_proceed: bool
    reason: str | None
    message: str
    model: str | None
    models: list[str]
    quality_levels: list[LevelView]
    credits: CreditsView
    limits: list[LimitView]
    hints: list[HintView]

    @classmethod
    def of(cls, found: Explanation) -> Self:
        refusal, estimated = found.refusal, found.estimated_micros
        return cls(
            can_proceed=refusal is None,
            reason=None if refusal is None else refusal.code,
            message="It may proceed." if refusal is None else str(refusal),
            model=found.model_id,
            models=list(found.models),
            quality_levels=[LevelView.of(level) for level in found.levels],
            credits=CreditsView(
                estimated=None if estimated is None else format_credits(estimated),
                spendable=format_credits(found.spendable_micros),
                enough=estimated is not None and estimated <= found.spendable_micros,
            ),
            limits=[LimitView.of(left) for left in found.limits],
            hints=[HintView.of(hint) for hint in (refusal.hints() if refusal else ())],
        )


@router.post("/access-check", summary="Would it be allowed, and what would help? Takes nothing")
async def access_check(state: Shared, holder: CreditsHolder, body: AccessBody) -> AccessView:
    organization_id, user, want = holder.organization_id, holder.user(body.user), body.want()
    subject_id = holder.identity.subject_of(user)
    channel: Channel = "capability" if isinstance(want, CapabilityWant) else "api"
    needs = holder.needs(user)
    ask = Ask(organization_id, holder.credential, subject_id, channel, want, needs, here=False)
    found = await state.teller.do(Explain(organization_id, ask))
    if _is_about_the_question(found.refusal):
        raise found.refusal
    return AccessView.of(found)


def _is_about_the_question(refusal: TollhouseError | None) -> TypeGuard[TollhouseError]:
    """Who may not ask, or asks for what does not exist, gets no decision but a refusal."""
    return isinstance(refusal, Unauthenticated | Forbidden | NotFound | ModelNotFound | BadRequest)

"""The models that somebody may choose among, how each stands for them, and which of them they prefer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Header
from pydantic import BaseModel, Field

from tollhouse.api.access import HintView
from tollhouse.api.body import Body, EndUser, StrictRoute, Word, without_default
from tollhouse.api.caller import Acting, Allowed
from tollhouse.api.state import Shared, State
from tollhouse.core.assistant import Assistant
from tollhouse.core.errors import BadRequest
from tollhouse.core.preference import Preferences
from tollhouse.core.refusals import ModelNotFound
from tollhouse.core.shelf import ModelState, Shelf
from tollhouse.core.shelf import State as Standing
from tollhouse.flows import preference
from tollhouse.flows.auth import require
from tollhouse.flows.preference import Change, NewDefault
from tollhouse.flows.shelf import Viewer, shelf_of
from tollhouse.store import assistant

router = APIRouter(prefix="/api", tags=["models"], route_class=StrictRoute)
_USE = Allowed("models.use")


@dataclass(frozen=True, slots=True)
class Chooser:
    """For whom it is chosen, and by whom it is asked."""

    viewer: Viewer
    acting: Acting


async def choosing(
    acting: Annotated[Acting, Depends(_USE)],
    on_behalf_of: Annotated[EndUser | None, Header(alias="X-Tollhouse-User")] = None,
) -> Chooser:
    """A person, the end user of a token, or the one whom a key names; a key alone is its organisation."""
    caller = acting.caller
    user = caller.identity.on_behalf_of(on_behalf_of)
    if caller.credential.kind == "key" and user is not None:
        require(caller, "act_as")
    viewer = Viewer(
        acting.organization_id, caller.credential, caller.identity.subject_of(user),
        "api" if caller.signed is None else "chat", caller.identity.needs("gateway", user), caller.signed,
    )  # fmt: skip
    return Chooser(viewer, acting)


Choosing = Annotated[Chooser, Depends(choosing)]


class MetadataView(BaseModel):
    """What a model is like; null where the catalogue says nothing. `cost_per_1m_tokens` in dollars, for information."""

    speed: str | None
    quality: str | None
    context_window: int
    cost_per_1m_tokens: float | None
    best_for: list[str]


class UsageView(BaseModel):
    """Messages of this model today, those that are being answered too. `limit` null: the model has none of its own."""

    used: int
    limit: int | None
    resets_at: datetime


class TrialView(BaseModel):
    remaining: int
    total: int


class DecisionView(BaseModel):
    """What would be decided of a short message now. `state`: free, unlocked, trial, trial_exhausted, locked, limit_hit
    (a limit, or the credits) or unavailable; `reason` is the code with which it would be refused, else null."""

    can_proceed: bool
    state: Standing
    reason: str | None
    message: str | None
    hints: list[HintView]


class ModelView(BaseModel):
    """`daily_messages`: of each person; null: unlimited."""

    id: str
    provider: str
    display_name: str
    description: str
    tier: str
    price_cents: int | None
    metadata: MetadataView
    daily_messages: int | None
    trial_messages: int
    usage_today: UsageView
    decision: DecisionView

    @classmethod
    def of(cls, one: ModelState) -> Self:
        model, said, refusal = one.model, one.metadata, one.refusal
        return cls(
            id=model.id, provider=model.provider_id, display_name=model.display_name, description=said.description,
            tier=model.tier, price_cents=model.price_cents, daily_messages=model.daily_messages,
            trial_messages=model.trial_messages,
            metadata=MetadataView(
                speed=said.speed, quality=said.quality, context_window=said.context_window,
                cost_per_1m_tokens=said.cost_per_1m_tokens, best_for=list(said.best_for),
            ),
            usage_today=UsageView(used=one.used_today, limit=one.limit_today, resets_at=one.resets_at),
            decision=DecisionView(
                can_proceed=one.usable, state=one.state, reason=refusal.code if refusal else None,
                message=str(refusal) if refusal else None,
                hints=[HintView.of(hint) for hint in (refusal.hints() if refusal else ())],
            ),
        )  # fmt: skip


class PremiumModelView(ModelView):
    """`purchased`: unlocked, however."""

    purchased: bool
    trial: TrialView

    @classmethod
    def of(cls, one: ModelState) -> Self:
        trial = TrialView(remaining=one.trial_remaining or 0, total=one.trial_total)
        return cls(**dict(ModelView.of(one)), purchased=one.unlocked, trial=trial)


class PreferencesView(BaseModel):
    """`default_model_id` null: the system's default answers. The overrides by slug of the assistant."""

    default_model_id: str | None
    persona_overrides: dict[str, str]

    @classmethod
    def of(cls, chosen: Preferences, slugs: Mapping[UUID, str]) -> Self:
        overrides = {slugs[id_]: model_id for id_, model_id in chosen.overrides.items() if id_ in slugs}
        return cls(default_model_id=chosen.default_model_id, persona_overrides=overrides)


class ModelsData(BaseModel):
    free: list[ModelView]
    premium: list[PremiumModelView]
    user_preferences: PreferencesView


class ModelsView(BaseModel):
    data: ModelsData


class ChosenView(BaseModel):
    data: PreferencesView


class TrialStatusData(BaseModel):
    """`can_use_trial`: the next message would be one of the trial."""

    trial_messages_remaining: int
    total_trial_messages: int
    can_use_trial: bool


class TrialStatusView(BaseModel):
    data: TrialStatusData


class ModelUsageData(BaseModel):
    """`has_unlimited_access`: it needs no unlocking any more, and has no daily limit of its own."""

    messages_used_today: int
    daily_limit: int | None
    limit_resets_at: datetime
    has_unlimited_access: bool


class ModelUsageView(BaseModel):
    data: ModelUsageData


class PreferencesBody(Body):
    """What is left out stays as it is. `default_model_id` null: the system's default. `persona_overrides`, by slug of
    the assistant, stand in place of all those before."""

    default_model_id: Annotated[Word | None, Field(json_schema_extra=without_default)] = None
    persona_overrides: Annotated[dict[Word, Word], Field(default_factory=dict, json_schema_extra=without_default)]


@router.get("/models", summary="The models to choose among, how each stands, and what is preferred")
async def read_models(state: Shared, chooser: Choosing) -> ModelsView:
    found = await _shelf(state, chooser)
    slugs = {one.id: one.slug for one in await _assistants(state, chooser)}
    return ModelsView(
        data=ModelsData(
            free=[ModelView.of(one) for one in found.free],
            premium=[PremiumModelView.of(one) for one in found.premium],
            user_preferences=PreferencesView.of(found.preferences, slugs),
        )
    )


@router.get("/models/{model_id}/trial-status", summary="What is left of the trial of a model")
async def read_trial(state: Shared, chooser: Choosing, model_id: str) -> TrialStatusView:
    one = _found(await _shelf(state, chooser), model_id)
    return TrialStatusView(
        data=TrialStatusData(
            trial_messages_remaining=one.trial_remaining or 0, total_trial_messages=one.trial_total,
            can_use_trial=one.state == "trial",
        )
    )  # fmt: skip


@router.get("/models/{model_id}/usage", summary="How many messages of a model were used today")
async def read_usage(state: Shared, chooser: Choosing, model_id: str) -> ModelUsageView:
    one = _found(await _shelf(state, chooser), model_id)
    return ModelUsageView(
        data=ModelUsageData(
            messages_used_today=one.used_today, daily_limit=one.limit_today, limit_resets_at=one.resets_at,
            has_unlimited_access=one.unlocked and one.limit_today is None,
        )
    )  # fmt: skip


@router.patch("/profile/model-preferences", summary="Choose which models answer")
async def change_preferences(state: Shared, chooser: Choosing, body: PreferencesBody) -> ChosenView:
    viewer, given = chooser.viewer, body.model_fields_set
    if viewer.subject_id == viewer.organization_id:
        raise BadRequest("A key alone prefers nothing. Name the end user in the header X-Tollhouse-User.")
    assistants = await _assistants(state, chooser)
    wanted = Change(
        default=NewDefault(body.default_model_id) if "default_model_id" in given else None,
        overrides=_by_id(body.persona_overrides, assistants) if "persona_overrides" in given else None,
    )
    found = await _shelf(state, chooser)
    after = await preference.change(state.db, chooser.acting.order, viewer, found, wanted)
    return ChosenView(data=PreferencesView.of(after, {one.id: one.slug for one in assistants}))


def _by_id(overrides: Mapping[str, str], assistants: list[Assistant]) -> dict[UUID, str]:
    """Where an organisation and the platform have the same slug, the organisation's own is meant."""
    ids = {one.slug: one.id for one in sorted(assistants, key=lambda one: not one.of_platform)}
    unknown = next((slug for slug in overrides if slug not in ids), None)
    if unknown is not None:
        known = ", ".join(sorted(ids)) or "none"
        raise BadRequest(f"There is no assistant {unknown!r} here. There are: {known}.", "persona_overrides")
    return {ids[slug]: model_id for slug, model_id in overrides.items()}


def _found(shelf: Shelf, model_id: str) -> ModelState:
    one = shelf.find(model_id)
    if one is None:
        raise ModelNotFound(model_id)
    return one


async def _shelf(state: State, chooser: Chooser) -> Shelf:
    return await shelf_of(state.db, state.teller, chooser.viewer, chooser.acting.order.now)


async def _assistants(state: State, chooser: Chooser) -> list[Assistant]:
    viewer = chooser.viewer
    async with state.db.tenant(viewer.organization_id) as tx:
        return await assistant.visible(tx, viewer.organization_id, viewer.subject_id)

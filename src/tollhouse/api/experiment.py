"""Experiments with models, as operators set them up. Every call writes a row of the audit log."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints, model_validator

from tollhouse.api.body import Body, Moment, StrictRoute, Word
from tollhouse.api.caller import Operator
from tollhouse.api.state import Shared
from tollhouse.core.experiment import Arm
from tollhouse.core.money import format_credits, format_usd
from tollhouse.flows import experiment as flow
from tollhouse.flows.experiment import Outcomes
from tollhouse.flows.order import NewExperiment
from tollhouse.store.experiment import ArmOutcome, ExperimentRow

router = APIRouter(prefix="/api/operator/experiments", tags=["operator"], route_class=StrictRoute)
ARMS_MAX = 10


class ArmBody(Body):
    """A model, and its share of the sum of all weights."""

    model: Word
    weight: Annotated[int, Field(ge=1, le=10_000)]


class NewExperimentBody(Body):
    """What is asked for, `model` (a name or 'auto') or `capability` at `quality`, and the models that share it. Each
    person gets the same one every time. Who may not use theirs gets what they asked for and takes no part. Without
    `starts_at` it begins now, without `ends_at` it goes on until it is ended; both are times of the organisations."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
    model: Word | None = None
    capability: Word | None = None
    quality: Word | None = None
    arms: Annotated[list[ArmBody], Field(min_length=2, max_length=ARMS_MAX)]
    starts_at: Moment | None = None
    ends_at: Moment | None = None

    @model_validator(mode="after")
    def _about_one_thing(self) -> Self:
        if (self.model is None) == (self.capability is None):
            raise ValueError("say what it is about by exactly one of 'model' and 'capability'")
        if (self.capability is None) != (self.quality is None):
            raise ValueError("'capability' and 'quality' go together")
        return self


class EndBody(Body):
    """Without `ends_at` it ends now."""

    ends_at: Moment | None = None


class ArmView(BaseModel):
    model: str
    weight: int


class ExperimentView(BaseModel):
    """`ends_at` null: no end is set."""

    id: UUID
    name: str
    model: str | None
    capability: str | None
    quality: str | None
    arms: list[ArmView]
    starts_at: datetime
    ends_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, row: ExperimentRow) -> Self:
        one = row.experiment
        return cls(
            id=one.id, name=one.name, model=one.model_id, capability=one.capability_id, quality=one.quality_id,
            arms=[ArmView(model=arm.model_id, weight=arm.weight) for arm in one.arms],
            starts_at=one.starts_at, ends_at=one.ends_at, created_at=row.created_at,
        )  # fmt: skip


class ExperimentsView(BaseModel):
    items: list[ExperimentView]


class ArmOutcomeView(BaseModel):
    """Of the calls for which this model was drawn, whoever answered in the end: `errors` failed or broke off. Times are
    milliseconds from the begin of the call, null where there is none; tokens, cost and credits are sums."""

    model: str
    requests: int
    running: int
    errors: int
    duration_mean_ms: int | None
    duration_p95_ms: int | None
    first_token_mean_ms: int | None
    first_token_p95_ms: int | None
    input_tokens: int
    output_tokens: int
    cost_usd: str
    credits_used: str

    @classmethod
    def of(cls, arm: ArmOutcome) -> Self:
        return cls(
            model=arm.model_id, requests=arm.requests, running=arm.running, errors=arm.errors,
            duration_mean_ms=arm.duration_mean_ms, duration_p95_ms=arm.duration_p95_ms,
            first_token_mean_ms=arm.first_token_mean_ms, first_token_p95_ms=arm.first_token_p95_ms,
            input_tokens=arm.input_tokens, output_tokens=arm.output_tokens, cost_usd=format_usd(arm.cost_nanos),
            credits_used=format_credits(arm.charged_micros),
        )  # fmt: skip


class OutcomesView(BaseModel):
    experiment: ExperimentView
    arms: list[ArmOutcomeView]

    @classmethod
    def of(cls, found: Outcomes) -> Self:
        return cls(experiment=ExperimentView.of(found.row), arms=[ArmOutcomeView.of(arm) for arm in found.arms])


@router.get("", summary="All experiments, newest first")
async def read_experiments(state: Shared, order: Operator) -> ExperimentsView:
    return ExperimentsView(items=[ExperimentView.of(row) for row in await flow.read_experiments(state.db, order)])


@router.post("", status_code=201, summary="Compare models on a share of the calls each")
async def create_experiment(state: Shared, order: Operator, body: NewExperimentBody) -> ExperimentView:
    wanted = NewExperiment(
        body.name, body.model, body.capability, body.quality, tuple(Arm(arm.model, arm.weight) for arm in body.arms),
        body.starts_at, body.ends_at,
    )  # fmt: skip
    return ExperimentView.of(await flow.create_experiment(state.db, order, wanted))


@router.get("/{id_}", summary="An experiment")
async def read_experiment(state: Shared, order: Operator, id_: UUID) -> ExperimentView:
    return ExperimentView.of(await flow.read_experiment(state.db, order, id_))


@router.patch("/{id_}", summary="End an experiment, now or later")
async def end_experiment(state: Shared, order: Operator, id_: UUID, body: EndBody) -> ExperimentView:
    return ExperimentView.of(await flow.end_experiment(state.db, order, id_, body.ends_at))


@router.delete("/{id_}", summary="Delete an experiment that has not begun")
async def delete_experiment(state: Shared, order: Operator, id_: UUID) -> ExperimentView:
    return ExperimentView.of(await flow.delete_experiment(state.db, order, id_))


@router.get("/{id_}/outcomes", summary="What came of each model of an experiment")
async def read_outcomes(state: Shared, order: Operator, id_: UUID) -> OutcomesView:
    return OutcomesView.of(await flow.read_outcomes(state.db, order, id_))

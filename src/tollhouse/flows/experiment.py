"""What operators do about experiments: each call is one transaction with its audit row, in the platform's chain. The
catalogue's version rises with each change, so that every process decides by it from its next batch on."""

import os
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from tollhouse.core.ask import AUTO
from tollhouse.core.audit import Detail
from tollhouse.core.catalogue import Catalogue
from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.core.experiment import Experiment
from tollhouse.core.key import ordered_id
from tollhouse.flows import fund
from tollhouse.flows.audit import record
from tollhouse.flows.order import NewExperiment, Order
from tollhouse.store import catalogue as catalogues
from tollhouse.store import experiment as store
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.db import Database, OperatorTx
from tollhouse.store.experiment import ArmOutcome, ExperimentRow


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Every arm in the order of its model; one that was never called is there too."""

    row: ExperimentRow
    arms: tuple[ArmOutcome, ...]


async def read_experiments(db: Database, order: Order) -> list[ExperimentRow]:
    """All of them, newest first."""
    async with db.operator() as tx:
        await _record(tx, order, "experiment.read", "all", {})
        return await store.read(tx)


async def read_experiment(db: Database, order: Order, id_: UUID) -> ExperimentRow:
    async with db.operator() as tx:
        row = await _find(tx, id_)
        await _record(tx, order, "experiment.read", str(id_), {})
        return row


async def create_experiment(db: Database, order: Order, wanted: NewExperiment) -> ExperimentRow:
    """BadRequest for what is not in the catalogue, Conflict when the name is taken or another experiment is about the
    same at the same time."""
    async with db.operator() as tx:
        await fund.lock_one(tx, PLATFORM_ID)
        catalogue = await catalogues.load(tx)
        starts_at = wanted.starts_at or order.now
        _check_times(starts_at, wanted.ends_at, order.now)
        _check_subject(catalogue, wanted)
        _check_arms(catalogue, wanted)
        id_ = ordered_id(order.now, os.urandom(10))
        made = Experiment(
            id_, wanted.name, wanted.model_id, wanted.capability_id, wanted.quality_id, starts_at, wanted.ends_at,
            tuple(sorted(wanted.arms, key=lambda arm: arm.model_id)),
        )  # fmt: skip
        for other in await store.read(tx):
            _check_apart(made, other.experiment)
        row = ExperimentRow(made, order.now)
        await store.insert(tx, row)
        await _record(tx, order, "experiment.created", str(id_), _written(made))
        return row


async def end_experiment(db: Database, order: Order, id_: UUID, ends_at: datetime | None) -> ExperimentRow:
    """It ends then, or now. Safe to repeat: one that has ended stays as it is. Conflict for one that has not begun."""
    async with db.operator() as tx:
        await fund.lock_one(tx, PLATFORM_ID)
        row = await _find(tx, id_)
        one = row.experiment
        if one.starts_at > order.now:
            raise Conflict("This experiment has not begun. Delete it.")
        if ends_at is not None and ends_at < order.now:
            raise BadRequest("An experiment cannot end in the past: leave ends_at out to end it now.", "ends_at")
        if one.ends_at is None or one.ends_at > order.now:
            # the end is exclusive, so one that ends as it begins has lasted the shortest time there is
            at = max(ends_at or order.now, one.starts_at + timedelta(microseconds=1))
            row = replace(row, experiment=replace(one, ends_at=at))
            await store.end(tx, id_, at)
        await _record(tx, order, "experiment.ended", str(id_), {"ends_at": str(row.experiment.ends_at)})
        return row


async def delete_experiment(db: Database, order: Order, id_: UUID) -> ExperimentRow:
    """As if it had never been. Conflict for one that has begun: its calls are told apart by it."""
    async with db.operator() as tx:
        await fund.lock_one(tx, PLATFORM_ID)
        row = await _find(tx, id_)
        if row.experiment.starts_at <= order.now:
            raise Conflict("This experiment has begun. PATCH ends it.")
        await store.delete(tx, id_)
        await _record(tx, order, "experiment.deleted", str(id_), _written(row.experiment))
        return row


async def read_outcomes(db: Database, order: Order, id_: UUID) -> Outcomes:
    async with db.operator() as tx:
        row = await _find(tx, id_)
        await _record(tx, order, "experiment.read", str(id_), {"outcomes": True})
        found = {one.model_id: one for one in await store.outcomes(tx, id_)}
        none = ArmOutcome("", 0, 0, 0, None, None, None, None, 0, 0, 0, 0)
        arms = [found.get(arm.model_id, replace(none, model_id=arm.model_id)) for arm in row.experiment.arms]
        return Outcomes(row, tuple(arms))


async def _find(tx: OperatorTx, id_: UUID) -> ExperimentRow:
    found = await store.read(tx, id_)
    if not found:
        raise NotFound("There is no such experiment. GET /api/operator/experiments lists them.")
    return found[0]


def _check_times(starts_at: datetime, ends_at: datetime | None, now: datetime) -> None:
    if starts_at < now:
        raise BadRequest("An experiment cannot begin in the past: leave starts_at out to begin it now.", "starts_at")
    if ends_at is not None and ends_at <= starts_at:
        raise BadRequest("ends_at must be later than starts_at; without it no end is set.", "ends_at")


def _check_subject(catalogue: Catalogue, wanted: NewExperiment) -> None:
    if wanted.model_id is not None and wanted.model_id != AUTO and wanted.model_id not in catalogue.models:
        raise BadRequest(f"There is no model {wanted.model_id!r} in the catalogue.", "model")
    if wanted.capability_id is not None and wanted.capability_id not in catalogue.capabilities:
        raise BadRequest(f"There is no capability {wanted.capability_id!r}.", "capability")
    if wanted.quality_id is not None and wanted.quality_id not in catalogue.qualities:
        known = ", ".join(catalogue.qualities)
        raise BadRequest(f"There is no quality {wanted.quality_id!r}. There are: {known}.", "quality")


def _check_arms(catalogue: Catalogue, wanted: NewExperiment) -> None:
    asked = catalogue.models.get(wanted.model_id or "")
    kind = "chat" if asked is None else asked.kind
    for number, arm in enumerate(wanted.arms):
        field, model = f"arms.{number}.model", catalogue.models.get(arm.model_id)
        if model is None:
            raise BadRequest(f"There is no model {arm.model_id!r} in the catalogue.", field)
        if model.kind != kind:
            raise BadRequest(f"{arm.model_id!r} is a model of another kind: {model.kind}, not {kind}.", field)
        if arm.model_id in [one.model_id for one in wanted.arms[:number]]:
            raise BadRequest(f"The model {arm.model_id!r} stands there twice. Add its weights up.", field)


def _check_apart(made: Experiment, other: Experiment) -> None:
    if made.name == other.name:
        raise Conflict(f"There is an experiment {made.name!r} already. Choose another name.")
    same = (made.model_id, made.capability_id, made.quality_id) == (
        other.model_id, other.capability_id, other.quality_id
    )  # fmt: skip
    before = other.ends_at is not None and other.ends_at <= made.starts_at
    after = made.ends_at is not None and made.ends_at <= other.starts_at
    if same and not before and not after:
        raise Conflict(f"The experiment {other.name!r} is about the same at that time. End it first.")


def _written(one: Experiment) -> dict[str, Detail]:
    return {
        "name": one.name,
        "model": one.model_id,
        "capability": one.capability_id,
        "quality": one.quality_id,
        "starts_at": str(one.starts_at),
        "ends_at": None if one.ends_at is None else str(one.ends_at),
        "arms": {arm.model_id: arm.weight for arm in one.arms},
    }


async def _record(tx: OperatorTx, order: Order, action: str, id_: str, details: dict[str, Detail]) -> None:
    await record(tx, PLATFORM_ID, order, action, ("experiment", id_), details)

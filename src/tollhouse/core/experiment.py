"""Experiments: a share of those who ask for a model, or for a capability at a quality, gets another model.

Who gets which follows from the person and the experiment alone, so it stays the same from call to call and in every
process."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the models that are compared; of all weights together this is its share."""

    model_id: str
    weight: int


@dataclass(frozen=True, slots=True)
class Experiment:
    """What it is about is either `model_id` (as asked for, "auto" too) or a capability at a quality. Begin inclusive,
    end exclusive, in the organisation's time; None: no end is set."""

    id: UUID
    name: str
    model_id: str | None
    capability_id: str | None
    quality_id: str | None
    starts_at: datetime
    ends_at: datetime | None
    arms: tuple[Arm, ...]

    def is_active(self, now: datetime) -> bool:
        return self.starts_at <= now and (self.ends_at is None or now < self.ends_at)

    def model_for(self, subject_id: UUID) -> str:
        """The model that this subject gets."""
        drawn = hashlib.sha256(self.id.bytes + subject_id.bytes).digest()
        point = int.from_bytes(drawn[:8], "big") % sum(arm.weight for arm in self.arms)
        for arm in sorted(self.arms, key=lambda one: one.model_id):
            point -= arm.weight
            if point < 0:
                return arm.model_id
        raise AssertionError("the point lies within the sum of the weights")


def running(
    experiments: tuple[Experiment, ...], about: tuple[str | None, str | None, str | None], now: datetime
) -> Experiment | None:
    """The experiment about this (model, capability, quality) that is active, the earliest of several."""
    for one in experiments:
        if (one.model_id, one.capability_id, one.quality_id) == about and one.is_active(now):
            return one
    return None

"""Limits per minute: never more than the maximum in any sixty seconds.

Requests are remembered by the second for a minute. A counter per calendar minute would let twice the limit pass around
a boundary; this one has no boundary, and no job empties it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from uuid import UUID

from tollhouse.core.refusals import LimitExceeded

MINUTE_S = 60
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class RateTake:
    """One request of one subject, against so many a minute; `scope` is for the refusal."""

    rate_id: UUID
    subject_id: UUID
    maximum: int
    scope: str
    model_id: str = ""
    capability: str = ""


@lru_cache(maxsize=16_384)
def rate_id(subject_id: UUID, capability: str, limit_id: UUID | None) -> UUID:
    """Derived from what the rate is about, so that it needs no look-up to be found or made."""
    text = f"{subject_id}/{capability}/{limit_id or ''}/minute"
    return UUID(bytes=hashlib.md5(text.encode(), usedforsecurity=False).digest())


@dataclass(slots=True)
class Rate:
    """(epoch second, requests) of about the last minute, oldest first."""

    subject_id: UUID
    seconds: list[tuple[int, int]] = field(default_factory=list)

    def used(self, now: datetime) -> int:
        """Requests that may lie within the last sixty seconds: the second in which they began counts whole."""
        since = int(now.timestamp()) - MINUTE_S
        return sum(count for second, count in self.seconds if second >= since)

    def free_at(self, now: datetime, maximum: int) -> datetime:
        """When the next request passes, if none passes now and no other comes before."""
        since = int(now.timestamp()) - MINUTE_S
        too_many = self.used(now) - maximum + 1
        for second, count in self.seconds:
            if second >= since:
                too_many -= count
                if too_many <= 0:
                    return datetime.fromtimestamp(second + MINUTE_S + 1, UTC)
        return now

    def count(self, now: datetime) -> None:
        second = int(now.timestamp())
        kept = [one for one in self.seconds if one[0] >= second - MINUTE_S]
        if kept and kept[-1][0] >= second:  # also when the clock stepped back
            kept[-1] = (kept[-1][0], kept[-1][1] + 1)
        else:
            kept.append((second, 1))
        self.seconds = kept


@dataclass(slots=True)
class Rates:
    """The rates of one organisation in one batch; `changed` is what must be written."""

    by_id: dict[UUID, Rate] = field(default_factory=dict)
    changed: set[UUID] = field(default_factory=set)

    def check(self, takes: Iterable[RateTake], now: datetime) -> None:
        """LimitExceeded for the first that is full; nothing changes."""
        for take in takes:
            rate = self.by_id.get(take.rate_id)
            used = rate.used(now) if rate else 0
            if used >= take.maximum:
                free_at = rate.free_at(now, take.maximum) if rate and take.maximum else now
                raise LimitExceeded(
                    scope=take.scope,
                    meter="requests",
                    period="minute",
                    limit=take.maximum,
                    used=used,
                    reserved=0,
                    resets_at=free_at if take.maximum else None,
                    model_id=take.model_id or None,
                    capability=take.capability or None,
                    retry_after_s=_seconds_until(free_at, now) if take.maximum else None,
                )

    def count(self, takes: Iterable[RateTake], now: datetime) -> None:
        """Counts the request with all; call `check` first. A rate is not given back: the request was made."""
        for take in takes:
            rate = self.by_id.get(take.rate_id)
            if rate is None:
                rate = self.by_id[take.rate_id] = Rate(take.subject_id)
            rate.count(now)
            self.changed.add(take.rate_id)


def _seconds_until(moment: datetime, now: datetime) -> int:
    """At most a minute: then something is free for certain, or the next refusal names the rest."""
    return min(MINUTE_S, max(1, -((now - moment) // SECOND)))

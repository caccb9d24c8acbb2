"""Connections to providers: where they may lead, how many there may be, what is shown of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tollhouse.core.key import Mode

Origin = Literal["environment", "operator", "organization"]
Protocol = Literal["openai", "anthropic", "google", "sandbox"]
# The whole catalogue, connections included, is kept in the memory of every process.
OF_AN_ORGANIZATION_MAX, OF_THE_PLATFORM_MAX = 20, 100
UNHEALTHY_AFTER = 3
_HINT_LENGTH = 4


@dataclass(frozen=True, slots=True)
class Health:
    """What the last check found: `error` None, it answers; `failures` is how many checks in a row have failed."""

    checked_at: datetime
    error: str | None
    failures: int

    @property
    def ok(self) -> bool:
        """One check that fails may be a hiccup; several in a row are not."""
        return self.failures < UNHEALTHY_AFTER


def hint_of(key: str) -> str | None:
    """The end of a key, to tell keys apart: its last four characters, and never more than a quarter of it."""
    return key[-length:] if (length := min(_HINT_LENGTH, len(key) // 4)) else None


def may_be_private(*, of_platform: bool, mode: Mode, allowed: bool) -> bool:
    """Whether a connection may lead to this machine or into a private network. `allowed` is the operator's setting; in
    a test installation the platform's own may anyway, so that a model server beside it can be tried."""
    return allowed or (of_platform and mode == "test")

"""A request for access: who asks, and for what."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from tollhouse.core.catalogue import Catalogue, Plan
from tollhouse.core.key import Mode, Scope
from tollhouse.core.quota import Rule

Channel = Literal["chat", "api", "capability"]


@dataclass(frozen=True, slots=True)
class Size:
    """Tokens of a call before it is made. `input_tokens` is an upper bound for any provider, `sandbox_tokens` what the
    sandbox will count; `output_tokens` None when the caller named no maximum."""

    input_tokens: int
    output_tokens: int | None
    sandbox_tokens: int | None = None

    @property
    def input_estimate(self) -> int:
        """What is charged for the input when the provider never says: four bytes are about one token."""
        return self.sandbox_tokens if self.sandbox_tokens is not None else -(-self.input_tokens // 4)


@dataclass(frozen=True, slots=True)
class CallWant:
    """One call of one model; the output counts per answer (`answers` is OpenAI's n)."""

    model_id: str
    size: Size
    answers: int = 1


@dataclass(frozen=True, slots=True)
class CapabilityWant:
    """One use of a capability; the lowest quality when none is named. `size` is known when the call is made here."""

    capability_id: str
    quality_id: str | None = None
    size: Size | None = None


@dataclass(frozen=True, slots=True)
class CreditsWant:
    """So many credits, for whatever the host application does with them."""

    amount_micros: int


Want = CallWant | CapabilityWant | CreditsWant


@dataclass(frozen=True, slots=True)
class Ask:
    """`subject_id` is whose limits it takes: a person, an end user, or the organisation itself. `here` False: the host
    application makes the call, so nobody need be connected to answer it here."""

    organization_id: UUID
    key_id: UUID | None
    subject_id: UUID
    channel: Channel
    want: Want
    needs: frozenset[Scope] = frozenset()
    here: bool = True


@dataclass(frozen=True, slots=True)
class KeyFacts:
    scopes: frozenset[Scope]
    mode: Mode
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of the organisation and the key at `now`, the organisation's time. `entitled` is about the model of
    a call; `rules` are the organisation's own limits."""

    now: datetime
    plan: Plan
    suspended: bool
    key: KeyFacts | None
    entitled: bool
    catalogue: Catalogue
    mode: Mode  # of the installation
    rules: tuple[Rule, ...] = ()

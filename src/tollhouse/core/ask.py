"""A request for access: who asks, and for what."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from tollhouse.core.catalogue import Catalogue, Plan
from tollhouse.core.complexity import Shape
from tollhouse.core.key import Mode, Scope
from tollhouse.core.own_model import Own
from tollhouse.core.quota import Rule
from tollhouse.core.routing import Kind

Channel = Literal["chat", "api", "capability"]
AUTO = "auto"  # named in place of a model: the one that fits the question is chosen


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
    """One call of one model, or of the one that fits when `model_id` is "auto"; then `shape` is what is judged. The
    output counts per answer (`answers` is OpenAI's n). `fallback` False: no other model may answer in its place. `own`:
    the model is one of somebody's own, which has been found to be theirs."""

    model_id: str
    size: Size
    answers: int = 1
    kind: Kind = "chat"
    fallback: bool = True
    shape: Shape | None = None
    own: Own | None = None


@dataclass(frozen=True, slots=True)
class CapabilityWant:
    """One use of a capability; the lowest quality when none is named. `size` is known when the call is made here.
    `model_id`: the one to ask first of those that serve this quality."""

    capability_id: str
    quality_id: str | None = None
    size: Size | None = None
    model_id: str | None = None


@dataclass(frozen=True, slots=True)
class CreditsWant:
    """So many credits, for whatever the host application does with them."""

    amount_micros: int


Want = CallWant | CapabilityWant | CreditsWant


@dataclass(frozen=True, slots=True)
class Credential:
    """What somebody came with: an API key, a token of an issuer that the organisation trusts, or a session, of which
    `id` is the person's. Whether it still counts is read again under the organisation's lock. `address` is from where
    it came, empty when that is not known."""

    kind: Literal["key", "issuer", "person"]
    id: UUID
    address: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Ask:
    """`subject_id` is whose limits it takes: a person, an end user, or the organisation itself. `credential` None: the
    installation's own work. `here` False: the host application makes the call, so nobody need be connected to answer
    it here. `rules`: limits that come with what is asked, beside the organisation's, such as an assistant's tokens.
    `free`: it takes no credits, whatever the plan says of the channel."""

    organization_id: UUID
    credential: Credential | None
    subject_id: UUID
    channel: Channel
    want: Want
    needs: frozenset[Scope] = frozenset()
    here: bool = True
    rules: tuple[Rule, ...] = ()
    free: bool = False

    @property
    def key_id(self) -> UUID | None:
        """The API key, when it came with one."""
        return self.credential.id if self.credential is not None and self.credential.kind == "key" else None


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """A credential as it is at this moment: a key, or what stands in a key's place for issuers and persons. `models`
    are those that it may call; None: all. `counts_as`: the key whose limits count it, the first of those that replaced
    one another; None: itself. `networks`: from where it may come; None: from anywhere."""

    scopes: frozenset[Scope]
    mode: Mode | None  # None: of whatever mode the installation is
    expires_at: datetime | None
    revoked_at: datetime | None
    models: frozenset[str] | None = None
    counts_as: UUID | None = None
    networks: tuple[str, ...] | None = None

    def may_call(self, model_id: str) -> bool:
        return self.models is None or model_id in self.models


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of the organisation and the key at `now`, the organisation's time. `entitled` are the premium models
    that the subject has unlocked, of those that may come into question (core/choice.py); `rules` are the organisation's
    own limits."""

    now: datetime
    plan: Plan
    suspended: bool
    key: KeyFacts | None
    entitled: frozenset[str]
    catalogue: Catalogue
    mode: Mode  # of the installation
    rules: tuple[Rule, ...] = ()

    def rules_of(self, ask: Ask) -> tuple[Rule, ...]:
        """The organisation's own limits, and those that come with the ask."""
        return (*self.rules, *ask.rules) if ask.rules else self.rules

    def charges(self, ask: Ask) -> bool:
        """Whether it takes credits."""
        return ask.channel in self.plan.charged_channels and not ask.free

"""Which provider answers for a model, and over which of its connections."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from tollhouse.core.key import Mode

SANDBOX = "sandbox"
PLATFORM_ID = UUID(int=0)  # the organisation that the platform itself is

Kind = Literal["chat", "embedding"]
QualityTier = Literal["fast", "balanced", "powerful"]


@dataclass(frozen=True, slots=True)
class Model:
    """An entry of the catalogue. One model at most `is_default`: it is asked last of all. From `deprecated_at` on
    `replacement_id` answers in its place, where one is named."""

    id: str
    provider_id: str
    provider_model_id: str
    display_name: str
    enabled: bool
    selectable: bool
    tier: Literal["free", "premium"]
    price_cents: int | None
    daily_messages: int | None
    trial_messages: int
    max_output_tokens: int
    created_at: datetime
    kind: Kind = "chat"
    quality_tier: QualityTier | None = None
    is_default: bool = False
    deprecated_at: datetime | None = None
    replacement_id: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """A configured endpoint of a provider, of the platform or of one organisation. The key is encrypted, None when the
    server wants none. Of several for one provider the one with the lowest `priority` is asked first."""

    organization_id: UUID
    id: UUID
    provider_id: str
    protocol: Literal["openai", "anthropic", "google", "sandbox"]
    base_url: str
    key_ciphertext: bytes | None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers: a connection, or the sandbox when it is None."""

    provider_id: str
    connection: Connection | None

    @property
    def own_key(self) -> bool:
        """Whether the organisation pays the provider itself: the connection is its own."""
        return self.connection is not None and self.connection.organization_id != PLATFORM_ID


Connections = Mapping[str, tuple[Connection, ...]]  # by provider, in the order in which they are asked


def routes_of(
    model: Model, key_mode: Mode, installation: Mode, own: Connections, platform: Connections
) -> tuple[Route, ...]:
    """Every way to the model in the order in which they are tried: the organisation's own connections, then the
    platform's. In test mode a model that nobody connected is answered by the sandbox; in live mode a test key never
    reaches a real provider, a live key never the sandbox, and for a model that nobody connected there is no way."""
    if installation == "live" and key_mode == "test":
        return (Route(SANDBOX, None),)
    connected = (*own.get(model.provider_id, ()), *platform.get(model.provider_id, ()))
    if connected:
        return tuple(Route(model.provider_id, one) for one in connected)
    return (Route(SANDBOX, None),) if installation == "test" else ()

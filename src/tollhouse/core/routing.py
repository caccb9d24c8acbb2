"""Which provider answers for a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from tollhouse.core.errors import NotConnected
from tollhouse.core.key import Mode

SANDBOX = "sandbox"


@dataclass(frozen=True, slots=True)
class Model:
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


@dataclass(frozen=True, slots=True)
class Connection:
    """A configured endpoint of a provider; the key is encrypted, None when the server wants none."""

    id: UUID
    provider_id: str
    protocol: Literal["openai", "anthropic", "google", "sandbox"]
    base_url: str
    key_ciphertext: bytes | None


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers: a connection, or the sandbox when it is None."""

    provider_id: str
    connection: Connection | None


def route_of(model: Model, key_mode: Mode, installation: Mode, connections: Mapping[str, Connection]) -> Route:
    """The connection of the model's provider. In test mode a model that nobody connected is answered by the sandbox; in
    live mode a test key never reaches a real provider, a live key never the sandbox, and a model that nobody connected
    is NotConnected."""
    if installation == "live" and key_mode == "test":
        return Route(SANDBOX, None)
    connection = connections.get(model.provider_id)
    if connection is not None and connection.protocol == "openai":
        return Route(model.provider_id, connection)
    if installation == "test":
        return Route(SANDBOX, None)
    raise NotConnected(model.id, model.provider_id)

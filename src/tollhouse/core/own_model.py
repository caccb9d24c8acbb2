"""Models of one's own: an organisation's or a person's, at an endpoint that they pay themselves."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from tollhouse.core.errors import TollhouseError
from tollhouse.core.period import BEGINNING
from tollhouse.core.price import Price
from tollhouse.core.routing import Connection, Model, Route

Protocol = Literal["openai", "anthropic", "google"]
PREFIX = "own/"
CONTEXT_MAX, OUTPUT_MAX = 10_000_000, 1_000_000  # tokens


@dataclass(frozen=True, slots=True)
class Own:
    """A model of one's own as a call asks for it: no catalogue has it, and one way leads there."""

    model: Model
    route: Route


@dataclass(frozen=True, slots=True)
class OwnModel:
    """`person_id`: whose own it is, None: for everybody in the organisation. The key is sealed, None when the server
    wants none. `system_message` comes before what an assistant says."""

    organization_id: UUID
    id: UUID
    person_id: UUID | None
    name: str
    protocol: Protocol
    base_url: str
    provider_model_id: str
    key_ciphertext: bytes | None = field(repr=False)
    key_hint: str | None
    system_message: str
    context_window: int
    max_output_tokens: int
    created_at: datetime
    updated_at: datetime

    @property
    def model_id(self) -> str:
        """What it is asked for by."""
        return f"{PREFIX}{self.id}"

    @property
    def provider_id(self) -> str:
        """A provider of its own: what its key is bound to, besides the organisation."""
        return self.model_id

    @property
    def own(self) -> Own:
        """As a call asks for it."""
        model = Model(
            self.model_id, self.provider_id, self.provider_model_id, self.name, True, True, "free", None, None, 0,
            self.max_output_tokens, self.created_at,
        )  # fmt: skip
        connection = Connection(
            self.organization_id, self.id, self.provider_id, self.protocol, self.base_url, self.key_ciphertext
        )
        return Own(model, Route(self.provider_id, connection))


class OwnModelGone(TollhouseError):
    """Neither the person nor the organisation has a model of this name, any more."""

    code, status = "model_not_found", 404

    def __str__(self) -> str:
        return "This model of one's own is not there any more. Choose another one."


def own_model_id(model_id: str) -> UUID | None:
    """The id in "own/<uuid>", as we write it; None for what is no such name."""
    if not model_id.startswith(PREFIX):
        return None
    try:
        found = UUID(model_id.removeprefix(PREFIX))
    except ValueError:
        return None
    return found if f"{PREFIX}{found}" == model_id else None


def own_price(model_id: str) -> Price:
    """What a call of it costs here: nothing, for whoever owns it pays for it elsewhere."""
    return Price(model_id, 0, BEGINNING, True, 0, 0, 0, 0)

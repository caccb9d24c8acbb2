"""What somebody has chosen in an organisation: which models answer, and what assistants are told of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

ABOUT_MAX = 2_000  # characters


@dataclass(frozen=True, slots=True)
class Preferences:
    """`default_model_id` None: the system's default answers. `overrides` are models by the id of the assistant."""

    default_model_id: str | None = None
    overrides: Mapping[UUID, str] = field(default_factory=dict)
    about: str = ""
    mail_notices: bool = True

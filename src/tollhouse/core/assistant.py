"""Assistants: ready-made ways to use a model, and who may use which."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from tollhouse.core.routing import PLATFORM_ID

Kind = Literal["persona", "template"]
TokenPeriod = Literal["day", "week", "month"]


@dataclass(frozen=True, slots=True)
class Task:
    """What an assistant is asked with one press: the button's name, and what is then said."""

    name: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Assistant:
    """`person_id`: whose own it is, None when everybody in the organisation may have it; of the platform's everybody
    may. `model_id` answers where nobody chose one. `token_limit` is for each person and `token_period`."""

    organization_id: UUID
    id: UUID
    person_id: UUID | None
    slug: str
    kind: Kind
    name: str
    description: str
    role: str
    system_message: str
    tasks: tuple[Task, ...]
    icon: str
    model_id: str | None
    max_output_tokens: int | None
    business_types: tuple[str, ...]
    required_plan_id: str | None
    token_limit: int | None
    token_period: TokenPeriod | None
    trial_days: int | None
    tags: tuple[str, ...]
    is_free: bool
    is_featured: bool
    is_active: bool
    sort_order: int
    created_at: datetime
    updated_at: datetime

    @property
    def of_platform(self) -> bool:
        return self.organization_id == PLATFORM_ID


@dataclass(frozen=True, slots=True)
class Setting:
    """What the admins of an organisation say of an assistant. `token_limit` stands in place of the assistant's own."""

    assistant_id: UUID
    enabled: bool
    token_limit: int | None


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of what an assistant knows, as it is found for a question."""

    document_id: UUID
    position: int
    title: str
    source: str
    heading: str
    content: str

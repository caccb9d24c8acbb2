"""Conversations and their messages."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

Author = Literal["person", "assistant"]
State = Literal["writing", "done", "stopped", "incomplete", "failed"]


@dataclass(frozen=True, slots=True)
class Conversation:
    """`model_choice`: what was chosen in this chat, a model's id, "auto" or "own/<uuid>"; None: by preference."""

    organization_id: UUID
    id: UUID
    person_id: UUID
    title: str
    assistant_id: UUID | None
    model_choice: str | None
    pinned_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Attachment:
    """A text file that was sent along."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that an answer refers to by its number, as in [2]."""

    number: int
    title: str
    source: str
    heading: str
    content: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no more of an answer; `code` as in refusals."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Message:
    """What a person or an assistant said. From `request_id` on: of answers alone, each None until it is known."""

    conversation_id: UUID
    id: UUID
    author: Author
    state: State
    content: str
    attachments: tuple[Attachment, ...]
    citations: tuple[Citation, ...]
    error: Trouble | None
    created_at: datetime
    written_at: datetime
    request_id: UUID | None = None
    model_id: str | None = None
    model_name: str | None = None
    reason: str | None = None
    trial: bool = False
    trial_remaining: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_nanos: int | None = None
    charged_micros: int | None = None
    first_token_ms: int | None = None
    duration_ms: int | None = None
    rating: int | None = None
    rating_note: str = ""

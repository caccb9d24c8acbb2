"""What every dialect can be translated to and from: a prompt, an answer, and an answer in pieces.

Nothing of a vendor's own appears here. A dialect that has something which these have not passes it on only to a
provider that speaks the same dialect; towards any other it is a BadRequest that names the field. Parts are tagged, so
that what is kept of an answer can be read again.
"""

from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct

from tollhouse.core.price import Usage

Ended = Literal["stop", "length", "tool_calls", "content_filter"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class Text(Struct, frozen=True, tag=True):
    text: str


class Image(Struct, frozen=True, tag=True):
    """By `url`, or as `data` (base64) of a `media_type`."""

    url: str | None = None
    media_type: str | None = None
    data: str | None = None
    detail: str | None = None


class ToolCall(Struct, frozen=True, tag=True):
    """The model wants a tool used. `arguments` is JSON of an object, as text, as the model wrote it."""

    id: str
    name: str
    arguments: str


class ToolResult(Struct, frozen=True, tag=True):
    """What a tool said. `name` is known where the dialect repeats it."""

    call_id: str
    content: tuple[Text | Image, ...]
    name: str | None = None
    is_error: bool = False


class Reasoning(Struct, frozen=True, tag=True):
    """What a model thought before it answered. `signature` is the vendor's, who takes it back only unchanged;
    `redacted` is what the vendor encrypted."""

    text: str
    signature: str | None = None
    redacted: str | None = None


class Refusal(Struct, frozen=True, tag=True):
    """The model would not do it, in its own words."""

    text: str


Part = Text | Image | ToolCall | ToolResult | Reasoning | Refusal


@dataclass(frozen=True, slots=True)
class Turn:
    """Tool results stand in a turn of the user."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`tool` with a name: this one; required: any."""

    kind: Literal["auto", "none", "required", "tool"]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The answer is JSON: of this schema, or any object when there is none."""

    name: str = "answer"
    schema: dict[str, Any] | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A request without its model and its admitted maximum. None: the caller did not say."""

    system: tuple[Text, ...] = ()
    turns: tuple[Turn, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    stream: bool = False
    answers: int = 1
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    form: AnswerForm | None = None
    effort: Effort | None = None
    thinking_tokens: int | None = None  # a budget for thinking, where the dialect counts it in tokens
    user: str | None = None  # whose request it is, in the vendor's field for abuse


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer. `logprobs` is in OpenAI's shape."""

    parts: tuple[Text | ToolCall | Reasoning | Refusal, ...]
    ended: Ended
    stop_sequence: str | None = None
    logprobs: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer in one piece. `usage` None: the provider does not say."""

    id: str
    choices: tuple[Choice, ...]
    usage: Usage | None


# An answer in pieces. `choice` counts the answers from 0. Pieces of one choice come in their order.


@dataclass(frozen=True, slots=True)
class Began:
    """First of all, once."""

    id: str


@dataclass(frozen=True, slots=True)
class TextPiece:
    choice: int
    text: str
    logprobs: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ReasoningPiece:
    """Text as it comes; the signature, or something redacted, in a piece of its own without text."""

    choice: int
    text: str
    signature: str | None = None
    redacted: str | None = None


@dataclass(frozen=True, slots=True)
class RefusalPiece:
    choice: int
    text: str


@dataclass(frozen=True, slots=True)
class ToolBegan:
    """`slot` counts the tool calls of a choice from 0."""

    choice: int
    slot: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolPiece:
    """More of the JSON of a tool call's arguments, as text."""

    choice: int
    slot: int
    arguments: str


@dataclass(frozen=True, slots=True)
class Ending:
    """This answer is complete."""

    choice: int
    ended: Ended
    stop_sequence: str | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """The provider's word on usage; the last one counts, never a sum."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Failed:
    """The provider reports an error in the middle of its answer; nothing of it follows."""

    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The stream says that it is complete."""


Piece = Began | TextPiece | ReasoningPiece | RefusalPiece | ToolBegan | ToolPiece | Ending | Counted | Failed | Finished

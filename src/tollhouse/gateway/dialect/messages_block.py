"""The parts of a request in Anthropic's dialect, and what each is in the neutral one.

`cache_control`, `caller` and the `citations` of a text are hints: a provider of this dialect gets them as they came,
any other does without. Source: Anthropic's API reference, Messages, and the types of its Python SDK 2.12.
"""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tollhouse.core.errors import BadRequest
from tollhouse.gateway.dialect.neutral import Image, Reasoning, Text, Tool, ToolCall, ToolResult
from tollhouse.gateway.dialect.neutral import ToolChoice as NeutralChoice

BUDGET_MIN = 1024  # the least that a model may be given to think

Value = TypeVar("Value")
Name = Annotated[str, Meta(min_length=1, max_length=200)]


def given(value: Value | UnsetType | None) -> Value | None:
    """None for what the request does not have."""
    return None if isinstance(value, UnsetType) else value


def only_here(field: str) -> BadRequest:
    """What no other vendor has."""
    return BadRequest(
        f"Only models of Anthropic take `{field}`. Leave it out or choose one of them.",
        field,
    )


class _Fields(Struct, forbid_unknown_fields=True, omit_defaults=True):
    pass


class CacheControl(_Fields):
    type: Literal["ephemeral"]
    ttl: Literal["5m"] | UnsetType | None = UNSET


Cache = CacheControl | UnsetType | None


class TextBlock(_Fields, tag_field="type", tag="text"):
    text: str
    cache_control: Cache = UNSET
    citations: list[dict[str, Any]] | UnsetType | None = UNSET

    def part(self) -> Text:
        return Text(self.text)


class DataSource(_Fields, tag_field="type", tag="base64"):
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str

    @property
    def inline_bytes(self) -> int:
        """The bytes of base64, which no vendor charges for; 0 for what cannot be any."""
        return len(self.data) if self.data.isascii() else 0


class UrlSource(_Fields, tag_field="type", tag="url"):
    url: str

    @property
    def inline_bytes(self) -> int:
        return 0


class Transformations(_Fields):
    oversized_image: Literal["downsize", "error"] | UnsetType = UNSET


class ImageBlock(_Fields, tag_field="type", tag="image"):
    source: DataSource | UrlSource
    cache_control: Cache = UNSET
    transformations: Transformations | UnsetType | None = UNSET

    def part(self) -> Image:
        if isinstance(self.transformations, Transformations) and self.transformations.oversized_image == "error":
            raise only_here("transformations")
        match self.source:
            case DataSource(media_type, data):
                return Image(media_type=media_type, data=data)
            case UrlSource(url):
                return Image(url=url)


class DirectCaller(_Fields):
    type: Literal["direct"]


class ToolUseBlock(_Fields, tag_field="type", tag="tool_use"):
    id: Name
    name: Name
    input: dict[str, Any]
    cache_control: Cache = UNSET
    caller: DirectCaller | UnsetType | None = UNSET
    toolset_name: UnsetType | None = UNSET

    def part(self) -> ToolCall:
        return ToolCall(self.id, self.name, msgspec.json.encode(self.input).decode())


class ToolResultBlock(_Fields, tag_field="type", tag="tool_result"):
    tool_use_id: Name
    content: str | list[TextBlock | ImageBlock] | UnsetType | None = UNSET
    is_error: bool | UnsetType | None = UNSET
    cache_control: Cache = UNSET
    toolset_name: UnsetType | None = UNSET

    def part(self) -> ToolResult:
        content = self.content
        if isinstance(content, str):
            parts: tuple[Text | Image, ...] = (Text(content),)
        else:
            parts = tuple(block.part() for block in given(content) or ())
        return ToolResult(self.tool_use_id, parts, is_error=self.is_error is True)


class ThinkingBlock(_Fields, tag_field="type", tag="thinking"):
    thinking: str
    signature: str
    cache_control: UnsetType | None = UNSET

    def part(self) -> Reasoning:
        return Reasoning(self.thinking, self.signature or None)


class RedactedBlock(_Fields, tag_field="type", tag="redacted_thinking"):
    data: str
    cache_control: UnsetType | None = UNSET

    def part(self) -> Reasoning:
        return Reasoning("", redacted=self.data)


Block = TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock | RedactedBlock


class Message(_Fields):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]

    @property
    def blocks(self) -> list[Block]:
        return [TextBlock(self.content)] if isinstance(self.content, str) else self.content


class CustomTool(_Fields):
    """A tool that the caller runs. `allowed_callers` and `eager_input_streaming` are hints."""

    name: Name
    input_schema: dict[str, Any]
    type: Literal["custom"] | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    strict: bool | UnsetType | None = UNSET
    input_examples: list[dict[str, Any]] | UnsetType | None = UNSET
    allowed_callers: list[Literal["direct"]] | UnsetType | None = UNSET
    eager_input_streaming: bool | UnsetType | None = UNSET
    cache_control: Cache = UNSET

    def tool(self) -> Tool:
        if given(self.input_examples):
            raise only_here("input_examples")
        return Tool(self.name, given(self.description), self.input_schema, given(self.strict))


class ToolChoice(_Fields):
    type: Literal["auto", "any", "tool", "none"]
    name: Name | UnsetType = UNSET
    disable_parallel_tool_use: bool | UnsetType | None = UNSET

    def check(self) -> None:
        if self.type == "tool" and self.name is UNSET:
            raise BadRequest("The field `tool_choice.name` is missing. Add the name of the tool.", "tool_choice.name")
        if self.type != "tool" and self.name is not UNSET:
            raise BadRequest(
                "`tool_choice.name` goes only with the type tool. Leave it out, or set that type.", "tool_choice.name"
            )

    def choice(self) -> NeutralChoice:
        match self.type:
            case "any":
                return NeutralChoice("required")
            case "tool":
                return NeutralChoice("tool", given(self.name))
            case kind:
                return NeutralChoice(kind)


class Thinking(_Fields):
    """`display` is a hint."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[int, Meta(ge=BUDGET_MIN, le=1_000_000)] | UnsetType = UNSET
    display: Literal["summarized", "omitted"] | UnsetType | None = UNSET

    def check(self) -> None:
        field = "thinking.budget_tokens"
        if self.type == "enabled" and self.budget_tokens is UNSET:
            raise BadRequest(f"The field `{field}` is missing. Add it, or set the type adaptive.", field)
        if self.type != "enabled" and self.budget_tokens is not UNSET:
            raise BadRequest(f"`{field}` goes only with the type enabled. Leave it out, or set that type.", field)


class JsonFormat(_Fields):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(_Fields):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | UnsetType | None = UNSET
    format: JsonFormat | UnsetType | None = UNSET


class Metadata(_Fields):
    user_id: str | UnsetType | None = UNSET

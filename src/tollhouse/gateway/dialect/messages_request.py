"""Requests in Anthropic's dialect: reading, bounding, passing on and translating them.

Unknown fields are refused by name, and so is what the vendor does not charge by the tokens that our prices know: tools
that run at the vendor, stored files, documents, fast or placed inference, caches of an hour. `service_tier`,
`diagnostics`, `metadata`, `cache_control` and `thinking.display` are hints: a provider of this dialect gets them as
they came, any other does without. Source: Anthropic's API reference, Messages and Count tokens.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tollhouse.core.ask import Size
from tollhouse.core.errors import BadRequest
from tollhouse.core.token import IMAGE_BOUND, MESSAGE_BOUND
from tollhouse.gateway.dialect.body import read as read_body
from tollhouse.gateway.dialect.messages_block import (
    BUDGET_MIN,
    Cache,
    CustomTool,
    ImageBlock,
    JsonFormat,
    Message,
    Metadata,
    OutputConfig,
    RedactedBlock,
    TextBlock,
    Thinking,
    ThinkingBlock,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
    given,
    only_here,
)
from tollhouse.gateway.dialect.neutral import AnswerForm, Effort, Prompt, Text, Turn

# What Anthropic puts into the prompt by itself when there are tools, or a form of the answer: some hundred tokens each.
INSTRUCTIONS_BOUND = 1_500

Share = Annotated[float, Meta(ge=0, le=1)]
_encode = msgspec.json.encode


class _Asked(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What the model is asked, and with what."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    messages: Annotated[list[Message], Meta(min_length=1, max_length=100_000)]
    system: str | list[TextBlock] | UnsetType | None = UNSET
    tools: list[CustomTool] | UnsetType | None = UNSET
    tool_choice: ToolChoice | UnsetType | None = UNSET
    thinking: Thinking | UnsetType | None = UNSET
    output_config: OutputConfig | UnsetType | None = UNSET
    cache_control: Cache = UNSET
    speed: Literal["standard"] | UnsetType | None = UNSET

    @property
    def input_bound(self) -> int:
        """The most input tokens that any provider can count: bytes bound tokens, `IMAGE_BOUND` stands for each image's
        base64, `MESSAGE_BOUND` for the marks around a message. See core.token.upper_bound."""
        total = len(_encode(self.messages)) + MESSAGE_BOUND * (1 + len(self.messages))
        system, tools, form = given(self.system), given(self.tools), self.form
        total += sum(len(_encode(part)) for part in (system, tools, form) if part)
        total += sum(INSTRUCTIONS_BOUND for part in (tools, form) if part)
        return total + sum(IMAGE_BOUND - image.source.inline_bytes for image in _images(self.messages))

    @property
    def form(self) -> JsonFormat | None:
        return given(self.output_config.format) if isinstance(self.output_config, OutputConfig) else None

    def check(self) -> None:
        """BadRequest for what the types alone do not say."""
        for part in (self.tool_choice, self.thinking):
            if isinstance(part, ToolChoice | Thinking):
                part.check()
        for message in self.messages:
            if not isinstance(message.content, str):
                for block in message.content:
                    _check_place(message.role, block)


class CountRequest(_Asked, kw_only=True):
    """How many tokens would the model be given?"""

    def native(self, model: str) -> bytes:
        """The body for a provider of this dialect: its model name, everything else as it came."""
        return _encode(msgspec.structs.replace(self, model=model, messages=_own(self.messages)))


class MessagesRequest(_Asked, kw_only=True):
    """See `Native`. The vendor always says the usage, so a stream always ends with it."""

    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)]
    stream: bool | UnsetType | None = UNSET
    stop_sequences: list[str] | UnsetType | None = UNSET
    temperature: Share | UnsetType | None = UNSET
    top_p: Share | UnsetType | None = UNSET
    top_k: Annotated[int, Meta(ge=0)] | UnsetType | None = UNSET
    metadata: Metadata | UnsetType | None = UNSET
    service_tier: Literal["auto", "standard_only"] | UnsetType | None = UNSET
    diagnostics: dict[str, Any] | UnsetType | None = UNSET

    @property
    def answers(self) -> int:
        return 1

    @property
    def wants_stream(self) -> bool:
        return self.stream is True

    @property
    def wants_usage(self) -> bool:
        return True

    @property
    def size(self) -> Size:
        return Size(self.input_bound, self.max_tokens)

    def native(self, model: str, output_tokens: int) -> bytes:
        """See `Native`. A budget for thinking goes down with the maximum, under which it has to stay."""
        thinking = self.thinking
        if output_tokens < self.max_tokens and isinstance(thinking, Thinking):
            budget = given(thinking.budget_tokens)
            if budget is not None:
                thinking = msgspec.structs.replace(thinking, budget_tokens=thinking_budget(output_tokens, budget))
        return _encode(
            msgspec.structs.replace(
                self, model=model, max_tokens=output_tokens, messages=_own(self.messages), thinking=thinking
            )
        )

    def prompt(self) -> Prompt:
        system, turns = self._conversation()
        effort, budget = self._thought()
        form = self.form
        choice = given(self.tool_choice)
        return Prompt(
            system=system,
            turns=turns,
            tools=tuple(tool.tool() for tool in given(self.tools) or ()),
            tool_choice=choice.choice() if choice else None,
            parallel_tools=_parallel(choice),
            stream=self.wants_stream,
            temperature=given(self.temperature),
            top_p=given(self.top_p),
            top_k=given(self.top_k),
            stop=tuple(given(self.stop_sequences) or ()),
            form=AnswerForm(schema=form.schema, strict=True) if form else None,
            effort=effort,
            thinking_tokens=budget,
            user=given(self.metadata.user_id) if isinstance(self.metadata, Metadata) else None,
        )

    def _conversation(self) -> tuple[tuple[Text, ...], tuple[Turn, ...]]:
        """Instructions before the first turn are the system's; later ones stay in their place, as the user's words."""
        system: list[Text] = []
        match self.system:
            case str(text):
                system.append(Text(text))
            case list(blocks):
                system += [block.part() for block in blocks]
        turns: list[Turn] = []
        for message in self.messages:
            if message.role == "system" and not turns:
                system += [block.part() for block in message.blocks if isinstance(block, TextBlock)]
                continue
            parts = tuple(block.part() for block in message.blocks)
            turns.append(Turn("assistant" if message.role == "assistant" else "user", parts))
        return tuple(system), tuple(turns)

    def _thought(self) -> tuple[Effort | None, int | None]:
        """Effort, and the budget in tokens. Adaptive thinking is what others do when they are told nothing."""
        effort: Effort | None = None
        match self.output_config:
            case OutputConfig(effort="max"):
                raise only_here("output_config.effort: max")
            case OutputConfig(effort=("low" | "medium" | "high" | "xhigh") as effort):
                pass
        match self.thinking:
            case Thinking(type="between_tools"):
                raise only_here("thinking.type: between_tools")
            case Thinking(type="disabled"):
                return "none", None
            case Thinking(type="enabled", budget_tokens=budget):
                return effort, given(budget)
        return effort, None


def thinking_budget(output_tokens: int, wanted: int) -> int:
    """The budget for thinking within a maximum for all output. BadRequest when there is no room for one."""
    budget = min(wanted, output_tokens - 1)
    if budget < BUDGET_MIN:
        raise BadRequest(
            f"Thinking takes at least {BUDGET_MIN} tokens, and this answer may have {output_tokens} in all. "
            "Raise `max_tokens`, or leave `thinking` out.",
            "thinking",
        )
    return budget


_messages = msgspec.json.Decoder(MessagesRequest)
_count = msgspec.json.Decoder(CountRequest)


def read(body: bytes) -> MessagesRequest:
    """BadRequest with a sentence that names the field and the remedy."""
    try:
        request = read_body(_messages, body, "a messages request")
    except BadRequest as error:
        raise _unavailable(body) or error from None
    request.check()
    return request


def read_count(body: bytes) -> CountRequest:
    """The same for counting tokens."""
    try:
        request = read_body(_count, body, "a request to count tokens")
    except BadRequest as error:
        raise _unavailable(body) or error from None
    request.check()
    return request


def _parallel(choice: ToolChoice | None) -> bool | None:
    if choice is None or not isinstance(choice.disable_parallel_tool_use, bool):
        return None
    return not choice.disable_parallel_tool_use


def _images(messages: Iterable[Message]) -> Iterator[ImageBlock]:
    for message in messages:
        for block in message.content if isinstance(message.content, list) else ():
            if isinstance(block, ImageBlock):
                yield block
            elif isinstance(block, ToolResultBlock) and isinstance(block.content, list):
                yield from (inner for inner in block.content if isinstance(inner, ImageBlock))


def _check_place(role: str, block: object) -> None:
    wanted = None
    match block:
        case ImageBlock() | ToolResultBlock():
            wanted = "user"
        case ToolUseBlock() | ThinkingBlock() | RedactedBlock():
            wanted = "assistant"
    if wanted is not None and role != wanted:
        kind = block.__struct_config__.tag if isinstance(block, Struct) else ""
        raise BadRequest(
            f"A block of the type {kind} belongs into a message of the {wanted}, not of the {role}. Move it.",
            "messages",
        )


def foreign(signature: str) -> bool:
    """Whether thoughts with this signature are another vendor's, told in this dialect: they have none, or one that
    begins with the vendor's name and a colon. Anthropic's are base64."""
    return not signature or ":" in signature


def _own(messages: list[Message]) -> list[Message]:
    """Without the thoughts of other vendors' models, which Anthropic refuses; a message that is left empty goes too."""
    kept: list[Message] = []
    for message in messages:
        if isinstance(message.content, str):
            kept.append(message)
            continue
        own = [
            block for block in message.content if not (isinstance(block, ThinkingBlock) and foreign(block.signature))
        ]
        if len(own) == len(message.content):
            kept.append(message)
        elif own:
            kept.append(Message(message.role, own))
    return kept


_HAS_NO_PRICE = {
    "container": "code that runs at the vendor has no price here",
    "mcp_servers": "tools that the vendor calls have no price here",
    "context_management": "what it costs is not known here",
    "inference_geo": "a chosen place has another price",
    "user_profile_id": "calls are made in the name of the installation",
    "workspace_id": "calls are made in the name of the installation",
}
_BLOCKS = {"document", "search_result", "container_upload", "server_tool_use", "tool_reference", "browser_state",
           "compaction"}  # fmt: skip


def _unavailable(body: bytes) -> BadRequest | None:
    """What the vendor has and this gateway does not, when a refused request asks for it."""
    try:
        request = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(request, dict):
        return None
    for name, why in _HAS_NO_PRICE.items():
        if name in request:
            return BadRequest(f"`{name}` is not available here: {why}. Leave it out.", name)
    if request.get("speed") == "fast":
        return BadRequest("`speed` may only be standard here, since fast has another price. Leave it out.", "speed")
    if "output_format" in request:
        return BadRequest("`output_format` is called `output_config.format` now. Move it there.", "output_format")
    tools = request.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "custom":
            said = f"Tools of the type `{kind[:80]}` are not available here, since they have no price."
            return BadRequest(f"{said} Only custom tools are, which the caller runs.", "tools")
    return next(filter(None, map(_unavailable_part, _objects(request))), None)


def _unavailable_part(part: dict[str, Any]) -> BadRequest | None:
    kind = part.get("type")
    if isinstance(kind, str) and (kind in _BLOCKS or kind.startswith("mcp_") or kind.endswith("_tool_result")):
        said = f"Blocks of the type `{kind[:80]}` are not available here, since they have no price."
        return BadRequest(f"{said} Send text and images instead.", "messages")
    source, cache = part.get("source"), part.get("cache_control")
    if isinstance(source, dict) and source.get("type") == "file":
        return BadRequest("Files stored at the vendor are not available here. Send the image itself.", "messages")
    if isinstance(cache, dict) and cache.get("ttl") == "1h":
        return BadRequest(
            "`cache_control.ttl` may only be 5m here, since an hour has another price. Leave it out.", "cache_control"
        )
    return None


def _objects(document: object) -> Iterator[dict[str, Any]]:
    waiting = [document]
    while waiting:
        match waiting.pop():
            case dict(fields):
                yield fields
                waiting += fields.values()
            case list(items):
                waiting += items

"""Requests for OpenAI's chat completions.

Unknown fields are refused by name, so that nothing is silently ignored; the values of fields that only the provider
understands pass through as they came. What no price covers is refused. Hints to the vendor (`metadata`, `user`,
`safety_identifier`, `service_tier`, `store` false, `prompt_cache_key`, `prompt_cache_options`,
`prompt_cache_retention`, `prompt_cache_breakpoint` of a part, `include_obfuscation`) are passed on to a provider of the
same dialect, and in a translation only `user` or `safety_identifier` remains, as `Prompt.user`.
Source: OpenAI's API reference, chat completions.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tollhouse.core.ask import Size
from tollhouse.core.errors import BadRequest
from tollhouse.core.token import count_messages, upper_bound
from tollhouse.gateway.dialect import body
from tollhouse.gateway.dialect.chat_prompt import prompt_of
from tollhouse.gateway.dialect.neutral import Prompt

Tokens = Annotated[int, Meta(ge=1, le=1_000_000)]
Text = str | UnsetType | None
Anything = Any

# Counting with the sandbox's own tokenizer takes about 1 ms per 10 KB; above this the upper bound serves.
SANDBOX_COUNT_BYTES = 64 * 1024


class Message(Struct, forbid_unknown_fields=True, omit_defaults=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | UnsetType | None = UNSET
    name: Text = UNSET
    refusal: Text = UNSET
    reasoning_content: Text = UNSET
    annotations: Anything = UNSET
    audio: Anything = UNSET
    tool_calls: list[dict[str, Any]] | UnsetType | None = UNSET
    tool_call_id: Text = UNSET
    function_call: Anything = UNSET


class StreamOptions(Struct, forbid_unknown_fields=True, omit_defaults=True):
    include_usage: bool | UnsetType | None = UNSET
    include_obfuscation: bool | UnsetType | None = UNSET


class ChatRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """See `dialect.Native`."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    messages: Annotated[list[Message], Meta(min_length=1, max_length=10_000)]
    max_tokens: Tokens | UnsetType | None = UNSET
    max_completion_tokens: Tokens | UnsetType | None = UNSET
    stream: bool | UnsetType | None = UNSET
    stream_options: StreamOptions | UnsetType | None = UNSET
    n: Annotated[int, Meta(ge=1, le=16)] | UnsetType | None = UNSET
    temperature: float | UnsetType | None = UNSET
    top_p: float | UnsetType | None = UNSET
    frequency_penalty: float | UnsetType | None = UNSET
    presence_penalty: float | UnsetType | None = UNSET
    stop: str | list[str] | UnsetType | None = UNSET
    seed: int | UnsetType | None = UNSET
    logprobs: bool | UnsetType | None = UNSET
    top_logprobs: int | UnsetType | None = UNSET
    logit_bias: dict[str, float] | UnsetType | None = UNSET
    response_format: dict[str, Any] | UnsetType | None = UNSET
    tools: list[dict[str, Any]] | UnsetType | None = UNSET
    tool_choice: Anything = UNSET
    parallel_tool_calls: bool | UnsetType | None = UNSET
    functions: list[dict[str, Any]] | UnsetType | None = UNSET
    function_call: Anything = UNSET
    reasoning_effort: Text = UNSET
    verbosity: Text = UNSET
    prediction: dict[str, Any] | UnsetType | None = UNSET
    modalities: list[str] | UnsetType | None = UNSET
    moderation: dict[str, Any] | UnsetType | None = UNSET
    audio: dict[str, Any] | UnsetType | None = UNSET
    web_search_options: dict[str, Any] | UnsetType | None = UNSET
    service_tier: Text = UNSET
    metadata: dict[str, str] | UnsetType | None = UNSET
    store: bool | UnsetType | None = UNSET
    user: Text = UNSET
    safety_identifier: Text = UNSET
    prompt_cache_key: Text = UNSET
    prompt_cache_options: dict[str, Any] | UnsetType | None = UNSET
    prompt_cache_retention: Text = UNSET

    @property
    def wants_stream(self) -> bool:
        return self.stream is True

    @property
    def wants_usage(self) -> bool:
        return isinstance(self.stream_options, StreamOptions) and self.stream_options.include_usage is True

    @property
    def answers(self) -> int:
        return self.n if isinstance(self.n, int) else 1

    @property
    def size(self) -> Size:
        """Worked out anew at each access."""
        read_by_model = (self.tools, self.functions, self.prediction)
        tools = b"".join(_encode(part) for part in read_by_model if isinstance(part, list | dict))
        form = _encode(self.response_format) if isinstance(self.response_format, dict) else b""
        maximum = self.max_completion_tokens if isinstance(self.max_completion_tokens, int) else self.max_tokens
        bound = upper_bound(_encode(self.messages), tools, form)
        return Size(bound, maximum if isinstance(maximum, int) else None)

    @property
    def wants_function_call(self) -> bool:
        """Whether it speaks of `functions`, which came before `tools`, and reads the answer in that form."""
        return isinstance(self.functions, list) and not isinstance(self.tools, list)

    def prompt(self) -> Prompt:
        return prompt_of(self)

    def native(self, model: str, output_tokens: int) -> bytes:
        changes: dict[str, Any] = {"model": model}
        reasons = isinstance(self.reasoning_effort, str) and not isinstance(self.max_tokens, int)
        if reasons or isinstance(self.max_completion_tokens, int):
            changes |= {"max_completion_tokens": output_tokens, "max_tokens": UNSET}
        else:
            changes["max_tokens"] = output_tokens
        if self.wants_stream:
            options = self.stream_options if isinstance(self.stream_options, StreamOptions) else StreamOptions()
            changes["stream_options"] = msgspec.structs.replace(options, include_usage=True)
        else:
            changes["stream_options"] = UNSET
        return _encode(msgspec.structs.replace(self, **changes))


_decoder = msgspec.json.Decoder(ChatRequest)
_encode = msgspec.json.encode
# What costs more than tokens, or is billed in another way: no price of ours covers it.
_UNPRICED = ("audio", "web_search_options", "moderation")
# Of these the input bound holds. A file or a video costs what its bytes do not show, and a file's id is of an account
# that all customers share.
_PARTS = ("text", "image_url", "refusal")
_TOOLS = ("function", "custom")


def read(request_body: bytes) -> ChatRequest:
    """The request, or BadRequest with a sentence that names the field and the remedy."""
    request = body.read(_decoder, request_body, "a chat completion request")
    _check_priced(request)
    for index, message in enumerate(request.messages):
        _check_message(message, f"messages[{index}]")
    tools = request.tools if isinstance(request.tools, list) else []
    for index, tool in enumerate(tools):
        _check_tool(tool, f"tools[{index}]")
    if request.tool_choice not in (UNSET, None):
        _check_choice(request.tool_choice, tools)
    if isinstance(request.response_format, dict):
        _check_form(request.response_format)
    return request


def _check_priced(request: ChatRequest) -> None:
    for name in _UNPRICED:
        if getattr(request, name) not in (UNSET, None):
            raise BadRequest(f"`{name}` is not available here, since it has no price. Leave it out.", name)
    if isinstance(request.modalities, list) and request.modalities != ["text"]:
        raise BadRequest("Only text answers are available here. Leave `modalities` out.", "modalities")
    if isinstance(request.service_tier, str) and request.service_tier not in ("auto", "default"):
        raise BadRequest("`service_tier` may only be auto or default here. Leave it out.", "service_tier")
    if request.store is True:
        raise BadRequest("Answers are not stored here. Leave `store` out.", "store")


def _check_message(message: Message, place: str) -> None:
    if message.audio not in (UNSET, None):
        raise BadRequest(f"`{place}.audio` is not available here, since it has no price. Leave it out.", place)
    for index, part in enumerate(message.content if isinstance(message.content, list) else ()):
        if part.get("type") not in _PARTS:
            raise BadRequest(
                "Only parts of the type text, image_url or refusal are available here, since others have no price. "
                f"Leave `{place}.content[{index}]` out, or send its text.",
                f"{place}.content[{index}].type",
            )


def _check_tool(tool: dict[str, Any], place: str) -> None:
    kind = tool.get("type")
    if kind not in _TOOLS:
        raise BadRequest(
            "Only tools of the type function or custom are available here, since others have no price. "
            f"Leave `{place}` out.",
            f"{place}.type",
        )
    about = tool.get(kind)
    if not (isinstance(about, dict) and isinstance(about.get("name"), str)):
        raise BadRequest(f"`{place}.{kind}` has no name. Add it.", f"{place}.{kind}")


def _check_choice(choice: object, tools: list[dict[str, Any]]) -> None:
    """BadRequest for a `tool_choice` that every provider would refuse."""
    match choice:
        case "auto" | "none":
            return
        case "required":
            pass
        case {"type": "function", "function": {"name": str()}} | {"type": "custom", "custom": {"name": str()}}:
            pass
        case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required", "tools": list()}}:
            pass
        case _:
            raise BadRequest(
                "`tool_choice` must be none, auto or required, name a tool, or list those allowed. Correct it.",
                "tool_choice",
            )
    if not tools:
        raise BadRequest(
            "`tool_choice` asks for a tool, and `tools` has none. Add it, or leave both out.", "tool_choice"
        )


def _check_form(form: dict[str, Any]) -> None:
    """BadRequest for a `response_format` that every provider would refuse."""
    match form:
        case {"type": "text"} | {"type": "json_object"}:
            return
        case {"type": "json_schema", "json_schema": {"name": str(), "schema": dict()}}:
            return
    raise BadRequest(
        "`response_format` must have the type text, json_object, or json_schema with a name and a schema. Correct it.",
        "response_format",
    )


def sandbox_tokens(request: ChatRequest, size: int) -> int | None:
    """What the sandbox counts for this request; None when the body, of `size` bytes, is too large to count on the
    way."""
    if size > SANDBOX_COUNT_BYTES:
        return None
    return count_messages({"content": message.content} for message in request.messages)

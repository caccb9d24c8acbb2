"""The shapes of OpenAI's chat completions: what is read of a request, and how a refusal is written.

Unknown fields are refused by name, so that nothing is silently ignored; the values of fields that only the provider
understands pass through as they came. Source: OpenAI's API reference, chat completions.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tollhouse.core.errors import BadRequest, TollhouseError
from tollhouse.core.text import holds_nul
from tollhouse.core.token import count_messages, upper_bound

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
    audio: Anything = UNSET
    tool_calls: list[dict[str, Any]] | UnsetType | None = UNSET
    tool_call_id: Text = UNSET
    function_call: Anything = UNSET


class StreamOptions(Struct, forbid_unknown_fields=True, omit_defaults=True):
    include_usage: bool | UnsetType | None = UNSET
    include_obfuscation: bool | UnsetType | None = UNSET


class ChatRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
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
    audio: dict[str, Any] | UnsetType | None = UNSET
    web_search_options: dict[str, Any] | UnsetType | None = UNSET
    service_tier: Text = UNSET
    metadata: dict[str, str] | UnsetType | None = UNSET
    store: bool | UnsetType | None = UNSET
    user: Text = UNSET
    safety_identifier: Text = UNSET
    prompt_cache_key: Text = UNSET
    prompt_cache_retention: Text = UNSET

    @property
    def wants_stream(self) -> bool:
        return self.stream is True

    @property
    def wants_usage(self) -> bool:
        return isinstance(self.stream_options, StreamOptions) and self.stream_options.include_usage is True

    @property
    def output_tokens(self) -> int | None:
        """The caller's own maximum per answer."""
        for wanted in (self.max_completion_tokens, self.max_tokens):
            if isinstance(wanted, int):
                return wanted
        return None

    @property
    def answers(self) -> int:
        return self.n if isinstance(self.n, int) else 1


_decoder = msgspec.json.Decoder(ChatRequest)
_encode = msgspec.json.encode
_PLACE = re.compile(r" - at `\$\.?(?:key in )?([^`]*)`$")
# Deeper than any real schema, and far from where a parser or a writer of JSON gives up.
NESTING_MAX = 200
# What costs more than tokens, or is billed in another way: no price of ours covers it.
_UNPRICED = ("audio", "web_search_options")


def read_chat(body: bytes) -> ChatRequest:
    """The request, or BadRequest with a sentence that names the field and the remedy. Nothing has been reserved yet."""
    try:
        request = _decoder.decode(body)
        _check_nesting(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}. Send one JSON object in UTF-8.") from None
    except RecursionError:
        raise _too_deep() from None
    _check_text(body)
    for name in _UNPRICED:
        if getattr(request, name) not in (UNSET, None):
            raise BadRequest(f"`{name}` is not available here, since it has no price. Leave it out.", name)
    if isinstance(request.modalities, list) and request.modalities != ["text"]:
        raise BadRequest("Only text answers are available here. Leave `modalities` out.", "modalities")
    if isinstance(request.service_tier, str) and request.service_tier not in ("auto", "default"):
        raise BadRequest("`service_tier` may only be auto or default here. Leave it out.", "service_tier")
    if isinstance(request.response_format, dict):
        _check_form(request.response_format)
    return request


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


def _invalid(message: str) -> BadRequest:
    place = _PLACE.search(message)
    name = place.group(1) if place else ""
    what = _PLACE.sub("", message)
    unknown = re.search(r"unknown field `([^`]*)`", message)
    if unknown:
        name = f"{name}.{unknown.group(1)}" if name else unknown.group(1)
        return BadRequest(f"The field `{name}` is unknown. Take it out, or check its spelling.", name)
    missing = re.search(r"missing required field `([^`]*)`", message)
    if missing:
        name = f"{name}.{missing.group(1)}" if name else missing.group(1)
        return BadRequest(f"The field `{name}` is missing. Add it.", name)
    if not name:
        return BadRequest(
            f"The body is not a chat completion request: {what}. Send a JSON object with model and messages."
        )
    return BadRequest(f"The field `{name}` is wrong: {what}. Correct it and send the request again.", name)


def _check_nesting(body: bytes) -> None:
    """Nothing later on may fail at the depth of what was read here: not the counting, not the writing to a provider."""
    if body.count(b"[") + body.count(b"{") <= NESTING_MAX:
        return
    level, depth = [msgspec.json.decode(body)], 0
    while level:
        if depth > NESTING_MAX:
            raise _too_deep()
        depth += 1
        level = [inner for value in level for inner in _inside(value)]


def _inside(value: object) -> Iterable[object]:
    match value:
        case dict(fields):
            return fields.values()
        case list(items):
            return items
    return ()


def _too_deep() -> BadRequest:
    return BadRequest("The body is nested too deeply. Send plainer JSON.")


def _check_text(body: bytes) -> None:
    """NUL characters are refused: no store and no provider takes them. (Lone surrogates do not parse at all.)"""
    if b"\\u0000" in body and holds_nul(msgspec.json.decode(body)):
        raise BadRequest("The text holds a NUL character (\\u0000). Take it out.")


def input_bound(request: ChatRequest) -> int:
    """The most input tokens that any provider can count for this request."""
    tools = b"".join(_encode(part) for part in (request.tools, request.functions) if isinstance(part, list))
    form = _encode(request.response_format) if isinstance(request.response_format, dict) else b""
    return upper_bound(_encode(request.messages), tools, form)


def sandbox_tokens(request: ChatRequest, size: int) -> int | None:
    """What the sandbox counts for this request; None when the body is too large to count on the way."""
    if size > SANDBOX_COUNT_BYTES:
        return None
    return count_messages({"content": message.content} for message in request.messages)


def to_provider(request: ChatRequest, provider_model_id: str, output_tokens: int) -> bytes:
    """The body for an OpenAI-compatible provider: its model name, the admitted maximum, usage always asked for."""
    changes: dict[str, Any] = {"model": provider_model_id}
    if isinstance(request.max_completion_tokens, int):
        changes |= {"max_completion_tokens": output_tokens, "max_tokens": UNSET}
    else:
        changes["max_tokens"] = output_tokens
    if request.wants_stream:
        options = request.stream_options if isinstance(request.stream_options, StreamOptions) else StreamOptions()
        changes["stream_options"] = msgspec.structs.replace(options, include_usage=True)
    else:
        changes["stream_options"] = UNSET
    return _encode(msgspec.structs.replace(request, **changes))


_TYPES = {401: "authentication_error", 402: "insufficient_quota", 403: "permission_error", 404: "not_found_error",
          429: "rate_limit_error", 413: "invalid_request_error", 400: "invalid_request_error"}  # fmt: skip


def error_body(error: TollhouseError) -> bytes:
    """A refusal in OpenAI's shape; what API.md adds to it stands under `metadata`."""
    details = error.details()
    hints = [{name: value for name, value in (("kind", hint.kind), ("price_cents", hint.price_cents), ("at", hint.at))
              if value is not None} for hint in error.hints()]  # fmt: skip
    metadata = {name: value for name, value in details.items() if value is not None and name != "field"}
    fields: dict[str, Any] = {
        "message": str(error),
        "type": _TYPES.get(error.status, "api_error"),
        "param": details.get("field"),
        "code": error.code,
    }
    if metadata or hints:
        fields["metadata"] = metadata | ({"hints": hints} if hints else {})
    return _encode({"error": fields})


def error_headers(error: TollhouseError) -> list[tuple[bytes, bytes]]:
    """Whether and when to try again, for clients that do so by themselves."""
    if error.retry_after_s is not None:
        return [(b"retry-after", str(error.retry_after_s).encode())]
    return [] if error.should_retry else [(b"x-should-retry", b"false")]

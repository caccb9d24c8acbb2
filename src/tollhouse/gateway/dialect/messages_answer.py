"""Answers of Anthropic: whole and in events, read and written.

Of what the vendor sends only known fields are read; blocks of a kind that no request of this gateway can lead to are
passed over. Source: Anthropic's API reference, Messages; its guide on streaming.
"""

import re
from typing import Any, Literal

import msgspec
from msgspec import Struct

from tollhouse.core.errors import TollhouseError
from tollhouse.core.price import Usage
from tollhouse.gateway.dialect import NotAnAnswer
from tollhouse.gateway.dialect.meter import count_text, tokens
from tollhouse.gateway.dialect.neutral import (
    Began,
    Choice,
    Counted,
    Ended,
    Ending,
    Failed,
    Finished,
    Piece,
    Reasoning,
    ReasoningPiece,
    Refusal,
    Text,
    TextPiece,
    ToolBegan,
    ToolCall,
    ToolPiece,
    Whole,
)

FAILURE_MAX = 200  # characters of a provider's error that are told on

Stop = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]
_ENDED: dict[str, Ended] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_STOPS: dict[Ended, Stop] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_INPUT_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_encode = msgspec.json.encode


class ContentBlock(Struct):
    type: str = ""
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    input: dict[str, Any] | None = None


class Delta(Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class Answer(Struct):
    id: str = ""
    type: str = ""
    content: list[ContentBlock] = []
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Any = None


class Event(Struct):
    """What matters of an event of a stream."""

    type: str
    index: int = 0
    delta: Delta | None = None
    content_block: ContentBlock | None = None
    message: Answer | None = None
    usage: Any = None
    error: Any = None


_event = msgspec.json.Decoder(Event)
_answer = msgspec.json.Decoder(Answer)


def read_event(data: bytes) -> Event:
    """NotAnAnswer when it is none."""
    try:
        return _event.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAnAnswer("an event that is none of Anthropic's") from error


def read_usage(usage: object) -> Usage | None:
    """Anthropic's usage object, where cached input does not count as input. None when it is missing or cannot be true;
    an explicit 0 is a count like any other."""
    if not isinstance(usage, dict):
        return None
    fresh, made = tokens(usage.get("input_tokens")), tokens(usage.get("output_tokens"))
    if fresh is None or made is None:
        return None
    written = tokens(usage.get("cache_creation_input_tokens")) or 0
    cached = tokens(usage.get("cache_read_input_tokens")) or 0
    details = usage.get("output_tokens_details")
    thought = tokens(details.get("thinking_tokens")) if isinstance(details, dict) else None
    return Usage(fresh + written + cached, made, cached, min(thought or 0, made), cache_write_tokens=written)


def usage_object(usage: Usage) -> dict[str, Any]:
    """Our usage in Anthropic's shape; `estimated` stands only where it is true."""
    figures: dict[str, Any] = {
        "input_tokens": usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        figures["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return figures | ({"estimated": True} if usage.estimated else {})


class StreamUsage:
    """The usage of a stream: its beginning tells the input, its end the output and, if it likes, the input again.
    Counts are cumulative, so the last one holds."""

    def __init__(self) -> None:
        self._counts: dict[str, Any] = {}

    def begin(self, usage: object) -> None:
        if isinstance(usage, dict):
            self._counts = {name: usage[name] for name in _INPUT_COUNTS if tokens(usage.get(name)) is not None}

    def end(self, usage: object) -> Usage | None:
        if not isinstance(usage, dict):
            return None
        self._counts |= {name: usage[name] for name in _INPUT_COUNTS if tokens(usage.get(name)) is not None}
        return read_usage(usage | self._counts)


def ended(stop_reason: str) -> Ended:
    return _ENDED.get(stop_reason, "stop")


def stop_reason(end: Ended, stop_sequence: str | None, *, refused: bool) -> Stop:
    """`refused`: the model would not, and said so; Anthropic has no other word for that."""
    if end == "stop" and refused:
        return "refusal"
    if end == "stop" and stop_sequence is not None:
        return "stop_sequence"
    return _STOPS[end]


def failure(error: object) -> str:
    """What an error event says, short and in one line."""
    found = error if isinstance(error, dict) else {}
    said = [word for word in (found.get("type"), found.get("message")) if isinstance(word, str) and word]
    text = re.sub(r"[\x00-\x1f\x7f]+", " ", ": ".join(said))
    return text[:FAILURE_MAX] or "the provider reported an error"


def read_whole(body: bytes) -> Whole:
    """NotAnAnswer when it is none."""
    try:
        answer = _answer.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAnAnswer("not a message of Anthropic") from error
    if answer.type != "message":
        raise NotAnAnswer("not a message of Anthropic")
    parts = tuple(part for block in answer.content if (part := _part(block)) is not None)
    choice = Choice(parts, ended(answer.stop_reason or ""), answer.stop_sequence)
    return Whole(answer.id, (choice,), read_usage(answer.usage))


def _part(block: ContentBlock) -> Text | ToolCall | Reasoning | None:
    match block.type:
        case "text":
            return Text(block.text or "")
        case "thinking":
            return Reasoning(block.thinking or "", block.signature or None)
        case "redacted_thinking":
            return Reasoning("", redacted=block.data or "")
        case "tool_use":
            if not block.id or not block.name:
                raise NotAnAnswer("a tool call without its name")
            return ToolCall(block.id, block.name, _encode(block.input or {}).decode())
    return None


def write_whole(whole: Whole, model: str) -> dict[str, Any]:
    """A message without its usage, of the first answer; there are no others in this dialect."""
    choice = whole.choices[0] if whole.choices else Choice((), "stop")
    refused = any(isinstance(part, Refusal) for part in choice.parts)
    reason = stop_reason(choice.ended, choice.stop_sequence, refused=refused)
    return {
        "id": whole.id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [_block(part) for part in choice.parts],
        "stop_reason": reason,
        "stop_sequence": choice.stop_sequence if reason == "stop_sequence" else None,
    }


def _block(part: Text | ToolCall | Reasoning | Refusal) -> dict[str, Any]:
    match part:
        case Text(text) | Refusal(text):
            return {"type": "text", "text": text}
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": _arguments(part.arguments)}
        case Reasoning(redacted=str(redacted)):
            return {"type": "redacted_thinking", "data": redacted}
        case Reasoning():
            return {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}


def _arguments(text: str) -> dict[str, Any]:
    """An object in every case: what a model left unfinished or garbled has no other place in this dialect."""
    try:
        arguments = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return arguments if isinstance(arguments, dict) else {}


def read_plain(body: bytes) -> tuple[dict[str, Any], Usage | None]:
    """A provider's answer as it came, for a client of the same dialect. NotAnAnswer when it is none."""
    usage = read_whole(body).usage
    try:
        answer: dict[str, Any] = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # in a field that `read_whole` skips
        raise NotAnAnswer("not a message of Anthropic") from error
    return answer, usage


def count_plain(answer: dict[str, Any]) -> int:
    """The output tokens of an answer that does not say, at four characters each."""
    return count_text(read_whole(_encode(answer)))


class PieceReader:
    """See `Reader`."""

    def __init__(self) -> None:
        self._usage = StreamUsage()
        self._slots: dict[int, int] = {}  # content block index -> tool call
        self._untold: dict[int, dict[str, Any]] = {}  # by tool call, its input as long as no part of it came

    def read(self, data: bytes) -> list[Piece]:
        event = read_event(data)
        match event.type:
            case "content_block_delta":
                return self._delta(event)
            case "content_block_start":
                return self._start(event)
            case "content_block_stop":
                return self._stop(event)
            case "message_start":
                message = event.message or Answer()
                self._usage.begin(message.usage)
                return [Began(message.id)]
            case "message_delta":
                return self._end(event)
            case "message_stop":
                return [Finished()]
            case "error":
                return [Failed(failure(event.error))]
        return []

    def _start(self, event: Event) -> list[Piece]:
        block = event.content_block
        if block is None:
            raise NotAnAnswer("a block that begins without being one")
        match block.type:
            case "text" if block.text:
                return [TextPiece(0, block.text)]
            case "thinking" if block.thinking:
                return [ReasoningPiece(0, block.thinking)]
            case "redacted_thinking":
                return [ReasoningPiece(0, "", redacted=block.data or "")]
            case "tool_use":
                if not block.id or not block.name or event.index in self._slots:
                    raise NotAnAnswer("a tool call without its name or place")
                slot = self._slots[event.index] = len(self._slots)
                self._untold[slot] = block.input or {}
                return [ToolBegan(0, slot, block.id, block.name)]
        return []

    def _delta(self, event: Event) -> list[Piece]:
        delta = event.delta
        if delta is None:
            raise NotAnAnswer("a delta of nothing")
        match delta.type:
            case "text_delta":
                return [TextPiece(0, delta.text)] if delta.text else []
            case "thinking_delta":
                return [ReasoningPiece(0, delta.thinking)] if delta.thinking else []
            case "signature_delta":
                return [ReasoningPiece(0, "", delta.signature)] if delta.signature else []
            case "input_json_delta":
                slot = self._slots.get(event.index)
                if slot is None or not delta.partial_json:
                    return []
                self._untold.pop(slot, None)
                return [ToolPiece(0, slot, delta.partial_json)]
        return []

    def _stop(self, event: Event) -> list[Piece]:
        """A tool call without arguments is told with an empty object: other dialects want one."""
        arguments = self._untold.pop(self._slots.get(event.index, -1), None)
        return [] if arguments is None else [ToolPiece(0, self._slots[event.index], _encode(arguments).decode())]

    def _end(self, event: Event) -> list[Piece]:
        pieces: list[Piece] = []
        usage = self._usage.end(event.usage)
        if usage is not None:
            pieces.append(Counted(usage))
        if event.delta is not None and event.delta.stop_reason is not None:
            pieces.append(Ending(0, ended(event.delta.stop_reason), event.delta.stop_sequence))
        return pieces


_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_body(error: TollhouseError) -> bytes:
    """A refusal in Anthropic's shape; what API.md adds to it stands under `error.metadata`."""
    metadata: dict[str, Any] = {name: value for name, value in error.details().items() if value is not None}
    hints = [
        {name: getattr(hint, name) for name in ("kind", "price_cents", "at", "plan") if getattr(hint, name) is not None}
        for hint in error.hints()
    ]
    if hints:
        metadata["hints"] = hints
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    fields: dict[str, Any] = {"type": kind, "message": str(error), "code": error.code}
    if metadata:
        fields["metadata"] = metadata
    return _encode({"type": "error", "error": fields})

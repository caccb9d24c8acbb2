"""Streams in Anthropic's dialect: written from pieces, or passed on from a provider of the same dialect. Every event
has its name in an `event:` line, without which the vendor's SDKs drop it. Source: Anthropic's guide on streaming.
"""

import re
from typing import Any

import msgspec

from tollhouse.core.errors import TollhouseError
from tollhouse.core.money import format_credits, format_usd
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect import NotAnAnswer
from tollhouse.gateway.dialect.messages_answer import (
    Event,
    StreamUsage,
    error_body,
    failure,
    read_event,
    stop_reason,
    usage_object,
)
from tollhouse.gateway.dialect.meter import Meter
from tollhouse.gateway.dialect.neutral import (
    Began,
    Ended,
    Ending,
    Piece,
    ReasoningPiece,
    RefusalPiece,
    TextPiece,
    ToolBegan,
    ToolPiece,
)
from tollhouse.gateway.sse import event as sse_event

_encode = msgspec.json.encode
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_NAME = re.compile(r"[a-z_.]{1,64}")


def _event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\n" + sse_event(data)


def _event_of(fields: dict[str, Any]) -> bytes:
    return _event(fields["type"], _encode(fields))


def charge(figures: dict[str, Any], usage: Usage, settled: Settled | None) -> dict[str, Any]:
    """The vendor's own figures with what was counted and what it cost; `settled` None: not known yet."""
    figures = figures | usage_object(usage)
    if settled is not None:
        figures["credits"] = format_credits(settled.charged_micros)
        figures["cost_usd"] = format_usd(settled.cost_nanos)
    return figures


class Same:
    """See `Relay`: an Anthropic client of an Anthropic provider. The provider's events pass unchanged; the last
    message_delta and the message_stop wait for the charge."""

    def __init__(self) -> None:
        self.meter = Meter()
        self._usage = StreamUsage()
        self._held: dict[str, Any] | None = None

    def take(self, data: bytes) -> bytes:
        event = read_event(data)
        if self.meter.ended:
            return b""
        match event.type:
            case "content_block_delta":
                self._count(event)
                return b"event: content_block_delta\n" + sse_event(data)
            case "content_block_start":
                self.meter.begin(0)
                if event.content_block is not None and event.content_block.type == "tool_use":
                    self.meter.output_tokens += 1
            case "message_start":
                if event.message is not None:
                    self._usage.begin(event.message.usage)
            case "message_delta":
                return self._end(event, data)
            case "message_stop":
                self.meter.ended = True
                return b""
            case "error":
                self.meter.failed = failure(event.error)
                return b""
        if not _NAME.fullmatch(event.type):
            raise NotAnAnswer("an event without a name")
        return _event(event.type, data)

    def _count(self, event: Event) -> None:
        delta = event.delta
        if delta is None:
            raise NotAnAnswer("a delta of nothing")
        text = delta.text or delta.thinking
        if text:
            self.meter.text(0, text)
        elif delta.partial_json:
            self.meter.begin(0)
            self.meter.output_tokens += 1

    def _end(self, event: Event, data: bytes) -> bytes:
        self.meter.usage = self._usage.end(event.usage) or self.meter.usage
        if event.delta is not None and event.delta.stop_reason is not None:
            self.meter.finish(0)
        before = self._held
        try:
            self._held = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # in a field that nobody reads
            raise NotAnAnswer("an event that is none of Anthropic's") from error
        return b"" if before is None else _event_of(before)

    def end(self, usage: Usage, settled: Settled | None) -> bytes:
        """See `Writer.end`."""
        ended = {"stop_reason": "end_turn", "stop_sequence": None}
        last = self._held or {"type": "message_delta", "delta": ended}
        given = last.get("usage")
        last["usage"] = charge(given if isinstance(given, dict) else {}, usage, settled)
        return _event_of(last) + _STOP

    def error(self, error: TollhouseError) -> bytes:
        """See `Writer.error`."""
        return _event("error", error_body(error))


class _Tool:
    """A tool call as far as it came. `unwritten` waits until the block before it is complete."""

    def __init__(self, id: str, name: str) -> None:
        self.id = id
        self.name = name
        self.unwritten: list[str] = []
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._begun = False

    @property
    def complete(self) -> bool:
        """Whether the arguments that were written are a whole JSON value."""
        return self._begun and self._depth == 0 and not self._in_string

    def follow(self, arguments: str) -> None:
        """Takes note of what is written."""
        for character in arguments:
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = character == "\\"
                self._in_string = character != '"'
            elif character == '"':
                self._in_string = self._begun = True
            elif character in "{[":
                self._depth += 1
                self._begun = True
            elif character in "}]":
                self._depth -= 1


class EventWriter:
    """See `Writer`. Anthropic's blocks follow one another, so a tool call that comes among the pieces of another waits
    until that one is complete. The input is counted only at the end: message_start says 0, and the SDKs put the count
    of message_delta in its place."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._begun = False
        self._index = -1  # of the block that began last
        self._open: str | int | None = None  # "text", "thinking", or the slot of a tool call
        self._tools: dict[int, _Tool] = {}
        self._waiting: list[int] = []
        self._ended: Ended = "stop"
        self._stop_sequence: str | None = None
        self._refused = False

    def write(self, pieces: list[Piece]) -> bytes:
        out: list[bytes] = []
        for piece in pieces:
            match piece:
                case Began():
                    self._begin(piece.id, out)
                case TextPiece() if piece.choice == 0:
                    self._text(piece.text, out)
                case RefusalPiece() if piece.choice == 0:
                    self._refused = True
                    self._text(piece.text, out)
                case ReasoningPiece() if piece.choice == 0:
                    self._reasoning(piece, out)
                case ToolBegan() if piece.choice == 0:
                    self._tool(piece, out)
                case ToolPiece() if piece.choice == 0:
                    self._arguments(piece, out)
                case Ending() if piece.choice == 0:
                    self._ended, self._stop_sequence = piece.ended, piece.stop_sequence
        return b"".join(out)

    def end(self, usage: Usage, settled: Settled | None) -> bytes:
        """See `Writer.end`."""
        out: list[bytes] = []
        self._begin("", out)
        self._close_all(out)
        reason = stop_reason(self._ended, self._stop_sequence, refused=self._refused)
        sequence = self._stop_sequence if reason == "stop_sequence" else None
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        out.append(_event_of({"type": "message_delta", "delta": delta, "usage": charge({}, usage, settled)}))
        out.append(_STOP)
        return b"".join(out)

    def error(self, error: TollhouseError) -> bytes:
        """See `Writer.error`."""
        return _event("error", error_body(error))

    def _begin(self, id: str, out: list[bytes]) -> None:
        if self._begun:
            return
        self._begun = True
        message: dict[str, Any] = {"id": id, "type": "message", "role": "assistant", "model": self._model}
        message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage_object(Usage(0, 0))}
        out.append(_event_of({"type": "message_start", "message": message}))

    def _start(self, kind: str | int, block: dict[str, Any], out: list[bytes]) -> None:
        self._begin("", out)
        self._index += 1
        self._open = kind
        out.append(_event_of({"type": "content_block_start", "index": self._index, "content_block": block}))

    def _close(self, out: list[bytes]) -> None:
        if self._open is not None:
            self._open = None
            out.append(_event_of({"type": "content_block_stop", "index": self._index}))

    def _close_all(self, out: list[bytes]) -> None:
        self._close(out)
        while self._waiting:
            self._next_tool(out)
            self._close(out)

    def _delta(self, head: bytes, value: str, out: list[bytes]) -> None:
        """`head`: the beginning of the delta, up to the value of its one field besides the type."""
        out.append(
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b%b}}\n\n'
            % (self._index, head, _encode(value))
        )

    def _text(self, text: str, out: list[bytes]) -> None:
        if not text:
            return
        if self._open != "text":
            self._close_all(out)
            self._start("text", {"type": "text", "text": ""}, out)
        self._delta(b'{"type":"text_delta","text":', text, out)

    def _reasoning(self, piece: ReasoningPiece, out: list[bytes]) -> None:
        if piece.redacted is not None:
            self._close_all(out)
            self._start("redacted", {"type": "redacted_thinking", "data": piece.redacted}, out)
            self._close(out)
            return
        if not piece.text and not piece.signature:
            return
        if self._open != "thinking":
            self._close_all(out)
            self._start("thinking", {"type": "thinking", "thinking": "", "signature": ""}, out)
        if piece.text:
            self._delta(b'{"type":"thinking_delta","thinking":', piece.text, out)
        if piece.signature:
            self._delta(b'{"type":"signature_delta","signature":', piece.signature, out)
            self._close(out)

    def _tool(self, piece: ToolBegan, out: list[bytes]) -> None:
        if piece.slot in self._tools:
            return
        self._tools[piece.slot] = _Tool(piece.id, piece.name)
        self._waiting.append(piece.slot)
        if not isinstance(self._open, int) or self._tools[self._open].complete:
            self._close(out)
            self._next_tool(out)

    def _arguments(self, piece: ToolPiece, out: list[bytes]) -> None:
        tool = self._tools.get(piece.slot)
        if tool is None:
            return
        if piece.slot in self._waiting:
            tool.unwritten.append(piece.arguments)
        elif piece.slot == self._open:
            self._input(tool, piece.arguments, out)
            while self._waiting and tool.complete:
                self._close(out)
                tool = self._next_tool(out)

    def _next_tool(self, out: list[bytes]) -> _Tool:
        slot = self._waiting.pop(0)
        tool = self._tools[slot]
        self._start(slot, {"type": "tool_use", "id": tool.id, "name": tool.name, "input": {}}, out)
        for arguments in tool.unwritten:
            self._input(tool, arguments, out)
        tool.unwritten.clear()
        return tool

    def _input(self, tool: _Tool, arguments: str, out: list[bytes]) -> None:
        if arguments:
            tool.follow(arguments)
            self._delta(b'{"type":"input_json_delta","partial_json":', arguments, out)

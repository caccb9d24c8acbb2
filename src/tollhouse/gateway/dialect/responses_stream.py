"""A streamed answer in OpenAI's responses. Source: OpenAI's API reference, responses, streaming events.

An answer is a list of items (a thought, a message, a call of a function), and a message a list of parts. A thought or a
message is done when something else begins; function calls may be told side by side, so they are done with the answer.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from tollhouse.core.errors import TollhouseError
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect import responses_answer as shape
from tollhouse.gateway.dialect.chat_error import error_body
from tollhouse.gateway.dialect.neutral import (
    Began,
    Ended,
    Ending,
    Piece,
    Reasoning,
    ReasoningPiece,
    RefusalPiece,
    TextPiece,
    ToolBegan,
    ToolCall,
    ToolPiece,
)

_encode = msgspec.json.encode
_FAILURES = {400: "invalid_prompt", 429: "rate_limit_exceeded"}


@dataclass(slots=True)
class _Part:
    """A part of a message, as far as it has come. `head` begins the event of each further piece."""

    refusal: bool
    place: dict[str, Any]
    head: bytes
    texts: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        text = "".join(self.texts)
        return shape.refusal_part(text) if self.refusal else shape.text_part(text, self.logprobs)


@dataclass(slots=True)
class _Message:
    id: str
    index: int
    parts: list[_Part] = field(default_factory=list)

    def told(self, standing: shape.Status) -> dict[str, Any]:
        return shape.message(self.id, [part.told() for part in self.parts], standing)


@dataclass(slots=True)
class _Thought:
    id: str
    index: int
    texts: list[str] = field(default_factory=list)
    signature: str | None = None
    redacted: str | None = None

    @property
    def place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index, "summary_index": 0}

    def told(self, standing: shape.Status) -> dict[str, Any]:
        thought = Reasoning("".join(self.texts), self.signature, self.redacted)
        return shape.reasoning(self.id, thought, standing)


@dataclass(slots=True)
class _Call:
    id: str
    index: int
    call_id: str
    name: str
    arguments: list[str] = field(default_factory=list)

    @property
    def place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index}

    def told(self, standing: shape.Status) -> dict[str, Any]:
        call = ToolCall(self.call_id, self.name, "".join(self.arguments))
        return shape.function_call(self.id, call, standing)


class ResponseWriter:
    """Its protocol says the rest. `echo` is what the response repeats of its request."""

    def __init__(self, echo: dict[str, Any], model: str, created: int) -> None:
        self._echo, self._model, self._created = echo, model, created
        self._root = ""
        self._response: dict[str, Any] | None = None
        self._number = 0
        self._items: list[_Message | _Thought | _Call] = []
        self._done: dict[int, dict[str, Any]] = {}
        self._open: _Message | _Thought | None = None
        self._calls: dict[int, _Call] = {}
        self._ended: Ended = "stop"
        self._out: list[bytes] = []

    def write(self, pieces: list[Piece]) -> bytes:
        for piece in pieces:
            match piece:
                case TextPiece(choice=0):
                    self._text(piece)
                case ReasoningPiece(choice=0):
                    self._reason(piece)
                case RefusalPiece(choice=0):
                    self._piece_of(refusal=True, text=piece.text)
                case ToolBegan(choice=0):
                    self._call(piece)
                case ToolPiece(choice=0):
                    self._arguments(piece)
                case Ending(choice=0):
                    self._ended = piece.ended
                    self._close_all(shape.status(piece.ended))
                case Began():
                    self._begin(piece.id)
        return self._taken()

    def end(self, usage: Usage, settled: Settled | None) -> bytes:
        begun = self._begin("")
        self._close_all(shape.status(self._ended))
        whole = shape.finish(begun, self._output(), self._ended)
        whole["usage"] = shape.usage_object(usage, settled)
        self._event(f"response.{whole['status']}", {"response": whole})
        return self._taken()

    def error(self, error: TollhouseError) -> bytes:
        """`response.failed` for clients that follow the events, with what had come until then; then `error`, on which
        the vendor's clients raise: a loop that only looks for text must not take the break for the end."""
        if self._response is not None:
            told = {"code": _FAILURES.get(error.status, "server_error"), "message": str(error)}
            failed = self._response | {"status": "failed", "error": told, "output": self._output()}
            self._event("response.failed", {"response": failed})
        fields = msgspec.json.decode(error_body(error))
        flat = {name: fields["error"][name] for name in ("code", "message", "param")}
        self._event("error", flat | fields)
        return self._taken()

    def _begin(self, provider_id: str) -> dict[str, Any]:
        """The response; told to the client when this is the first word of it."""
        if self._response is None:
            self._root = shape.stem(provider_id, self._created)
            self._response = shape.response(self._echo, self._model, self._created, self._root)
            self._event("response.created", {"response": self._response})
            self._event("response.in_progress", {"response": self._response})
        return self._response

    def _text(self, piece: TextPiece) -> None:
        logprobs = shape.logprobs_of(piece.logprobs) if piece.logprobs is not None else None
        self._piece_of(refusal=False, text=piece.text, logprobs=logprobs)

    def _piece_of(self, *, refusal: bool, text: str, logprobs: list[dict[str, Any]] | None = None) -> None:
        if not text and not logprobs:
            return
        message = self._open
        if not isinstance(message, _Message):
            message = self._open_message()
        if not message.parts or message.parts[-1].refusal is not refusal:
            self._open_part(message, refusal)
        part = message.parts[-1]
        part.texts.append(text)
        tail = b"}\n\n"
        if not refusal:
            tail = b',"logprobs":[]}\n\n'
            if logprobs:
                part.logprobs += logprobs
                tail = b',"logprobs":' + _encode(logprobs) + tail[-3:]
        self._out.append(part.head + _encode(text) + b',"sequence_number":' + str(self._number).encode() + tail)
        self._number += 1

    def _open_message(self) -> _Message:
        self._begin("")
        self._close_open("completed")
        message = _Message(f"msg_{self._root}_{len(self._items)}", len(self._items))
        self._add(message)
        self._open = message
        return message

    def _open_part(self, message: _Message, refusal: bool) -> None:
        if message.parts:
            self._close_part(message.parts[-1])
        place = {"item_id": message.id, "output_index": message.index, "content_index": len(message.parts)}
        name = "response.refusal.delta" if refusal else "response.output_text.delta"
        head = b"event: " + name.encode() + b"\ndata: " + _encode({"type": name, **place})[:-1] + b',"delta":'
        part = _Part(refusal, place, head)
        message.parts.append(part)
        self._event("response.content_part.added", place | {"part": part.told()})

    def _reason(self, piece: ReasoningPiece) -> None:
        if piece.redacted is not None:
            self._open_thought().redacted = piece.redacted
            self._close_open("completed")
            return
        if not piece.text and piece.signature is None:
            return
        thought = self._open
        if not isinstance(thought, _Thought):
            thought = self._open_thought()
        if piece.text:
            if not thought.texts:
                empty = {"type": "summary_text", "text": ""}
                self._event("response.reasoning_summary_part.added", thought.place | {"part": empty})
            thought.texts.append(piece.text)
            self._event("response.reasoning_summary_text.delta", thought.place | {"delta": piece.text})
        if piece.signature is not None:
            thought.signature = piece.signature
            self._close_open("completed")

    def _open_thought(self) -> _Thought:
        self._begin("")
        self._close_open("completed")
        thought = _Thought(f"rs_{self._root}_{len(self._items)}", len(self._items))
        self._add(thought)
        self._open = thought
        return thought

    def _call(self, piece: ToolBegan) -> None:
        self._begin("")
        self._close_open("completed")
        before = self._calls.pop(piece.slot, None)
        if before is not None:
            self._close_call(before, "completed")
        call = _Call(f"fc_{self._root}_{len(self._items)}", len(self._items), piece.id, piece.name)
        self._calls[piece.slot] = call
        self._add(call)

    def _arguments(self, piece: ToolPiece) -> None:
        """Arguments of a call that never began belong to nothing."""
        call = self._calls.get(piece.slot)
        if call is not None and piece.arguments:
            call.arguments.append(piece.arguments)
            self._event("response.function_call_arguments.delta", call.place | {"delta": piece.arguments})

    def _add(self, item: _Message | _Thought | _Call) -> None:
        self._items.append(item)
        self._event("response.output_item.added", {"output_index": item.index, "item": item.told("in_progress")})

    def _close_open(self, standing: shape.Status) -> None:
        """The message or the thought that is still open is done."""
        item, self._open = self._open, None
        if isinstance(item, _Thought) and item.texts:
            text = "".join(item.texts)
            self._event("response.reasoning_summary_text.done", item.place | {"text": text})
            part = {"type": "summary_text", "text": text}
            self._event("response.reasoning_summary_part.done", item.place | {"part": part})
        if isinstance(item, _Message) and item.parts:
            self._close_part(item.parts[-1])
        if item is not None:
            self._close(item, standing)

    def _close_part(self, part: _Part) -> None:
        told = part.told()
        if part.refusal:
            self._event("response.refusal.done", part.place | {"refusal": told["refusal"]})
        else:
            text = {"text": told["text"], "logprobs": told["logprobs"]}
            self._event("response.output_text.done", part.place | text)
        self._event("response.content_part.done", part.place | {"part": told})

    def _close_all(self, standing: shape.Status) -> None:
        """Everything is done; only the last item can be incomplete, and what is open is always the last."""
        last = len(self._items) - 1
        self._close_open(standing)
        for call in self._calls.values():
            self._close_call(call, standing if call.index == last else "completed")
        self._calls.clear()

    def _close_call(self, call: _Call, standing: shape.Status) -> None:
        arguments = {"name": call.name, "arguments": "".join(call.arguments)}
        self._event("response.function_call_arguments.done", call.place | arguments)
        self._close(call, standing)

    def _close(self, item: _Message | _Thought | _Call, standing: shape.Status) -> None:
        told = item.told(standing)
        self._done[item.index] = told
        self._event("response.output_item.done", {"output_index": item.index, "item": told})

    def _output(self) -> list[dict[str, Any]]:
        return [self._done.get(item.index) or item.told("incomplete") for item in self._items]

    def _event(self, name: str, fields: dict[str, Any]) -> None:
        data = _encode({"type": name, "sequence_number": self._number, **fields})
        self._number += 1
        self._out.append(b"event: " + name.encode() + b"\ndata: " + data + b"\n\n")

    def _taken(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

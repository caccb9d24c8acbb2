"""Streams of OpenAI's chat completions: chunks are passed on, read and written.

Source: OpenAI's API reference, chat completion chunks. A stream ends with a chunk without choices that holds the
usage, if it was asked for, and with `[DONE]`; after an error neither comes.
"""

from typing import Any

import msgspec
from msgspec import Struct

from tollhouse.core.errors import TollhouseError
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect import NotAnAnswer
from tollhouse.gateway.dialect.chat_answer import (
    UNREADABLE,
    Logprobs,
    ended,
    finish_reason,
    made_answer_id,
    made_id,
    read_usage,
    usage_object,
)
from tollhouse.gateway.dialect.chat_error import error_body
from tollhouse.gateway.dialect.meter import Meter
from tollhouse.gateway.dialect.neutral import (
    Began,
    Counted,
    Ending,
    Failed,
    Finished,
    Piece,
    ReasoningPiece,
    RefusalPiece,
    TextPiece,
    ToolBegan,
    ToolPiece,
)
from tollhouse.gateway.sse import event

DONE = b"[DONE]"
_DONE_EVENT = event(DONE)
_HEAD = ("id", "created", "model", "system_fingerprint")
_ERROR_MAX = 200  # characters of a provider's message
_encode = msgspec.json.encode


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None


class _Choice(Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(Struct):
    """What matters of a chunk that is passed on; everything else passes unread."""

    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


class _FullChoice(_Choice):
    logprobs: Logprobs | None = None


class _FullChunk(Struct):
    """What is translated of a chunk."""

    id: str | None = None
    choices: list[_FullChoice] | None = None
    usage: Any = None
    error: Any = None


_chunk = msgspec.json.Decoder(_Chunk)
_full_chunk = msgspec.json.Decoder(_FullChunk)


class Same:
    """See `dialect.Relay`: a provider's chunks for a client of the same dialect. `usage`: the client asked for it."""

    def __init__(self, *, usage: bool) -> None:
        self.meter = Meter()
        self._usage = usage
        self._head: dict[str, Any] = {}  # of the provider's chunks: our usage chunk carries the same
        self._headed = False

    def take(self, data: bytes) -> bytes:
        meter = self.meter
        if meter.ended or meter.failed is not None:
            return b""
        if data == DONE:
            meter.ended = True
            return b""
        try:
            chunk = _chunk.decode(data)
            if not self._headed:
                self._begin(data)
        except UNREADABLE as error:
            raise NotAnAnswer(f"it is not a chunk of a chat completion: {error}") from None
        if chunk.error is not None:
            meter.failed = _said(chunk.error)
            return b""
        if chunk.usage is not None:
            meter.usage = read_usage(chunk.usage) or meter.usage
        if not chunk.choices:
            return b""
        self._headed = True
        for choice in chunk.choices:
            index, delta = choice.index, choice.delta
            if delta is not None:
                text = delta.content or delta.reasoning_content or delta.refusal or delta.reasoning or ""
                meter.text(index, text)
                if delta.tool_calls or delta.function_call:
                    self._count_calls(index, delta)
            if choice.finish_reason:
                meter.finish(index)
        return event(data)

    def end(self, usage: Usage, settled: Settled | None) -> bytes:
        return (_usage_event(self._head, usage, settled) if self._usage else b"") + _DONE_EVENT

    def error(self, error: TollhouseError) -> bytes:
        return event(error_body(error))

    def _begin(self, data: bytes) -> None:
        """Until a chunk brings choices its head may still be empty (Azure's first one is)."""
        whole = msgspec.json.decode(data)
        self._head = {name: whole[name] for name in _HEAD if name in whole}

    def _count_calls(self, index: int, delta: _Delta) -> None:
        functions = [call.function for call in delta.tool_calls or ()]
        for function in (*functions, delta.function_call):
            if function is not None:
                self.meter.text(index, function.name or "")
                self.meter.text(index, function.arguments or "")


def _usage_event(head: dict[str, Any], usage: Usage, settled: Settled | None) -> bytes:
    figures = usage_object(usage, settled)
    return event(_encode(head | {"object": "chat.completion.chunk", "choices": [], "usage": figures}))


def _said(error: object) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return message[:_ERROR_MAX] if isinstance(message, str) and message else "no reason given"


class ChunkReader:
    """See `dialect.Reader`."""

    def __init__(self) -> None:
        self._begun = False
        self._slots: dict[tuple[int, int | str], int] = {}  # of a choice, by the provider's index or id of the call
        self._calls: dict[int, int] = {}  # how many a choice has

    def read(self, data: bytes) -> list[Piece]:
        if data == DONE:
            return [Finished()]
        try:
            chunk = _full_chunk.decode(data)
        except UNREADABLE as error:
            raise NotAnAnswer(f"it is not a chunk of a chat completion: {error}") from None
        if chunk.error is not None:
            return [Failed(_said(chunk.error))]
        pieces: list[Piece] = []
        if not self._begun and chunk.choices:
            self._begun = True
            pieces.append(Began(chunk.id or ""))
        for choice in chunk.choices or ():
            self._read_choice(choice, pieces)
        usage = read_usage(chunk.usage)
        if usage is not None:
            pieces.append(Counted(usage))
        return pieces

    def _read_choice(self, choice: _FullChoice, pieces: list[Piece]) -> None:
        index, delta = choice.index, choice.delta
        if delta is not None:
            thought = delta.reasoning_content or delta.reasoning
            if thought:
                pieces.append(ReasoningPiece(index, thought))
            logprobs = choice.logprobs.neutral() if choice.logprobs else None
            if delta.content or logprobs:
                pieces.append(TextPiece(index, delta.content or "", logprobs))
            if delta.refusal:
                pieces.append(RefusalPiece(index, delta.refusal))
            for call in delta.tool_calls or ():
                self._read_call(index, call, pieces)
        if choice.finish_reason:
            pieces.append(Ending(index, ended(choice.finish_reason, called=index in self._calls)))

    def _read_call(self, choice: int, call: _Call, pieces: list[Piece]) -> None:
        """Some providers give no index: then a new id begins a call, and whatever has none belongs to the last one."""
        count = self._calls.get(choice, 0)
        function = call.function or _Function()
        key: int | str = call.index if call.index is not None else call.id or ""
        slot = count - 1 if key == "" and count else self._slots.get((choice, key))
        if slot is None:
            if not function.name:
                raise NotAnAnswer("it calls a tool without naming it")
            slot = self._slots[choice, key] = count
            self._calls[choice] = count + 1
            pieces.append(ToolBegan(choice, slot, call.id or made_id(choice, slot), function.name))
        if function.arguments:
            pieces.append(ToolPiece(choice, slot, function.arguments))


class ChunkWriter:
    """See `dialect.Writer`. `function_call`: the one call of an answer is told as it was before `tool_calls`.

    A signature of a model's thoughts has no place in this dialect; neither has what is redacted.
    """

    def __init__(self, model: str, created: int, *, usage: bool, function_call: bool) -> None:
        self._usage = usage
        self._function_call = function_call
        self._head: dict[str, Any] = {"id": made_answer_id(created), "created": created, "model": model}
        self._start = b""  # of each chunk, as far as its choices
        self._told: set[int] = set()  # choices whose role was told
        self._endings: dict[int, Ending] = {}
        self._begin()

    def write(self, pieces: list[Piece]) -> bytes:
        return b"".join([self._write(piece) for piece in pieces])

    def end(self, usage: Usage, settled: Settled | None) -> bytes:
        out = [self._ending(ending) for ending in self._endings.values()]
        if self._usage:
            out.append(_usage_event(self._head, usage, settled))
        out.append(_DONE_EVENT)
        return b"".join(out)

    def error(self, error: TollhouseError) -> bytes:
        return event(error_body(error))

    def _begin(self) -> None:
        head = _encode({**self._head, "object": "chat.completion.chunk"})
        self._start = b"data: " + head[:-1] + b',"choices":[{"index":'

    def _write(self, piece: Piece) -> bytes:
        match piece:
            case TextPiece():
                return self._chunk(piece.choice, b'"content":' + _encode(piece.text), piece.logprobs)
            case ReasoningPiece():
                return self._chunk(piece.choice, b'"reasoning_content":' + _encode(piece.text)) if piece.text else b""
            case RefusalPiece():
                return self._chunk(piece.choice, b'"refusal":' + _encode(piece.text))
            case ToolBegan():
                call = {"name": piece.name, "arguments": ""}
                return self._call(piece.choice, piece.slot, call, {"id": piece.id, "type": "function"})
            case ToolPiece():
                return self._call(piece.choice, piece.slot, {"arguments": piece.arguments}, {})
            case Ending():
                self._endings[piece.choice] = piece
            case Began():
                if piece.id:
                    self._head["id"] = piece.id
                    self._begin()
        return b""

    def _call(self, choice: int, slot: int, function: dict[str, str], naming: dict[str, str]) -> bytes:
        if not self._function_call:
            call = {"index": slot, **naming, "function": function}
            return self._chunk(choice, b'"tool_calls":[' + _encode(call) + b"]")
        return self._chunk(choice, b'"function_call":' + _encode(function)) if slot == 0 else b""

    def _chunk(self, choice: int, delta: bytes, logprobs: dict[str, Any] | None = None) -> bytes:
        """One event; `delta` is the inside of the delta's object. The first of a choice tells its role too."""
        if choice not in self._told:
            self._told.add(choice)
            delta = b'"role":"assistant",' + delta
        said = _encode(logprobs) if logprobs is not None else b"null"
        middle = b'%d,"delta":{%b},"logprobs":%b,"finish_reason":null}]}\n\n'
        return self._start + middle % (choice, delta, said)

    def _ending(self, ending: Ending) -> bytes:
        reason = _encode(finish_reason(ending.ended, self._function_call))
        role = b"" if ending.choice in self._told else b'"role":"assistant"'
        return self._start + b'%d,"delta":{%b},"logprobs":null,"finish_reason":%b}]}\n\n' % (
            ending.choice,
            role,
            reason,
        )

"""A provider without network and without cost: for demonstrations, for trying out an integration, and for tests.

Answers in OpenAI's chat completion format. The text is a pure function of the model and the messages and begins with
``[sandbox]``; with a `response_format` it is a JSON document that satisfies the schema (`outside.sample`). Token counts
follow `core.token`. Directives in the last user message choose length, pace and faults: see `outside.script`. There is
no clock: ids and ``created`` are deterministic too.
"""

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tollhouse.core.token import count_messages, pieces, text_of
from tollhouse.outside import (
    Deadlines,
    Operation,
    Phase,
    ProviderFault,
    ProviderLacks,
    ProviderTimeout,
    ProviderUnreachable,
    ReplyBroken,
    ReplyTooLarge,
)
from tollhouse.outside.sample import Unsatisfiable, sample
from tollhouse.outside.script import Fault, Script, UnknownDirective, read_script
from tollhouse.outside.story import tell

CREATED: Final = 1_735_689_600
"""The moment that every answer of the sandbox names: the start of 2025, UTC."""

_JSON: Final = "application/json"
_ANY_OBJECT: Final = {"type": "object", "properties": {"text": {"type": "string"}}}
_encode = msgspec.json.encode


class _Invalid(Exception):
    """The request cannot be answered; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class _Ask:
    model: str
    messages: list[dict[str, Any]]
    question: str  # the text of the last user message
    max_tokens: int | None
    choices: int
    include_usage: bool
    script: Script
    schema: object  # of the JSON that is wanted; None: text


@dataclass(frozen=True, slots=True)
class _Choice:
    tokens: list[str]
    finish_reason: str


@dataclass(frozen=True, slots=True)
class _Answer:
    """What will be said, before it has the form of a body or a stream."""

    id: str
    model: str
    choices: tuple[_Choice, ...]
    usage: dict[str, Any]


# Seconds to wait, and what comes then: bytes, or the fault in which the answer ends.
_Step = tuple[float, bytes | ProviderFault]


class SandboxReply:
    """An answer of the sandbox, given at its own pace; see `outside.Reply`."""

    def __init__(self, status: int, content_type: str, steps: Iterator[_Step], deadlines: Deadlines) -> None:
        self.status = status
        self.content_type = content_type
        self.retry_after_s: float | None = None
        self._steps = steps
        self._deadlines = deadlines
        self._left_s = deadlines.total
        self._closed = False

    async def read(self, limit: int) -> bytes:
        body = bytearray()
        async for segment in self:
            body += segment
            if len(body) > limit:
                await self.close()
                raise ReplyTooLarge(limit)
        return bytes(body)

    def segments(self) -> AsyncIterator[bytes]:
        return self

    async def close(self) -> None:
        self._closed = True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        step = None if self._closed else next(self._steps, None)
        if step is None:
            raise StopAsyncIteration
        wait_s, what = step
        idle_s = self._deadlines.idle
        await _wait(wait_s, min(idle_s, self._left_s), "idle" if idle_s <= self._left_s else "total")
        self._left_s -= wait_s
        if isinstance(what, bytes):
            return what
        raise what


class Sandbox:
    """The sandbox as a provider; see `outside.Provider`.

    `token_delay_ms` is the pace of streams whose message does not set one; a plain call waits only when told to.
    """

    def __init__(self, *, token_delay_ms: float = 5.0, deadlines: Deadlines | None = None) -> None:
        self._token_delay_ms = token_delay_ms
        self._deadlines = deadlines or Deadlines()

    async def send(self, operation: Operation, model: str, body: bytes, *, stream: bool) -> SandboxReply:
        """`model` is not needed: the body names it."""
        if operation != "chat":
            raise ProviderLacks(operation)
        try:
            ask = _read_ask(body)
            fault = ask.script.fault
            if fault is not None and fault.kind == "refuse":
                raise ProviderUnreachable
            answer = _answer(ask)
        except _Invalid as problem:
            return self._reply(400, _JSON, _error(str(problem), "invalid_request_error", "sandbox_invalid_request"))
        wait_s = self._first_wait_s(ask, answer, stream)
        await _wait(wait_s, self._deadlines.first_byte, "first_byte")
        match fault:
            case Fault("status", status):
                message = f"The sandbox was told to answer with status {status}."
                return self._reply(status, _JSON, _error(message, "sandbox_error", "sandbox_fault"))
            case Fault("garbage"):
                return self._reply(200, "text/html", b"<html><body>The sandbox was told to send garbage.</body></html>")
        if stream:
            delay_ms = self._token_delay_ms if ask.script.delay_ms is None else ask.script.delay_ms
            steps = _stream_steps(answer, fault, delay_ms / 1000, include_usage=ask.include_usage)
            return SandboxReply(200, "text/event-stream", steps, self._deadlines)
        return SandboxReply(200, _JSON, _plain_steps(answer, fault), self._deadlines)

    async def check(self) -> None:
        """There is no connection that could fail."""

    async def close(self) -> None:
        """Nothing to end."""

    def _first_wait_s(self, ask: _Ask, answer: _Answer, stream: bool) -> float:
        if ask.script.fault is not None and ask.script.fault.kind == "hang":
            return math.inf
        tokens = 0 if stream else answer.usage["completion_tokens"]
        return (ask.script.first_ms + tokens * (ask.script.delay_ms or 0)) / 1000

    def _reply(self, status: int, content_type: str, body: bytes) -> SandboxReply:
        return SandboxReply(status, content_type, iter([(0.0, body)]), self._deadlines)


async def _wait(wait_s: float, deadline_s: float, phase: Phase) -> None:
    if wait_s > deadline_s:
        await asyncio.sleep(deadline_s)
        raise ProviderTimeout(phase)
    if wait_s > 0:
        await asyncio.sleep(wait_s)


def _read_ask(body: bytes) -> _Ask:
    try:
        request = msgspec.json.decode(body)
    except msgspec.DecodeError as problem:
        raise _Invalid(f"The body is not JSON: {problem}.") from None
    if not isinstance(request, dict) or not isinstance(model := request.get("model"), str):
        raise _Invalid("`model` is missing; name one as a string.")
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise _Invalid("`messages` must be a list of at least one message.")
    options = request.get("stream_options")
    asked = (message.get("content") for message in reversed(messages) if message.get("role") == "user")
    question = text_of(next(asked, None))
    try:
        script = read_script(question)
    except UnknownDirective as problem:
        raise _Invalid(f"{problem}.") from None
    return _Ask(
        model=model,
        messages=messages,
        question=question,
        max_tokens=_positive(request, "max_completion_tokens") or _positive(request, "max_tokens"),
        choices=min(_positive(request, "n") or 1, 128),
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        script=script,
        schema=_wanted_schema(request.get("response_format")),
    )


def _wanted_schema(form: object) -> object:
    match form:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return _ANY_OBJECT
        case {"type": "json_schema", "json_schema": {"name": str(), "schema": dict() as schema}}:
            return schema
    raise _Invalid("`response_format` must be of type text, json_object, or json_schema with a name and a schema.")


def _positive(request: dict[str, Any], name: str) -> int | None:
    match request.get(name):
        case None:
            return None
        case int(number) if number >= 1 and number is not True:
            return number
    raise _Invalid(f"`{name}` must be a whole number of at least 1.")


def _answer(ask: _Ask) -> _Answer:
    digest = hashlib.blake2b(_encode([ask.model, ask.messages], order="deterministic"), digest_size=16)
    choices = tuple(_choice(ask, digest.digest(), index) for index in range(ask.choices))
    prompt, completion = count_messages(ask.messages), sum(len(choice.tokens) for choice in choices)
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
    return _Answer(f"chatcmpl-sandbox-{digest.hexdigest()}", ask.model, choices, usage)


def _choice(ask: _Ask, seed: bytes, index: int) -> _Choice:
    tokens = _said(ask, seed[index % 8 :])
    if ask.max_tokens is not None and len(tokens) > ask.max_tokens:
        return _Choice(tokens[: ask.max_tokens], "length")
    return _Choice(tokens, "stop")


def _said(ask: _Ask, seed: bytes) -> list[str]:
    if ask.schema is None:
        return tell(seed, ask.question, ask.script.tokens)
    try:
        document = sample(ask.schema, seed)
    except Unsatisfiable as problem:
        raise _Invalid(f"The schema in `response_format` has no sample: {problem}.") from None
    return pieces(_encode(document).decode())[: ask.script.tokens]


def _plain_steps(answer: _Answer, fault: Fault | None) -> Iterator[_Step]:
    body: dict[str, Any] = _head(answer, "chat.completion") | {
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": "".join(choice.tokens), "refusal": None},
                "logprobs": None,
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(answer.choices)
        ],
    }
    if fault is None or fault.kind != "nousage":
        body["usage"] = answer.usage
    wire = _encode(body)
    match fault:
        case Fault("error"):
            yield 0.0, _in_band_error()
        case Fault("cut" | "stall"):
            yield 0.0, wire[: len(wire) // 2]
            yield _ending(fault)
        case _:
            yield 0.0, wire


def _stream_steps(answer: _Answer, fault: Fault | None, delay_s: float, *, include_usage: bool) -> Iterator[_Step]:
    head = _head(answer, "chat.completion.chunk")
    if include_usage:
        head["usage"] = None  # as OpenAI does: null in every chunk but the last

    def chunk(index: int, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event(head | {"choices": [choice]})

    left = fault.number if fault is not None and fault.kind in ("cut", "error", "stall") else None
    for index, choice in enumerate(answer.choices):
        yield 0.0, chunk(index, {"role": "assistant", "content": ""})
        for token in choice.tokens:
            if left == 0:
                break
            left = None if left is None else left - 1
            yield delay_s, chunk(index, {"content": token})
        if left is None:
            yield 0.0, chunk(index, {}, choice.finish_reason)
    if fault is not None and left is not None:
        yield _ending(fault)
        return
    if include_usage and (fault is None or fault.kind != "nousage"):
        yield 0.0, _event(head | {"choices": [], "usage": answer.usage})
    yield 0.0, b"data: [DONE]\n\n"


def _ending(fault: Fault) -> _Step:
    match fault.kind:
        case "error":
            return 0.0, b"data: " + _in_band_error() + b"\n\n"
        case "stall":
            return math.inf, b""
        case _:
            return 0.0, ReplyBroken()


def _head(answer: _Answer, kind: str) -> dict[str, Any]:
    return {
        "id": answer.id,
        "object": kind,
        "created": CREATED,
        "model": answer.model,
        "system_fingerprint": "sandbox",
    }


def _event(payload: object) -> bytes:
    return b"data: " + _encode(payload) + b"\n\n"


def _in_band_error() -> bytes:
    return _error("The sandbox was told to fail inside its answer.", "server_error", "sandbox_fault")


def _error(message: str, kind: str, code: str) -> bytes:
    return _encode({"error": {"message": message, "type": kind, "param": None, "code": code}})

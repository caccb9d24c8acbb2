"""A provider without network and without cost: for demonstrations, for trying out an integration, and for tests.

Answers in OpenAI's formats of chat completions and embeddings (`outside.vectors`). The text is a pure function of the
model and the messages and begins with ``[sandbox]``; with a `response_format` it is a JSON document that satisfies the
schema (`outside.sample`). Token counts follow `core.token`. Directives in the last user message, or in the last text to
embed, choose length, pace and faults: see `outside.script`. There is no clock: ids and ``created`` are deterministic
too.
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
    vectors,
)
from tollhouse.outside.said import Said
from tollhouse.outside.sample import Unsatisfiable, sample
from tollhouse.outside.script import Fault, Script, UnknownDirective, read_script
from tollhouse.outside.story import tell
from tollhouse.outside.toolcall import ToolCall, Uncallable, make_calls
from tollhouse.outside.vectors import Unfit

CREATED: Final = 1_735_689_600
"""The moment that every answer of the sandbox names: the start of 2025, UTC."""

_JSON: Final = "application/json"
_ABOUT_TOOLS: Final = ("tools", "tool_choice", "parallel_tool_calls")
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
    tools: dict[str, Any]  # what of the request is about them


@dataclass(frozen=True, slots=True)
class _Answer:
    """What will be said, before it has the form of a body or a stream."""

    id: str
    model: str
    choices: tuple[Said, ...]
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
        if operation == "count_tokens":
            raise ProviderLacks(operation)
        try:
            if operation == "embeddings":
                return await self._embed(body)
            return await self._chat(body, stream=stream)
        except (_Invalid, Unfit) as problem:
            return self._reply(400, _JSON, _error(str(problem), "invalid_request_error", "sandbox_invalid_request"))

    async def _chat(self, body: bytes, *, stream: bool) -> SandboxReply:
        ask = _read_ask(body)
        script = ask.script
        _check_reachable(script)
        answer = _answer(ask)
        failed = await self._begin(script, 0 if stream else answer.usage["completion_tokens"])
        if failed is not None:
            return failed
        if stream:
            delay_ms = self._token_delay_ms if script.delay_ms is None else script.delay_ms
            steps = _stream_steps(answer, script.fault, delay_ms / 1000, include_usage=ask.include_usage)
            return SandboxReply(200, "text/event-stream", steps, self._deadlines)
        steps = _plain_steps(_plain(answer), answer.usage, script.fault)
        return SandboxReply(200, _JSON, steps, self._deadlines)

    async def _embed(self, body: bytes) -> SandboxReply:
        request, model = _read_request(body)
        wanted = vectors.read(request, model)
        script = _script(wanted.question)
        _check_reachable(script)
        failed = await self._begin(script, 0)
        if failed is not None:
            return failed
        usage = {"prompt_tokens": wanted.tokens, "total_tokens": wanted.tokens}
        return SandboxReply(200, _JSON, _plain_steps(vectors.answer(wanted), usage, script.fault), self._deadlines)

    async def check(self) -> None:
        """There is no connection that could fail."""

    async def close(self) -> None:
        """Nothing to end."""

    async def _begin(self, script: Script, tokens: int) -> SandboxReply | None:
        """Waits as the script says, for so many tokens too; the answer that it wants in place of ours."""
        wait_s = (script.first_ms + tokens * (script.delay_ms or 0)) / 1000
        fault = script.fault
        hangs = fault is not None and fault.kind == "hang"
        await _wait(math.inf if hangs else wait_s, self._deadlines.first_byte, "first_byte")
        match fault:
            case Fault("status", status):
                message = f"The sandbox was told to answer with status {status}."
                return self._reply(status, _JSON, _error(message, "sandbox_error", "sandbox_fault"))
            case Fault("garbage"):
                return self._reply(200, "text/html", b"<html><body>The sandbox was told to send garbage.</body></html>")
        return None

    def _reply(self, status: int, content_type: str, body: bytes) -> SandboxReply:
        return SandboxReply(status, content_type, iter([(0.0, body)]), self._deadlines)


async def _wait(wait_s: float, deadline_s: float, phase: Phase) -> None:
    if wait_s > deadline_s:
        await asyncio.sleep(deadline_s)
        raise ProviderTimeout(phase)
    if wait_s > 0:
        await asyncio.sleep(wait_s)


def _check_reachable(script: Script) -> None:
    if script.fault is not None and script.fault.kind == "refuse":
        raise ProviderUnreachable


def _read_request(body: bytes) -> tuple[dict[str, Any], str]:
    """The body and the model it names."""
    try:
        request = msgspec.json.decode(body)
    except msgspec.DecodeError as problem:
        raise _Invalid(f"The body is not JSON: {problem}.") from None
    if not isinstance(request, dict) or not isinstance(model := request.get("model"), str):
        raise _Invalid("`model` is missing; name one as a string.")
    return request, model


def _script(question: str) -> Script:
    try:
        return read_script(question)
    except UnknownDirective as problem:
        raise _Invalid(f"{problem}.") from None


def _read_ask(body: bytes) -> _Ask:
    request, model = _read_request(body)
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise _Invalid("`messages` must be a list of at least one message.")
    options = request.get("stream_options")
    asked = (message.get("content") for message in reversed(messages) if message.get("role") == "user")
    question = text_of(next(asked, None))
    return _Ask(
        model=model,
        messages=messages,
        question=question,
        max_tokens=_positive(request, "max_completion_tokens") or _positive(request, "max_tokens"),
        choices=min(_positive(request, "n") or 1, 128),
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        script=_script(question),
        schema=_wanted_schema(request.get("response_format")),
        tools={name: request.get(name) for name in _ABOUT_TOOLS},
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
    prompt, completion = count_messages(ask.messages), sum(choice.tokens for choice in choices)
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
    return _Answer(f"chatcmpl-sandbox-{digest.hexdigest()}", ask.model, choices, usage)


def _choice(ask: _Ask, seed: bytes, index: int) -> Said:
    calls = _calls(ask, seed[index % 8 :])
    said = Said([], "tool_calls", calls) if calls else Said(_said(ask, seed[index % 8 :]), "stop")
    return said if ask.max_tokens is None else said.at_most(ask.max_tokens)


def _calls(ask: _Ask, seed: bytes) -> tuple[ToolCall, ...]:
    """Once the results of calls are there, the message that told to make them tells no longer."""
    answered = ask.messages[-1].get("role") == "tool"
    try:
        return make_calls(ask.tools, 0 if answered else ask.script.tools, seed)
    except Uncallable as problem:
        raise _Invalid(f"{problem}.") from None


def _said(ask: _Ask, seed: bytes) -> list[str]:
    if ask.schema is None:
        return tell(seed, ask.question, ask.script.tokens)
    try:
        document = sample(ask.schema, seed)
    except Unsatisfiable as problem:
        raise _Invalid(f"The schema in `response_format` has no sample: {problem}.") from None
    return pieces(_encode(document).decode())[: ask.script.tokens]


def _plain(answer: _Answer) -> dict[str, Any]:
    return _head(answer, "chat.completion") | {
        "choices": [
            {
                "index": index,
                "message": choice.message(),
                "logprobs": None,
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(answer.choices)
        ],
    }


def _plain_steps(body: dict[str, Any], usage: dict[str, Any], fault: Fault | None) -> Iterator[_Step]:
    if fault is None or fault.kind != "nousage":
        body["usage"] = usage
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

    def chunk(index: int, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event(head | {"choices": [choice]})

    left = fault.number if fault is not None and fault.kind in ("cut", "error", "stall") else None
    for index, choice in enumerate(answer.choices):
        for tokens, delta in choice.deltas():
            if left is not None and left < tokens:
                left = 0
                break
            left = None if left is None else left - tokens
            yield delay_s * tokens, chunk(index, delta)
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

"""The calls that the load clients send: the bytes of each kind, what its answer must be, and a connection that asks."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import httptools

from bench.provider import CHUNKS, FIRST_WORD

QUESTION = "How do I plan a week of meals for a family of four?"
MAX_TOKENS = 100
_SYSTEM = {"role": "system", "content": "Be brief."}
_OPENAI: dict[str, Any] = {"messages": [_SYSTEM, {"role": "user", "content": QUESTION}]}
_ANTHROPIC: dict[str, Any] = {"system": "Be brief.", "messages": [{"role": "user", "content": QUESTION}]}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of call. A whole answer holds `usage` somewhere and `piece` at least `pieces` times, and ends in
    `end`."""

    path: str
    body: dict[str, Any]
    usage: bytes
    piece: bytes = b""
    pieces: int = 0
    end: bytes = b""

    def request(self, key: str, model: str) -> bytes:
        """The request that is sent again and again."""
        body = {"model": model, "max_tokens": MAX_TOKENS} | self.body
        wire = json.dumps(body, separators=(",", ":")).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(wire)}\r\n\r\n"
        )
        return head.encode() + wire

    def problem_of(self, status: int, body: bytes) -> str | None:
        """Why an answer does not count, or None."""
        if status != 200:
            return f"status {status}: {body[:200].decode(errors='replace')}"
        if FIRST_WORD not in body:
            return "no text"
        if self.usage not in body:
            return "no usage"
        if self.pieces and body.count(self.piece) < self.pieces:
            return f"{body.count(self.piece)} events instead of {self.pieces}"
        if not body.endswith(self.end):
            return "no end"
        return None


_STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
KINDS = {
    "plain": Kind("/v1/chat/completions", _OPENAI, b'"prompt_tokens"'),
    "stream": Kind(
        "/v1/chat/completions", _OPENAI | _STREAMED, b'"prompt_tokens"', b"data: ", CHUNKS + 2, b"data: [DONE]\n\n"
    ),
    # Asked in Anthropic's dialect, answered by a provider of OpenAI's. Only Tollhouse has `credits` in its usage.
    "translated-plain": Kind("/v1/messages", _ANTHROPIC, b'"credits"'),
    "translated-stream": Kind(
        "/v1/messages", _ANTHROPIC | {"stream": True}, b'"credits"', b"event: content_block_delta\n", CHUNKS, _STOP
    ),
}


class Connection(asyncio.Protocol):
    """Sends a request when told to, and reports the answer or the end of the connection to `done`, the first word of
    the answer to `began`. Moments are of `time.perf_counter`; `first_token` is 0 until there is one."""

    def __init__(
        self,
        done: Callable[["Connection", int, bytes], None],
        began: Callable[[], None] | None = None,
    ) -> None:
        self._done = done
        self._began = began
        self._body: list[bytes] = []
        self.due = 0.0
        self.first_token = 0.0
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._parser = httptools.HttpResponseParser(self)

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.first_token = 0.0
        self.busy = True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        self._body.append(part)
        if not self.first_token and FIRST_WORD in b"".join(self._body):
            self.first_token = time.perf_counter()
            if self._began is not None:
                self._began()

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        self._body.clear()
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.transport.close()
        self._parser = httptools.HttpResponseParser(self)
        self.busy = False
        self._done(self, status, body)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy:
            self.busy = False
            self._done(self, 0, b"connection lost")

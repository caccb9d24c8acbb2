"""A fast provider for measuring: fixed answers in OpenAI's format, one process, hardly any work per call.

``python -m bench.provider --port N``. A plain answer has about 1 KB with usage; a stream has 50 content chunks, a usage
chunk when the request asks for one, and ``[DONE]``, one write every 2 ms or every ``--gap-ms``.
"""

import argparse
import asyncio
import json
import re
from typing import cast

import httptools
import uvloop

CHUNKS = 50
GAP_MS = 2.0
FIRST_WORD = b"word00"
USAGE = {"prompt_tokens": 21, "completion_tokens": CHUNKS, "total_tokens": 21 + CHUNKS}
_HEAD = {"id": "chatcmpl-bench", "created": 1_735_689_600, "model": "gpt-4o-mini", "system_fingerprint": "fp_bench"}
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_INCLUDE_USAGE = re.compile(rb'"include_usage"\s*:\s*true')


def _plain() -> bytes:
    text = " ".join(f"word{number:02d}" for number in range(CHUNKS * 2))
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    body = json.dumps(_HEAD | {"object": "chat.completion", "choices": [choice], "usage": USAGE}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _chunk(payload: object) -> bytes:
    data = b"data: " + (payload if isinstance(payload, bytes) else json.dumps(payload).encode()) + b"\n\n"
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _content(number: int) -> bytes:
    delta = {"role": "assistant", "content": ""} if number == 0 else {}
    delta |= {"content": f" word{number:02d}"}
    reason = "stop" if number == CHUNKS - 1 else None
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return _chunk(_HEAD | {"object": "chat.completion.chunk", "choices": [choice]})


PLAIN = _plain()
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CONTENT = [_content(number) for number in range(CHUNKS)]
USAGE_CHUNK = _chunk(_HEAD | {"object": "chat.completion.chunk", "choices": [], "usage": USAGE})
DONE = _chunk(b"[DONE]") + b"0\r\n\r\n"
SCRIPTS = {
    False: [STREAM_HEAD + CONTENT[0], *CONTENT[1:], DONE],
    True: [STREAM_HEAD + CONTENT[0], *CONTENT[1:], USAGE_CHUNK, DONE],
}


class Connection(asyncio.Protocol):
    """One connection; the next request is answered when the last answer is written."""

    def __init__(self, loop: asyncio.AbstractEventLoop, gap_s: float) -> None:
        self._loop = loop
        self._gap_s = gap_s
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        self._body.clear()
        if _STREAM.search(body):
            self._send(SCRIPTS[_INCLUDE_USAGE.search(body) is not None], 0, self._loop.time())
        else:
            self._transport.write(PLAIN)

    def _send(self, script: list[bytes], number: int, due: float) -> None:
        self._transport.write(script[number])
        if number + 1 < len(script):
            due += self._gap_s
            self._timer = self._loop.call_at(due, self._send, script, number + 1, due)


async def _serve(port: int, gap_s: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(loop, gap_s), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--gap-ms", type=float, default=GAP_MS, help="between two chunks of a stream (default 2)")
    options = parser.parse_args()
    uvloop.run(_serve(options.port, options.gap_ms / 1000))

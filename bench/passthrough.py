"""The yardstick: a gateway without books, from the same server and client libraries.

It does what any gateway must: reads the body, knows the model and whether a stream is asked for, forwards, and hands
back what comes.

``python -m bench.passthrough --port N --upstream http://127.0.0.1:M/v1``.
"""

import argparse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import msgspec
import uvicorn

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Request(msgspec.Struct):
    """What a pass-through has to know of a body; the messages stay bytes."""

    model: str
    messages: msgspec.Raw
    stream: bool = False


class Passthrough:
    """The ASGI application."""

    def __init__(self, upstream: str) -> None:
        self._url = f"{upstream}/chat/completions"
        self._decoder = msgspec.json.Decoder(Request)
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        parts = []
        more = True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"".join(parts)
        request = self._decoder.decode(body)
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self._url, data=body, headers=headers) as reply:
            content_type = reply.headers["content-type"].encode()
            start = {
                "type": "http.response.start",
                "status": reply.status,
                "headers": [(b"content-type", content_type)],
            }
            if not request.stream:
                answer = await reply.read()
                start["headers"] = [(b"content-type", content_type), (b"content-length", b"%d" % len(answer))]
                await send(start)
                await send({"type": "http.response.body", "body": answer})
                return
            await send(start)
            async for segment in reply.content.iter_any():
                await send({"type": "http.response.body", "body": segment, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    options = parser.parse_args()
    uvicorn.run(
        Passthrough(options.upstream),
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )

"""Answers of providers, written by hand byte by byte: whole ones, broken ones, and such as nobody should send."""

from __future__ import annotations

import json
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
ROLE = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
STOP = {"index": 0, "delta": {}, "finish_reason": "stop"}
DONE = b"data: [DONE]\n\n"


def piece(*choices: Any, **more: Any) -> bytes:
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def word(text: str, index: int = 0) -> bytes:
    return piece({"index": index, "delta": {"content": text}, "finish_reason": None})


def usage(tokens_in: Any, tokens_out: Any, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": 0, **more}


def stream_of(*parts: bytes) -> bytes:
    return HEAD + b"Content-Type: text/event-stream\r\n\r\n" + b"".join(parts)


def answer_of(body: Any) -> bytes:
    wire = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HEAD + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(wire) + wire


def completion(**more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello there"}, "finish_reason": "stop"}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more}


WORDS = (piece(ROLE), word("a"), word("b"), word("c"))
TRUE = piece(usage=usage(11, 3))
NONSENSE: list[Any] = [
    usage(-1, 3), usage(11, -3), usage("11", 3), usage(11, "3"), usage(10**18, 3), usage(11, 10**18), usage(11, 10**30),
    usage(11.0, 3), usage(11, 3.5), usage(True, 3), usage(11, None), {}, [], "many", 17, True,
    {"completion_tokens": 3}, {"prompt_tokens": 11},
]  # fmt: skip

ENDINGS: dict[str, tuple[bytes, ...]] = {
    "as it should": (piece(STOP), TRUE, DONE),
    "usage and the end in one chunk": (piece(STOP, usage=usage(11, 3)), DONE),
    "usage in every chunk, the last one counts": (piece(STOP, usage=usage(11, 1)), piece(usage=usage(11, 3)), DONE),
    "usage again, made of nothing, after the true one": (piece(STOP), TRUE, piece(usage={}), DONE),
    "data after the end": (piece(STOP), TRUE, DONE, word("d"), piece(usage=usage(999, 999))),
    "errors after the end": (piece(STOP), TRUE, DONE, b'data: {"error":{"message":"late"}}\n\n', b"data: garbage\n\n"),
    "two ends": (piece(STOP), TRUE, DONE, DONE),
    "an end without [DONE]": (piece(STOP), TRUE),
    "[DONE] without an end": (TRUE, DONE),
    "comments and other fields": (b": ping\n\nevent: x\nid: 1\nretry: 5\n\n", piece(STOP), b":\n\n", TRUE, DONE),
    "line ends of all kinds": ((piece(STOP) + TRUE + DONE).replace(b"\n", b"\r\n"),),
    "an end of HTTP without the last line end": (piece(STOP), TRUE, DONE.rstrip(b"\n")),
}

BREAKS: dict[str, bytes] = {
    "an end in the middle": b"",
    "an end inside an event": b'data: {"choices":[{"ind',
    "something that is not JSON": b"data: <html>\n\n",
    "JSON that is no chunk": b"data: 17\n\n",
    "choices of the wrong kind": b'data: {"choices":7}\n\n',
    "bytes that are not UTF-8": b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n',
    "a chunk nested too deeply": b'data: {"choices":[],"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}\n\n",
    "an event that is too long": b"data: " + b"x" * ((1 << 20) + 1),
    "an error in a chunk": b'data: {"error":{"message":"overloaded","code":500}}\n\n',
    "an error that is a text": b'data: {"error":"overloaded"}\n\n',
}

FIRSTS: dict[str, bytes] = BREAKS | {
    "bytes that are not UTF-8 in a field that nobody reads": b'data: {"id":"c","x":"\xff","choices":[]}\n\n',
    "a number that is none in a field that nobody reads": b'data: {"id":"c","x":1e999,"choices":[]}\n\n',
}

PLAINS: dict[str, bytes] = {
    "nothing": answer_of(b""),
    "a number": answer_of(b"17"),
    "a list": answer_of(b"[]"),
    "no choices": answer_of({"id": "c1"}),
    "choices of the wrong kind": answer_of({"choices": "none"}),
    "not UTF-8": answer_of(b'{"choices":["\xff"]}'),
    "nested too deeply": answer_of(b'{"choices":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    "half of what was announced": HEAD + b"Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{",
    "an error with status 200": answer_of({"error": {"message": "overloaded"}}),
    "no HTTP": b"220 mail.example.org ESMTP\r\n",
    "headers without end": HEAD + b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n",
    "a length that is none": HEAD + b"Content-Length: -5\r\n\r\n{}",
}

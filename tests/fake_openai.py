"""The fake provider as OpenAI: chat completions and embeddings. Keys are taken as bearer tokens, and none is needed."""

import base64
import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from tests.fake_vendor import Asked, Call, Event, Said, Use, count_words, data

VECTOR = (0.5, -0.25, 0.125)


class OpenAI:
    """See `Vendor`."""

    name = "openai"

    def key(self, headers: Mapping[str, str]) -> str | None:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return key if scheme == "Bearer" and key else None

    def wants_key(self) -> bool:
        return False

    def asked(self, call: Call) -> Asked:
        body = call.body
        if "messages" not in body:
            return Asked(json.dumps(body["input"]), count_words(*_texts(body["input"])))
        tools = tuple(tool["function"]["name"] for tool in body.get("tools") or ())
        form = body.get("response_format") or {}
        return Asked(
            text=_last_user_text(body["messages"]),
            input_tokens=count_words(*body["messages"]),
            most=body.get("max_completion_tokens", body.get("max_tokens")),
            stream=bool(body.get("stream")),
            tools=tools,
            schema=form.get("json_schema", {}).get("schema"),
        )

    def whole(self, call: Call, said: Said) -> dict[str, Any]:
        if "messages" not in call.body:
            return _embeddings(call)
        message: dict[str, Any] = {"role": "assistant", "content": "".join(said.words) or None}
        if said.thoughts:
            message["reasoning_content"] = "".join(said.thoughts)
        if said.uses:
            message["tool_calls"] = [_call(use, json.dumps(use.arguments)) for use in said.uses]
        choice = {"index": 0, "message": message, "finish_reason": said.ended}
        body = _head(call, "chat.completion") | {"choices": [choice]}
        return body | {"usage": usage_of(call)} if said.tells_usage else body

    def events(self, call: Call, said: Said) -> Iterator[Event]:
        head = _head(call, "chat.completion.chunk")

        def piece(delta: dict[str, Any], reason: str | None = None) -> bytes:
            return data(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

        yield Event(piece({"role": "assistant", "content": ""}))
        for thought in said.thoughts:
            yield Event(piece({"reasoning_content": thought}), 1)
        for word in said.words:
            yield Event(piece({"content": word}), 1)
        for index, use in enumerate(said.uses):
            yield Event(piece({"tool_calls": [{"index": index} | _call(use, "")]}), 1)
            for part in use.pieces:
                yield Event(piece({"tool_calls": [{"index": index, "function": {"arguments": part}}]}), 1)
        yield Event(piece({}, said.ended), closing=True)
        if said.tells_usage and (call.body.get("stream_options") or {}).get("include_usage"):
            yield Event(data(head | {"choices": [], "usage": usage_of(call)}), closing=True)
        yield Event(b"data: [DONE]\n\n", closing=True)

    def failed(self) -> bytes:
        return b"data: " + self.error(500) + b"\n\n"

    def error(self, status: int) -> bytes:
        error = {"message": "told to fail", "type": "server_error", "param": None, "code": f"fake_{status}"}
        return json.dumps({"error": error}).encode()

    def models(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "fake"}]}


def usage_of(call: Call) -> dict[str, Any]:
    total = call.input_tokens + call.output_tokens
    usage: dict[str, Any] = {"prompt_tokens": call.input_tokens, "completion_tokens": call.output_tokens}
    usage["total_tokens"] = total
    if call.cached_tokens:
        usage["prompt_tokens_details"] = {"cached_tokens": call.cached_tokens}
    if call.thought_tokens:
        usage["completion_tokens_details"] = {"reasoning_tokens": call.thought_tokens}
    return usage


def _head(call: Call, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-fake", "object": kind, "created": 1, "model": call.body["model"]}


def _call(use: Use, arguments: str) -> dict[str, Any]:
    return {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": arguments}}


def _embeddings(call: Call) -> dict[str, Any]:
    packed = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
    vector = packed if call.body.get("encoding_format") == "base64" else list(VECTOR)
    texts = _texts(call.body["input"])
    rows = [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(texts))]
    usage = {"prompt_tokens": call.input_tokens, "total_tokens": call.input_tokens}
    return {"object": "list", "data": rows, "model": call.body["model"], "usage": usage}


def _texts(given: str | list[Any]) -> list[Any]:
    return [given] if isinstance(given, str) else given


def _last_user_text(messages: list[dict[str, Any]]) -> str:
    for message in reversed(messages):
        if message["role"] == "user":
            content = message["content"]
            return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
    return ""

"""The fake provider as Anthropic: messages and the counting of tokens. Nothing goes without an `x-api-key`."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.fake_vendor import SIGNATURE, Asked, Call, Event, Said, Use, count_words, data

_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_ERRORS = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}


class Anthropic:
    """See `Vendor`. An event has its name before its data."""

    name = "anthropic"

    def key(self, headers: Mapping[str, str]) -> str | None:
        return headers.get("x-api-key") if headers.get("anthropic-version") else None

    def wants_key(self) -> bool:
        return True

    def asked(self, call: Call) -> Asked:
        body = call.body
        system = [body["system"]] if "system" in body else []
        form = (body.get("output_config") or {}).get("format") or {}
        return Asked(
            text=_last_user_text(body["messages"]),
            input_tokens=count_words(*system, *body["messages"]),
            most=body.get("max_tokens"),
            stream=bool(body.get("stream")),
            tools=tuple(tool["name"] for tool in body.get("tools") or ()),
            schema=form.get("schema"),
        )

    def whole(self, call: Call, said: Said) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        if said.thoughts:
            content.append({"type": "thinking", "thinking": "".join(said.thoughts), "signature": SIGNATURE})
        if said.words:
            content.append({"type": "text", "text": "".join(said.words)})
        content += [_use(use) | {"input": use.arguments} for use in said.uses]
        body = _message(call) | {"content": content, "stop_reason": _STOPS[said.ended]}
        return body | {"usage": usage_of(call, call.output_tokens)} if said.tells_usage else body

    def events(self, call: Call, said: Said) -> Iterator[Event]:
        message = _message(call) | ({"usage": usage_of(call, 1)} if said.tells_usage else {})
        yield _event("message_start", message=message)
        yield _event("ping")
        index = 0
        if said.thoughts:
            deltas = [("thinking_delta", "thinking", one) for one in said.thoughts]
            yield from _block(index, {"type": "thinking", "thinking": "", "signature": ""}, deltas, SIGNATURE)
            index += 1
        if said.words or not said.uses:
            deltas = [("text_delta", "text", one) for one in said.words]
            yield from _block(index, {"type": "text", "text": ""}, deltas)
            index += 1
        for use in said.uses:
            deltas = [("input_json_delta", "partial_json", one) for one in use.pieces]
            yield from _block(index, _use(use) | {"input": {}}, deltas, begins=1)
            index += 1
        ended: dict[str, Any] = {"delta": {"stop_reason": _STOPS[said.ended], "stop_sequence": None}}
        if said.tells_usage:
            ended["usage"] = {"output_tokens": call.output_tokens} | _thoughts(call)
        yield _event("message_delta", closing=True, **ended)
        yield _event("message_stop", closing=True)

    def failed(self) -> bytes:
        return data(json.loads(self.error(529)), "error")

    def error(self, status: int) -> bytes:
        error = {"type": _ERRORS.get(status, "api_error"), "message": "told to fail"}
        return json.dumps({"type": "error", "error": error, "request_id": "req_fake"}).encode()

    def models(self) -> dict[str, Any]:
        model = {"type": "model", "id": "m", "display_name": "M", "created_at": "2025-01-01T00:00:00Z"}
        return {"data": [model], "has_more": False, "first_id": "m", "last_id": "m"}


def usage_of(call: Call, output_tokens: int) -> dict[str, Any]:
    """What came from the cache and what went into it is no input here."""
    return {
        "input_tokens": call.input_tokens - call.cached_tokens - call.written_tokens,
        "cache_creation_input_tokens": call.written_tokens,
        "cache_read_input_tokens": call.cached_tokens,
        "output_tokens": output_tokens,
    } | _thoughts(call)


def _thoughts(call: Call) -> dict[str, Any]:
    return {"output_tokens_details": {"thinking_tokens": call.thought_tokens}} if call.thought_tokens else {}


def _message(call: Call) -> dict[str, Any]:
    told: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
    return {"id": "msg_fake", "type": "message", "role": "assistant", "model": call.body["model"], **told}


def _use(use: Use) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{use.id}", "name": use.name}


def _event(name: str, tokens: int = 0, *, closing: bool = False, **fields: Any) -> Event:
    return Event(data({"type": name, **fields}, name), tokens, closing)


def _block(
    index: int,
    block: dict[str, Any],
    deltas: list[tuple[str, str, str]],
    signature: str | None = None,
    *,
    begins: int = 0,
) -> Iterator[Event]:
    """A content block with its deltas, each a type, a field and what stands there. `begins`: tokens of its head."""
    yield _event("content_block_start", begins, index=index, content_block=block)
    for kind, name, said in deltas:
        yield _event("content_block_delta", 1, index=index, delta={"type": kind, name: said})
    if signature is not None:
        delta = {"type": "signature_delta", "signature": signature}
        yield _event("content_block_delta", index=index, delta=delta)
    yield _event("content_block_stop", index=index)


def _last_user_text(messages: list[dict[str, Any]]) -> str:
    for message in reversed(messages):
        content = message["content"]
        if message["role"] != "user":
            continue
        if isinstance(content, str):
            return content
        texts = [block["text"] for block in content if block["type"] == "text"]
        if texts:
            return " ".join(texts)
    return ""

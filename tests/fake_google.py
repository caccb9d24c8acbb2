"""The fake provider as Google: generateContent, in one piece and as a stream. Nothing goes without an `x-goog-api-key`.

Its function calls have no ids, as those of Gemini's own API have none, and a stream ends without a mark of its own.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.fake_vendor import CALL_TOKENS, SIGNATURE, Asked, Call, Event, Said, Use, count_words, data

_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}
_STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}


class Google:
    """See `Vendor`."""

    name = "google"

    def key(self, headers: Mapping[str, str]) -> str | None:
        return headers.get("x-goog-api-key")

    def wants_key(self) -> bool:
        return True

    def asked(self, call: Call) -> Asked:
        body = call.body
        system = [body["systemInstruction"]] if "systemInstruction" in body else []
        config = body.get("generationConfig") or {}
        declared = [one for tool in body.get("tools") or () for one in tool["functionDeclarations"]]
        return Asked(
            text=_last_user_text(body["contents"]),
            input_tokens=count_words(*system, *body["contents"]),
            most=config.get("maxOutputTokens"),
            stream=":streamGenerateContent" in call.path,
            tools=tuple(one["name"] for one in declared),
            schema=config.get("responseJsonSchema"),
        )

    def whole(self, call: Call, said: Said) -> dict[str, Any]:
        parts: list[dict[str, Any]] = []
        if said.thoughts:
            parts.append({"text": "".join(said.thoughts), "thought": True})
        if said.words:
            parts.append({"text": "".join(said.words)})
        parts += [_call(use) for use in said.uses]
        return _answer(call, parts, _REASONS[said.ended], call.output_tokens if said.tells_usage else None)

    def events(self, call: Call, said: Said) -> Iterator[Event]:
        def event(parts: list[dict[str, Any]], tokens: int = 0, reason: str | None = None) -> Event:
            told = call.output_tokens + tokens if said.tells_usage else None
            return Event(data(_answer(call, parts, reason, told)), tokens, reason is not None)

        for thought in said.thoughts:
            yield event([{"text": thought, "thought": True}], 1)
        for word in said.words:
            yield event([{"text": word}], 1)
        for use in said.uses:
            yield event([_call(use)], CALL_TOKENS)
        yield event([{"text": ""}], reason=_REASONS[said.ended])

    def failed(self) -> bytes:
        return data(json.loads(self.error(503)))

    def error(self, status: int) -> bytes:
        error = {"code": status, "message": "told to fail", "status": _STATUSES.get(status, "INTERNAL")}
        return json.dumps({"error": error}).encode()

    def models(self) -> dict[str, Any]:
        return {"models": [{"name": "models/m", "displayName": "M"}]}


def _answer(call: Call, parts: list[dict[str, Any]], reason: str | None, told: int | None) -> dict[str, Any]:
    """`told`: the output tokens until now, None to say nothing."""
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
    if reason is not None:
        candidate["finishReason"] = reason
    body: dict[str, Any] = {"candidates": [candidate], "modelVersion": "fake", "responseId": "fake-1"}
    return body | ({"usageMetadata": _usage(call, told)} if told is not None else {})


def _usage(call: Call, output_tokens: int) -> dict[str, int]:
    """Thoughts are counted beside the answer."""
    thoughts = min(call.thought_tokens, output_tokens)
    usage = {"promptTokenCount": call.input_tokens, "candidatesTokenCount": output_tokens - thoughts}
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    if call.cached_tokens:
        usage["cachedContentTokenCount"] = call.cached_tokens
    return usage | {"totalTokenCount": call.input_tokens + output_tokens}


def _call(use: Use) -> dict[str, Any]:
    return {"functionCall": {"name": use.name, "args": use.arguments}, "thoughtSignature": SIGNATURE}


def _last_user_text(contents: list[dict[str, Any]]) -> str:
    for content in reversed(contents):
        texts = [part["text"] for part in content["parts"] if "text" in part]
        if content.get("role") != "model" and texts:
            return " ".join(texts)
    return ""

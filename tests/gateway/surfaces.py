"""The three dialects that clients speak: requests as their users would write them, answers as their users hear them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol

from tests.house import events

Ended = Literal["stop", "length", "tool_calls"]
PNG = "iVBORw0KGgo="  # of no picture at all, which nobody here looks at


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for, in no dialect. `image`: one is shown. `schema`: of the JSON that is wanted."""

    text: str
    model: str
    stream: bool = False
    most: int = 200
    tools: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None
    image: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """`input` holds what came from the vendor's cache and what went into it."""

    input: int
    cached: int
    written: int
    output: int
    estimated: bool
    credits: Decimal
    cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer. `uses`: id, name and arguments of each use of a tool; `turn` is what the client sends back of it."""

    text: str
    thoughts: str
    uses: list[tuple[str, str, Any]]
    ended: Ended
    counts: Counts
    model: str
    turn: list[dict[str, Any]] = field(repr=False)


class Surface(Protocol):
    name: str
    path: str

    def body(self, wish: Wish) -> dict[str, Any]: ...

    def plain(self, body: Any) -> Heard: ...

    def stream(self, raw: bytes) -> Heard:
        """Fails when the stream breaks a rule of its dialect."""

    def with_results(self, body: dict[str, Any], heard: Heard, results: list[str]) -> dict[str, Any]:
        """The next request, with what the tools said."""

    def broken(self, raw: bytes) -> tuple[str, dict[str, Any]]:
        """The text of a stream that broke, and the error at its end."""


def parameters() -> dict[str, Any]:
    return {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def _counts(usage: dict[str, Any], figures: tuple[int, int, int, int]) -> Counts:
    estimated, credits, cost = usage.get("estimated", False), Decimal(usage["credits"]), Decimal(usage["cost_usd"])
    return Counts(*figures, estimated, credits, cost)


class Chat:
    """OpenAI's chat completions."""

    name = "chat"
    path = "/v1/chat/completions"

    def body(self, wish: Wish) -> dict[str, Any]:
        content: Any = wish.text
        if wish.image:
            url = {"url": f"data:image/png;base64,{PNG}"}
            content = [{"type": "text", "text": wish.text}, {"type": "image_url", "image_url": url}]
        body: dict[str, Any] = {"model": wish.model, "messages": [{"role": "user", "content": content}]}
        body["max_tokens"] = wish.most
        if wish.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if wish.tools:
            specs = [{"name": name, "parameters": parameters()} for name in wish.tools]
            body["tools"] = [{"type": "function", "function": spec} for spec in specs]
        if wish.schema:
            form = {"name": "answer", "strict": True, "schema": wish.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body

    def plain(self, body: Any) -> Heard:
        (choice,) = body["choices"]
        return self._heard(choice["message"], choice["finish_reason"], body["usage"], body["model"])

    def stream(self, raw: bytes) -> Heard:
        *told, last = events(raw)
        assert last == b"[DONE]"
        *chunks, end = [json.loads(data) for data in told]
        assert end["choices"] == [] and all(chunk.get("usage") is None for chunk in chunks)
        assert len({chunk["id"] for chunk in (*chunks, end)}) == 1
        message, reason = _joined(chunks)
        return self._heard(message, reason, end["usage"], end["model"])

    def _heard(self, message: dict[str, Any], reason: Ended, usage: dict[str, Any], model: str) -> Heard:
        details = usage.get("prompt_tokens_details") or {}
        figures = (usage["prompt_tokens"], details.get("cached_tokens", 0), details.get("cache_write_tokens", 0))
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        uses = [
            (one["id"], one["function"]["name"], json.loads(one["function"]["arguments"]))
            for one in message.get("tool_calls") or ()
        ]
        turn = [{"role": "assistant"} | {name: value for name, value in message.items() if name != "refusal"}]
        counts = _counts(usage, (*figures, usage["completion_tokens"]))
        thoughts = message.get("reasoning_content") or ""
        return Heard(message.get("content") or "", thoughts, uses, reason, counts, model, turn)

    def with_results(self, body: dict[str, Any], heard: Heard, results: list[str]) -> dict[str, Any]:
        said = [
            {"role": "tool", "tool_call_id": use[0], "content": result}
            for use, result in zip(heard.uses, results, strict=True)
        ]
        return body | {"messages": [*body["messages"], *heard.turn, *said]}

    def broken(self, raw: bytes) -> tuple[str, dict[str, Any]]:
        *chunks, last = [json.loads(data) for data in events(raw)]
        message, reason = _joined(chunks)
        assert reason is None
        error: dict[str, Any] = last["error"]
        return message["content"] or "", error


def _joined(chunks: list[dict[str, Any]]) -> tuple[dict[str, Any], Any]:
    """The message that the deltas of a stream make, and how it ended."""
    message: dict[str, Any] = {"content": None, "reasoning_content": "", "tool_calls": []}
    reason = None
    for chunk in chunks:
        for choice in chunk["choices"]:
            assert reason is None, "something follows the end"
            delta, reason = choice["delta"], choice["finish_reason"]
            message["content"] = (message["content"] or "") + (delta.get("content") or "") or None
            message["reasoning_content"] += delta.get("reasoning_content") or ""
            for part in delta.get("tool_calls") or ():
                if part["index"] == len(message["tool_calls"]):
                    function = {"name": part["function"]["name"], "arguments": ""}
                    message["tool_calls"].append({"id": part["id"], "type": "function", "function": function})
                message["tool_calls"][part["index"]]["function"]["arguments"] += part["function"]["arguments"]
    return {name: value for name, value in message.items() if value or name == "content"}, reason


class Messages:
    """Anthropic's messages."""

    name = "messages"
    path = "/v1/messages"

    def body(self, wish: Wish) -> dict[str, Any]:
        content: Any = wish.text
        if wish.image:
            source = {"type": "base64", "media_type": "image/png", "data": PNG}
            content = [{"type": "text", "text": wish.text}, {"type": "image", "source": source}]
        body: dict[str, Any] = {"model": wish.model, "max_tokens": wish.most}
        body["messages"] = [{"role": "user", "content": content}]
        if wish.stream:
            body["stream"] = True
        if wish.tools:
            body["tools"] = [{"name": name, "input_schema": parameters()} for name in wish.tools]
        if wish.schema:
            body["output_config"] = {"format": {"type": "json_schema", "schema": wish.schema}}
        return body

    def plain(self, body: Any) -> Heard:
        assert (body["type"], body["role"]) == ("message", "assistant")
        return self._heard(body["content"], body["stop_reason"], body["usage"], body["model"])

    def stream(self, raw: bytes) -> Heard:
        begun, *told, ended, stopped = _named(raw)
        assert (begun["type"], ended["type"], stopped) == ("message_start", "message_delta", {"type": "message_stop"})
        assert begun["message"]["content"] == []
        content = _content(told)
        return self._heard(content, ended["delta"]["stop_reason"], ended["usage"], begun["message"]["model"])

    def _heard(self, content: list[dict[str, Any]], reason: str, usage: dict[str, Any], model: str) -> Heard:
        cached, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
        figures = (usage["input_tokens"] + cached + written, cached, written, usage["output_tokens"])
        text, thoughts = (
            "".join(block[kind] for block in content if block["type"] == kind) for kind in ("text", "thinking")
        )
        uses = [(block["id"], block["name"], block["input"]) for block in content if block["type"] == "tool_use"]
        ends: dict[str, Ended] = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls"}
        turn = [{"role": "assistant", "content": content}]
        return Heard(text, thoughts, uses, ends[reason], _counts(usage, figures), model, turn)

    def with_results(self, body: dict[str, Any], heard: Heard, results: list[str]) -> dict[str, Any]:
        blocks = [
            {"type": "tool_result", "tool_use_id": use[0], "content": result}
            for use, result in zip(heard.uses, results, strict=True)
        ]
        return body | {"messages": [*body["messages"], *heard.turn, {"role": "user", "content": blocks}]}

    def broken(self, raw: bytes) -> tuple[str, dict[str, Any]]:
        told = _named(raw)
        last = told.pop()
        assert last["type"] == "error"
        parts = [one["delta"].get("text", "") for one in told if one["type"] == "content_block_delta"]
        error: dict[str, Any] = last["error"]
        return "".join(parts), error


def _named(raw: bytes) -> list[dict[str, Any]]:
    """The events of a stream in which each has its type as its name too."""
    parts = raw.decode().split("\n\n")
    assert parts.pop() == "", f"the stream ends inside an event: {raw[-200:]!r}"
    found = []
    for part in parts:
        name, data = part.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}", part
        found.append(event)
    return found


def _content(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks that the events make: one after the other, each ended before the next begins."""
    content: list[dict[str, Any]] = []
    arguments, is_open = "", False
    for event in told:
        match event["type"]:
            case "content_block_start":
                assert not is_open and event["index"] == len(content)
                content.append(dict(event["content_block"]))
                arguments, is_open = "", True
            case "content_block_stop":
                assert is_open and event["index"] == len(content) - 1
                is_open = False
                if content[-1]["type"] == "tool_use":
                    content[-1]["input"] = json.loads(arguments)
            case "content_block_delta":
                assert is_open and event["index"] == len(content) - 1
                delta = event["delta"]
                if delta["type"] == "input_json_delta":
                    arguments += delta["partial_json"]
                else:
                    kind = delta["type"].removesuffix("_delta")
                    content[-1][kind] += delta[kind]
            case other:
                assert other == "ping", event
    assert not is_open
    return content


class Responses:
    """OpenAI's responses."""

    name = "responses"
    path = "/v1/responses"

    def body(self, wish: Wish) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "input_text", "text": wish.text}]
        if wish.image:
            content.append({"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"})
        body: dict[str, Any] = {"model": wish.model, "max_output_tokens": wish.most}
        body["input"] = [{"role": "user", "content": content}]
        if wish.stream:
            body["stream"] = True
        if wish.tools:
            body["tools"] = [{"type": "function", "name": name, "parameters": parameters()} for name in wish.tools]
        if wish.schema:
            form = {"type": "json_schema", "name": "answer", "strict": True, "schema": wish.schema}
            body["text"] = {"format": form}
        return body

    def plain(self, body: Any) -> Heard:
        assert (body["object"], body["error"]) == ("response", None)
        output = body["output"]
        uses = [
            (item["call_id"], item["name"], json.loads(item["arguments"]))
            for item in output
            if item["type"] == "function_call"
        ]
        text = "".join(part["text"] for item in output if item["type"] == "message" for part in item["content"])
        thoughts = "".join(part["text"] for item in output if item["type"] == "reasoning" for part in item["summary"])
        ended: Ended = "tool_calls" if uses else "stop"
        if body["status"] == "incomplete":
            assert body["incomplete_details"] == {"reason": "max_output_tokens"}
            ended = "length"
        return Heard(text, thoughts, uses, ended, self._figures(body["usage"]), body["model"], output)

    def _figures(self, usage: dict[str, Any]) -> Counts:
        details = usage["input_tokens_details"]
        cached, written = details["cached_tokens"], details.get("cache_write_tokens", 0)
        return _counts(usage, (usage["input_tokens"], cached, written, usage["output_tokens"]))

    def stream(self, raw: bytes) -> Heard:
        told = _named(raw)
        assert [event["sequence_number"] for event in told] == list(range(len(told)))
        assert [event["type"] for event in told[:2]] == ["response.created", "response.in_progress"]
        last = told[-1]
        assert last["type"] in ("response.completed", "response.incomplete")
        heard = self.plain(last["response"])
        assert "".join(one["delta"] for one in told if one["type"] == "response.output_text.delta") == heard.text
        done = {one["output_index"]: one["item"] for one in told if one["type"] == "response.output_item.done"}
        assert [done[index] for index in sorted(done)] == last["response"]["output"]
        return heard

    def with_results(self, body: dict[str, Any], heard: Heard, results: list[str]) -> dict[str, Any]:
        said = [
            {"type": "function_call_output", "call_id": use[0], "output": result}
            for use, result in zip(heard.uses, results, strict=True)
        ]
        return body | {"input": [*body["input"], *heard.turn, *said]}

    def broken(self, raw: bytes) -> tuple[str, dict[str, Any]]:
        *told, failed, last = _named(raw)
        assert (failed["type"], last["type"]) == ("response.failed", "error")
        text = "".join(one["delta"] for one in told if one["type"] == "response.output_text.delta")
        error: dict[str, Any] = last["error"]
        return text, error


SURFACES: tuple[Surface, ...] = (Chat(), Responses(), Messages())

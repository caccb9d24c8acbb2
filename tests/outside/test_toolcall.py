"""Calls of tools by the sandbox: as many as it was told, with arguments that fit, and whole in both forms."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.outside.test_sandbox import ask, events, plain, streamed_until_fault
from tollhouse.core.token import count_tokens
from tollhouse.outside import ReplyBroken

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
SHELL = {"type": "custom", "custom": {"name": "shell", "description": "Runs a line"}}


def allowed(mode: str) -> dict[str, Any]:
    """Leaves the clock and the shell."""
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [CLOCK, SHELL]}}


async def called(text: str, **options: Any) -> tuple[dict[str, Any], str]:
    """The message, and why it ended."""
    status, answer = await plain(ask(text, **options))
    assert status == 200, answer
    (choice,) = answer["choices"]
    return choice["message"], choice["finish_reason"]


def gathered(chunks: list[Any]) -> list[dict[str, Any]]:
    """The calls of a stream as a client puts them together."""
    calls: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            for piece in choice["delta"].get("tool_calls", ()):
                kind = "custom" if "custom" in piece else "function"
                text = "input" if kind == "custom" else "arguments"
                if "id" in piece:
                    calls[piece["index"]] = {name: piece[name] for name in ("id", "type", kind)}
                else:
                    calls[piece["index"]][kind][text] += piece[kind][text]
    return [calls[index] for index in sorted(calls)]


async def test_the_message_says_how_many_tools_are_called_and_they_take_turns() -> None:
    message, reason = await called("sandbox:tools=3", tools=[WEATHER, CLOCK])
    assert (message["content"], reason) == (None, "tool_calls")
    calls = message["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["weather", "clock", "weather"]
    assert len({call["id"] for call in calls}) == 3
    first, second, third = (json.loads(call["function"]["arguments"]) for call in calls)
    Draft202012Validator(CITY).validate(first)
    Draft202012Validator(CITY).validate(third)
    assert second == {} and first != third


def tokens_of(call: dict[str, Any]) -> int:
    inner = call[call["type"]]
    return count_tokens(inner["name"]) + count_tokens(inner["arguments" if call["type"] == "function" else "input"])


@given(count=st.integers(1, 5), text=st.text(max_size=20), most=st.none() | st.integers(1, 80))
async def test_a_stream_calls_the_same_tools_and_counts_the_same(count: int, text: str, most: int | None) -> None:
    request = ask(f"{text.replace('sandbox:', '')} sandbox:tools={count}", tools=[WEATHER, SHELL])
    _, natural = await plain(request)
    request |= {"stream_options": {"include_usage": True}} | ({} if most is None else {"max_tokens": most})
    _, answer = await plain(request)
    chunks = await events(request)
    (choice,) = answer["choices"]
    calls = choice["message"].get("tool_calls", [])
    assert gathered(chunks) == calls
    assert chunks[-1]["usage"] == answer["usage"]
    assert chunks[-2]["choices"][0]["finish_reason"] == choice["finish_reason"]
    assert answer["usage"]["completion_tokens"] == sum(tokens_of(call) for call in calls) <= (most or 1_000_000)
    is_cut = most is not None and natural["usage"]["completion_tokens"] > most
    assert choice["finish_reason"] == ("length" if is_cut else "tool_calls")


async def test_once_the_results_are_there_it_answers_in_words() -> None:
    first, _ = await called("sandbox:tools=1 sandbox:tokens=5", tools=[CLOCK])
    (call,) = first["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": "noon"}
    question = {"role": "user", "content": "sandbox:tools=1 sandbox:tokens=5"}
    _, answer = await plain({"model": "m", "messages": [question, first, result], "tools": [CLOCK]})
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize(
    ("directive", "options", "names"),
    [
        ("", {}, []),
        ("", {"tool_choice": "auto"}, []),
        ("", {"tool_choice": "required"}, ["weather"]),
        ("", {"tool_choice": {"type": "function", "function": {"name": "clock"}}}, ["clock"]),
        ("", {"tool_choice": {"type": "custom", "custom": {"name": "shell"}}}, ["shell"]),
        ("sandbox:tools=2", {"tool_choice": "none"}, []),
        ("sandbox:tools=2", {"tool_choice": "required"}, ["weather", "clock"]),
        ("sandbox:tools=2", {"tool_choice": {"type": "function", "function": {"name": "clock"}}}, ["clock", "clock"]),
        ("", {"tool_choice": allowed("auto")}, []),
        ("", {"tool_choice": allowed("required")}, ["clock"]),
        ("sandbox:tools=3", {"tool_choice": allowed("auto")}, ["clock", "shell", "clock"]),
        ("sandbox:tools=2", {"parallel_tool_calls": False}, ["weather"]),
        ("sandbox:tools=0", {}, []),
    ],
)
async def test_the_choice_of_the_request_has_the_last_word(
    directive: str, options: dict[str, Any], names: list[str]
) -> None:
    message, reason = await called(directive, tools=[WEATHER, CLOCK, SHELL], **options)
    calls = message.get("tool_calls", [])
    assert [call[call["type"]]["name"] for call in calls] == names
    assert reason == ("tool_calls" if names else "stop")
    assert (message["content"] is None) == bool(names)


async def test_several_answers_call_each_for_themselves() -> None:
    _, answer = await plain(ask("sandbox:tools=1", tools=[WEATHER], n=2))
    ids = [choice["message"]["tool_calls"][0]["id"] for choice in answer["choices"]]
    assert len(ids) == len(set(ids)) == 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tools": []},
        {"tools": [{"type": "browser"}]},
        {"tools": [{"type": "function", "function": {"parameters": {}}}]},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "clock"}}},
        {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools"}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "nothing"}}}]},
    ],
)
async def test_a_call_that_cannot_be_made_is_a_400_with_a_reason(options: dict[str, Any]) -> None:
    status, body = await plain(ask("sandbox:tools=1", **options))
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    assert body["error"]["message"].endswith(".")


async def test_a_stream_of_calls_breaks_where_it_was_told_to() -> None:
    received, fault = await streamed_until_fault("sandbox:tools=1 sandbox:fault=cut:4", tools=[WEATHER])
    assert isinstance(fault, ReplyBroken)
    (call,) = gathered([json.loads(segment.removeprefix("data: ")) for segment in received])
    assert count_tokens(call["function"]["name"]) == 2
    assert count_tokens(call["function"]["arguments"]) == 2

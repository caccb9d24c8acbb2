"""OpenAI's responses: an answer in one piece."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tollhouse.core.errors import BadRequest
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect.neutral import (
    Choice,
    Ended,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    Whole,
)
from tollhouse.gateway.dialect.responses import SURFACE

PLAY = {"type": "function", "name": "play"}
SETTLED = Settled(1_234_567, 1_500_000, 0, 10, late=False, replayed=False)
Fields = dict[str, Any]


def read(**fields: Any) -> Any:
    return SURFACE.read(msgspec.json.encode({"model": "m", "input": "Hello"} | fields))


def test_an_answer_holds_its_items_and_repeats_what_the_vendors_types_require() -> None:
    whole = Whole(
        "chatcmpl-Ab_1",
        (
            Choice(
                (
                    Reasoning("Hm.", "sig"),
                    Text("Look:"),
                    Refusal("No more."),
                    ToolCall("call_a", "weather", '{"city":"Rome"}'),
                ),
                "tool_calls",
            ),
        ),
        None,
    )
    wanted = read(instructions="Be kind.", tools=[PLAY], temperature=0.5, store=True, metadata={"a": "b"})
    answer = SURFACE.answer(whole, wanted, "shown", 1_700_000_000)

    assert {name: answer[name] for name in ("id", "object", "created_at", "status", "model", "error", "usage")} == {
        "id": "resp_Ab1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "model": "shown",
        "error": None,
        "usage": None,
    }
    assert answer["output"] == [
        {
            "id": "rs_Ab1_0",
            "type": "reasoning",
            "status": "completed",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "signature:sig",
        },
        {
            "id": "msg_Ab1_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [
                {"type": "output_text", "annotations": [], "logprobs": [], "text": "Look:"},
                {"type": "refusal", "refusal": "No more."},
            ],
        },
        {
            "id": "fc_Ab1_2",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_a",
            "name": "weather",
            "arguments": '{"city":"Rome"}',
        },
    ]
    repeated = ("instructions", "temperature", "top_p", "store", "metadata", "tool_choice", "parallel_tool_calls")
    assert [answer[name] for name in repeated] == ["Be kind.", 0.5, 1.0, False, {"a": "b"}, "auto", True]
    assert answer["tools"] == [PLAY | {"description": None, "parameters": None, "strict": None}]
    assert answer["text"] == {"format": {"type": "text"}, "verbosity": "medium"}


@pytest.mark.parametrize(
    ("ended", "status", "details"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_why_an_answer_ended(ended: Ended, status: str, details: Fields | None) -> None:
    answer = SURFACE.answer(Whole("x", (Choice((Text("Hi"),), ended),), None), read(), "m", 1)

    assert (answer["status"], answer["incomplete_details"]) == (status, details)
    assert answer["output"][0]["status"] == status


def test_an_answer_without_an_id_or_a_choice_still_has_its_shape() -> None:
    answer = SURFACE.answer(Whole("", (), None), read(), "m", 1_700_000_000)

    assert (answer["id"], answer["status"], answer["output"]) == ("resp_1700000000", "completed", [])


def test_probabilities_keep_their_known_fields_only() -> None:
    top = {"token": "Hi", "logprob": -0.1, "bytes": None}
    told: Fields = {
        "content": [
            {"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": [top, {"token": 1}], "odd": 1},
            {"token": "!", "logprob": 0, "bytes": [1, "x"]},
            {"token": "?", "logprob": True},
            "odd",
        ]
    }
    choice = Choice((Text("Hi"), Refusal("No."), Text("!")), "stop", logprobs=told)
    content = SURFACE.answer(Whole("x", (choice,), None), read(), "m", 1)["output"][0]["content"]

    assert content[0]["logprobs"] == [
        {"token": "Hi", "bytes": [72, 105], "logprob": -0.1, "top_logprobs": [top | {"bytes": []}]},
        {"token": "!", "bytes": [], "logprob": 0, "top_logprobs": []},
    ]
    assert content[2]["logprobs"] == []


def test_usage_has_the_vendors_fields_and_the_charge_beside_them() -> None:
    answer: Fields = {}
    SURFACE.charge(answer, Usage(10, 20, 4, 5, cache_write_tokens=3), SETTLED)
    counts = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 30,
    }
    assert answer["usage"] == counts | {"credits": "1.234567", "cost_usd": "0.0015"}

    SURFACE.charge(answer, Usage(10, 20, 4, 5, True, 3), None)
    assert answer["usage"] == counts | {"estimated": True}


def test_a_refusal_has_the_vendors_shape() -> None:
    body = msgspec.json.decode(SURFACE.refusal(BadRequest("Wrong. Correct it.", "input")))

    assert body == {
        "error": {
            "message": "Wrong. Correct it.",
            "type": "invalid_request_error",
            "param": "input",
            "code": "invalid_request",
        }
    }

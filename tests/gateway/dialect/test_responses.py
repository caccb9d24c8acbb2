"""OpenAI's responses: what is read of a request, and what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.errors import BadRequest
from tollhouse.core.price import Usage
from tollhouse.core.token import IMAGE_BOUND
from tollhouse.gateway.dialect.neutral import (
    AnswerForm,
    Choice,
    Image,
    Prompt,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    Whole,
)
from tollhouse.gateway.dialect.responses import SURFACE

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}
PLAY = {"type": "function", "name": "play"}
Fields = dict[str, Any]


def read(**fields: Any) -> Any:
    return SURFACE.read(msgspec.json.encode({"model": "m", "input": "Hello"} | fields))


def prompt(**fields: Any) -> Prompt:
    found = read(**fields).prompt()
    assert isinstance(found, Prompt)
    return found


def refused(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    return caught.value


# What is read


def test_a_text_is_a_turn_of_the_user() -> None:
    wanted = read(input="Hello")

    assert wanted.model == "m"
    assert (wanted.answers, wanted.wants_stream, wanted.wants_usage) == (1, False, True)
    assert wanted.prompt() == Prompt(turns=(Turn("user", (Text("Hello"),)),))


def test_instructions_and_first_messages_of_the_system_are_its_word_later_ones_keep_their_place() -> None:
    found = prompt(
        instructions="Be kind.",
        input=[
            {"role": "developer", "content": "Be short."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"role": "system", "content": "Now in French."},
        ],
    )

    assert found.system == (Text("Be kind."), Text("Be short."))
    assert found.turns == (Turn("user", (Text("Hi"),)), Turn("user", (Text("Now in French."),)))


def test_what_the_assistant_did_is_one_turn_and_results_of_tools_are_the_next() -> None:
    found = prompt(
        input=[
            {"role": "user", "content": "Weather?"},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Ask."}]},
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}],
            },
            {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "weather", "arguments": '{"city":"Rome"}'},
            {"type": "function_call", "call_id": "b", "name": "play", "arguments": "{}", "status": "completed"},
            {"type": "function_call_output", "call_id": "a", "output": "sunny"},
            {
                "type": "function_call_output",
                "call_id": "b",
                "output": [
                    {"type": "input_text", "text": "done"},
                    {"type": "input_image", "image_url": "https://x.test/a"},
                ],
            },
            {"role": "user", "content": "Thanks"},
        ]
    )

    assert found.turns[1:] == (
        Turn(
            "assistant",
            (
                Reasoning("Ask."),
                Text("I look."),
                ToolCall("a", "weather", '{"city":"Rome"}'),
                ToolCall("b", "play", "{}"),
            ),
        ),
        Turn(
            "user",
            (
                ToolResult("a", (Text("sunny"),), name="weather"),
                ToolResult("b", (Text("done"), Image(url="https://x.test/a")), name="play"),
            ),
        ),
        Turn("user", (Text("Thanks"),)),
    )


def test_what_the_user_says_before_a_result_stays_a_turn_of_its_own() -> None:
    call = {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "a", "output": "sunny"}

    assert prompt(input=[call, {"role": "user", "content": "Wait."}, result]).turns[1:] == (
        Turn("user", (Text("Wait."),)),
        Turn("user", (ToolResult("a", (Text("sunny"),), name="weather"),)),
    )


def test_an_image_comes_by_address_or_as_data() -> None:
    found = prompt(
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "image_url": "https://x.test/a.png", "detail": "high"},
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
                ],
            }
        ]
    )

    assert found.turns[0].parts == (
        Image(url="https://x.test/a.png", detail="high"),
        Image(media_type="image/png", data=PIXEL),
    )


def test_every_setting_that_providers_share_is_read() -> None:
    found = prompt(
        stream=True,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=3,
        include=["message.output_text.logprobs", "reasoning.encrypted_content"],
        reasoning={"effort": "low", "summary": "auto"},
        user="u",
        safety_identifier="s",
    )

    assert found == Prompt(
        turns=(Turn("user", (Text("Hello"),)),),
        tools=(Tool("weather", "The weather of a city.", WEATHER["parameters"], True),),  # type: ignore[arg-type]
        tool_choice=ToolChoice("required"),
        parallel_tools=False,
        stream=True,
        temperature=0.5,
        top_p=0.9,
        logprobs=True,
        top_logprobs=3,
        effort="low",
        user="s",
    )


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, AnswerForm()),
        (
            {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True},
            AnswerForm("a", {"type": "object"}, True),
        ),
        (
            {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "description": "An answer."},
            AnswerForm("a", {"description": "An answer.", "type": "object"}),
        ),
    ],
)
def test_the_form_of_the_answer(form: Fields, expected: AnswerForm | None) -> None:
    assert prompt(text={"format": form, "verbosity": "medium"}).form == expected


@pytest.mark.parametrize(
    ("choice", "expected", "left"),
    [
        ("auto", ToolChoice("auto"), ["weather", "play"]),
        ("none", ToolChoice("none"), ["weather", "play"]),
        ({"type": "function", "name": "play"}, ToolChoice("tool", "play"), ["weather", "play"]),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "play"}]},
            ToolChoice("required"),
            ["play"],
        ),
    ],
)
def test_the_choice_of_tools(choice: object, expected: ToolChoice, left: list[str]) -> None:
    found = prompt(tools=[WEATHER, PLAY], tool_choice=choice)

    assert found.tool_choice == expected
    assert [tool.name for tool in found.tools] == left


def test_hints_are_accepted_and_change_nothing() -> None:
    hints: Fields = {
        "store": True,
        "truncation": "auto",
        "metadata": {"a": "b"},
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
        "service_tier": "auto",
        "stream_options": {"include_obfuscation": False},
        "max_tool_calls": 3,
        "reasoning": {"summary": "detailed", "context": "auto", "mode": "standard"},
        "background": False,
        "previous_response_id": None,
        "conversation": None,
    }

    assert prompt(**hints) == prompt()


def test_a_thought_comes_back_to_its_vendor_as_it_was_written() -> None:
    thoughts = (Reasoning("Hm.", signature="s=="), Reasoning("", redacted="r=="), Reasoning("Plain."))
    told = SURFACE.answer(Whole("x", (Choice(thoughts, "stop"),), None), read(), "m", 1)

    assert prompt(input=[{"role": "user", "content": "?"}, *told["output"]]).turns[1] == Turn("assistant", thoughts)


def test_what_somebody_else_encrypted_is_dropped() -> None:
    foreign = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAAB"}

    assert prompt(input=[{"role": "user", "content": "?"}, foreign]) == prompt(input="?")


def test_the_bound_holds_every_byte_the_model_reads_and_an_image_counts_by_its_own() -> None:
    text = "€" * 100
    plain = read(instructions=text, input=text, tools=[WEATHER]).size
    assert plain.input_tokens >= 600 + len(msgspec.json.encode(WEATHER["parameters"]))
    assert (plain.output_tokens, read(max_output_tokens=7).size.output_tokens) == (None, 7)

    def with_image(data: str) -> int:
        part = {"type": "input_image", "image_url": f"data:image/png;base64,{data}"}
        bound = read(input=[{"role": "user", "content": [part]}]).size.input_tokens
        assert isinstance(bound, int)
        return bound

    assert IMAGE_BOUND < with_image("A" * 300_000) < IMAGE_BOUND + 1_000
    shown = [
        {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "a",
            "output": [{"type": "input_image", "image_url": "https://x.test/a"}] * 2,
        },
    ]
    assert read(input=shown).size.input_tokens > 2 * IMAGE_BOUND


# What is refused

USER: Fields = {"role": "user", "content": "Hi"}


def say(part: Fields, role: str = "user") -> Fields:
    return {"input": [{"role": role, "content": [part]}]}


@pytest.mark.parametrize(
    ("fields", "field", "remedy"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "Send the earlier items in `input`"),
        ({"conversation": "conv_1"}, "conversation", "Send the earlier items in `input`"),
        ({"background": True}, "background", "stream an answer"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "Send its text"),
        ({"moderation": {"model": "omni-moderation-latest"}}, "moderation", "Leave it out"),
        ({"context_management": [{"type": "compaction"}]}, "context_management", "shorten the input"),
        ({"service_tier": "flex"}, "service_tier", "Leave it out"),
        ({"text": {"verbosity": "low"}}, "text.verbosity", "Leave it out"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type", "Correct it"),
        ({"include": ["file_search_call.results"]}, "include", "Take the rest out"),
        ({"truncation": "middle"}, "truncation", "Correct it"),
        ({"reasoning": {"effort": "max"}}, "reasoning.effort", "Correct it"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode", "Correct it"),
        ({"prompt_cache_options": {"prewarm": True}}, "prompt_cache_options.prewarm", "Take it out"),
        ({"max_output_tokens": 0}, "max_output_tokens", "Correct it"),
        ({"n": 2}, "n", "Take it out"),
        ({"messages": []}, "messages", "Take it out"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "run others yourself"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools[0]", "run others yourself"),
        ({"tools": [WEATHER, {"type": "custom", "name": "x"}]}, "tools[1]", "run others yourself"),
        ({"tools": [{"name": "x"}]}, "tools[0]", "run others yourself"),
        ({"tools": [PLAY | {"defer_loading": True}]}, "tools[0].defer_loading", "Leave it out"),
        ({"tools": [PLAY | {"parameters": 1}]}, "tools[0].parameters", "Correct it"),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools[0]", "Correct it"),
        ({"tool_choice": "required"}, "tool_choice", "Send some"),
        ({"tools": [PLAY], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice", "Correct it"),
        ({"tools": [PLAY], "tool_choice": {"type": "file_search"}}, "tool_choice", "Correct it"),
        ({"tools": [PLAY], "tool_choice": "any"}, "tool_choice", "Correct it"),
        (
            {"tools": [PLAY], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}},
            "tool_choice",
            "Correct it",
        ),
        ({"input": []}, "input", "at least one message"),
        ({"input": [{"role": "user", "content": []}]}, "input", "at least one message"),
        ({"input": [USER, {"type": "item_reference", "id": "msg_1"}]}, "input[1]", "Send the item itself"),
        ({"input": [USER, {"id": "msg_1"}]}, "input[1]", "Send the item itself"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input[0]", "leave it out"),
        ({"input": [{"type": ["message"]}]}, "input[0]", "leave it out"),
        ({"input": [{}]}, "input[0]", "leave it out"),
        ({"input": [USER | {"name": "x"}]}, "input[0]", "Correct it"),
        ({"input": [USER | {"role": "tool"}]}, "input[0].role", "Correct it"),
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": ""}]}, "input[0].call_id", "the call"),
        (say({"type": "text", "text": "x"}), "input[0].content[0].type", "Correct it"),
        (say({"type": "input_text", "text": 1}), "input[0].content[0].text", "Correct it"),
        (say({"type": "input_file", "file_id": "file_1"}), "input[0].content[0]", "Send its text"),
        (say({"type": "input_audio", "input_audio": {}}), "input[0].content[0]", "Send its text"),
        (say({"type": "input_image", "file_id": "file_1"}), "input[0].content[0].file_id", "in `image_url`"),
        (say({"type": "input_image", "image_url": "ftp://x"}), "input[0].content[0].image_url", "Correct it"),
        (say({"type": "input_image"}), "input[0].content[0].image_url", "Correct it"),
        (say({"type": "input_image", "image_url": "https://x"}, "system"), "input[0].content[0]", "Take it out"),
        (say({"type": "refusal", "refusal": "No."}), "input[0].content[0]", "Take it out"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name_with_a_remedy(fields: Fields, field: str, remedy: str) -> None:
    error = refused(**fields)

    assert error.field == field
    assert remedy in str(error)
    assert error.status == 400


@pytest.mark.parametrize("missing", ["model", "input"])
def test_a_missing_field_is_named(missing: str) -> None:
    fields = {"model": "m", "input": "Hello"}
    del fields[missing]

    with pytest.raises(BadRequest) as caught:
        SURFACE.read(msgspec.json.encode(fields))

    assert caught.value.field == missing


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6
)
KINDS = ["message", "function_call", "function_call_output", "reasoning", "item_reference"]
PARTS = ["input_text", "output_text", "refusal", "input_image", "input_file", "summary_text"]
parts = st.fixed_dictionaries(
    {"type": st.sampled_from(PARTS) | anything},
    optional={"text": st.text() | anything, "refusal": st.text(), "image_url": st.text() | anything},
)
items = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(KINDS) | anything,
        "role": st.sampled_from(["user", "assistant", "system"]) | anything,
        "content": st.text() | st.lists(parts, max_size=3) | anything,
        "call_id": st.sampled_from(["a", "b"]),
        "name": st.text(),
        "arguments": st.text(),
        "output": st.text() | st.lists(parts, max_size=2),
        "summary": st.lists(parts, max_size=2),
    },
)
tools = st.fixed_dictionaries({"type": st.just("function") | anything}, optional={"name": st.text(), "async": anything})
requests = st.fixed_dictionaries(
    {"model": st.just("m"), "input": st.text() | st.lists(items | anything, max_size=4)},
    optional={
        "tools": st.lists(tools | anything, max_size=3),
        "tool_choice": anything | st.fixed_dictionaries({"type": st.sampled_from(["function", "allowed_tools"])}),
        "text": anything | st.fixed_dictionaries({"format": anything}),
        "reasoning": anything,
        "include": anything,
        "prompt": anything,
    },
)


@given(requests | anything)
def test_whatever_comes_it_is_read_or_refused(body: object) -> None:
    try:
        wanted = SURFACE.read(msgspec.json.encode(body))
    except BadRequest as error:
        assert str(error)
        return
    assert wanted.size.input_tokens >= 0
    assert SURFACE.writer(wanted, "m", 1).end(Usage(0, 0), None)


@given(st.binary())
def test_bytes_that_are_no_request_are_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        SURFACE.read(body)

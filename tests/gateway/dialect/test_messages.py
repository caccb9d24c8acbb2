"""Anthropic's dialect: what is read of a request, refused, passed on, bounded and translated, both ways."""

import base64
import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.errors import BadRequest
from tollhouse.core.token import IMAGE_BOUND
from tollhouse.gateway.dialect.messages import SURFACE, WIRE
from tollhouse.gateway.dialect.messages_request import MessagesRequest, read, read_count
from tollhouse.gateway.dialect.neutral import (
    AnswerForm,
    Effort,
    Image,
    Prompt,
    Reasoning,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)

OLD, NEW = "claude-sonnet-4-5-20250929", "claude-opus-5"
PIXELS = base64.b64encode(b"not really an image" * 400).decode()
WEATHER = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
HELLO = (Turn("user", (Text("Hello"),)),)
FULL = {
    "model": "claude",
    "max_tokens": 4000,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "5m"}}],
    "messages": [
        {"role": "user", "content": "And in Paris?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Look it up.", "signature": "U2ln"},
                {"type": "redacted_thinking", "data": "b3BhcXVl"},
                {"type": "text", "text": "I look it up."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}},
                {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [
                        {"type": "text", "text": "12 °C"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aWNvbg=="}},
                    ],
                },
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_2",
                    "content": [{"type": "text", "text": "no such city"}],
                    "is_error": True,
                },
                {"type": "text", "text": "Like here?"},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/here.png"}},
            ],
        },
    ],
    "tools": [{**WEATHER, "description": "The weather now.", "strict": True}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 2048},
    "output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "properties": {}}}},
    "stop_sequences": ["END"],
    "top_p": 0.99,
    "metadata": {"user_id": "someone"},
    "stream": True,
}


def body(**fields: Any) -> bytes:
    asked = {"model": "claude", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]} | fields
    return json.dumps({name: value for name, value in asked.items() if value is not ...}).encode()


def user(*blocks: object) -> list[object]:
    return [{"role": "user", "content": list(blocks)}]


def refused(data: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read(data)
    return caught.value


def written(prompt: Prompt, model: str = OLD, output_tokens: int = 4000) -> Any:
    return json.loads(WIRE.request(prompt, model, output_tokens))


def unwritable(prompt: Prompt, model: str = OLD, output_tokens: int = 4000) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        WIRE.request(prompt, model, output_tokens)
    return caught.value


# Reading


def test_a_small_request_is_read() -> None:
    request = SURFACE.read(body(stream=True))
    assert (request.model, request.answers, request.wants_stream, request.wants_usage) == ("claude", 1, True, True)
    assert request.size.output_tokens == 100 and request.size.sandbox_tokens is None


def test_max_tokens_is_required_by_name() -> None:
    error = refused(body(max_tokens=...))
    assert error.field == "max_tokens" and "missing" in str(error)


@pytest.mark.parametrize(
    "field",
    ["container", "mcp_servers", "context_management", "inference_geo", "user_profile_id", "workspace_id"],
)
def test_what_has_no_price_is_refused_by_name(field: str) -> None:
    error = refused(body(**{field: {"id": "x"}}))
    assert error.field == field and "not available here" in str(error) and "Leave it out" in str(error)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"speed": "fast"}, "speed", "standard"),
        ({"output_format": {}}, "output_format", "output_config.format"),
        ({"max_completion_tokens": 5}, "max_completion_tokens", "unknown"),
        ({"service_tier": "priority"}, "service_tier", "wrong"),
        ({"temperature": 1.5}, "temperature", "wrong"),
        ({"tools": [{"max_uses": 5, "name": "web_search", "type": "web_search_20260318"}]}, "tools", "web_search_2026"),
        ({"tools": [{"type": "computer_toolset_20260801"}]}, "tools", "caller runs"),
        ({"tools": [{**WEATHER, "color": "red"}]}, "tools[0].color", "unknown"),
        ({"messages": user({"type": "document", "source": {}})}, "messages", "`document`"),
        ({"messages": user({"type": "web_search_tool_result"})}, "messages", "no price"),
        ({"messages": user({"type": "mcp_tool_use"})}, "messages", "no price"),
        ({"messages": user({"type": "image", "source": {"type": "file", "file_id": "f"}})}, "messages", "image itself"),
        ({"messages": user({"type": "txet", "text": "x"})}, "messages[0].content[0].type", "txet"),
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, "cache_control", "5m"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name", "missing"),
        ({"tool_choice": {"type": "any", "name": "weather"}}, "tool_choice.name", "type tool"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", "missing"),
        ({"thinking": {"type": "adaptive", "budget_tokens": 2000}}, "thinking.budget_tokens", "type enabled"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1023}}, "thinking.budget_tokens", "1024"),
        ({"messages": user({"type": "tool_use", "id": "a", "name": "b", "input": {}})}, "messages", "of the assistant"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "a"}]}]},
         "messages", "of the user"),
        ({"messages": [{"role": "system", "content": [{"type": "image", "source": {"type": "url", "url": "u"}}]}]},
         "messages", "of the user"),
        ({"messages": []}, "messages", "wrong"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_by_name(fields: dict[str, Any], field: str, words: str) -> None:
    error = refused(body(**fields))
    assert error.field == field and words in str(error)


def test_hints_are_taken() -> None:
    hints: dict[str, Any] = {
        "service_tier": "auto",
        "speed": "standard",
        "cache_control": {"type": "ephemeral"},
        "diagnostics": {"previous_message_id": None},
        "metadata": {"user_id": None},
        "thinking": {"type": "adaptive", "display": "summarized"},
        "messages": user({"type": "text", "text": "x", "cache_control": None, "citations": []}),
    }
    assert json.loads(native(read(body(**hints)), "claude", 100)) == json.loads(body(**hints))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from([*FULL, "temperature", "cache_control", "container", "speed", "x"])
BLOCKS = [block for message in FULL["messages"][1:] for block in message["content"]]  # type: ignore[index]


@given(
    st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | json_values.map(lambda v: json.dumps(v).encode())
)
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    with suppress(BadRequest):
        read(data)


@given(st.dictionaries(fields, json_values, max_size=4))
def test_whatever_stands_in_a_field_is_read_or_refused(changed: dict[str, Any]) -> None:
    with suppress(BadRequest):
        request = read(json.dumps(FULL | changed).encode())
        native(request, "claude", 50)
        assert request.prompt().stream == request.wants_stream


@given(
    st.sampled_from(BLOCKS),
    st.dictionaries(st.sampled_from(["type", "text", "source", "content", "input", "x"]), json_values, max_size=2),
    st.sampled_from(["user", "assistant", "system"]),
)
def test_whatever_stands_in_a_block_is_read_or_refused(block: dict[str, Any], changed: Any, role: str) -> None:
    with suppress(BadRequest):
        request = read(body(messages=[{"role": role, "content": [block | changed]}]))
        assert request.size.input_tokens > 0
        request.prompt()


# Passing on


def native(request: MessagesRequest, model: str, output_tokens: int) -> bytes:
    return request.native(model, output_tokens)


def test_a_provider_of_the_same_dialect_gets_everything_as_it_came() -> None:
    passed = json.loads(native(read(json.dumps(FULL).encode()), OLD, 4000))
    assert passed == FULL | {"model": OLD, "max_tokens": 4000}


def test_a_lower_maximum_lowers_the_budget_for_thinking() -> None:
    request = read(json.dumps(FULL).encode())
    assert json.loads(native(request, OLD, 1500))["thinking"] == {"type": "enabled", "budget_tokens": 1499}
    assert json.loads(native(request, OLD, 3000))["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    with pytest.raises(BadRequest) as caught:
        native(request, OLD, 1024)
    assert caught.value.field == "thinking"


def test_a_budget_above_the_maximum_is_the_callers_affair() -> None:
    """With tools and interleaved thinking the vendor allows it."""
    request = read(body(thinking={"type": "enabled", "budget_tokens": 5000}))
    assert json.loads(native(request, OLD, 100))["thinking"]["budget_tokens"] == 5000


def test_thoughts_of_other_vendors_do_not_reach_anthropic() -> None:
    thoughts = [
        {"type": "thinking", "thinking": "mine", "signature": "U2ln"},
        {"type": "thinking", "thinking": "of a model without signatures", "signature": ""},
        {"type": "thinking", "thinking": "Gemini's", "signature": "google:U2ln"},
    ]
    history = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": [*thoughts, {"type": "text", "text": "One."}]},
        {"role": "assistant", "content": thoughts[1:]},
        {"role": "user", "content": "Two?"},
    ]
    expected = [history[0], {"role": "assistant", "content": [thoughts[0], {"type": "text", "text": "One."}]}]
    assert json.loads(native(read(body(messages=history)), OLD, 100))["messages"] == [*expected, history[3]]
    counted = read_count(body(messages=history, max_tokens=...)).native(OLD)
    assert json.loads(counted)["messages"] == [*expected, history[3]]


def test_counting_takes_a_request_without_a_maximum() -> None:
    asked = {name: FULL[name] for name in ("model", "messages", "system", "tools", "tool_choice", "thinking")}
    request = read_count(json.dumps(asked).encode())
    assert json.loads(request.native(OLD)) == asked | {"model": OLD}
    assert request.input_bound > 0
    for wrong, field in (({"max_tokens": 5}, "max_tokens"), ({"container": "c"}, "container")):
        with pytest.raises(BadRequest) as caught:
            read_count(json.dumps(asked | wrong).encode())
        assert caught.value.field == field


# Bounding


@given(st.text(max_size=200), st.text(max_size=200))
def test_the_bound_is_never_below_the_bytes_of_what_the_model_reads(system: str, said: str) -> None:
    with suppress(BadRequest):
        size = read(body(system=system, messages=user({"type": "text", "text": said}), tools=[WEATHER])).size
        assert size.input_tokens >= len((system + said).encode()) + len(json.dumps(WEATHER).replace(" ", ""))


def test_an_image_counts_as_an_image_wherever_it_stands() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PIXELS}
    image = {"type": "image", "source": source}
    plain = read(body()).size.input_tokens
    bare = read(body(messages=user(image))).size.input_tokens
    inside = read(body(messages=user({"type": "tool_result", "tool_use_id": "a", "content": [image, image]})))
    assert IMAGE_BOUND <= bare - plain < IMAGE_BOUND + 200
    assert 2 * IMAGE_BOUND <= inside.size.input_tokens - plain < 2 * IMAGE_BOUND + 400


def test_base64_in_a_text_counts_in_full() -> None:
    assert read(body(messages=user({"type": "text", "text": PIXELS}))).size.input_tokens > len(PIXELS)


def test_the_vendors_own_instructions_for_tools_and_forms_are_bounded_too() -> None:
    """Anthropic puts some hundred tokens into the prompt for each."""
    plain = read(body()).size.input_tokens
    assert read(body(tools=[WEATHER])).size.input_tokens - plain > 1000
    form = {"format": {"type": "json_schema", "schema": {}}}
    assert read(body(output_config=form)).size.input_tokens - plain > 1000


# To neutral


def test_a_full_request_becomes_neutral() -> None:
    assert read(json.dumps(FULL).encode()).prompt() == Prompt(
        system=(Text("Be brief."),),
        turns=(
            Turn("user", (Text("And in Paris?"),)),
            Turn(
                "assistant",
                (
                    Reasoning("Look it up.", "U2ln"),
                    Reasoning("", redacted="b3BhcXVl"),
                    Text("I look it up."),
                    ToolCall("toolu_1", "weather", '{"city":"Paris"}'),
                    ToolCall("toolu_2", "weather", "{}"),
                ),
            ),
            Turn(
                "user",
                (
                    ToolResult("toolu_1", (Text("12 °C"), Image(media_type="image/png", data="aWNvbg=="))),
                    ToolResult("toolu_2", (Text("no such city"),), is_error=True),
                    Text("Like here?"),
                    Image(url="https://example.com/here.png"),
                ),
            ),
        ),
        tools=(Tool("weather", "The weather now.", WEATHER["input_schema"], True),),  # type: ignore[arg-type]
        tool_choice=ToolChoice("auto"),
        parallel_tools=False,
        stream=True,
        top_p=0.99,
        stop=("END",),
        form=AnswerForm(schema={"type": "object", "properties": {}}, strict=True),
        thinking_tokens=2048,
        user="someone",
    )


def test_the_same_request_comes_out_of_a_round_trip() -> None:
    again = written(read(json.dumps(FULL).encode()).prompt(), OLD)
    question = {"role": "user", "content": [{"type": "text", "text": "And in Paris?"}]}
    messages = [question, *FULL["messages"][1:]]  # type: ignore[index]
    assert again == FULL | {"model": OLD, "system": [{"type": "text", "text": "Be brief."}], "messages": messages}


def test_later_instructions_stay_in_their_place() -> None:
    messages = [
        {"role": "system", "content": "First."},
        {"role": "user", "content": "Hello"},
        {"role": "system", "content": [{"type": "text", "text": "Now briefly."}]},
    ]
    prompt = read(body(system="Zeroth.", messages=messages)).prompt()
    assert prompt.system == (Text("Zeroth."), Text("First."))
    assert prompt.turns == (Turn("user", (Text("Hello"),)), Turn("user", (Text("Now briefly."),)))


@pytest.mark.parametrize(
    ("choice", "neutral"),
    [
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "tool", "name": "weather"}, ToolChoice("tool", "weather")),
        ({"type": "none"}, ToolChoice("none")),
    ],
)
def test_the_choice_of_tools_goes_both_ways(choice: dict[str, Any], neutral: ToolChoice) -> None:
    prompt = read(body(tools=[WEATHER], tool_choice=choice)).prompt()
    assert prompt.tool_choice == neutral and prompt.parallel_tools is None
    assert written(prompt)["tool_choice"] == choice


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, "none"),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}, "xhigh"),
        ({"output_config": {"effort": "low"}}, "low"),
    ],
)
def test_thinking_becomes_effort(fields: dict[str, Any], effort: Effort | None) -> None:
    prompt = read(body(**fields)).prompt()
    assert (prompt.effort, prompt.thinking_tokens) == (effort, None)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"output_config": {"effort": "max"}}, "output_config.effort: max"),
        ({"thinking": {"type": "between_tools"}}, "thinking.type: between_tools"),
        ({"tools": [{**WEATHER, "input_examples": [{"city": "Paris"}]}]}, "input_examples"),
        ({"messages": user({"type": "image", "source": {"type": "url", "url": "u"},
                            "transformations": {"oversized_image": "error"}})}, "transformations"),
    ],
)  # fmt: skip
def test_what_only_anthropic_has_is_refused_in_translation_only(fields: dict[str, Any], field: str) -> None:
    request = read(body(**fields))
    assert native(request, NEW, 100)
    with pytest.raises(BadRequest) as caught:
        request.prompt()
    assert caught.value.field == field and "Only models of Anthropic" in str(caught.value)


# From neutral


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"answers": 2}, "n"),
        ({"seed": 0}, "seed"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": -1.0}, "presence_penalty"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"temperature": 1.1}, "temperature"),
        ({"form": AnswerForm()}, "response_format"),
        ({"turns": ()}, "messages"),
        ({"turns": (Turn("assistant", (Text("Hi"),)), *HELLO)}, "messages"),
        ({"turns": (*HELLO, Turn("assistant", (ToolCall("a", "b", "[1]"),)))}, "messages"),
        ({"turns": (*HELLO, Turn("assistant", (ToolCall("a", "b", '{"cut'),)))}, "messages"),
        ({"turns": (Turn("user", (Image(media_type="image/bmp", data="eA=="),)),)}, "messages"),
    ],
)
def test_what_anthropic_has_not_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    error = unwritable(Prompt(**({"turns": HELLO} | fields)))
    assert error.field == field and str(error).endswith(".")


def test_defaults_said_aloud_are_no_wishes() -> None:
    plain = written(Prompt(turns=HELLO))
    assert written(Prompt(turns=HELLO, frequency_penalty=0.0, presence_penalty=0.0, top_logprobs=0)) == plain
    assert plain == {"model": OLD, "max_tokens": 4000, "messages": user({"type": "text", "text": "Hello"})}


def test_turns_of_one_role_become_one_message_with_results_first() -> None:
    turns = (
        *HELLO,
        Turn("user", (Text(""), Text("again"))),
        Turn("assistant", (Reasoning("unsigned"), Text(""))),
        Turn("assistant", (Reasoning("Gemini's", "google:x"), Refusal("No."), ToolCall("f.a:0", "f", ""))),
        Turn("user", (Text("there"), ToolResult("f.a:0", ()))),
    )
    assert written(Prompt(turns=turns))["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "again"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "No."},
                {"type": "tool_use", "id": "f_a_0", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "f_a_0"}, {"type": "text", "text": "there"}],
        },
    ]


texts = st.text(max_size=4).map(Text)
turns = st.lists(
    st.builds(Turn, st.just("user"), st.lists(texts | st.builds(ToolResult, st.just("a"), st.tuples(texts))).map(tuple))
    | st.builds(Turn, st.just("assistant"), st.lists(texts | texts.map(lambda t: Reasoning(t.text))).map(tuple)),
    max_size=6,
).map(tuple)


@given(turns)
def test_roles_take_turns_and_nothing_is_empty(conversation: tuple[Turn, ...]) -> None:
    with suppress(BadRequest):
        messages = written(Prompt(turns=conversation))["messages"]
        roles = [message["role"] for message in messages]
        assert roles == (["user", "assistant"] * len(roles))[: len(roles)]
        for message in messages:
            kinds = [block["type"] for block in message["content"]]
            assert kinds and kinds == sorted(kinds, key=lambda kind: kind != "tool_result")
            assert all(block.get("text") != "" for block in message["content"])
        assert read(body(messages=messages)).prompt().turns  # the vendor's own rules hold


def test_a_tool_without_parameters_takes_an_empty_object() -> None:
    tool = written(Prompt(turns=HELLO, tools=(Tool("now"),)))["tools"]
    assert tool == [{"name": "now", "input_schema": {"type": "object", "properties": {}}}]


def test_one_tool_at_a_time_is_said_where_a_choice_is() -> None:
    tools = (Tool("now"),)
    assert written(Prompt(turns=HELLO, tools=tools, parallel_tools=False))["tool_choice"] == {
        "type": "auto",
        "disable_parallel_tool_use": True,
    }
    none = ToolChoice("none")
    assert written(Prompt(turns=HELLO, tools=tools, tool_choice=none, parallel_tools=False))["tool_choice"] == {
        "type": "none"
    }
    assert "tool_choice" not in written(Prompt(turns=HELLO, tool_choice=none, parallel_tools=True))


def test_a_schema_is_the_vendors_own_structured_output() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    prompt = Prompt(turns=HELLO, form=AnswerForm("a", schema, True), effort="low")
    assert written(prompt, NEW)["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": schema},
    }
    assert written(prompt, OLD)["output_config"] == {"format": {"type": "json_schema", "schema": schema}}


@pytest.mark.parametrize(
    ("effort", "budget"),
    [("minimal", 1024), ("low", 1024), ("medium", 4096), ("high", 16_384), ("xhigh", 32_768)],
)
def test_effort_is_a_budget_below_the_maximum_for_older_models(effort: Effort, budget: int) -> None:
    prompt = Prompt(turns=HELLO, effort=effort)
    assert written(prompt, OLD, 60_000)["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert written(prompt, OLD, 1025)["thinking"] == {"type": "enabled", "budget_tokens": 1024}
    assert "thinking" not in written(prompt, OLD, 1024)


@pytest.mark.parametrize(
    ("model", "adaptive"),
    [
        ("claude-3-7-sonnet-20250219", False),
        ("claude-sonnet-4-20250514", False),
        ("claude-haiku-4-5-20251001", False),
        ("claude-opus-4-6", True),
        ("anthropic/claude-opus-4.7", True),
        ("claude-sonnet-5", True),
        ("claude-fable-5-1-20260901", True),
        ("claude-latest", False),
        ("my-own-name", False),
    ],
)
def test_a_model_thinks_in_the_way_of_its_version(model: str, adaptive: bool) -> None:
    thinking = written(Prompt(turns=HELLO, effort="medium"), model, 8000)["thinking"]
    assert thinking["type"] == ("adaptive" if adaptive else "enabled")


@pytest.mark.parametrize(
    ("fields", "effort"),
    [({"effort": "minimal"}, "low"), ({"effort": "xhigh"}, "xhigh"), ({"thinking_tokens": 1024}, "low"),
     ({"thinking_tokens": 5000}, "medium"), ({"thinking_tokens": 99_000}, "xhigh"),
     ({"thinking_tokens": 100}, "low"), ({"thinking_tokens": 1024, "effort": "high"}, "high")],
)  # fmt: skip
def test_newer_models_think_by_effort(fields: dict[str, Any], effort: str) -> None:
    asked = written(Prompt(turns=HELLO, **fields), NEW)
    assert asked["thinking"] == {"type": "adaptive"} and asked["output_config"] == {"effort": effort}


def test_no_effort_is_no_thinking() -> None:
    assert "thinking" not in written(Prompt(turns=HELLO, effort="none"), OLD)
    assert written(Prompt(turns=HELLO, effort="none"), NEW)["thinking"] == {"type": "disabled"}
    assert "thinking" not in written(Prompt(turns=HELLO), NEW)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tools": (Tool("f"),), "tool_choice": ToolChoice("required")}, "tool_choice"),
        ({"temperature": 0.2}, "temperature"),
        ({"top_p": 0.5}, "top_p"),
        ({"top_k": 5}, "top_k"),
    ],
)
def test_what_older_models_do_not_take_while_thinking_is_refused(fields: dict[str, Any], field: str) -> None:
    assert unwritable(Prompt(turns=HELLO, effort="low", **fields)).field == field
    assert "thinking" not in written(Prompt(turns=HELLO, effort="none", **fields))


def test_a_budget_without_room_is_refused() -> None:
    assert unwritable(Prompt(turns=HELLO, thinking_tokens=2048), OLD, 1024).field == "thinking"


def test_a_use_of_tools_that_began_without_signed_thoughts_goes_on_without() -> None:
    """Older models refuse to think there; with their own thoughts they go on."""
    result = Turn("user", (ToolResult("a", (Text("12"),)),))
    unsigned = (*HELLO, Turn("assistant", (Reasoning("hm"), ToolCall("a", "f", "{}"))), result)
    signed = (*HELLO, Turn("assistant", (Reasoning("hm", "U2ln"), ToolCall("a", "f", "{}"))), result)
    assert "thinking" not in written(Prompt(turns=unsigned, effort="low"))
    assert written(Prompt(turns=signed, effort="low"))["thinking"]["budget_tokens"] == 1024


def test_the_body_is_json_in_utf_8() -> None:
    sent = WIRE.request(Prompt(turns=(Turn("user", (Text("Zoë ☕"),)),), user=""), OLD, 5)
    assert "Zoë ☕".encode() in sent and msgspec.json.decode(sent)["metadata"] == {"user_id": ""}

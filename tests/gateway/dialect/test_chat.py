"""Chat completion requests: what is read, what is refused, and what a provider of the same or another dialect gets."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.ask import Size
from tollhouse.core.errors import BadRequest, Mismatch, Overloaded, TollhouseError
from tollhouse.core.refusals import CapabilityDenied, LimitExceeded, ModelLocked
from tollhouse.core.token import IMAGE_BOUND
from tollhouse.gateway.dialect import messages
from tollhouse.gateway.dialect.chat import SURFACE, WIRE
from tollhouse.gateway.dialect.chat_error import error_headers
from tollhouse.gateway.dialect.chat_request import SANDBOX_COUNT_BYTES, ChatRequest, read, sandbox_tokens
from tollhouse.gateway.dialect.neutral import (
    AnswerForm,
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

HI = {"role": "user", "content": "Hello"}
PIXEL = "data:image/png;base64,iVBORw0KGgo="
ODD = {"role": "user", "content": [{"type": "text", "text": "a", "weight": 2}]}
REFUSAL = {"role": "user", "content": [{"type": "refusal", "refusal": "no"}]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of a place.", "parameters": SCHEMA}}
FORM = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}


def body(*messages: Any, **fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": messages or [HI], **fields}).encode()


def request(*messages: Any, **fields: Any) -> ChatRequest:
    return read(body(*messages, **fields))


def prompt(*messages: Any, **fields: Any) -> Prompt:
    return request(*messages, **fields).prompt()


def sent(wanted: Prompt, output_tokens: int = 100) -> Any:
    return json.loads(WIRE.request(wanted, "their-model", output_tokens))


def asked(*turns: Turn, **fields: Any) -> Any:
    return sent(Prompt(turns=turns or (Turn("user", (Text("Hello"),)),), **fields))


def shown(url: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


def calls(*names: str) -> list[dict[str, Any]]:
    return [{"id": f"id_{name}", "type": "function", "function": {"name": name, "arguments": "{}"}} for name in names]


# -------------------------------------------------------------------------------------------------------------- reading


def test_what_the_gateway_asks_of_a_request_is_there() -> None:
    wanted = request(stream=True, stream_options={"include_usage": True}, n=3, max_tokens=70)
    assert (wanted.model, wanted.answers, wanted.wants_stream, wanted.wants_usage) == ("m", 3, True, True)
    assert wanted.size.output_tokens == 70
    plain = request(stream=None, stream_options=None, n=None)
    assert (plain.answers, plain.wants_stream, plain.wants_usage, plain.size.output_tokens) == (1, False, False, None)


def test_the_callers_maximum_is_the_newer_field_when_both_are_given() -> None:
    assert request(max_completion_tokens=5, max_tokens=9).size.output_tokens == 5
    assert request(max_completion_tokens=None, max_tokens=9).size.output_tokens == 9


@pytest.mark.parametrize("field", ["tools", "functions", "response_format", "prediction"])
def test_the_input_bound_holds_all_that_the_model_reads(field: str) -> None:
    long = {"description": "ü" * 5_000, "name": "f", "schema": {"type": "string"}}
    values: dict[str, Any] = {
        "tools": [{"type": "function", "function": long}],
        "functions": [long],
        "response_format": {"type": "json_schema", "json_schema": long},
        "prediction": {"type": "content", "content": long["description"]},
    }
    assert request(**{field: values[field]}).size.input_tokens > request().size.input_tokens + 10_000


def test_an_image_counts_its_bound_and_not_its_base64() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
    size = request({"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}).size
    assert IMAGE_BOUND < size.input_tokens < IMAGE_BOUND + 1_000


def test_the_sandbox_is_counted_only_where_that_is_cheap() -> None:
    wanted = request({"role": "user", "content": "one two"})
    assert sandbox_tokens(wanted, SANDBOX_COUNT_BYTES) == 4 + 2
    assert sandbox_tokens(wanted, SANDBOX_COUNT_BYTES + 1) is None


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"temprature": 1}, "temprature", "Take it out, or check its spelling"),
    ({"audio": {"voice": "alloy"}}, "audio", "no price"),
    ({"web_search_options": {}}, "web_search_options", "no price"),
    ({"moderation": {"model": "omni-moderation-latest"}}, "moderation", "no price"),
    ({"modalities": ["text", "audio"]}, "modalities", "Leave `modalities` out"),
    ({"service_tier": "flex"}, "service_tier", "auto or default"),
    ({"store": True}, "store", "Leave `store` out"),
    ({"tools": [WEATHER, {"type": "web_search"}]}, "tools[1].type", "Leave `tools[1]` out"),
    ({"tools": [WEATHER, {"type": "function"}]}, "tools[1].function", "has no name"),
    ({"tools": [{}]}, "tools[0].type", "function or custom"),
    ({"response_format": {"type": "json_schema"}}, "response_format", "with a name and a schema"),
    ({"response_format": {"type": "grammar"}}, "response_format", "must have the type"),
]


@pytest.mark.parametrize(("fields", "field", "words"), REFUSED)
def test_what_cannot_be_priced_or_kept_is_refused_by_its_name(fields: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(BadRequest) as error:
        request(**fields)
    assert (error.value.status, error.value.field) == (400, field)
    assert words in str(error.value)


@pytest.mark.parametrize("kind", ["input_audio", "file", "video_url", None])
def test_a_part_whose_cost_its_bytes_do_not_bound_is_refused(kind: str | None) -> None:
    part = {"type": kind} if kind else {"text": "no type"}
    with pytest.raises(BadRequest, match=r"messages\[1\]\.content\[0\]") as error:
        request(HI, {"role": "user", "content": [part]})
    assert error.value.field == "messages[1].content[0].type"


def test_an_answer_in_sound_of_before_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"messages\[0\]\.audio"):
        request({"role": "assistant", "content": None, "audio": {"id": "audio_1"}})


def test_an_answer_as_the_vendors_client_repeats_it_is_taken() -> None:
    message: dict[str, Any] = {"role": "assistant", "content": "Yes", "refusal": None, "annotations": [], "audio": None,
               "function_call": None, "tool_calls": None, "reasoning_content": "Hm."}  # fmt: skip
    assert prompt(HI, message).turns[1] == Turn("assistant", (Reasoning("Hm."), Text("Yes")))


# --------------------------------------------------------------------------------------------------------- same dialect


def test_a_provider_of_the_same_dialect_gets_everything_as_it_came() -> None:
    fields: dict[str, Any] = {
        "tools": [WEATHER, {"type": "custom", "custom": {"name": "shell"}}],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
        "logit_bias": {"50256": -100.0},
        "prediction": {"type": "content", "content": "x"},
        "metadata": {"a": "b"},
        "prompt_cache_options": {"mode": "explicit"},
        "safety_identifier": "s",
        "reasoning_effort": "max",
        "stop": None,
        "store": False,
        "verbosity": "low",
        "temperature": 0.0,
    }
    part = {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
    message = {"role": "user", "content": [part], "name": "jo"}
    native = json.loads(request(message, **fields, max_tokens=500).native("gpt-4o-mini", 100))
    assert native == {"model": "gpt-4o-mini", "messages": [message], **fields, "max_tokens": 100}


@pytest.mark.parametrize(
    ("given_fields", "named"),
    [
        ({}, "max_tokens"),
        ({"max_tokens": 9}, "max_tokens"),
        ({"max_completion_tokens": 9}, "max_completion_tokens"),
        ({"max_completion_tokens": 9, "max_tokens": 9}, "max_completion_tokens"),
        ({"reasoning_effort": "low"}, "max_completion_tokens"),
        ({"reasoning_effort": "low", "max_tokens": 9}, "max_tokens"),
    ],
)
def test_the_admitted_maximum_stands_in_the_field_that_fits(given_fields: dict[str, Any], named: str) -> None:
    native = json.loads(request(**given_fields).native("x", 4))
    assert {name: value for name, value in native.items() if name.startswith("max_")} == {named: 4}


def test_a_stream_always_asks_for_usage_and_nothing_else_does() -> None:
    asked_for = json.loads(request(stream=True, stream_options={"include_obfuscation": False}).native("x", 4))
    assert asked_for["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert json.loads(request(stream=True).native("x", 4))["stream_options"] == {"include_usage": True}
    plain = json.loads(request(stream=False, stream_options={"include_usage": True}).native("x", 4))
    assert "stream_options" not in plain


# -------------------------------------------------------------------------------------------------------------- neutral


def test_system_and_developer_messages_at_the_start_are_the_system() -> None:
    parts = [
        {"type": "text", "text": "b"},
        {"type": "text", "text": "c", "prompt_cache_breakpoint": {"mode": "explicit"}},
    ]
    found = prompt({"role": "system", "content": "a"}, {"role": "developer", "content": parts}, HI)
    assert found.system == (Text("a"), Text("b"), Text("c"))
    assert found.turns == (Turn("user", (Text("Hello"),)),)


def test_a_system_message_later_on_keeps_its_place_and_text_as_a_turn_of_the_user() -> None:
    found = prompt(HI, {"role": "assistant", "content": "Yes?"}, {"role": "system", "content": "Be brief."})
    assert (found.system, found.turns[-1]) == ((), Turn("user", (Text("Be brief."),)))


def test_a_system_message_alone_is_what_is_to_be_answered() -> None:
    found = prompt({"role": "system", "content": "Tell a joke."})
    assert (found.system, found.turns) == ((), (Turn("user", (Text("Tell a joke."),)),))


def test_results_of_tools_that_follow_each_other_are_one_turn() -> None:
    found = prompt(
        HI,
        {"role": "assistant", "content": "", "tool_calls": calls("a", "b")},
        {"role": "tool", "tool_call_id": "id_a", "content": "1"},
        {"role": "tool", "tool_call_id": "id_b", "content": [{"type": "text", "text": "2"}], "name": "b"},
        HI,
    )
    assert found.turns[1:] == (
        Turn("assistant", (ToolCall("id_a", "a", "{}"), ToolCall("id_b", "b", "{}"))),
        Turn("user", (ToolResult("id_a", (Text("1"),)), ToolResult("id_b", (Text("2"),), "b"))),
        Turn("user", (Text("Hello"),)),
    )


def test_the_old_form_of_tools_is_tools_and_each_result_finds_its_call() -> None:
    def call(arguments: str) -> dict[str, Any]:
        return {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": arguments}}

    found = prompt(
        HI, call("1"), {"role": "function", "name": "f", "content": "one"},
        call("2"), {"role": "function", "name": "f", "content": "two"},
        functions=[{"name": "f", "parameters": SCHEMA}], function_call={"name": "f"},
    )  # fmt: skip
    assert found.tools == (Tool("f", None, SCHEMA),)
    assert found.tool_choice == ToolChoice("tool", "f")
    first, one, second, two = found.turns[1:]
    assert (first.parts, second.parts) == ((ToolCall("call_0", "f", "1"),), (ToolCall("call_1", "f", "2"),))
    assert one.parts == (ToolResult("call_0", (Text("one"),), "f"),)
    assert two.parts == (ToolResult("call_1", (Text("two"),), "f"),)


def test_images_are_read_by_url_and_as_data() -> None:
    images = [
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}} for url in (PIXEL, "https://x.test/a.png")
    ]
    assert prompt({"role": "user", "content": images}).turns[0].parts == (
        Image(media_type="image/png", data="iVBORw0KGgo=", detail="low"),
        Image(url="https://x.test/a.png", detail="low"),
    )


def test_the_settings_of_a_request_are_neutral() -> None:
    found = prompt(
        n=2, stream=True, temperature=0.5, top_p=0.9, stop="END", seed=7, frequency_penalty=0.1, presence_penalty=-0.1,
        logprobs=True, top_logprobs=3, reasoning_effort="high", verbosity="medium", parallel_tool_calls=False,
        tools=[WEATHER], tool_choice="required", safety_identifier="jo", metadata={"a": "b"}, response_format=FORM,
    )  # fmt: skip
    assert found == Prompt(
        turns=(Turn("user", (Text("Hello"),)),), answers=2, stream=True, temperature=0.5, top_p=0.9, stop=("END",),
        seed=7, frequency_penalty=0.1, presence_penalty=-0.1, logprobs=True, top_logprobs=3, effort="high",
        parallel_tools=False, tools=(Tool("weather", "Of a place.", SCHEMA),), tool_choice=ToolChoice("required"),
        user="jo", form=AnswerForm("place", SCHEMA, True),
    )  # fmt: skip


def test_forms_of_an_answer() -> None:
    assert prompt(response_format={"type": "text"}).form is None
    assert prompt(response_format={"type": "json_object"}).form == AnswerForm()
    described = {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA, "description": "A place."}}
    assert prompt(response_format=described).form == AnswerForm("p", {**SCHEMA, "description": "A place."})


ONLY_OPENAI: list[tuple[list[Any], dict[str, Any], str]] = [
    ([], {"logit_bias": {"1": 1.0}}, "logit_bias"),
    ([], {"prediction": {"type": "content", "content": "x"}}, "prediction"),
    ([], {"verbosity": "high"}, "verbosity"),
    ([], {"reasoning_effort": "max"}, "reasoning_effort"),
    ([], {"tools": [{"type": "custom", "custom": {"name": "shell"}}]}, "tools"),
    ([], {"functions": [{"name": 7}]}, "functions"),
    ([], {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
     "tool_choice"),
    ([], {"tools": [WEATHER], "tool_choice": {"type": "custom", "custom": {"name": "c"}}}, "tool_choice"),
    ([], {"function_call": "always"}, "function_call"),
    ([{**HI, "name": "jo"}], {}, "messages[0].name"),
    ([{"role": "user", "content": None}], {}, "messages[0].content"),
    ([REFUSAL], {}, "messages[0].content"),
    ([ODD], {}, "messages[0].content"),
    ([HI, shown(PIXEL) | {"role": "system"}], {}, "messages[1].content"),
    ([shown("ftp://x.test/a.png")], {}, "messages[0].content"),
    ([shown("data:image/png,plain")], {}, "messages[0].content"),
    ([HI, {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}], {}, "messages[1].tool_calls"),
    ([HI, {"role": "assistant", "function_call": "f"}], {}, "messages[1].function_call"),
    ([HI, {"role": "tool", "content": "a"}], {}, "messages[1].tool_call_id"),
    ([HI, {"role": "function", "name": "f", "content": "a"}], {}, "messages[1].name"),
    ([{"role": "assistant", "content": ""}], {}, "messages"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "fields", "field"), ONLY_OPENAI)
def test_what_another_dialect_cannot_say_is_refused_by_its_name(
    messages: list[Any], fields: dict[str, Any], field: str
) -> None:
    wanted = request(*messages, **fields)
    with pytest.raises(BadRequest) as error:
        wanted.prompt()
    assert error.value.field == field
    assert f"`{field}`" in str(error.value)


# ------------------------------------------------------------------------------------------------ towards OpenAI's wire


def test_a_prompt_is_a_body_with_the_providers_model_and_the_admitted_maximum() -> None:
    assert asked() == {"model": "their-model", "messages": [HI], "max_tokens": 100}


def test_a_stream_asks_for_its_usage() -> None:
    found = asked(stream=True)
    assert (found["stream"], found["stream_options"]) == (True, {"include_usage": True})


def test_an_effort_comes_with_the_newer_name_of_the_maximum() -> None:
    found = asked(effort="minimal")
    assert (found["reasoning_effort"], found["max_completion_tokens"], "max_tokens" in found) == ("minimal", 100, False)


@pytest.mark.parametrize(
    ("budget", "effort"),
    [(0, None), (1_024, "low"), (2_048, "low"), (4_096, "medium"), (8_193, "high"), (64_000, "high")],
)
def test_a_budget_for_thinking_is_the_closest_effort(budget: int, effort: str | None) -> None:
    assert asked(thinking_tokens=budget).get("reasoning_effort") == effort
    assert asked(thinking_tokens=budget, effort="low")["reasoning_effort"] == "low"


def test_results_of_tools_follow_their_calls_at_once_and_their_images_come_after() -> None:
    image = Image(url="https://x.test/a.png")
    results = ToolResult("1", (Text("a"), image, Text("b"))), ToolResult("2", (Text("gone"),), is_error=True)
    found = asked(
        Turn("user", (Text("Look"),)),
        Turn("assistant", (Reasoning("Hm.", "signed"), Text("I look."), ToolCall("1", "see", "{}"))),
        Turn("user", (Text("And?"), *results)),
    )
    assert found["messages"][1:] == [
        {"role": "assistant", "content": "I look.", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "see", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "ab"},
        {"role": "tool", "tool_call_id": "2", "content": "Error: gone"},
        {"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}, {"type": "text", "text": "And?"}]},
    ]  # fmt: skip


def test_thoughts_of_earlier_turns_are_left_out_and_with_them_a_turn_that_has_nothing_else() -> None:
    found = asked(Turn("user", (Text("a"),)), Turn("assistant", (Reasoning("Hm."),)), Turn("user", (Text("b"),)))
    assert [message["content"] for message in found["messages"]] == ["a", "b"]


def test_settings_of_tools_are_sent_only_with_tools() -> None:
    assert asked(tool_choice=ToolChoice("auto"), parallel_tools=False).keys() == {"model", "messages", "max_tokens"}


@pytest.mark.parametrize(("fields", "field"), [({"top_k": 5}, "top_k"), ({"stop": ("a",) * 5}, "stop")])
def test_what_openai_has_not_is_refused_by_its_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as error:
        asked(**fields)
    assert error.value.field == field
    assert field in str(error.value)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
TEXT_PARTS = st.builds(Text, TEXTS)
IMAGES = st.builds(Image, url=st.just("https://x.test/a.png"), detail=st.none() | st.just("high")) | st.builds(
    Image, media_type=st.sampled_from(["image/png", "image/webp"]), data=st.just("AAAA")
)
USER_TURNS = st.lists(TEXT_PARTS | IMAGES, min_size=1, max_size=3).map(lambda parts: Turn("user", tuple(parts)))
CALLS = st.builds(ToolCall, TEXTS, TEXTS, st.just('{"a":1}'))
SAID = st.tuples(
    st.lists(TEXT_PARTS, max_size=2), st.lists(st.builds(Refusal, TEXTS), max_size=1), st.lists(CALLS, max_size=2)
).filter(any)
ASSISTANT_TURNS = SAID.map(lambda said: Turn("assistant", tuple(part for parts in said for part in parts)))
RESULTS = st.lists(st.builds(ToolResult, TEXTS, st.tuples(TEXT_PARTS)), min_size=1, max_size=2)
CONVERSATIONS = st.lists(
    st.tuples(USER_TURNS, ASSISTANT_TURNS, RESULTS.map(lambda results: Turn("user", tuple(results)))), max_size=2
).map(lambda rounds: tuple(turn for turns in rounds for turn in turns))
TOOLS = st.builds(Tool, TEXTS, st.none() | TEXTS, st.none() | st.just(SCHEMA), st.none() | st.booleans())
CHOICES = st.none() | st.sampled_from([ToolChoice("auto"), ToolChoice("none"), ToolChoice("tool", "f")])
PROMPTS = st.builds(
    Prompt,
    system=st.lists(TEXT_PARTS, max_size=3).map(tuple),
    turns=st.tuples(CONVERSATIONS, USER_TURNS).map(lambda turns: (*turns[0], turns[1])),
    stream=st.booleans(),
    answers=st.integers(1, 16),
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    stop=st.lists(TEXTS, max_size=4).map(tuple),
    seed=st.none() | st.integers(0, 2**31),
    frequency_penalty=st.none() | st.floats(-2, 2),
    presence_penalty=st.none() | st.floats(-2, 2),
    logprobs=st.booleans(),
    top_logprobs=st.none() | st.integers(0, 20),
    form=st.none() | st.just(AnswerForm("p", SCHEMA, True)) | st.just(AnswerForm()),
    effort=st.sampled_from([None, "none", "low", "xhigh"]),
    user=st.none() | TEXTS,
)


@given(PROMPTS, st.lists(TOOLS, min_size=1, max_size=2), CHOICES, st.none() | st.booleans(), st.booleans())
def test_a_prompt_that_was_written_is_read_again_with_the_same_meaning(
    wanted: Prompt, tools: list[Tool], choice: ToolChoice | None, parallel: bool | None, with_tools: bool
) -> None:
    if with_tools:
        fields = {name: getattr(wanted, name) for name in Prompt.__dataclass_fields__}
        wanted = Prompt(**fields | {"tools": tuple(tools), "tool_choice": choice, "parallel_tools": parallel})
    again = read(WIRE.request(wanted, "m", 50))
    assert again.prompt() == wanted
    assert again.size.output_tokens == 50


# --------------------------------------------------------------------------------------------------------------- faults

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(ChatRequest.__struct_fields__)
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "refusal"])},
    optional={"text": JSON, "image_url": JSON | st.fixed_dictionaries({"url": st.text(max_size=9)}), "refusal": JSON},
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "function"])},
    optional={"content": st.text(max_size=5) | st.lists(PARTS, max_size=2), "name": st.text(max_size=3),
              "tool_calls": st.lists(st.dictionaries(st.sampled_from(["id", "type", "function"]), JSON), max_size=2),
              "tool_call_id": st.text(max_size=3), "function_call": JSON, "reasoning_content": st.text(max_size=3)},
)  # fmt: skip


def refused_or_read(raw: bytes) -> None:
    try:
        wanted = read(raw)
        assert isinstance(wanted.size, Size)
        assert json.loads(wanted.native("x", 1))["model"] == "x"
        assert WIRE.request(wanted.prompt(), "x", 1)
    except BadRequest as error:
        assert str(error)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        read(raw)


@given(st.lists(MESSAGES, min_size=1, max_size=4), st.dictionaries(FIELDS, JSON, max_size=3))
def test_any_values_are_read_and_translated_or_refused(messages: list[Any], fields: dict[str, Any]) -> None:
    refused_or_read(json.dumps({"model": "m", **fields, "messages": messages}).encode())


@given(FIELDS, JSON)
def test_any_value_of_a_field_is_read_and_translated_or_refused(name: str, value: Any) -> None:
    refused_or_read(json.dumps({"model": "m", "messages": [HI], name: value}).encode())


@pytest.mark.parametrize(
    ("error", "status_type", "code"),
    [
        (BadRequest("Wrong.", "n"), "invalid_request_error", "invalid_request"),
        (Mismatch("Another body."), "invalid_request_error", "idempotency_mismatch"),
        (Overloaded("Busy."), "api_error", "overloaded"),
        (TollhouseError("Odd."), "api_error", "error"),
    ],
)
def test_a_refusal_has_the_vendors_shape(error: TollhouseError, status_type: str, code: str) -> None:
    assert json.loads(SURFACE.refusal(error)) == {
        "error": {
            "message": str(error),
            "type": status_type,
            "param": "n" if isinstance(error, BadRequest) else None,
            "code": code,
        }
    }


def test_a_refusal_carries_what_would_help() -> None:
    error = json.loads(SURFACE.refusal(ModelLocked("gpt-4o", 299)))["error"]
    assert (error["type"], error["code"]) == ("permission_error", "model_locked")
    assert error["metadata"]["model_id"] == "gpt-4o"
    assert error["metadata"]["hints"] == [{"kind": "unlock", "price_cents": 299}]
    denied = CapabilityDenied("polish", None, "free", "pro", 4_900)
    for surface in (SURFACE, messages.SURFACE):
        hints = json.loads(surface.refusal(denied))["error"]["metadata"]["hints"]
        assert hints == [{"kind": "upgrade", "price_cents": 4_900, "plan": "pro"}]


def test_headers_say_whether_and_when_to_try_again() -> None:
    limit: dict[str, Any] = {"scope": "key", "meter": "requests", "period": "day", "limit": 1, "used": 1, "reserved": 0}
    assert error_headers(Overloaded("Busy.")) == [(b"retry-after", b"1")]
    assert error_headers(BadRequest("Wrong.")) == []
    assert error_headers(LimitExceeded(**limit, resets_at=None)) == [(b"x-should-retry", b"false")]

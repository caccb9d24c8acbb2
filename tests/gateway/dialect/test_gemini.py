"""Gemini as a provider: what is asked of it."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from tollhouse.core.errors import BadRequest
from tollhouse.gateway.dialect.gemini import WIRE
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

GOLDEN = Path(__file__).parent / "golden"
HELLO = Turn("user", (Text("Hello"),))
WEATHER = Tool("weather", "The weather of a place.", {"type": "object", "properties": {"city": {"type": "string"}}})
CALL = ToolCall("call_1", "weather", '{"city": "Zürich"}')
SECOND, THIRD = "gemini-2.5-flash", "gemini-3-flash-preview"


def sent(prompt: Prompt, model: str = SECOND, output_tokens: int = 100) -> Any:
    return json.loads(WIRE.request(prompt, model, output_tokens))


def asked(*turns: Turn, model: str = SECOND, **fields: Any) -> Any:
    return sent(Prompt(turns=turns or (HELLO,), **fields), model)


def refused(*turns: Turn, **fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        asked(*turns, **fields)
    return caught.value


# What is asked


def test_the_model_and_the_stream_stand_in_the_url_and_not_in_the_body() -> None:
    body = sent(Prompt(turns=(HELLO,), stream=True), "gemini-2.5-flash", 77)
    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
        "generationConfig": {"maxOutputTokens": 77},
    }


def test_the_system_message_is_an_instruction_of_its_own() -> None:
    body = asked(system=(Text("Be brief."), Text(""), Text("Be kind.")))
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]}


def test_a_system_message_without_text_is_left_out() -> None:
    assert "systemInstruction" not in asked(system=(Text(""),))


def test_turns_keep_their_order_and_those_of_one_side_become_one() -> None:
    turns = (
        HELLO,
        Turn("assistant", (Text("Hi."), Text(""))),
        Turn("assistant", (Refusal("I would rather not."),)),
        Turn("user", (Text("Why?"),)),
    )
    assert asked(*turns)["contents"] == [
        {"role": "user", "parts": [{"text": "Hello"}]},
        {"role": "model", "parts": [{"text": "Hi."}, {"text": "I would rather not."}]},
        {"role": "user", "parts": [{"text": "Why?"}]},
    ]


def test_a_turn_that_says_nothing_is_left_out() -> None:
    contents = asked(HELLO, Turn("assistant", (Text(""),)), Turn("user", (Text("Well?"),)))["contents"]
    assert [content["role"] for content in contents] == ["user", "user"]


@pytest.mark.parametrize("turns", [(), (Turn("user", (Text(""),)),)])
def test_a_prompt_that_says_nothing_is_refused(turns: tuple[Turn, ...]) -> None:
    with pytest.raises(BadRequest) as caught:
        WIRE.request(Prompt(turns=turns, system=(Text("Be brief."),)), SECOND, 10)
    assert caught.value.field == "messages"


def test_every_parameter_has_its_place() -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}}
    body = asked(
        answers=3,
        temperature=0.0,
        top_p=0.9,
        top_k=40,
        stop=("END", "\n\n"),
        seed=-7,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logprobs=True,
        top_logprobs=4,
        form=AnswerForm("answer", schema, strict=True),
        user="somebody",
    )
    assert body["generationConfig"] == {
        "maxOutputTokens": 100,
        "candidateCount": 3,
        "temperature": 0.0,
        "topP": 0.9,
        "topK": 40,
        "stopSequences": ["END", "\n\n"],
        "seed": -7,
        "presencePenalty": 0.5,
        "frequencyPenalty": -0.5,
        "responseLogprobs": True,
        "logprobs": 4,
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
    }


def test_json_without_a_schema_is_any_json() -> None:
    config = asked(form=AnswerForm())["generationConfig"]
    assert config == {"maxOutputTokens": 100, "responseMimeType": "application/json"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"parallel_tools": False, "tools": (WEATHER,)}, "parallel_tool_calls"),
        ({"answers": 9}, "n"),
        ({"stop": tuple("abcdef")}, "stop"),
        ({"seed": 2**31}, "seed"),
        ({"seed": -(2**31) - 1}, "seed"),
        ({"tool_choice": ToolChoice("required")}, "tool_choice"),
        ({"tool_choice": ToolChoice("tool", "weather")}, "tool_choice"),
    ],
)
def test_what_gemini_has_not_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    error = refused(**fields)
    assert error.field == field
    assert field in str(error)


@pytest.mark.parametrize(
    "fields",
    [{"parallel_tools": True}, {"answers": 8}, {"stop": tuple("abcde")}, {"seed": 2**31 - 1}, {"seed": -(2**31)}],
)
def test_what_gemini_just_about_has_is_sent(fields: dict[str, Any]) -> None:
    assert asked(**fields)["contents"]


# Thinking


@pytest.mark.parametrize(
    ("effort", "budget"),
    [("minimal", 1024), ("low", 1024), ("medium", 8192), ("high", 24_576), ("xhigh", 24_576)],
)
def test_an_effort_is_a_budget_of_tokens_and_thoughts_are_shown(effort: Effort, budget: int) -> None:
    thinking = asked(effort=effort)["generationConfig"]["thinkingConfig"]
    assert thinking == {"thinkingBudget": budget, "includeThoughts": True}


@pytest.mark.parametrize("model", [THIRD, "models/gemini-3.1-pro", "gemini-10-flash", "gemini-flash-latest"])
@pytest.mark.parametrize(
    ("effort", "level"),
    [("minimal", "MINIMAL"), ("low", "LOW"), ("medium", "MEDIUM"), ("high", "HIGH"), ("xhigh", "HIGH")],
)
def test_models_of_the_third_generation_think_by_levels(model: str, effort: Effort, level: str) -> None:
    thinking = asked(model=model, effort=effort)["generationConfig"]["thinkingConfig"]
    assert thinking == {"thinkingLevel": level, "includeThoughts": True}


@pytest.mark.parametrize("model", ["gemini-1.5-pro-latest", "gemini-2.0-flash", SECOND, "gemma-3-27b-it"])
def test_older_models_have_no_levels(model: str) -> None:
    assert "thinkingLevel" not in asked(model=model, effort="high")["generationConfig"]["thinkingConfig"]


@pytest.mark.parametrize("model", [SECOND, THIRD])
def test_no_effort_at_all_switches_thinking_off(model: str) -> None:
    thinking = asked(model=model, effort="none")["generationConfig"]["thinkingConfig"]
    assert thinking == {"thinkingBudget": 0, "includeThoughts": False}


@pytest.mark.parametrize("model", [SECOND, THIRD])
def test_a_budget_goes_before_an_effort(model: str) -> None:
    thinking = asked(model=model, effort="high", thinking_tokens=2000)["generationConfig"]["thinkingConfig"]
    assert thinking == {"thinkingBudget": 2000, "includeThoughts": True}


def test_every_effort_has_a_budget_and_a_level() -> None:
    for effort in get_args(Effort):
        assert asked(effort=effort, model=SECOND) != asked(model=SECOND)
        assert asked(effort=effort, model=THIRD) != asked(model=THIRD)


# Images


def test_an_image_is_data_of_its_type() -> None:
    contents = asked(Turn("user", (Text("What is it?"), Image(media_type="image/png", data="aGk=", detail="high"))))
    assert contents["contents"][0]["parts"] == [
        {"text": "What is it?"},
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
    ]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://example.org/a.png", "image/png"),
        ("https://example.org/a/b.JPG?size=2#top", "image/jpeg"),
        ("https://storage.googleapis.com/bucket/a.webp", "image/webp"),
    ],
)
def test_an_image_by_url_is_fetched_by_google(url: str, kind: str) -> None:
    parts = asked(Turn("user", (Image(url=url),)))["contents"][0]["parts"]
    assert parts == [{"fileData": {"mimeType": kind, "fileUri": url}}]


@pytest.mark.parametrize(
    "image",
    [
        Image(url="http://example.org/a.png"),
        Image(url="gs://bucket/a.png"),
        Image(url="https:///a.png"),
        Image(url="https://[a.png"),
        Image(url="https://example.org/a"),
        Image(url="https://example.org/report.pdf"),
        Image(url="https://example.org/film.mp4"),
        Image(url="https://www.youtube.com/watch?v=abc"),
        Image(url="https://www.youtube.com/shorts/abc.png"),
        Image(url="https://youtu.be/abc.png"),
        Image(url="https://generativelanguage.googleapis.com/v1beta/files/abc.png"),
        Image(url="https://generativelanguage.googleapis.com/v1beta/files/abc"),
        Image(url=""),
        Image(data="aGk="),
        Image(media_type="image/png"),
        Image(media_type="application/pdf", data="aGk="),
        Image(media_type="video/mp4", data="aGk="),
        Image(),
    ],
)
def test_what_may_cost_more_than_an_image_or_is_none_is_refused(image: Image) -> None:
    error = refused(Turn("user", (image,)))
    assert error.field == "messages"
    assert "data" in str(error)


# Tools


def test_a_tool_is_a_function_with_a_json_schema() -> None:
    body = asked(tools=(WEATHER, Tool("now", strict=True)))
    assert body["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "weather",
                    "description": "The weather of a place.",
                    "parametersJsonSchema": WEATHER.parameters,
                },
                {"name": "now"},
            ]
        }
    ]
    assert "toolConfig" not in body


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("tool", "weather"), {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
    ],
)
def test_the_choice_of_tools_is_a_mode(choice: ToolChoice, config: dict[str, Any]) -> None:
    assert asked(tools=(WEATHER,), tool_choice=choice)["toolConfig"] == {"functionCallingConfig": config}


@pytest.mark.parametrize("choice", [ToolChoice("auto"), ToolChoice("none")])
def test_a_choice_of_nothing_is_not_sent(choice: ToolChoice) -> None:
    assert "toolConfig" not in asked(tool_choice=choice)


def test_results_of_parallel_calls_go_back_together_by_name_and_id() -> None:
    turns = (
        HELLO,
        Turn("assistant", (CALL, ToolCall("call_2", "now", ""))),
        Turn("user", (ToolResult("call_1", (Text("rain"), Text("wind"))),)),
        Turn("user", (ToolResult("call_2", (Text("no clock"),), is_error=True),)),
    )
    assert asked(*turns)["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "call_1", "name": "weather", "args": {"city": "Zürich"}}},
                {"functionCall": {"id": "call_2", "name": "now", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "call_1", "name": "weather", "response": {"output": "rain\nwind"}}},
                {"functionResponse": {"id": "call_2", "name": "now", "response": {"error": "no clock"}}},
            ],
        },
    ]


def test_an_id_that_is_used_again_means_the_call_just_before() -> None:
    turns = [HELLO]
    for name in ("weather", "now"):
        turns += [Turn("assistant", (ToolCall("call_0", name, "{}"),)), Turn("user", (ToolResult("call_0", ()),))]
    results = [content["parts"][0]["functionResponse"] for content in asked(*turns)["contents"][2::2]]
    assert [result["name"] for result in results] == ["weather", "now"]


def test_a_result_that_names_its_function_needs_no_call() -> None:
    part = asked(Turn("user", (ToolResult("x", (Text("rain"),), name="weather"),)))["contents"][0]["parts"][0]
    assert part["functionResponse"]["name"] == "weather"


def test_a_result_without_its_call_is_refused() -> None:
    error = refused(HELLO, Turn("user", (ToolResult("call_9", (Text("rain"),)),)))
    assert error.field == "messages"
    assert "call_9" in str(error)


@pytest.mark.parametrize(
    "arguments", ["{", "[]", "null", '"a"', '{"a": NaN}', "{}{}", '{"a":' * 5000 + "1" + "}" * 5000]
)
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    error = refused(HELLO, Turn("assistant", (ToolCall("call_1", "weather", arguments),)))
    assert error.field == "messages"
    assert "call_1" in str(error)


@pytest.mark.parametrize("arguments", ['{"n":123456789012345678901234567890}', '{"n":1.0}', '{"n":1e2,"a":"\\u00e9"}'])
def test_arguments_go_back_as_the_model_wrote_them(arguments: str) -> None:
    body = WIRE.request(Prompt(turns=(HELLO, Turn("assistant", (ToolCall("a", "b", arguments),)))), SECOND, 10)
    assert arguments.encode() in body


IMAGE = Image(media_type="image/png", data="aGk=")
INLINE = {"inlineData": {"mimeType": "image/png", "data": "aGk="}}


def test_an_image_in_a_result_stays_in_it() -> None:
    turn = Turn("user", (ToolResult("x", (Text("see"), IMAGE), name="draw"),))
    response = {"id": "x", "name": "draw", "response": {"output": "see"}}
    assert asked(turn, model=THIRD)["contents"][0]["parts"] == [{"functionResponse": response | {"parts": [INLINE]}}]


def test_an_image_in_a_result_stands_beside_it_for_older_models() -> None:
    turn = Turn("user", (ToolResult("x", (Text("see"), IMAGE), name="draw"),))
    response = {"id": "x", "name": "draw", "response": {"output": "see"}}
    assert asked(turn, model=SECOND)["contents"][0]["parts"] == [{"functionResponse": response}, INLINE]


# Signatures


def signatures(*parts: Any, model: str = THIRD) -> list[str | None]:
    contents = asked(HELLO, Turn("assistant", parts), model=model)["contents"]
    return [part.get("thoughtSignature") for part in contents[1]["parts"]]


def test_a_signature_goes_back_to_the_part_behind_it() -> None:
    parts = (Text("Well."), Reasoning("Hm.", "google:abc"), CALL, CALL)
    assert signatures(*parts) == [None, "abc", None]


def test_what_another_vendor_signed_or_encrypted_is_left_out() -> None:
    parts = (Reasoning("Hm.", "ErUBCkYIBxgC"), Reasoning("", redacted="xyz"), Text("Well."))
    assert signatures(*parts) == [None]


def test_the_first_call_of_a_turn_without_its_signature_says_so_to_the_third_generation() -> None:
    assert signatures(Text("Well."), CALL, CALL) == [None, "skip_thought_signature_validator", None]
    assert signatures(Text("Well."), CALL, CALL, model=SECOND) == [None, None, None]


def test_a_thought_alone_says_nothing() -> None:
    contents = asked(HELLO, Turn("assistant", (Reasoning("Hm.", "google:abc"),)))["contents"]
    assert [content["role"] for content in contents] == ["user"]


@pytest.mark.parametrize("model", [SECOND, THIRD])
def test_an_answer_goes_back_as_it_came(model: str) -> None:
    answer = json.loads((GOLDEN / "gemini_whole.txt").read_bytes())
    parts = WIRE.whole(json.dumps(answer).encode()).choices[0].parts
    back = asked(HELLO, Turn("assistant", parts), model=model)["contents"][1]["parts"]
    came = answer["candidates"][0]["content"]["parts"]
    assert back == [{"text": "Let me look."}, came[-1]]

"""Google's own types, from google-genai: they take what we ask of Gemini, and we read what they write."""

from __future__ import annotations

from typing import Any

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from tollhouse.core.price import Usage
from tollhouse.gateway.dialect.gemini import WIRE
from tollhouse.gateway.dialect.neutral import (
    AnswerForm,
    Counted,
    Ending,
    Image,
    Prompt,
    Reasoning,
    ReasoningPiece,
    Text,
    TextPiece,
    Tool,
    ToolBegan,
    ToolCall,
    ToolChoice,
    ToolPiece,
    ToolResult,
    Turn,
)


class Request(BaseModel):
    """The body of generateContent; google-genai has types for its parts only."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)

    contents: list[types.Content]
    system_instruction: types.Content | None = None
    tools: list[types.Tool] | None = None
    tool_config: types.ToolConfig | None = None
    generation_config: types.GenerationConfig


WORDS = st.text("abc ä", min_size=1, max_size=8)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PIXEL = Image(media_type="image/png", data="iVBORw0KGgo=")
ANYWHERE = Image(url="https://example.com/a.png")
CALLS = st.tuples(
    st.just(Turn("assistant", (Reasoning("hm", "c2ln"), ToolCall("call_1", "weather", '{"city": "Bern"}')))),
    st.builds(
        lambda content, wrong: Turn("user", (ToolResult("call_1", content, is_error=wrong),)),
        st.lists(st.builds(Text, WORDS) | st.just(PIXEL), max_size=3).map(tuple),
        st.booleans(),
    ),
)
ASKED = st.builds(
    lambda parts: (Turn("user", parts),),
    st.lists(st.builds(Text, WORDS) | st.sampled_from([PIXEL, ANYWHERE]), min_size=1, max_size=3).map(tuple),
)
PROMPTS = st.builds(
    Prompt,
    system=st.lists(st.builds(Text, WORDS), max_size=2).map(tuple),
    turns=st.builds(lambda asked, called: asked + called, ASKED, st.just(()) | CALLS),
    tools=st.just((Tool("weather", "The weather", SCHEMA), Tool("clock"))),
    tool_choice=st.none()
    | st.sampled_from([ToolChoice("auto"), ToolChoice("none"), ToolChoice("required"), ToolChoice("tool", "clock")]),
    answers=st.integers(1, 8),
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(1, 40),
    stop=st.lists(WORDS, max_size=5).map(tuple),
    seed=st.none() | st.integers(-(2**31), 2**31 - 1),
    frequency_penalty=st.none() | st.floats(-2, 2),
    presence_penalty=st.none() | st.floats(-2, 2),
    form=st.none() | st.sampled_from([AnswerForm(), AnswerForm(schema=SCHEMA)]),
    effort=st.none() | st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh"]),
    thinking_tokens=st.none() | st.integers(0, 24_576),
)


@given(prompt=PROMPTS, model=st.sampled_from(["gemini-2.5-flash", "gemini-3-pro-preview"]), most=st.integers(1, 8192))
def test_what_is_asked_of_gemini_is_a_request_by_googles_own_types(prompt: Prompt, model: str, most: int) -> None:
    read = Request.model_validate_json(WIRE.request(prompt, model, most))
    assert read.generation_config.max_output_tokens == most
    assert (read.generation_config.candidate_count or 1) == prompt.answers
    assert [content.role for content in read.contents] == [
        "model" if turn.role == "assistant" else "user" for turn in prompt.turns
    ]
    declared = read.tools[0].function_declarations if read.tools else None
    assert declared is not None and [tool.name for tool in declared] == ["weather", "clock"]


def written(**fields: Any) -> bytes:
    """An answer as Google's own types write it."""
    return types.GenerateContentResponse(**fields).model_dump_json(by_alias=True, exclude_none=True).encode()


COUNTED = types.GenerateContentResponseUsageMetadata(
    prompt_token_count=40, cached_content_token_count=10, candidates_token_count=5, thoughts_token_count=7,
    total_token_count=52,
)  # fmt: skip
USED = Usage(40, 12, 10, 7)
SAID = [
    types.Part(text="Let me see.", thought=True),
    types.Part(text="It is sunny."),
    types.Part(function_call=types.FunctionCall(id="call_7", name="clock", args={"hours": 12})),
]


def test_an_answer_of_googles_own_types_is_read_whole() -> None:
    candidate = types.Candidate(
        content=types.Content(role="model", parts=SAID), finish_reason=types.FinishReason.STOP, index=0
    )
    whole = WIRE.whole(written(response_id="r1", candidates=[candidate], usage_metadata=COUNTED))
    (choice,) = whole.choices
    assert (whole.id, whole.usage, choice.ended) == ("r1", USED, "tool_calls")
    thought, said, call = choice.parts
    assert isinstance(thought, Reasoning) and thought.text == "Let me see."
    assert said == Text("It is sunny.")
    assert isinstance(call, ToolCall) and (call.id, call.name, call.arguments) == ("call_7", "clock", '{"hours":12}')


def test_an_answer_in_pieces_of_googles_own_types_is_read_as_it_comes() -> None:
    reader, pieces = WIRE.reader(), []
    for part in SAID:
        content = types.Content(role="model", parts=[part])
        pieces += reader.read(written(response_id="r1", candidates=[types.Candidate(content=content, index=0)]))
    end = types.Candidate(finish_reason=types.FinishReason.MAX_TOKENS, index=0)
    pieces += reader.read(written(response_id="r1", candidates=[end], usage_metadata=COUNTED))
    assert [piece for piece in pieces if isinstance(piece, ReasoningPiece | TextPiece | ToolBegan | ToolPiece)] == [
        ReasoningPiece(0, "Let me see."),
        TextPiece(0, "It is sunny."),
        ToolBegan(0, 0, "call_7", "clock"),
        ToolPiece(0, 0, '{"hours":12}'),
    ]
    assert [piece.usage for piece in pieces if isinstance(piece, Counted)] == [USED]
    assert [piece.ended for piece in pieces if isinstance(piece, Ending)] == ["length"]


CUT = {"MAX_TOKENS", "CONTINUATION"}
WITHHELD = {
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "ESCALATION", "MODEL_ARMOR", "PUP_LIMITED_DISABLED",
}  # fmt: skip
OTHERWISE = {
    "STOP", "FINISH_REASON_UNSPECIFIED", "OTHER", "MALFORMED_FUNCTION_CALL", "IMAGE_OTHER", "NO_IMAGE",
    "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE",
}  # fmt: skip


@pytest.mark.parametrize("reason", types.FinishReason)
def test_every_reason_of_googles_own_list_was_thought_of(reason: types.FinishReason) -> None:
    """One that Google adds fails here, so that somebody decides what it is to our clients."""
    content = types.Content(role="model", parts=[types.Part(text="x")])
    candidate = types.Candidate(content=content, finish_reason=reason, index=0)
    (choice,) = WIRE.whole(written(response_id="r", candidates=[candidate])).choices
    name = reason.value
    assert name in CUT | WITHHELD | OTHERWISE
    assert choice.ended == ("length" if name in CUT else "content_filter" if name in WITHHELD else "stop")

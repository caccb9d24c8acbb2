"""Gemini as a provider: what is read of its answers."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.price import Usage
from tollhouse.gateway.dialect import NotAnAnswer
from tollhouse.gateway.dialect.gemini import WIRE
from tollhouse.gateway.dialect.meter import TOKENS_BELIEVABLE, Meter
from tollhouse.gateway.dialect.neutral import (
    Began,
    Choice,
    Counted,
    Ended,
    Ending,
    Failed,
    Piece,
    Reasoning,
    ReasoningPiece,
    Text,
    TextPiece,
    ToolBegan,
    ToolCall,
    ToolPiece,
    Whole,
)
from tollhouse.gateway.sse import EventReader

GOLDEN = Path(__file__).parent / "golden"


def streamed(*events: object) -> list[Piece]:
    reader = WIRE.reader()
    return [piece for event in events for piece in reader.read(msgspec.json.encode(event))]


def golden(name: str, size: int = 1 << 20) -> list[Piece]:
    """The pieces of a golden stream that comes in segments of so many bytes."""
    stream, events, reader = (GOLDEN / f"gemini_{name}.txt").read_bytes(), EventReader(), WIRE.reader()
    segments = (stream[at : at + size] for at in range(0, len(stream), size))
    return [piece for segment in segments for data in events.feed(segment) for piece in reader.read(data)]


def said(*parts: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """One event, or a whole answer, with one candidate."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}} | fields
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})]}


def whole(answer: object) -> Whole:
    return WIRE.whole(msgspec.json.encode(answer))


# What is answered


def test_a_stream_of_text() -> None:
    assert golden("text") == [
        Began("q1W2e3R4t5Y6u7I8"),
        TextPiece(0, "The sea"),
        TextPiece(0, " is calm — today"),
        Counted(Usage(9, 6)),
        TextPiece(0, "."),
        Ending(0, "stop"),
        Counted(Usage(9, 7)),
    ]


def test_a_stream_with_thoughts() -> None:
    assert golden("thoughts") == [
        Began("thinking_1"),
        ReasoningPiece(0, "**Weighing it**\n\nTwo and two."),
        ReasoningPiece(0, " That is easy."),
        TextPiece(0, "Four"),
        Counted(Usage(11, 64, reasoning_tokens=63)),
        Ending(0, "stop"),
        Counted(Usage(11, 64, reasoning_tokens=63)),
    ]


def test_a_stream_with_two_function_calls_without_ids() -> None:
    assert golden("calls") == [
        Began("two.calls/1"),
        TextPiece(0, "Looking both up."),
        Counted(Usage(80, 4)),
        ReasoningPiece(0, "", "google:c2lnbmF0dXJlIG9uZQ=="),
        ToolBegan(0, 0, "call_twocalls1_0", "weather"),
        ToolPiece(0, 0, '{"city":"Zürich","days":3}'),
        ToolBegan(0, 1, "call_twocalls1_1", "now"),
        ToolPiece(0, 1, "{}"),
        Counted(Usage(80, 72, reasoning_tokens=42)),
        Ending(0, "tool_calls"),
        Counted(Usage(80, 72, reasoning_tokens=42)),
    ]


def test_a_stream_that_is_stopped_for_safety() -> None:
    assert golden("safety") == [
        Began("stopped"),
        TextPiece(0, "First you"),
        Counted(Usage(12, 2)),
        Ending(0, "content_filter"),
        Counted(Usage(12, 2)),
    ]


def test_a_stream_of_a_blocked_prompt_ends_at_once_and_its_input_counts() -> None:
    assert golden("blocked") == [Began("blocked"), Ending(0, "content_filter"), Counted(Usage(21, 0))]


def test_usage_has_cached_input_and_thoughts() -> None:
    assert golden("usage") == [
        Began("counted"),
        TextPiece(0, "Done."),
        Ending(0, "length"),
        Counted(Usage(5020, 1000, cached_input_tokens=4096, reasoning_tokens=998)),
    ]


def test_an_error_in_the_middle_is_told_without_the_vendors_words() -> None:
    *before, failed = golden("error")
    assert before == [Began("broken"), TextPiece(0, "So far so"), Counted(Usage(7, 3))]
    assert failed == Failed("The provider reported an error in the middle of its answer: UNAVAILABLE.")


@pytest.mark.parametrize("error", [{"status": "not a status"}, {"status": 5}, {}, "broken", [1], 0, False])
def test_an_error_without_a_name_is_one_all_the_same(error: object) -> None:
    assert streamed({"error": error}) == [Failed("The provider reported an error in the middle of its answer.")]


STREAMS = ("text", "thoughts", "calls", "safety", "blocked", "usage", "error")


@pytest.mark.parametrize("name", STREAMS)
@given(st.integers(1, 500))
def test_where_a_stream_is_cut_changes_nothing(name: str, size: int) -> None:
    assert golden(name, size) == golden(name)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_finished_when_a_finish_reason_came(name: str) -> None:
    meter = Meter()
    meter.count(golden(name))
    assert meter.finished is (name != "error")


def test_a_stream_without_a_finish_reason_is_not_finished() -> None:
    meter = Meter()
    meter.count(streamed(said({"text": "So"}, finish="FINISH_REASON_UNSPECIFIED"), said({"text": " far"})))
    assert not meter.finished


def test_a_whole_answer_puts_neighbours_together() -> None:
    assert WIRE.whole((GOLDEN / "gemini_whole.txt").read_bytes()) == Whole(
        "whole",
        (
            Choice(
                (
                    Reasoning("I need the weather."),
                    Text("Let me look."),
                    Reasoning("", "google:c2lnbmF0dXJlIG9uZQ=="),
                    ToolCall("fc-1", "weather", '{"city":"Zürich","height":408.0}'),
                ),
                "tool_calls",
            ),
        ),
        Usage(80, 67, reasoning_tokens=42),
    )


def test_a_signature_right_behind_its_thought_belongs_to_it() -> None:
    call = {"functionCall": {"name": "now"}, "thoughtSignature": "abc"}
    choice = whole(said({"text": "Hm.", "thought": True}, call, finish="STOP")).choices[0]
    assert choice.parts == (Reasoning("Hm.", "google:abc"), ToolCall("call_0", "now", "{}"))


def test_a_blocked_prompt_is_an_empty_answer_that_the_filter_ended() -> None:
    answer = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5},
    }
    assert whole(answer) == Whole("", (Choice((), "content_filter"),), Usage(5, 0))


@pytest.mark.parametrize(
    ("reason", "ended"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        *((name, "content_filter") for name in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")),
        ("LANGUAGE", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "stop"),
        ("OTHER", "stop"),
        ("SOMETHING_NEW", "stop"),
        (None, "stop"),
    ],
)
def test_every_finish_reason_is_an_ending(reason: str | None, ended: Ended) -> None:
    assert whole(said({"text": "So"}, finish=reason)).choices == (Choice((Text("So"),), ended),)
    if reason is not None:
        assert streamed(said({"text": "So"}, finish=reason))[-1] == Ending(0, ended)


@pytest.mark.parametrize(
    ("reason", "ended"),
    [("STOP", "tool_calls"), (None, "tool_calls"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter")],
)
def test_an_answer_with_calls_ends_for_them_unless_it_was_cut(reason: str | None, ended: Ended) -> None:
    assert whole(said({"functionCall": {"name": "now"}}, finish=reason)).choices[0].ended == ended


def test_a_call_in_an_earlier_event_is_remembered_at_the_end() -> None:
    pieces = streamed(said({"functionCall": {"name": "now", "id": "a"}}), said({"text": ""}, finish="STOP"))
    assert pieces[-1] == Ending(0, "tool_calls")


def test_models_that_end_every_event_end_once() -> None:
    pieces = streamed(*(said({"text": text}, finish="STOP") for text in "abc"))
    assert pieces == [Began(""), TextPiece(0, "a"), Ending(0, "stop"), TextPiece(0, "b"), TextPiece(0, "c")]


def test_another_end_than_the_one_before_is_told() -> None:
    pieces = streamed(said({"text": "a"}, finish="STOP"), said(finish="SAFETY"), said(finish="SAFETY"))
    assert [piece for piece in pieces if isinstance(piece, Ending)] == [Ending(0, "stop"), Ending(0, "content_filter")]


def test_answers_side_by_side_are_told_apart() -> None:
    def both(first: str, second: str) -> dict[str, Any]:
        other = said({"text": second}, {"functionCall": {"name": "now"}}, finish="STOP", index=1)
        return {"candidates": other["candidates"] + said({"text": first}, finish="MAX_TOKENS")["candidates"]}

    assert whole(both("a", "b")).choices == (
        Choice((Text("a"),), "length"),
        Choice((Text("b"), ToolCall("call_1_0", "now", "{}")), "tool_calls"),
    )
    assert streamed(both("a", "b")) == [
        Began(""),
        TextPiece(1, "b"),
        ToolBegan(1, 0, "call_1_0", "now"),
        ToolPiece(1, 0, "{}"),
        Ending(1, "tool_calls"),
        TextPiece(0, "a"),
        Ending(0, "length"),
    ]


def test_ids_of_calls_are_the_same_in_a_stream_and_in_one_piece() -> None:
    answer = said({"functionCall": {"name": "now"}}, {"functionCall": {"name": "now"}}) | {"responseId": "abc"}
    begun = [piece.id for piece in streamed(answer) if isinstance(piece, ToolBegan)]
    assert begun == ["call_abc_0", "call_abc_1"]
    assert [part.id for part in whole(answer).choices[0].parts if isinstance(part, ToolCall)] == begun


@given(st.text() | st.text(alphabet="ab-_/", min_size=30), st.integers(0, 127), st.integers(1, 20))
def test_an_id_of_a_call_is_short_and_plain(response: str, index: int, calls: int) -> None:
    parts = [{"functionCall": {"name": "now"}}] * calls
    pieces = streamed(said(*parts, index=index) | {"responseId": response})
    ids = [piece.id for piece in pieces if isinstance(piece, ToolBegan)]
    assert len(set(ids)) == calls
    for id_ in ids:
        assert id_.startswith("call_")
        assert len(id_) <= 40
        assert id_.isascii()
        assert id_.replace("_", "").replace("-", "").isalnum()


def test_what_is_not_known_is_not_passed_on() -> None:
    parts: list[dict[str, Any]] = [
        {"executableCode": {"language": "PYTHON", "code": "1"}},
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        {"text": "So", "somethingNew": 1, "thoughtSignature": "abc"},
        {},
    ]
    assert streamed(said(*parts, groundingMetadata={})) == [Began(""), TextPiece(0, "So")]


@pytest.mark.parametrize("part", [{"text": ""}, {"text": "", "thought": True}, {"thought": True}])
def test_a_part_without_text_is_no_piece(part: dict[str, Any]) -> None:
    assert streamed(said(part)) == [Began("")]


def test_a_remark_on_the_prompt_does_not_end_an_answer() -> None:
    answer = said({"text": "So"}) | {"promptFeedback": {"blockReason": "OTHER"}}
    assert streamed(answer) == [Began(""), TextPiece(0, "So")]


LOGPROBS = {
    "chosenCandidates": [
        {"token": "é", "tokenId": 7, "logProbability": -0.5},
        {"token": "!", "logProbability": "-Infinity"},
    ],
    "topCandidates": [{"candidates": [{"token": "e", "logProbability": -1}, {"token": "é", "logProbability": -0.5}]}],
}
OPENAI_LOGPROBS = {
    "content": [
        {
            "token": "é",
            "logprob": -0.5,
            "bytes": [195, 169],
            "top_logprobs": [
                {"token": "e", "logprob": -1, "bytes": [101]},
                {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
            ],
        },
        {"token": "!", "logprob": -9999.0, "bytes": [33], "top_logprobs": []},
    ],
    "refusal": None,
}


def test_logprobs_come_in_openais_shape() -> None:
    answer = said({"text": "é"}, {"text": "!"}, finish="STOP", logprobsResult=LOGPROBS)
    assert whole(answer).choices[0].logprobs == OPENAI_LOGPROBS
    assert streamed(answer)[1:3] == [TextPiece(0, "é", OPENAI_LOGPROBS), TextPiece(0, "!")]


@pytest.mark.parametrize("logprobability", [None, True, "-Infinity", [], {}])
def test_a_logprob_that_is_no_number_is_next_to_nothing(logprobability: object) -> None:
    chosen = [{"token": "a", "logProbability": logprobability}]
    found = whole(said({"text": "a"}, logprobsResult={"chosenCandidates": chosen})).choices[0].logprobs
    assert found is not None
    assert found["content"][0]["logprob"] == -9999.0


def test_more_rivals_than_tokens_are_left_out() -> None:
    rivals = [{"candidates": [{"token": "b", "logProbability": -2}]}] * 2
    result = {"chosenCandidates": [{"token": "a", "logProbability": -1}], "topCandidates": rivals}
    found = whole(said({"text": "a"}, logprobsResult=result)).choices[0].logprobs
    assert found is not None
    assert [len(token["top_logprobs"]) for token in found["content"]] == [1]


def test_logprobs_of_nothing_are_none() -> None:
    assert whole(said({"text": "é"}, logprobsResult={"chosenCandidates": []})).choices[0].logprobs is None


# Usage


def used(counts: object, *, finish: str | None = "STOP") -> Usage | None:
    """The last word on usage in a stream of one event."""
    counted = [
        p for p in streamed(said({"text": "a"}, finish=finish) | {"usageMetadata": counts}) if isinstance(p, Counted)
    ]
    return counted[-1].usage if counted else None


def test_an_explicit_nothing_is_a_count() -> None:
    assert used({"promptTokenCount": 0, "candidatesTokenCount": 0}, finish=None) == Usage(0, 0)


def test_an_answer_of_thoughts_only_counts_them() -> None:
    assert used({"promptTokenCount": 9, "thoughtsTokenCount": 100}) == Usage(9, 100, reasoning_tokens=100)


def test_what_is_left_out_at_the_end_follows_from_the_total() -> None:
    counts = {"promptTokenCount": 9, "thoughtsTokenCount": 5, "toolUsePromptTokenCount": 1, "totalTokenCount": 20}
    assert used(counts) == Usage(10, 10, reasoning_tokens=5)
    assert used({"promptTokenCount": 9, "totalTokenCount": 3}) == Usage(9, 0)


@pytest.mark.parametrize("counts", [{"promptTokenCount": 9, "totalTokenCount": 9}, {"promptTokenCount": 9}])
def test_the_count_of_a_beginning_says_nothing_of_the_output(counts: dict[str, int]) -> None:
    assert used(counts, finish=None) is None


@pytest.mark.parametrize(
    "counts",
    [
        None,
        [],
        "9",
        {},
        {"promptTokenCount": 9},
        {"candidatesTokenCount": 9},
        {"promptTokenCount": None, "candidatesTokenCount": 9},
        *(
            {"promptTokenCount": 9, "candidatesTokenCount": 9} | {name: value}
            for name in ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount")
            for value in (-1, "9", 1.5, True, TOKENS_BELIEVABLE + 1)
        ),
    ],
)
def test_a_count_that_is_missing_or_cannot_be_true_is_none(counts: object) -> None:
    assert used(counts) is None


@pytest.mark.parametrize(("cached", "kept"), [(5, 5), (50, 9), (-1, 0), ("5", 0), (None, 0)])
def test_cached_input_is_part_of_the_input(cached: object, kept: int) -> None:
    counts = {"promptTokenCount": 9, "candidatesTokenCount": 1, "cachedContentTokenCount": cached}
    assert used(counts) == Usage(9, 1, cached_input_tokens=kept)


def test_an_answer_that_does_not_say_has_no_usage() -> None:
    assert whole(said({"text": "a"}, finish="STOP")).usage is None


# What is no answer


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[DONE]",
        b"null",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"responseId":"a"}',
        b'{"candidates":5}',
        b'{"candidates":[5]}',
        b'{"candidates":[{"index":-1}]}',
        b'{"candidates":[{"index":100000000000000000000}]}',
        b'{"candidates":[{"content":{"parts":[{"text":5}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"text":"\xff"}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"text":"\\ud800"}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"functionCall":{}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"a","args":[]}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"a","args":"{}"}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"a","args":{"a":"\xff"}}}]}}]}',
        b'{"usageMetadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"a","args":' + b'{"a":' * 100_000,
    ],
)
def test_what_is_none_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(NotAnAnswer):
        WIRE.reader().read(body)
    with pytest.raises(NotAnAnswer):
        WIRE.whole(body)


@pytest.mark.parametrize(
    "answer", [{"error": {"code": 400}}, {"usageMetadata": {}}, {"candidates": []}, {"promptFeedback": {}}]
)
def test_a_whole_answer_needs_a_candidate_or_a_reason(answer: dict[str, Any]) -> None:
    with pytest.raises(NotAnAnswer):
        whole(answer)


def test_arguments_of_null_are_none() -> None:
    pieces = streamed(said({"functionCall": {"name": "now", "args": None}}))
    assert ToolPiece(0, 0, "{}") in pieces


plain = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
anything = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of these fields, each as it should be or anything else."""
    return st.fixed_dictionaries({}, optional={name: value | anything for name, value in fields.items()})


tokens = some(token=st.text(max_size=3), logProbability=st.floats(-9, 0))
answers = some(
    candidates=st.lists(
        some(
            index=st.integers(0, 3),
            finishReason=st.sampled_from(["STOP", "SAFETY", "MAX_TOKENS", "NEW"]),
            content=some(
                parts=st.lists(
                    some(
                        text=st.text(max_size=5),
                        thought=st.booleans(),
                        thoughtSignature=st.text(max_size=5),
                        functionCall=some(name=st.text(max_size=5), id=st.text(max_size=5), args=st.just({"a": 1})),
                    ),
                    max_size=3,
                )
            ),
            logprobsResult=some(
                chosenCandidates=st.lists(tokens, max_size=2),
                topCandidates=st.lists(some(candidates=st.lists(tokens, max_size=2)), max_size=3),
            ),
        ),
        max_size=3,
    ),
    promptFeedback=some(blockReason=st.just("SAFETY")),
    usageMetadata=some(promptTokenCount=st.integers(0, 99), candidatesTokenCount=st.integers(0, 99)),
    responseId=st.text(max_size=5),
    error=some(status=st.just("UNAVAILABLE")),
)


@given(st.lists(answers.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20), max_size=4))
def test_whatever_comes_is_read_or_said_to_be_no_answer(events: list[bytes]) -> None:
    reader, meter = WIRE.reader(), Meter()
    for event in events:
        with suppress(NotAnAnswer):
            meter.count(reader.read(event))
        with suppress(NotAnAnswer):
            WIRE.whole(event)


@given(answers)
def test_an_answer_says_the_same_in_one_piece_and_in_a_stream(answer: object) -> None:
    try:
        pieces = streamed(answer)
        found = whole(answer)
    except NotAnAnswer:
        return
    texts = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
    calls = [(piece.id, piece.name) for piece in pieces if isinstance(piece, ToolBegan)]
    parts = [part for choice in found.choices for part in choice.parts]
    assert sorted(texts) == sorted("".join(part.text for part in parts if isinstance(part, Text)))
    assert sorted(calls) == sorted((part.id, part.name) for part in parts if isinstance(part, ToolCall))

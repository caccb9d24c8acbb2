"""Chat completions as answers: passed on, read and written; the golden files are streams as OpenAI's reference and
those of compatible providers describe them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.errors import ProviderBroke
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect import NotAnAnswer
from tollhouse.gateway.dialect.chat import SURFACE, WIRE
from tollhouse.gateway.dialect.chat_answer import count_plain, read_plain, read_usage
from tollhouse.gateway.dialect.chat_request import read
from tollhouse.gateway.dialect.chat_stream import Same
from tollhouse.gateway.dialect.meter import TOKENS_BELIEVABLE, Meter
from tollhouse.gateway.dialect.neutral import (
    Began,
    Choice,
    Counted,
    Ended,
    Ending,
    Failed,
    Finished,
    Piece,
    Reasoning,
    ReasoningPiece,
    Refusal,
    RefusalPiece,
    Text,
    TextPiece,
    ToolBegan,
    ToolCall,
    ToolPiece,
    Whole,
)
from tollhouse.gateway.dialect.translated import Translated
from tollhouse.gateway.sse import EventReader, event

GOLDEN = Path(__file__).parent / "golden"
STREAMS = ["text", "calls", "two", "refusal", "reasoning", "logprobs", "repeated"]
SETTLED = Settled(12_500, 250_000, 0, 0, late=False, replayed=False)
USED = Usage(20, 9, 5, 4, cache_write_tokens=3)
FIGURES = {
    "prompt_tokens": 20,
    "completion_tokens": 9,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 4},
}
CHARGED = {"credits": "0.0125", "cost_usd": "0.00025"}


def golden(name: str) -> list[bytes]:
    return EventReader().feed((GOLDEN / f"chat_{name}.txt").read_bytes())


def read_all(name: str) -> list[Piece]:
    reader = WIRE.reader()
    return [piece for data in golden(name) for piece in reader.read(data)]


def metered(name: str) -> Meter:
    same = Same(usage=False)
    for data in golden(name):
        same.take(data)
    return same.meter


def wanted(**fields: Any) -> Any:
    return read(json.dumps({"model": "m", "messages": [{"role": "user", "content": "a"}], **fields}).encode())


def chunk(*choices: Any, **more: Any) -> bytes:
    return json.dumps({"id": "c", "created": 1, "model": "m", "choices": choices, **more}).encode()


def delta(index: int = 0, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": fields, "finish_reason": reason}


def choices_of(stream: bytes) -> list[Any]:
    events = [json.loads(data) for data in EventReader().feed(stream) if data != b"[DONE]"]
    return [choice for found in events for choice in found["choices"]]


# ------------------------------------------------------------------------------------------------------------ passed on


@pytest.mark.parametrize("name", STREAMS)
def test_chunks_are_passed_on_byte_for_byte_but_for_those_without_choices(name: str) -> None:
    same = Same(usage=False)
    passed = b"".join(same.take(data) for data in golden(name))
    assert passed == b"".join(event(data) for data in golden(name) if b'"choices":[{' in data)
    assert same.end(USED, SETTLED) == b"data: [DONE]\n\n"
    assert same.meter.finished


def test_the_usage_chunk_has_the_head_of_the_providers_chunks_and_the_charge() -> None:
    same = Same(usage=True)
    for data in golden("text"):
        same.take(data)
    last, done = EventReader().feed(same.end(USED, SETTLED))
    head = {"id": "chatcmpl-AText", "created": 1763729000, "model": "gpt-4o-mini-2024-07-18"}
    assert json.loads(last) == head | {
        "system_fingerprint": "fp_44709d6fcb",
        "object": "chat.completion.chunk",
        "choices": [],
        "usage": FIGURES | CHARGED,
    }
    assert done == b"[DONE]"


def test_the_head_is_that_of_the_first_chunk_with_an_answer() -> None:
    same = Same(usage=True)
    for data in (b'{"id":"","model":"","choices":[],"prompt_filter_results":[]}', *golden("two")):
        same.take(data)
    assert json.loads(EventReader().feed(same.end(USED, None))[0])["id"] == "chatcmpl-CTwo"


def test_a_charge_that_is_not_known_yet_is_left_out_and_an_estimate_says_so() -> None:
    same = Same(usage=True)
    last, _ = EventReader().feed(same.end(Usage(7, 2, estimated=True), None))
    usage = json.loads(last)["usage"]
    assert (usage["estimated"], "credits" in usage, "cost_usd" in usage) == (True, False, False)


@pytest.mark.parametrize(
    ("name", "usage", "output_tokens"),
    [
        ("text", Usage(19, 3, 8, cache_write_tokens=4), 3),
        ("calls", Usage(81, 33), 5),
        ("two", Usage(12, 3), 3),
        ("refusal", Usage(30, 7), 2),
        ("reasoning", Usage(14, 5, 0, 4), 3),
        ("logprobs", Usage(9, 2), 2),
        ("repeated", Usage(11, 2), 2),
    ],
)
def test_the_meter_counts_pieces_and_believes_the_last_usage(name: str, usage: Usage, output_tokens: int) -> None:
    meter = metered(name)
    assert (meter.usage, meter.output_tokens, meter.failed) == (usage, output_tokens, None)


def test_an_error_in_the_middle_is_noted_and_nothing_after_it_is_passed_on() -> None:
    same = Same(usage=True)
    taken = [same.take(data) for data in [*golden("error"), *golden("text")]]
    assert taken[0] and taken[1] and not any(taken[2:])
    assert same.meter.failed == "The server had an error while processing your request."
    assert (same.meter.output_tokens, same.meter.usage, same.meter.finished) == (1, None, False)
    error = same.error(ProviderBroke("It broke."))
    assert b"[DONE]" not in error
    assert json.loads(EventReader().feed(error)[0])["error"]["code"] == "provider_broke"


@pytest.mark.parametrize(
    ("error", "said"), [('"busy"', "busy"), ('{"code":5}', "no reason given"), ("7", "no reason given")]
)
def test_an_error_of_any_form_is_one(error: str, said: str) -> None:
    data = b'{"error":%b}' % error.encode()
    same = Same(usage=False)
    assert (same.take(data), same.meter.failed) == (b"", said)
    assert WIRE.reader().read(data) == [Failed(said)]


def test_the_message_of_an_error_is_cut_short() -> None:
    [failed] = WIRE.reader().read(json.dumps({"error": {"message": "x" * 5_000}}).encode())
    assert isinstance(failed, Failed)
    assert len(failed.message) == 200


def test_what_follows_the_end_is_not_passed_on_and_counts_nothing() -> None:
    same = Same(usage=False)
    for data in [*golden("text"), *golden("error"), b"garbage"]:
        same.take(data)
    assert (same.meter.usage, same.meter.output_tokens, same.meter.failed) == (Usage(19, 3, 8, 0, False, 4), 3, None)


def test_an_answer_is_whole_when_each_that_began_has_ended() -> None:
    same = Same(usage=False)
    for data in golden("two")[:-3]:
        same.take(data)
    assert not same.meter.finished
    same.take(golden("two")[-3])
    assert same.meter.finished


def test_an_empty_reason_ends_nothing() -> None:
    same, reader, data = Same(usage=False), WIRE.reader(), chunk(delta(0, "", content="a"))
    same.take(data)
    assert not same.meter.finished
    assert reader.read(data) == [Began("c"), TextPiece(0, "a")]


def test_larger_pieces_are_counted_by_their_characters() -> None:
    same = Same(usage=False)
    same.take(chunk(delta(content="x" * 41)))
    call = {"index": 0, "function": {"name": "f", "arguments": "y" * 80}}
    same.take(chunk(delta(tool_calls=[call]), delta(function_call={"name": "g", "arguments": "{}"})))
    assert same.meter.output_tokens == 11 + (1 + 20) + 2


GARBAGE = [
    b"", b"17", b"[]", b"<html>", b'"[DONE]"', b'{"choices":7}', b'{"choices":[{"index":"0"}]}',
    b'{"choices":[{"delta":{"content":7}}]}', b'{"choices":[{"index":0,"delta":{"content":"\xff"}}]}',
    b'{"choices":[' + b"[" * 5_000,
]  # fmt: skip


@pytest.mark.parametrize("data", GARBAGE)
def test_a_garbled_event_is_not_an_answer(data: bytes) -> None:
    for take in (Same(usage=False).take, WIRE.reader().read):
        with pytest.raises(NotAnAnswer):
            take(data)


# ----------------------------------------------------------------------------------------------------------------- read


def test_a_text_is_read() -> None:
    assert read_all("text") == [
        Began("chatcmpl-AText"),
        TextPiece(0, "Grüezi"),
        TextPiece(0, " mit"),
        TextPiece(0, "einand!"),
        Ending(0, "stop"),
        Counted(Usage(19, 3, 8, cache_write_tokens=4)),
        Finished(),
    ]


def test_parallel_tool_calls_are_read() -> None:
    assert read_all("calls")[1:-2] == [
        ToolBegan(0, 0, "call_a1", "weather"),
        ToolPiece(0, 0, '{"city":'),
        ToolPiece(0, 0, '"Chur"}'),
        ToolBegan(0, 1, "call_b2", "clock"),
        ToolPiece(0, 1, "{}"),
        Ending(0, "tool_calls"),
    ]


def test_several_answers_are_read_as_they_come() -> None:
    assert read_all("two")[1:-2] == [
        TextPiece(0, "Heads"),
        TextPiece(1, "Tails"),
        TextPiece(1, "."),
        Ending(1, "length"),
        Ending(0, "stop"),
    ]


def test_refusals_thoughts_and_log_probabilities_are_read() -> None:
    assert read_all("refusal")[1:3] == [RefusalPiece(0, "I can't"), RefusalPiece(0, " help with that.")]
    assert read_all("reasoning")[1:4] == [
        ReasoningPiece(0, "Seven times"),
        ReasoningPiece(0, " six."),
        TextPiece(0, "42"),
    ]
    _, yes, dot, *_ = read_all("logprobs")
    assert isinstance(yes, TextPiece) and isinstance(dot, TextPiece)
    assert (yes.text, dot.text) == ("Yes", ".")
    assert [(piece.logprobs or {})["content"][0]["logprob"] for piece in (yes, dot)] == [-0.25, -0.5]


def test_of_log_probabilities_only_what_is_known_is_told() -> None:
    token = {"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": []}
    logprobs = {"content": [token | {"x": 1}], "x": {}}
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": None, "logprobs": logprobs}
    assert WIRE.reader().read(chunk(choice))[1:] == [TextPiece(0, "", {"content": [token], "refusal": None})]


def test_usage_that_is_repeated_is_told_each_time_and_never_added_up() -> None:
    counted = [piece.usage for piece in read_all("repeated") if isinstance(piece, Counted)]
    assert [usage.output_tokens for usage in counted] == [0, 1, 2, 2, 2]


def test_an_error_in_the_middle_is_read() -> None:
    assert read_all("error")[-1] == Failed("The server had an error while processing your request.")


def test_tool_calls_without_index_or_id_find_their_place() -> None:
    reader = WIRE.reader()

    def call(**fields: Any) -> list[Piece]:
        return reader.read(chunk(delta(tool_calls=[fields])))

    assert call(id="a", function={"name": "f", "arguments": "1"})[1:] == [
        ToolBegan(0, 0, "a", "f"),
        ToolPiece(0, 0, "1"),
    ]
    assert call(function={"arguments": "2"}) == [ToolPiece(0, 0, "2")]
    assert call(id="b", function={"name": "g"}) == [ToolBegan(0, 1, "b", "g")]
    assert call(id="b", function={"arguments": "3"}) == [ToolPiece(0, 1, "3")]
    assert call(index=7, function={"name": "h"}) == [ToolBegan(0, 2, "call_0_2", "h")]
    with pytest.raises(NotAnAnswer, match="without naming it"):
        call(index=8, function={"arguments": "4"})


@pytest.mark.parametrize(
    ("reason", "called", "ended"),
    [
        ("stop", False, "stop"),
        ("stop", True, "tool_calls"),
        ("eos", False, "stop"),
        ("length", True, "length"),
        ("content_filter", False, "content_filter"),
        ("function_call", False, "tool_calls"),
        ("tool_calls", True, "tool_calls"),
    ],
)
def test_reasons_of_an_end(reason: str, called: bool, ended: Ended) -> None:
    calls = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}] if called else None
    assert WIRE.reader().read(chunk(delta(0, reason, tool_calls=calls)))[-1] == Ending(0, ended)
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": reason}]}).encode()
    assert WIRE.whole(body).choices[0].ended == ended


# ---------------------------------------------------------------------------------------------------------------- whole


def test_a_whole_answer_is_read_in_the_order_of_its_choices() -> None:
    whole = WIRE.whole((GOLDEN / "chat_whole.txt").read_bytes())
    text, calls = whole.choices
    assert (whole.id, whole.usage) == ("chatcmpl-JWhole", Usage(19, 3, 8, 1, cache_write_tokens=4))
    assert (text.parts, text.ended) == ((Text("Grüezi"),), "stop")
    assert text.logprobs is not None and text.logprobs["content"][0]["token"] == "Grüezi"
    assert calls.ended == "tool_calls"
    assert calls.parts == (ToolCall("call_a1", "weather", '{"city":"Chur"}'), ToolCall("call_b2", "clock", "{}"))


def test_thoughts_refusal_and_a_call_of_the_old_form_are_read() -> None:
    message = {"content": "b", "reasoning": "a", "refusal": "c", "function_call": {"name": "f", "arguments": "{}"}}
    whole = WIRE.whole(json.dumps({"choices": [{"message": message}]}).encode())
    parts = (Reasoning("a"), Text("b"), Refusal("c"), ToolCall("call_0_0", "f", "{}"))
    assert whole == Whole("", (Choice(parts, "tool_calls"),), None)


@pytest.mark.parametrize("body", [*GARBAGE, b"{}", b'{"choices":[]}', b'{"error":{"message":"busy"}}'])
def test_a_garbled_answer_is_none(body: bytes) -> None:
    with pytest.raises(NotAnAnswer):
        WIRE.whole(body)


@pytest.mark.parametrize("body", [b"", b"17", b"[]", b"{}", b'{"choices":7}', b'{"choices":["\xff"]}', b"[" * 50_000])
def test_an_answer_is_passed_on_only_if_it_is_one(body: bytes) -> None:
    with pytest.raises(NotAnAnswer):
        read_plain(body)


def test_an_answer_is_passed_on_as_it_came_with_the_charge_in_it() -> None:
    body = (GOLDEN / "chat_whole.txt").read_bytes()
    answer, usage = read_plain(body)
    assert answer == json.loads(body)
    assert usage == Usage(19, 3, 8, 1, cache_write_tokens=4)
    SURFACE.charge(answer, usage, SETTLED)
    came = json.loads(body)
    assert answer == came | {"usage": came["usage"] | CHARGED}


def test_an_answer_without_usage_is_counted_and_the_estimate_says_so() -> None:
    message = {"role": "assistant", "content": "x" * 400}
    answer, usage = read_plain(json.dumps({"choices": [{"message": message}, 7], "usage": {"credits": 0}}).encode())
    assert usage is None
    assert 100 <= count_plain(answer) <= 112
    SURFACE.charge(answer, Usage(5, count_plain(answer), estimated=True), None)
    assert answer["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": count_plain(answer),
        "total_tokens": 5 + count_plain(answer),
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
        "estimated": True,
    }


@pytest.mark.parametrize("count", [-1, 1.0, "3", None, True, TOKENS_BELIEVABLE + 1])
def test_a_count_that_cannot_be_true_is_none(count: Any) -> None:
    assert read_usage({"prompt_tokens": count, "completion_tokens": 3}) is None
    assert read_usage({"prompt_tokens": 3, "completion_tokens": count}) is None
    details = {"prompt_tokens_details": {"cached_tokens": count, "cache_write_tokens": count},
               "completion_tokens_details": {"reasoning_tokens": count}}  # fmt: skip
    assert read_usage({"prompt_tokens": 9, "completion_tokens": 3, **details}) == Usage(9, 3)


def test_an_explicit_nought_is_a_count() -> None:
    assert read_usage({"prompt_tokens": 0, "completion_tokens": 0}) == Usage(0, 0)


@pytest.mark.parametrize("usage", [None, 7, [], "many", {}])
def test_what_is_no_usage_is_none(usage: Any) -> None:
    assert read_usage(usage) is None


@given(*[st.integers(0, 100)] * 5)
def test_parts_of_a_count_are_never_more_than_the_whole(
    given_tokens: int, made: int, cached: int, written: int, reasoning: int
) -> None:
    usage = read_usage(
        {
            "prompt_tokens": given_tokens,
            "completion_tokens": made,
            "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }
    )
    assert usage is not None
    assert usage.cached_input_tokens + usage.cache_write_tokens <= usage.input_tokens == given_tokens
    assert usage.reasoning_tokens <= usage.output_tokens == made


# -------------------------------------------------------------------------------------------------------------- written

TOLD: list[Piece] = [
    Began("msg_01"),
    ReasoningPiece(0, "Two questions."),
    ReasoningPiece(0, "", signature="sealed"),
    TextPiece(0, "Let me look"),
    TextPiece(0, ".\n"),
    ToolBegan(0, 0, "toolu_1", "weather"),
    ToolPiece(0, 0, '{"city":"Chur"}'),
    ToolBegan(0, 1, "toolu_2", "clock"),
    Ending(0, "tool_calls"),
    Counted(USED),
    Finished(),
]


def test_an_answer_in_pieces_is_written_piece_by_piece() -> None:
    writer = SURFACE.writer(wanted(stream=True, stream_options={"include_usage": True}), "claude", 7)
    out = b"".join(writer.write([piece]) for piece in TOLD)
    assert out + writer.end(USED, SETTLED) == (GOLDEN / "chat_written.txt").read_bytes()
    quiet = SURFACE.writer(wanted(stream=True), "claude", 7)
    assert quiet.write(TOLD) == out
    assert b'"usage"' not in quiet.end(USED, SETTLED)


def test_nothing_of_the_end_is_written_before_the_end() -> None:
    writer = SURFACE.writer(wanted(stream=True), "m", 7)
    assert writer.write([Ending(0, "stop"), Counted(USED), Failed("busy"), Finished()]) == b""
    [choice] = choices_of(writer.end(USED, None))
    assert choice == {"index": 0, "delta": {"role": "assistant"}, "logprobs": None, "finish_reason": "stop"}


def test_several_answers_each_tell_their_role_once() -> None:
    writer = SURFACE.writer(wanted(stream=True, n=2), "m", 7)
    out = writer.write(
        [TextPiece(1, "a"), TextPiece(0, "b"), RefusalPiece(1, "c"), Ending(1, "length"), Ending(0, "stop")]
    )
    said = [(choice["index"], choice["delta"]) for choice in choices_of(out)]
    assert said == [
        (1, {"role": "assistant", "content": "a"}),
        (0, {"role": "assistant", "content": "b"}),
        (1, {"refusal": "c"}),
    ]
    assert [(choice["index"], choice["finish_reason"]) for choice in choices_of(writer.end(USED, None))] == [
        (1, "length"),
        (0, "stop"),
    ]


def test_who_speaks_the_old_form_hears_one_call_in_it() -> None:
    old = wanted(functions=[{"name": "weather"}])
    writer = SURFACE.writer(old, "m", 7)
    called = [choice["delta"].get("function_call") for choice in choices_of(writer.write(TOLD[5:]))]
    assert called == [{"name": "weather", "arguments": ""}, {"arguments": '{"city":"Chur"}'}]
    assert choices_of(writer.end(USED, None))[0]["finish_reason"] == "function_call"
    parts = (ToolCall("a", "weather", "{}"), ToolCall("b", "clock", "{}"))
    [choice] = SURFACE.answer(Whole("w", (Choice(parts, "tool_calls"),), None), old, "m", 7)["choices"]
    assert choice["message"]["function_call"] == {"name": "weather", "arguments": "{}"}
    assert ("tool_calls" in choice["message"], choice["finish_reason"]) == (False, "function_call")


def test_an_answer_breaks_off_with_an_error_and_without_an_end() -> None:
    writer = SURFACE.writer(wanted(stream=True), "m", 7)
    [data] = EventReader().feed(writer.error(ProviderBroke("It broke.")))
    assert json.loads(data)["error"]["message"] == "It broke."


def test_a_whole_answer_is_written_with_the_vendors_fields() -> None:
    parts = (Reasoning("Hm.", "sealed"), Text("Let me "), Text("look."), ToolCall("a", "weather", "{}"))
    whole = Whole("msg_01", (Choice(parts, "tool_calls"), Choice((Refusal("No."),), "stop")), USED)
    answer = SURFACE.answer(whole, wanted(), "claude", 7)
    assert (answer["id"], answer["object"], answer["created"], answer["model"]) == (
        "msg_01",
        "chat.completion",
        7,
        "claude",
    )
    assert answer["choices"] == [
        {"index": 0, "logprobs": None, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "Let me look.", "refusal": None, "reasoning_content": "Hm.",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]}},
        {"index": 1, "logprobs": None, "finish_reason": "stop", "message": {
            "role": "assistant", "content": None, "refusal": "No."}},
    ]  # fmt: skip
    SURFACE.charge(answer, USED, SETTLED)
    assert answer["usage"] == FIGURES | CHARGED


def test_an_answer_of_a_provider_that_names_none_has_an_id() -> None:
    assert SURFACE.answer(Whole("", (Choice((), "stop"),), None), wanted(), "m", 7)["id"] == "chatcmpl-7"
    out = SURFACE.writer(wanted(stream=True), "m", 7).write([Began(""), TextPiece(0, "a")])
    assert json.loads(EventReader().feed(out)[0])["id"] == "chatcmpl-7"


# ----------------------------------------------------------------------------------------------------------- translated


@pytest.mark.parametrize("name", STREAMS)
def test_a_translation_between_equal_dialects_says_the_same(name: str) -> None:
    """Read again, what was written is the same pieces; counted alike whichever way it went."""
    translated = Translated(
        WIRE.reader(), SURFACE.writer(wanted(stream=True, stream_options={"include_usage": True}), "m", 7)
    )
    out = b"".join(translated.take(data) for data in golden(name))
    usage = translated.meter.settlement(0)
    out += translated.end(usage, None)
    reader = WIRE.reader()
    again = [piece for data in EventReader().feed(out) for piece in reader.read(data)]

    def said(pieces: list[Piece]) -> list[Piece]:
        return [piece for piece in pieces if not isinstance(piece, Counted | Ending)]

    assert said(again) == said(read_all(name))
    assert {p for p in again if isinstance(p, Ending)} == {p for p in read_all(name) if isinstance(p, Ending)}
    assert [piece.usage for piece in again if isinstance(piece, Counted)] == [usage]
    assert (translated.meter.usage, translated.meter.finished) == (metered(name).usage, True)


def test_a_translation_ends_at_an_error_and_at_the_end() -> None:
    for name in ("error", "text"):
        translated = Translated(WIRE.reader(), SURFACE.writer(wanted(stream=True), "m", 7))
        for data in golden(name):
            translated.take(data)
        before = (translated.meter.output_tokens, translated.meter.failed, translated.meter.ended)
        assert before[1:] in ((None, True), ("The server had an error while processing your request.", False))
        assert translated.take(chunk(delta(content="more"))) == b""
        assert (translated.meter.output_tokens, translated.meter.failed, translated.meter.ended) == before
        assert b"It broke." in translated.error(ProviderBroke("It broke."))


# --------------------------------------------------------------------------------------------------------------- faults

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
INDEXES = st.integers(-2, 10**20)
NAMES = st.none() | st.text(max_size=3)
FUNCTIONS = st.fixed_dictionaries({}, optional={"name": NAMES, "arguments": NAMES}) | JSON
CALLS = st.fixed_dictionaries({}, optional={"index": INDEXES | st.none(), "id": NAMES, "function": FUNCTIONS})
DELTAS = st.fixed_dictionaries(
    {},
    optional={"content": NAMES, "refusal": NAMES, "reasoning_content": NAMES, "reasoning": NAMES | JSON,
              "tool_calls": st.none() | st.lists(CALLS, max_size=2), "function_call": st.none() | FUNCTIONS},
)  # fmt: skip
LOGPROBS = st.none() | st.dictionaries(st.sampled_from(["content", "refusal"]), JSON, max_size=2)
CHOICES = st.fixed_dictionaries(
    {"index": INDEXES, "delta": DELTAS}, optional={"finish_reason": NAMES, "logprobs": LOGPROBS}
)
CHUNKS = st.fixed_dictionaries(
    {"choices": st.lists(CHOICES, max_size=2)},
    optional={"id": NAMES | JSON, "usage": JSON, "error": JSON, "created": JSON, "model": JSON},
)


@given(st.lists(st.binary(max_size=60) | (CHUNKS | JSON).map(lambda value: json.dumps(value).encode()), max_size=5))
def test_whatever_events_come_they_are_an_answer_or_none(events: list[bytes]) -> None:
    """What is passed on or written is a whole event each, and the end can be told at any time."""
    asked = wanted(stream=True, stream_options={"include_usage": True})
    for relay in (Same(usage=True), Translated(WIRE.reader(), SURFACE.writer(asked, "m", 7))):
        out = b""
        try:
            for data in events:
                out += relay.take(data)
        except NotAnAnswer as error:
            assert str(error)
        out += relay.end(relay.meter.settlement(3), SETTLED)
        *_, usage, done = EventReader().feed(out)
        assert json.loads(usage)["usage"]["credits"] == "0.0125"
        assert done == b"[DONE]"


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps({"choices": [{"message": value}]}).encode()))
def test_whatever_body_comes_it_is_an_answer_or_none(body: bytes) -> None:
    for take in (WIRE.whole, read_plain):
        try:
            take(body)
        except NotAnAnswer as error:
            assert str(error)


@given(st.lists(st.integers(1, 60), max_size=30))
def test_where_the_segments_are_cut_changes_nothing(sizes: list[int]) -> None:
    stream = (GOLDEN / "chat_calls.txt").read_bytes()
    same, reader, out, at = Same(usage=False), EventReader(), b"", 0
    for size in [*sizes, len(stream)]:
        out += b"".join(same.take(data) for data in reader.feed(stream[at : at + size]))
        at += size
    assert out == b"".join(event(data) for data in golden("calls") if b'"choices":[{' in data)
    assert same.meter.usage == Usage(81, 33)

"""Anthropic's dialect: answers read and written, whole and in events, passed on, charged and refused."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Mismatch,
    Overloaded,
    ProviderBroke,
    ProviderFailed,
    TollhouseError,
    Unauthenticated,
    Unexpected,
)
from tollhouse.core.price import Usage
from tollhouse.core.refusals import InsufficientCredits, ModelNotFound
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect import NotAnAnswer, Relay, Writer
from tollhouse.gateway.dialect.messages import SURFACE, WIRE
from tollhouse.gateway.dialect.messages_answer import FAILURE_MAX, count_plain, read_plain, read_usage, usage_object
from tollhouse.gateway.dialect.messages_request import read
from tollhouse.gateway.dialect.messages_stream import Same
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
from tollhouse.gateway.sse import EventReader

GOLDEN = Path(__file__).parent / "golden"
SETTLED = Settled(1_500_000, 2_000_000, 0, 9_000_000, False, False)
WANTED = read(b'{"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}')
STREAMS = ["text", "thinking", "tools", "refusal", "cache"]


def golden(name: str) -> bytes:
    return (GOLDEN / f"messages_{name}").read_bytes()


def events(stream: bytes) -> list[bytes]:
    return EventReader().feed(stream)


def pieces(stream: bytes) -> list[Piece]:
    reader = WIRE.reader()
    return [piece for data in events(stream) for piece in reader.read(data)]


def told(*sent: object) -> list[Piece]:
    reader = WIRE.reader()
    return [piece for event in sent for piece in reader.read(json.dumps(event).encode())]


def named(stream: bytes) -> list[tuple[str, Any]]:
    """The events with the names in their `event:` lines."""
    found = []
    for block in stream.decode().split("\n\n")[:-1]:
        name, data = block.split("\n", 1)
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def writer() -> Writer:
    return SURFACE.writer(WANTED, "openai/gpt", 1)


def use(slot: int, *arguments: str) -> list[Piece]:
    return [ToolBegan(0, slot, f"call_{slot}", "f"), *(ToolPiece(0, slot, part) for part in arguments)]


# Read in events


def test_a_text_is_read_piece_by_piece() -> None:
    assert pieces(golden("text.txt")) == [
        Began("msg_text"),
        TextPiece(0, "Good"),
        TextPiece(0, " morning,\n"),
        TextPiece(0, "Zoë ☕"),
        Counted(Usage(11, 9)),
        Ending(0, "stop"),
        Finished(),
    ]


def test_thoughts_are_read_with_their_signature() -> None:
    assert pieces(golden("thinking.txt")) == [
        Began("msg_think"),
        ReasoningPiece(0, "27 is 3 cubed"),
        ReasoningPiece(0, ", so 3."),
        ReasoningPiece(0, "", "RXhhbXBsZQ=="),
        ReasoningPiece(0, "", redacted="b3BhcXVl"),
        TextPiece(0, "It is 3."),
        Counted(Usage(30, 44, reasoning_tokens=38)),
        Ending(0, "stop", "END"),
        Finished(),
    ]


def test_tool_calls_are_counted_from_0_and_never_without_arguments() -> None:
    assert pieces(golden("tools.txt")) == [
        Began("msg_tools"),
        TextPiece(0, "I look both up."),
        ToolBegan(0, 0, "toolu_1", "weather"),
        ToolPiece(0, 0, '{"city": "Par'),
        ToolPiece(0, 0, 'is"}'),
        ToolBegan(0, 1, "toolu_2", "clock"),
        ToolPiece(0, 1, "{}"),
        Counted(Usage(350, 71)),
        Ending(0, "tool_calls"),
        Finished(),
    ]


def test_a_tool_call_that_comes_at_once_keeps_its_arguments() -> None:
    block = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}
    began = {"type": "content_block_start", "index": 4, "content_block": block}
    assert told(began, {"type": "content_block_stop", "index": 4}) == [
        ToolBegan(0, 0, "a", "f"),
        ToolPiece(0, 0, '{"x":1}'),
    ]


def test_a_refusal_ends_the_answer_as_filtered() -> None:
    assert pieces(golden("refusal.txt"))[1:] == [
        TextPiece(0, "I"),
        Counted(Usage(19, 6)),
        Ending(0, "content_filter"),
        Finished(),
    ]


def test_an_error_in_the_middle_is_told_short() -> None:
    assert pieces(golden("overloaded.txt"))[1:] == [
        TextPiece(0, "Half an ans"),
        Failed("overloaded_error: Overloaded"),
    ]
    [failed] = told({"type": "error", "error": {"type": "x", "message": "two\nlines " + "!" * 999}})
    assert isinstance(failed, Failed) and len(failed.message) == FAILURE_MAX and "\n" not in failed.message
    assert told({"type": "error"}) == told({"type": "error", "error": "x"}) != [Failed("")]


def test_what_the_cache_gave_and_took_is_input() -> None:
    """21 fresh, 188 written, 1500 read."""
    assert Counted(Usage(1709, 5, 1500, cache_write_tokens=188)) in pieces(golden("cache.txt"))


def start(**usage: object) -> dict[str, Any]:
    return {"type": "message_start", "message": {"id": "m", "usage": usage}}


def last(reason: str | None = None, **usage: object) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


@pytest.mark.parametrize(
    ("began", "ended", "usage"),
    [
        ({"input_tokens": 7, "output_tokens": 1}, {"output_tokens": 5}, Usage(7, 5)),
        ({"input_tokens": 7}, {"input_tokens": 9, "output_tokens": 0}, Usage(9, 0)),
        ({"input_tokens": 7}, {"input_tokens": 0, "output_tokens": 5}, Usage(0, 5)),
        ({"input_tokens": 7}, {"input_tokens": None, "output_tokens": 5}, Usage(7, 5)),
        ({"input_tokens": 7}, {"input_tokens": -1, "output_tokens": 5}, Usage(7, 5)),
        ({}, {"input_tokens": 7, "output_tokens": 5, "cache_read_input_tokens": "x"}, Usage(7, 5)),
        ({"input_tokens": 7, "output_tokens": 1}, {}, None),
        ({"input_tokens": 7}, {"output_tokens": TOKENS_BELIEVABLE + 1}, None),
        ({}, {"output_tokens": 5}, None),
        ({"input_tokens": True}, {"output_tokens": 5}, None),
    ],
)
def test_the_last_count_holds_and_the_unbelievable_is_missing(
    began: dict[str, Any], ended: dict[str, Any], usage: Usage | None
) -> None:
    assert told(start(**began), last(**ended))[1:] == ([] if usage is None else [Counted(usage)])


def test_counts_are_never_summed() -> None:
    counted = told(start(input_tokens=7), last(output_tokens=5), last("end_turn", output_tokens=8))
    assert counted[1:] == [Counted(Usage(7, 5)), Counted(Usage(7, 8)), Ending(0, "stop")]


@pytest.mark.parametrize(
    ("reason", "ended"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "stop"),
        ("not known yet", "stop"),
    ],
)
def test_each_stop_reason_has_its_end(reason: str, ended: Ended) -> None:
    assert told(last(reason)) == [Ending(0, ended)]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "ping"},
        {"type": "not known yet", "x": 1},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "server_tool_use", "id": "s"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ""}},
        {"type": "content_block_delta", "index": 9, "delta": {"type": "input_json_delta", "partial_json": "{"}},
        {"type": "content_block_stop", "index": 9},
    ],
)
def test_what_is_not_for_others_is_passed_over(event: dict[str, Any]) -> None:
    assert told(event) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[DONE]",
        b"[]",
        b"{}",
        b'{"type": 5}',
        b'{"type": "content_block_delta", "index": 0}',
        b'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 5}}',
        b'{"type": "content_block_start", "index": 0}',
        b'{"type": "content_block_start", "content_block": {"type": "tool_use", "id": "a"}}',
        b'{"type": "ping", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_garbled_event_is_none(data: bytes) -> None:
    with pytest.raises(NotAnAnswer):
        WIRE.reader().read(data)


def test_a_second_tool_call_in_the_same_place_is_garbled() -> None:
    block = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    began = {"type": "content_block_start", "index": 1, "content_block": block}
    with pytest.raises(NotAnAnswer):
        told(began, began)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KINDS = ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
         "message_stop", "ping", "error"]  # fmt: skip
PARTS = ["text_delta", "thinking_delta", "signature_delta", "input_json_delta", "text", "thinking", "tool_use",
         "redacted_thinking"]  # fmt: skip
parts = st.fixed_dictionaries(
    {"type": st.sampled_from(PARTS)},
    optional={
        name: st.text(max_size=5) | json_values
        for name in ("id", "name", "text", "thinking", "signature", "partial_json", "data", "input", "stop_reason")
    },
)
any_event = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS) | st.text(max_size=9)},
    optional={
        "index": st.integers(0, 3) | json_values,
        "delta": parts | json_values,
        "content_block": parts | json_values,
        "message": st.fixed_dictionaries({}, optional={"id": st.text(max_size=3), "usage": json_values}) | json_values,
        "usage": st.dictionaries(st.sampled_from(["input_tokens", "output_tokens"]), json_values) | json_values,
        "error": json_values,
    },
)


@given(st.lists(any_event, max_size=8))
def test_whatever_a_provider_sends_is_read_or_garbled(sent: list[dict[str, Any]]) -> None:
    reader, meter, relay, written = WIRE.reader(), Meter(), Same(), writer()
    out = b""
    for event in sent:
        data = json.dumps(event).encode()
        with suppress(NotAnAnswer):
            found = reader.read(data)
            meter.count(found)
            out += written.write(found)
        with suppress(NotAnAnswer):
            relay.take(data)
    for ending in (out + written.end(meter.settlement(1), SETTLED), relay.end(relay.meter.settlement(1), None)):
        assert [name for name, _ in named(ending)][-2:] == ["message_delta", "message_stop"]


@given(st.binary(max_size=80) | json_values.map(lambda value: json.dumps(value).encode()))
def test_whatever_bytes_come_are_read_or_garbled(data: bytes) -> None:
    for reads in (WIRE.reader().read, WIRE.whole, read_plain, Same().take):
        with suppress(NotAnAnswer):
            reads(data)


@pytest.mark.parametrize("name", STREAMS)
@given(cuts=st.lists(st.integers(0, 3000), max_size=6))
def test_where_the_stream_is_cut_changes_nothing(name: str, cuts: list[int]) -> None:
    stream, reader, parser = golden(f"{name}.txt"), WIRE.reader(), EventReader()
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    found: list[Piece] = []
    for begin, end in pairwise(places):
        for data in parser.feed(stream[begin:end]):
            found += reader.read(data)
    assert found == pieces(stream)


# Read whole


def test_a_whole_answer_is_read() -> None:
    assert WIRE.whole(golden("plain.json")) == Whole(
        "msg_plain",
        (
            Choice(
                (
                    Reasoning("Two calls.", "U2ln"),
                    Text("Looking."),
                    ToolCall("toolu_1", "weather", '{"city":"Paris"}'),
                    ToolCall("toolu_2", "clock", "{}"),
                ),
                "tool_calls",
            ),
        ),
        Usage(1709, 60, 1500, 12, cache_write_tokens=188),
    )


def test_an_answer_for_the_same_dialect_is_as_it_came() -> None:
    answer, usage = read_plain(golden("plain.json"))
    assert answer == json.loads(golden("plain.json"))
    assert usage == Usage(1709, 60, 1500, 12, cache_write_tokens=188)


def test_an_answer_without_usage_is_counted_by_its_text() -> None:
    answer, usage = read_plain(b'{"type": "message", "content": [{"type": "text", "text": "' + b"x" * 41 + b'"}]}')
    assert usage is None and count_plain(answer) == 11


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"type": "error", "error": {"type": "api_error", "message": "x"}}',
        b'{"type": "message", "content": "x"}',
        b'{"type": "message", "content": [{"type": "tool_use", "id": "a"}]}',
        b'{"choices": [{"message": {"content": "x"}}]}',
        b'{"type": "message", "x": "\xff"}',
        b'{"type": "message", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_message_is_no_answer(body: bytes) -> None:
    with pytest.raises(NotAnAnswer):
        read_plain(body)


counts = st.integers(0, TOKENS_BELIEVABLE // 3)


@given(counts, counts, counts, counts, st.integers(0, 100))
def test_usage_goes_both_ways(fresh: int, cached: int, written: int, made: int, percent: int) -> None:
    usage = Usage(fresh + cached + written, made, cached, made * percent // 100, cache_write_tokens=written)
    assert read_usage(usage_object(usage)) == usage


# Written whole


def test_an_answer_is_written_whole_and_charged() -> None:
    parts = (Reasoning("Hm.", "s"), Reasoning("", redacted="r"), Text("Yes."), ToolCall("a", "f", '{"x": [1]}'))
    answer = SURFACE.answer(Whole("id", (Choice(parts, "tool_calls"),), None), WANTED, "openai/gpt", 1)
    SURFACE.charge(answer, Usage(20, 40, 5, 7, estimated=True, cache_write_tokens=3), SETTLED)
    assert answer == {
        "id": "id",
        "type": "message",
        "role": "assistant",
        "model": "openai/gpt",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "redacted_thinking", "data": "r"},
            {"type": "text", "text": "Yes."},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": [1]}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 12,
            "cache_creation_input_tokens": 3,
            "cache_read_input_tokens": 5,
            "output_tokens": 40,
            "output_tokens_details": {"thinking_tokens": 7},
            "estimated": True,
            "credits": "1.5",
            "cost_usd": "0.002",
        },
    }


def test_the_charge_stands_beside_the_vendors_own_figures() -> None:
    answer, usage = read_plain(golden("plain.json"))
    assert usage is not None
    before = dict(answer["usage"])
    SURFACE.charge(answer, usage, SETTLED)
    assert answer["usage"] == before | {"credits": "1.5", "cost_usd": "0.002"}


def test_an_unsettled_answer_has_only_the_counts() -> None:
    answer: dict[str, Any] = {"usage": None}
    SURFACE.charge(answer, Usage(3, 4), None)
    assert answer["usage"] == {
        "input_tokens": 3,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 4,
    }


@pytest.mark.parametrize(
    ("choice", "reason", "sequence"),
    [
        (Choice((), "stop"), "end_turn", None),
        (Choice((), "stop", "END"), "stop_sequence", "END"),
        (Choice((), "length"), "max_tokens", None),
        (Choice((), "content_filter"), "refusal", None),
        (Choice((Refusal("No."),), "stop"), "refusal", None),
        (Choice((Refusal("No, bec"),), "length"), "max_tokens", None),
    ],
)
def test_each_end_has_its_stop_reason(choice: Choice, reason: str, sequence: str | None) -> None:
    answer = SURFACE.answer(Whole("id", (choice,), None), WANTED, "m", 1)
    assert (answer["stop_reason"], answer["stop_sequence"]) == (reason, sequence)
    written = writer()
    written.write([RefusalPiece(0, part.text) for part in choice.parts if isinstance(part, Refusal)])
    written.write([Ending(0, choice.ended, choice.stop_sequence)])
    [*_, (_, delta), _] = named(written.end(Usage(1, 1), None))
    assert delta["delta"] == {"stop_reason": reason, "stop_sequence": sequence}


@pytest.mark.parametrize("arguments", ["", '{"cut', "[1]", "[" * 100_000])
def test_arguments_that_are_no_object_become_an_empty_one(arguments: str) -> None:
    answer = SURFACE.answer(Whole("id", (Choice((ToolCall("a", "f", arguments),), "length"),), None), WANTED, "m", 1)
    assert answer["content"][0]["input"] == {}


def test_an_answer_without_choices_is_empty() -> None:
    assert SURFACE.answer(Whole("id", (), None), WANTED, "m", 1)["content"] == []


# Written in events


def test_pieces_become_blocks_one_after_another() -> None:
    """The second tool call begins while the first is in a string that looks as if it were at its end."""
    written = writer()
    out = written.write([Began("chatcmpl-1"), ReasoningPiece(0, "Two cities"), ReasoningPiece(0, "", "google:U2ln")])
    out += written.write([ReasoningPiece(0, "", redacted="b3BhcXVl"), TextPiece(0, "Zoë, "), TextPiece(0, "")])
    out += written.write([TextPiece(0, 'I look "both"\n up.'), TextPiece(1, "another answer")])
    out += written.write([ToolBegan(0, 0, "call_a", "weather"), ToolPiece(0, 0, '{"city":"Pa}')])
    out += written.write([ToolBegan(0, 1, "call_b", "weather"), ToolPiece(0, 1, '{"city":')])
    out += written.write([ToolPiece(0, 0, 'ris"}'), ToolPiece(0, 1, '"Rome"}')])
    out += written.write([Counted(Usage(1, 1)), Ending(0, "tool_calls"), Finished()])
    out += written.end(Usage(20, 40, 5, 7, cache_write_tokens=3), SETTLED)
    assert out == golden("written.txt")


@pytest.mark.parametrize("name", STREAMS)
def test_what_was_read_is_written_again_with_the_same_meaning(name: str) -> None:
    found = pieces(golden(f"{name}.txt"))
    [usage] = [piece.usage for piece in found if isinstance(piece, Counted)]
    written = writer()
    again = pieces(written.write(found) + written.end(usage, SETTLED))
    assert again == found


def test_a_text_piece_is_written_at_once_and_alone() -> None:
    written = writer()
    written.write([Began("a"), TextPiece(0, "one")])
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "two"}}
    assert named(written.write([TextPiece(0, "two")])) == [("content_block_delta", delta)]


def test_an_answer_of_nothing_is_whole_all_the_same() -> None:
    names = [name for name, _ in named(writer().end(Usage(1, 0), None))]
    assert names == ["message_start", "message_delta", "message_stop"]


def check_blocks(stream: bytes) -> list[dict[str, Any]]:
    """What a client of this dialect makes of it. Blocks begin in order, one at a time, and end before the message."""
    blocks: list[dict[str, Any]] = []
    is_open = False
    for name, event in named(stream)[1:-2]:
        assert name == event["type"]
        match name:
            case "content_block_start":
                assert not is_open and event["index"] == len(blocks)
                blocks.append(event["content_block"] | {"partial": ""})
                is_open = True
            case "content_block_delta":
                assert is_open and event["index"] == len(blocks) - 1
                delta = event["delta"]
                kind = {"text": "text_delta", "tool_use": "input_json_delta"}.get(blocks[-1]["type"])
                assert kind is None or delta["type"] == kind
                blocks[-1]["partial"] += delta.get("text", delta.get("partial_json", ""))
            case "content_block_stop":
                assert is_open and event["index"] == len(blocks) - 1
                is_open = False
    assert not is_open
    return blocks


arguments = st.dictionaries(st.text(max_size=4), st.text(max_size=4) | st.lists(st.integers(), max_size=2), max_size=2)


@given(st.lists(arguments, min_size=1, max_size=4), st.data())
def test_tool_calls_in_any_order_arrive_whole(wanted: list[dict[str, Any]], data: st.DataObject) -> None:
    left: dict[int, list[Piece]] = {}
    for slot, value in enumerate(wanted):
        text = json.dumps(value)
        cut = data.draw(st.integers(0, len(text)))
        left[slot] = use(slot, text[:cut], text[cut:])
    written, out = writer(), b""
    while any(left.values()):
        slot = data.draw(st.sampled_from([slot for slot, waiting in left.items() if waiting]))
        out += written.write([left[slot].pop(0)])
    found = check_blocks(out + written.end(Usage(1, 1), None))
    assert {block["id"]: json.loads(block["partial"]) for block in found} == {
        f"call_{slot}": value for slot, value in enumerate(wanted)
    }


@pytest.mark.parametrize("looks_whole", ['{"x":"}', '{"x":"\\"}', '{"x":"\\\\\\"}', '{"x":[{}]', ""])
def test_a_second_tool_call_waits_for_what_only_looks_like_the_end_of_the_first(looks_whole: str) -> None:
    written = writer()
    written.write([Began("id"), *use(0, looks_whole)])
    assert written.write(use(1, "{}")) == b""
    assert [name for name, _ in named(written.write([TextPiece(0, "!")]))].count("content_block_start") == 2


def test_a_tool_call_begins_once() -> None:
    written = writer()
    out = written.write([Began("id"), *use(0, "{"), *use(0, "}")]) + written.end(Usage(1, 1), None)
    assert [block["partial"] for block in check_blocks(out)] == ["{}"]


any_piece = st.one_of(
    st.builds(TextPiece, st.integers(0, 1), st.text(max_size=3)),
    st.builds(RefusalPiece, st.just(0), st.text(max_size=3)),
    st.builds(ReasoningPiece, st.just(0), st.text(max_size=3), st.none() | st.text(max_size=2)),
    st.builds(ToolBegan, st.just(0), st.integers(0, 2), st.just("id"), st.just("f")),
    st.builds(ToolPiece, st.just(0), st.integers(0, 2), st.sampled_from(["{", "}", '"', "\\", "", "{}", "]"])),
)


@given(st.lists(any_piece, max_size=12))
def test_whatever_the_pieces_blocks_stay_in_order(sent: list[Piece]) -> None:
    written = writer()
    blocks = check_blocks(written.write([Began("id"), *sent]) + written.end(Usage(1, 1), None))
    texts = [piece.text for piece in sent if isinstance(piece, TextPiece | RefusalPiece) and piece.choice == 0]
    assert "".join(block["partial"] for block in blocks if block["type"] == "text") == "".join(texts)


# Passed on


def passed(stream: bytes) -> tuple[bytes, Meter]:
    relay = Same()
    out = b"".join(relay.take(data) for data in events(stream))
    return out + relay.end(relay.meter.settlement(10), SETTLED), relay.meter


@pytest.mark.parametrize("name", STREAMS)
def test_events_of_the_same_dialect_pass_unchanged_but_for_the_charge(name: str) -> None:
    stream = golden(f"{name}.txt")
    out, meter = passed(stream)
    before, after = stream.split(b"event: message_delta"), out.split(b"event: message_delta")
    assert after[0] == before[0]
    [(_, delta), stop] = named(b"event: message_delta" + after[1])
    [(_, original), _] = named(b"event: message_delta" + before[1])
    assert stop == ("message_stop", {"type": "message_stop"})
    assert delta["delta"] == original["delta"]
    assert delta["usage"].items() >= (original["usage"] | {"credits": "1.5", "cost_usd": "0.002"}).items()
    assert read_usage(delta["usage"]) == meter.usage
    assert meter.finished and meter.failed is None


@pytest.mark.parametrize("name", [*STREAMS, "overloaded"])
def test_both_ways_count_the_same(name: str) -> None:
    relay, meter = Same(), Meter()
    for data in events(golden(f"{name}.txt")):
        relay.take(data)
    meter.count(pieces(golden(f"{name}.txt")))
    assert (relay.meter.usage, relay.meter.failed, relay.meter.finished, relay.meter.has_output) == (
        meter.usage,
        meter.failed,
        meter.finished,
        meter.has_output,
    )


def test_a_stream_that_breaks_is_counted_as_far_as_it_came() -> None:
    relay = Same()
    for data in events(golden("text.txt"))[:5]:
        relay.take(data)
    assert not relay.meter.finished and relay.meter.settlement(10) == Usage(10, 2, estimated=True)


def test_the_end_waits_and_an_earlier_message_delta_does_not() -> None:
    relay = Same()
    first, second = last(output_tokens=1), last("end_turn", output_tokens=2)
    assert relay.take(json.dumps(start(input_tokens=3)).encode()) != b""
    assert relay.take(json.dumps(first).encode()) == b""
    assert named(relay.take(json.dumps(second).encode())) == [("message_delta", first)]
    assert relay.meter.finished
    assert relay.take(b'{"type": "message_stop"}') == b""
    assert relay.take(b'{"type": "ping"}') == b""  # nothing follows the end
    [(_, delta), _] = named(relay.end(Usage(3, 2), None))
    assert delta["usage"]["output_tokens"] == 2 and "credits" not in delta["usage"]


def test_an_error_of_the_provider_is_not_passed_on() -> None:
    relay = Same()
    out = b"".join(relay.take(data) for data in events(golden("overloaded.txt")))
    assert b"verloaded" not in out and relay.meter.failed == "overloaded_error: Overloaded"
    assert not relay.meter.finished and relay.meter.output_tokens > 0


def test_a_new_kind_of_event_passes_and_a_name_that_is_none_does_not() -> None:
    assert named(Same().take(b'{"type":"brand_new","x":1}')) == [("brand_new", {"type": "brand_new", "x": 1})]
    for name in ("", "a\nevent: b", "ä", "x" * 65):
        with pytest.raises(NotAnAnswer):
            Same().take(json.dumps({"type": name}).encode())


def test_a_garbled_end_is_found_before_it_is_held() -> None:
    with pytest.raises(NotAnAnswer):
        Same().take(b'{"type": "message_delta", "usage": {}, "x": "\xff"}')


# Refusals


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("No.", "model"), "invalid_request_error"),
        (BadRequest("No.", status=413), "request_too_large"),
        (Mismatch("No."), "invalid_request_error"),
        (Conflict("No."), "invalid_request_error"),
        (Unauthenticated("No."), "authentication_error"),
        (InsufficientCredits(5, 4, 0, datetime(2026, 1, 1, tzinfo=UTC)), "billing_error"),
        (Forbidden("No."), "permission_error"),
        (ModelNotFound("x"), "not_found_error"),
        (ProviderFailed("No.", 429), "rate_limit_error"),
        (Unexpected("No."), "api_error"),
        (ProviderFailed("No."), "api_error"),
        (Overloaded("No."), "overloaded_error"),
        (ProviderFailed("No.", 529), "overloaded_error"),
        (ProviderFailed("No.", 504), "timeout_error"),
    ],
)
def test_a_refusal_has_the_vendors_type_and_our_code(error: TollhouseError, kind: str) -> None:
    body = json.loads(SURFACE.refusal(error))
    assert body["type"] == "error"
    assert (body["error"]["type"], body["error"]["code"]) == (kind, error.code)
    assert body["error"]["message"] == str(error)


def test_a_refusal_says_what_would_help() -> None:
    body = json.loads(SURFACE.refusal(InsufficientCredits(5_000_000, 4, 0, datetime(2026, 1, 1, tzinfo=UTC))))
    metadata = body["error"]["metadata"]
    assert metadata["required"] == "5" and metadata["resets_at"].startswith("2026-01-01")
    assert metadata["hints"][0] == {"kind": "top_up"}
    assert "metadata" not in json.loads(SURFACE.refusal(Overloaded("No.")))["error"]
    assert json.loads(SURFACE.refusal(BadRequest("No.", "n")))["error"]["metadata"] == {"field": "n"}


def test_a_stream_that_breaks_off_ends_with_an_error_event() -> None:
    """And with no message_stop, which would call it whole."""
    error = ProviderBroke("The answer broke off.")
    relays: list[Relay | Writer] = [Same(), writer()]
    for relay in relays:
        assert named(relay.error(error)) == [("error", msgspec.json.decode(SURFACE.refusal(error)))]

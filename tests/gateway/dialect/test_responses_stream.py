"""A streamed answer in OpenAI's responses: whole streams as files, and what must hold of any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollhouse.core.errors import ProviderBroke, ProviderFailed, TollhouseError
from tollhouse.core.price import Usage
from tollhouse.core.refusals import LimitExceeded
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect import Writer
from tollhouse.gateway.dialect.neutral import (
    Began,
    Counted,
    Ending,
    Failed,
    Finished,
    Piece,
    ReasoningPiece,
    RefusalPiece,
    TextPiece,
    ToolBegan,
    ToolPiece,
)
from tollhouse.gateway.dialect.responses import SURFACE

GOLDEN = Path(__file__).parent / "golden"
USAGE = Usage(10, 20, 4, 5, cache_write_tokens=2)
SETTLED = Settled(1_234_567, 1_500_000, 0, 10, late=False, replayed=False)
LOGPROBS = {"content": [{"token": "Hel", "logprob": -0.1, "bytes": [72, 101, 108], "top_logprobs": []}]}

Event = dict[str, Any]


def writer() -> Writer:
    request = {"model": "m", "input": "Hello", "stream": True, "max_output_tokens": 50}
    return SURFACE.writer(SURFACE.read(msgspec.json.encode(request)), "shown", 1_700_000_000)


def streamed(pieces: list[Piece], settled: Settled | None = SETTLED) -> bytes:
    told = writer()
    return b"".join([*(told.write([piece]) for piece in pieces), told.end(USAGE, settled)])


def events(stream: bytes) -> list[Event]:
    """Every event, after a check of what holds of each: its two lines, its name in both, its number."""
    found: list[Event] = []
    *blocks, rest = stream.split(b"\n\n")
    assert rest == b""
    for block in blocks:
        name, data = block.split(b"\n")
        found.append(msgspec.json.decode(data.removeprefix(b"data: ")))
        assert name == b"event: " + found[-1]["type"].encode()
    return found


TEXT: list[Piece] = [
    Began("chatcmpl-abc"),
    TextPiece(0, "Hel", LOGPROBS),
    TextPiece(0, "lo\n"),
    Ending(0, "stop"),
    Counted(USAGE),
    Finished(),
]
CALLS: list[Piece] = [
    Began("msg_abc"),
    ReasoningPiece(0, "Which "),
    ReasoningPiece(0, "city?"),
    ReasoningPiece(0, "", signature="sig=="),
    ReasoningPiece(0, "", redacted="red=="),
    TextPiece(0, "I look."),
    ToolBegan(0, 0, "call_a", "weather"),
    ToolBegan(0, 1, "call_b", "play"),
    ToolPiece(0, 0, '{"city":'),
    ToolPiece(0, 1, "{}"),
    ToolPiece(0, 0, '"Rome"}'),
    Ending(0, "tool_calls"),
]
REFUSAL: list[Piece] = [Began("abc"), RefusalPiece(0, "I won"), RefusalPiece(0, "'t."), Ending(0, "stop")]
LENGTH: list[Piece] = [Began("abc"), TextPiece(0, "Once"), Ending(0, "length")]


@pytest.mark.parametrize(
    ("name", "pieces"), [("text", TEXT), ("calls", CALLS), ("refusal", REFUSAL), ("length", LENGTH)]
)
def test_a_stream_reads_as_the_vendor_writes_it(name: str, pieces: list[Piece]) -> None:
    assert streamed(pieces) == (GOLDEN / f"responses_{name}.txt").read_bytes()


def test_a_break_is_told_to_those_who_follow_events_and_to_those_who_wait_for_an_error() -> None:
    told = writer()
    stream = told.write(CALLS[:9]) + told.error(ProviderBroke("The answer broke off."))

    assert stream == (GOLDEN / "responses_broken.txt").read_bytes()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProviderBroke("It broke."), "server_error"),
        (ProviderFailed("Slower, please.", 429), "rate_limit_exceeded"),
        (ProviderFailed("Not so.", 400), "invalid_prompt"),
    ],
)
def test_a_failed_response_has_one_of_the_vendors_codes(error: TollhouseError, code: str) -> None:
    told = writer()
    failed, last = events(told.write(TEXT[:2]) + told.error(error))[-2:]

    assert failed["response"]["error"] == {"code": code, "message": str(error)}
    assert last["error"]["code"] == last["code"] == error.code


def test_before_an_answer_has_begun_an_error_stands_alone() -> None:
    (only,) = events(writer().error(ProviderFailed("Nobody is there.")))

    assert (only["type"], only["message"], only["sequence_number"]) == ("error", "Nobody is there.", 0)


def test_what_would_help_travels_with_the_error() -> None:
    error = LimitExceeded("person", "messages", "day", 10, 10, 0, None, None)
    (only,) = events(writer().error(error))

    assert only["error"]["metadata"]["limit"] == 10


def test_the_end_waits_for_the_charge() -> None:
    told = writer()
    before = events(told.write(TEXT))
    (last,) = events(told.end(USAGE, SETTLED))

    assert before[-1]["type"] == "response.output_item.done"
    assert last["type"] == "response.completed"
    assert (last["response"]["usage"]["credits"], last["response"]["usage"]["cost_usd"]) == ("1.234567", "0.0015")


def test_without_a_settlement_the_usage_has_its_counts_only() -> None:
    usage = events(streamed(TEXT, None))[-1]["response"]["usage"]

    assert (usage["total_tokens"], "credits" in usage) == (30, False)


def test_an_answer_of_nothing_is_complete() -> None:
    told = events(streamed([]))

    assert [event["type"] for event in told] == ["response.created", "response.in_progress", "response.completed"]
    assert told[-1]["response"]["output"] == []


def test_a_message_goes_on_as_a_new_one_after_a_thought() -> None:
    pieces: list[Piece] = [Began("x"), TextPiece(0, "a"), ReasoningPiece(0, "hm"), TextPiece(0, "b"), Ending(0, "stop")]
    output = events(streamed(pieces))[-1]["response"]["output"]

    assert [item["type"] for item in output] == ["message", "reasoning", "message"]
    assert len({item["id"] for item in output}) == 3


def test_only_the_last_item_can_be_incomplete() -> None:
    cut: list[Piece] = [Began("x"), ToolBegan(0, 0, "a", "f"), TextPiece(0, "b"), ToolBegan(0, 1, "c", "g")]
    for pieces, expected in ((cut, ["completed", "completed", "incomplete"]), (cut[:3], ["completed", "incomplete"])):
        output = events(streamed([*pieces, Ending(0, "length")]))[-1]["response"]["output"]
        assert [item["status"] for item in output] == expected

    late: list[Piece] = [Began("x"), TextPiece(0, "a"), ToolBegan(0, 0, "b", "f")]
    told = writer()
    output = events(told.write(late) + told.error(ProviderBroke("It broke.")))[-2]["response"]["output"]
    assert [item["status"] for item in output] == ["completed", "incomplete"]


def test_what_was_encrypted_stands_alone() -> None:
    pieces: list[Piece] = [Began("x"), ReasoningPiece(0, "", redacted="r"), ReasoningPiece(0, "hm"), Ending(0, "stop")]
    output = events(streamed(pieces))[-1]["response"]["output"]

    assert [(item.get("encrypted_content"), len(item["summary"])) for item in output] == [("redacted:r", 0), (None, 1)]


def test_a_call_that_begins_anew_in_the_same_slot_ends_the_one_before() -> None:
    pieces: list[Piece] = [
        ToolBegan(0, 0, "a", "f"),
        ToolPiece(0, 0, "{}"),
        ToolBegan(0, 0, "b", "g"),
        ToolPiece(0, 7, "x"),
    ]
    output = events(streamed(pieces))[-1]["response"]["output"]

    assert [(item["call_id"], item["arguments"], item["status"]) for item in output] == [
        ("a", "{}", "completed"),
        ("b", "", "completed"),
    ]


def test_other_answers_than_the_first_are_not_told() -> None:
    assert events(streamed([Began("x"), TextPiece(1, "b"), Ending(1, "length")]))[-1]["response"]["output"] == []


@pytest.mark.parametrize("odd", ['"}\n\ndata: x', "resp_" + "y" * 5_000, "é", ""])
def test_ids_are_made_of_plain_characters_whatever_the_provider_calls_its_answer(odd: str) -> None:
    last = events(streamed([Began(odd), TextPiece(0, "a"), Ending(0, "stop")]))[-1]["response"]

    for told in (last["id"], last["output"][0]["id"]):
        assert told.replace("_", "").isalnum() and told.isascii() and len(told) < 80


texts = st.sampled_from(["", "a", "b\n", "é"]) | st.text(max_size=8)
seals = st.sampled_from([None, None, None, "s=="])
slots = st.integers(0, 2)
pieces = st.lists(
    st.one_of(
        st.builds(Began, texts),
        st.builds(TextPiece, st.just(0), texts, st.none() | st.just(LOGPROBS) | st.just({"content": [1]})),
        st.builds(ReasoningPiece, st.just(0), texts, seals, seals),
        st.builds(RefusalPiece, st.just(0), texts),
        st.builds(ToolBegan, st.just(0), slots, texts, texts),
        st.builds(ToolPiece, st.just(0), slots, texts),
        st.builds(Ending, st.just(0), st.sampled_from(["stop", "length"])),
        st.builds(Failed, texts),
    ),
    min_size=1,
    max_size=20,
)


class Client:
    """What a client puts together that follows the events one by one; it insists on their order."""

    def __init__(self) -> None:
        self.items: list[Event] = []
        self.done: set[int] = set()
        self.parts_open = 0

    def take(self, event: Event) -> None:
        match event["type"].removeprefix("response.").split("."):
            case ["output_item", "added"]:
                assert event["output_index"] == len(self.items)
                self.items.append(event["item"])
            case ["output_item", "done"]:
                index = event["output_index"]
                settled = {"status": event["item"]["status"], "encrypted_content": None}
                assert self.open(event, event["item"]["id"]) | settled == event["item"] | settled
                assert self.parts_open == 0 or event["item"]["type"] == "function_call"
                self.items[index] = event["item"]
                self.done.add(index)
            case ["content_part", "added"]:
                content = self.open(event, event["item_id"])["content"]
                assert event["content_index"] == len(content)
                content.append(event["part"])
                self.parts_open += 1
            case ["reasoning_summary_part", "added"]:
                self.open(event, event["item_id"])["summary"].append(event["part"])
                self.parts_open += 1
            case ["reasoning_summary_part", "done"]:
                assert [event["part"]] == self.open(event, event["item_id"])["summary"]
                self.parts_open -= 1
            case ["output_text" | "refusal" as kind, "delta"]:
                part = self.open(event, event["item_id"])["content"][event["content_index"]]
                part["text" if kind == "output_text" else "refusal"] += event["delta"]
                if kind == "output_text":
                    part["logprobs"] += event["logprobs"]
            case ["reasoning_summary_text", "delta"]:
                self.open(event, event["item_id"])["summary"][0]["text"] += event["delta"]
            case ["function_call_arguments", "delta"]:
                self.open(event, event["item_id"])["arguments"] += event["delta"]
            case ["content_part", "done"]:
                assert event["part"] == self.open(event, event["item_id"])["content"][event["content_index"]]
                self.parts_open -= 1
                assert self.parts_open == 0
            case ["function_call_arguments", "done"]:
                assert event["arguments"] == self.open(event, event["item_id"])["arguments"]

    def open(self, event: Event, item_id: str) -> Event:
        index = event["output_index"]
        assert index not in self.done
        item = self.items[index]
        assert item["id"] == item_id
        return item


@settings(max_examples=300)
@given(pieces, st.booleans())
def test_following_the_events_gives_the_very_response_that_the_last_one_holds(told: list[Piece], breaks: bool) -> None:
    made = writer()
    stream = made.write(told) + (made.error(ProviderBroke("It broke.")) if breaks else made.end(USAGE, None))
    found = events(stream)
    client = Client()
    for event in found:
        client.take(event)

    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    holders = [event["response"] for event in found if event["type"].startswith(("response.comp", "response.inc"))]
    if breaks:
        assert holders == []
        assert found[-1]["type"] == "error"
    else:
        assert len(holders) == 1
        assert holders[0]["output"] == client.items
        assert len(client.done) == len(client.items)


@given(st.lists(texts.filter(bool), min_size=1))
def test_every_piece_of_text_is_one_event_at_once(told: list[str]) -> None:
    made = writer()
    made.write([Began("x"), TextPiece(0, ".")])

    for text in told:
        (event,) = events(made.write([TextPiece(0, text)]))
        assert (event["type"], event["delta"]) == ("response.output_text.delta", text)

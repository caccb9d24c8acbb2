"""An answer in pieces and the same answer whole."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.price import Usage
from tollhouse.gateway.dialect.collect import Collector, pieces
from tollhouse.gateway.dialect.meter import Meter
from tollhouse.gateway.dialect.neutral import (
    Began,
    Choice,
    Counted,
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

USED = Usage(20, 9)


def collected(*told: Piece) -> Whole:
    collector = Collector()
    collector.add(told)
    return collector.whole(None)


def parts(*told: Piece) -> tuple[Any, ...]:
    [choice] = collected(*told).choices
    return choice.parts


def test_pieces_of_one_kind_that_follow_each_other_are_one_part() -> None:
    assert parts(
        ReasoningPiece(0, "a"), ReasoningPiece(0, "b"), TextPiece(0, "c"), TextPiece(0, ""), TextPiece(0, "d"),
        RefusalPiece(0, "e"), RefusalPiece(0, "f"), TextPiece(0, "g"),
    ) == (Reasoning("ab"), Text("cd"), Refusal("ef"), Text("g"))  # fmt: skip


def test_a_signature_closes_the_thoughts_before_it() -> None:
    assert parts(
        ReasoningPiece(0, "a"), ReasoningPiece(0, "", "s1"), ReasoningPiece(0, "b"), ReasoningPiece(0, "", "s2"),
        ReasoningPiece(0, "", redacted="r1"), ReasoningPiece(0, "", redacted="r2"), ReasoningPiece(0, "c"),
    ) == (
        Reasoning("a", "s1"), Reasoning("b", "s2"), Reasoning("", redacted="r1"), Reasoning("", redacted="r2"),
        Reasoning("c"),
    )  # fmt: skip


def test_arguments_find_their_call_however_they_come() -> None:
    assert parts(
        ToolBegan(0, 0, "a", "f"), ToolBegan(0, 1, "b", "g"), ToolPiece(0, 1, "["), ToolPiece(0, 0, "{"),
        TextPiece(0, "so"), ToolPiece(0, 1, "]"), ToolPiece(0, 0, "}"),
    ) == (ToolCall("a", "f", "{}"), ToolCall("b", "g", "[]"), Text("so"))  # fmt: skip


def test_choices_stand_in_their_order_with_their_ends() -> None:
    whole = collected(
        Began("id"), TextPiece(2, "c"), TextPiece(0, "a"), Ending(2, "length"), Ending(0, "stop", "END"), Finished()
    )
    first = Choice((Text("a"),), "stop", "END")
    assert whole == Whole("id", (first, Choice((Text("c"),), "length")), None)


def test_usage_errors_and_ends_are_no_part_of_an_answer() -> None:
    assert collected(Counted(USED), Failed("busy"), Finished()) == Whole("", (), None)


def test_log_probabilities_are_joined_token_by_token_and_those_of_the_pieces_stay_as_they_are() -> None:
    first, second = {"content": [{"token": "a"}], "refusal": None}, {"content": [{"token": "b"}], "refusal": [1]}
    [choice] = collected(TextPiece(0, "a", first), TextPiece(0, "b", second)).choices
    assert choice.logprobs == {"content": [{"token": "a"}, {"token": "b"}], "refusal": [1]}
    assert first == {"content": [{"token": "a"}], "refusal": None}


def test_an_answer_told_again_is_a_whole_stream() -> None:
    call, sealed = ToolCall("a", "f", "{}"), Reasoning("b", "s")
    logprobs: dict[str, Any] = {"content": [], "refusal": None}
    whole = Whole("id", (Choice((sealed, Text("c"), call), "tool_calls", None, logprobs), Choice((), "stop")), USED)
    assert pieces(whole) == [
        Began("id"),
        ReasoningPiece(0, "b"),
        ReasoningPiece(0, "", "s"),
        TextPiece(0, "c", logprobs),
        ToolBegan(0, 0, "a", "f"),
        ToolPiece(0, 0, "{}"),
        Ending(0, "tool_calls"),
        Ending(1, "stop"),
        Counted(USED),
        Finished(),
    ]


WORDS = st.text(min_size=1, max_size=4)
TEXTS = st.builds(Text, WORDS)
REFUSALS = st.builds(Refusal, WORDS)
THOUGHTS = st.builds(Reasoning, WORDS)
SEALED = st.builds(Reasoning, st.text(max_size=4), signature=WORDS, redacted=st.none() | WORDS) | st.builds(
    Reasoning, st.text(max_size=4), redacted=WORDS
)
CALLS = st.builds(ToolCall, WORDS, WORDS, st.text(max_size=5))


def apart(said: list[Any]) -> tuple[Any, ...]:
    """Without parts that are one part of a stream with the one before them."""
    kept: list[Any] = []
    for part in said:
        open_before = kept and type(kept[-1]) is type(part) and not isinstance(part, ToolCall)
        if open_before and not (isinstance(part, Reasoning) and (kept[-1].signature or kept[-1].redacted)):
            continue
        kept.append(part)
    return tuple(kept)


PARTS = st.lists(TEXTS | REFUSALS | THOUGHTS | SEALED | CALLS, max_size=6).map(apart)
TOKENS = st.none() | st.lists(st.integers(), max_size=2)
LOGPROBS = st.none() | st.fixed_dictionaries({"content": TOKENS, "refusal": TOKENS})
ENDS = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])
CHOICES = st.builds(Choice, PARTS, ENDS, st.none() | WORDS, LOGPROBS)
WHOLES = st.builds(Whole, WORDS, st.lists(CHOICES, max_size=3).map(tuple), st.none() | st.just(USED))


@given(WHOLES)
def test_an_answer_told_again_and_collected_is_the_same(whole: Whole) -> None:
    collector = Collector()
    for piece in pieces(whole):
        collector.add([piece])
    assert collector.whole(whole.usage) == whole


@given(WHOLES)
def test_an_answer_told_again_is_metered_as_finished_with_its_usage(whole: Whole) -> None:
    meter = Meter()
    meter.count(pieces(whole))
    assert (meter.finished, meter.usage, meter.failed) == (True, whole.usage, None)


BEGUN = [ToolBegan(choice, slot, f"id{slot}", "f") for choice in range(2) for slot in range(2)]
PIECES = st.lists(
    st.builds(TextPiece, st.integers(0, 1), st.text(max_size=3))
    | st.builds(ReasoningPiece, st.integers(0, 1), st.text(max_size=3), st.none() | WORDS)
    | st.builds(RefusalPiece, st.integers(0, 1), st.text(max_size=3))
    | st.builds(ToolPiece, st.integers(0, 1), st.integers(0, 1), st.text(max_size=3)),
    max_size=12,
)


@given(PIECES)
def test_telling_again_what_was_collected_changes_nothing_and_no_text_is_lost(told: list[Piece]) -> None:
    whole = collected(*BEGUN, *told)
    assert collected(*pieces(whole)) == whole
    for index, choice in enumerate(whole.choices):
        for kind, part in ((TextPiece, Text), (ReasoningPiece, Reasoning), (RefusalPiece, Refusal)):
            came = "".join(piece.text for piece in told if isinstance(piece, kind) and piece.choice == index)
            assert "".join(found.text for found in choice.parts if isinstance(found, part)) == came

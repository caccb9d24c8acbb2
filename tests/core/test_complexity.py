"""How hard a question is judged to be, and why."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.complexity import COMPLEX, MODERATE, Shape, judge

shapes = st.builds(
    Shape, st.integers(0, 50_000), st.integers(0, 40), st.integers(0, 20), st.integers(0, 10), st.booleans(),
    st.booleans(), st.integers(0, 20),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("What is the capital of France?", "simple"),
        ("Hi!", "simple"),
        ("Write a greeting for my aunt's birthday card.", "simple"),
        ("Compare these two offers and explain which is better.", "moderate"),
        ("```python\nprint(1)\n```\nWhat does this print?", "moderate"),
        ("def total(xs):\n    return sum(xs)\nRefactor it, explain the trade-offs and prove that it ends.", "complex"),
        ("Analyse the design. " + "It has many parts. " * 200 + "Compare and evaluate them.", "complex"),
    ],
)  # fmt: skip
def test_questions_are_judged_by_their_shape(text: str, level: str) -> None:
    assert judge(Shape.of([text])).level == level


@pytest.mark.parametrize(
    ("shape", "points", "reason"),
    [
        (Shape(0), 0, "short question"),
        (Shape(500), 1, "long text"),
        (Shape(8_000), 3, "long text"),
        (Shape(0, turns=6), 1, "long conversation"),
        (Shape(0, tools=1), 1, "tools"),
        (Shape(0, tools=5), 2, "tools"),
        (Shape(0, images=9), 1, "images"),
        (Shape(0, has_code=True), 2, "code"),
        (Shape(0, has_schema=True), 1, "answer in a given form"),
        (Shape(0, reasoning_words=2), 2, "asks for reasoning"),
        (Shape(0, reasoning_words=99), 3, "asks for reasoning"),
        (Shape(2_000, has_schema=True, reasoning_words=3), 6, "asks for reasoning, long text, answer in a given form"),
    ],
)
def test_each_feature_gives_its_points_and_the_reason_names_them_most_first(
    shape: Shape, points: int, reason: str
) -> None:
    found = judge(shape)
    assert (found.points, found.reason) == (points, reason)


@given(shapes, shapes)
def test_more_of_anything_never_makes_a_question_simpler(one: Shape, more: Shape) -> None:
    both = Shape(
        max(one.characters, more.characters), max(one.turns, more.turns), max(one.tools, more.tools),
        max(one.images, more.images), one.has_code or more.has_code, one.has_schema or more.has_schema,
        max(one.reasoning_words, more.reasoning_words),
    )  # fmt: skip
    assert judge(both).points >= judge(one).points


@given(shapes)
def test_the_level_follows_from_the_points(shape: Shape) -> None:
    found = judge(shape)
    wanted = "simple" if found.points < MODERATE else "moderate" if found.points < COMPLEX else "complex"
    assert found.level == wanted


def test_a_shape_counts_all_text_and_looks_for_signs_at_its_end() -> None:
    found = Shape.of(["a" * 30_000, "Why? Explain why, and why not."], turns=3, tools=2, images=1, has_schema=True)
    assert found == Shape(30_030, 3, 2, 1, False, True, 2)
    assert Shape.of(["prove it", "a" * 30_000]).reasoning_words == 0
    assert not Shape.of(["In the function of a class, let us import nothing from it."]).has_code
    assert replace(Shape.of(["select a number: SELECT it"]), characters=0) == Shape(0)


def test_a_long_text_is_read_quickly() -> None:
    assert Shape.of(["explain " * 500_000]).reasoning_words == 1

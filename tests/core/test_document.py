"""Cutting documents into passages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.document import PASSAGE_MAX, passages


def test_paragraphs_stay_together_under_their_heading() -> None:
    text = "Before.\r\n\r\n# Prices\n\nAn hour is 90\neuros.\n\nA day is 700.\n\n## Travel ##\nA kilometre is 50 cents."
    assert passages(text) == [
        ("", "Before."),
        ("Prices", "An hour is 90 euros.\n\nA day is 700."),
        ("Travel", "A kilometre is 50 cents."),
    ]


def test_what_is_too_long_is_cut_between_sentences() -> None:
    sentence = "A sentence of some length stands here."
    found = passages("# Long\n\n" + " ".join([sentence] * 100))
    assert len(found) > 1 and {heading for heading, _ in found} == {"Long"}
    assert all(content.endswith("here.") and len(content) <= PASSAGE_MAX for _, content in found)
    assert " ".join(content for _, content in found) == " ".join([sentence] * 100)


def test_a_hash_without_a_title_is_text_and_a_heading_without_text_is_nothing() -> None:
    assert passages("#hashtag") == [("", "#hashtag")]
    assert passages("# Only a heading\n\n \n") == []


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=6_000))
def test_no_passage_is_empty_or_too_long_and_no_word_is_lost(text: str) -> None:
    found = passages(text)
    assert all(content.strip() and len(content) <= PASSAGE_MAX and "\0" not in content for _, content in found)


@given(st.lists(st.text("abc .!?", min_size=1, max_size=400), max_size=12))
def test_without_headings_every_letter_stands_in_a_passage_in_its_order(paragraphs: list[str]) -> None:
    said = "".join("".join(content.split()) for _, content in passages("\n\n".join(paragraphs)))
    assert said == "".join("".join(paragraph.split()) for paragraph in paragraphs)

"""Counting tokens, and bounding them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core import token

texts = st.text(max_size=80) | st.text(alphabet=" \t\nab1_.,!é漢😀\u0301\u2028", max_size=80)
roles = st.sampled_from(["system", "user", "assistant"])
chats = st.lists(st.fixed_dictionaries({"role": roles, "content": texts}), max_size=6)


@given(texts)
def test_the_pieces_put_together_are_the_text(text: str) -> None:
    assert "".join(token.pieces(text)) == text


@given(texts)
def test_a_text_has_as_many_tokens_as_pieces(text: str) -> None:
    assert token.count_tokens(text) == len(token.pieces(text))


@given(texts, st.integers(0, 100))
def test_a_text_cut_after_n_pieces_has_n_tokens(text: str, n: int) -> None:
    kept = token.pieces(text)[:n]
    assert token.pieces("".join(kept)) == kept


@given(texts)
def test_a_token_is_up_to_four_word_characters_or_one_other_character(text: str) -> None:
    for piece in token.pieces(text):
        core = piece.lstrip()
        assert core == "" or len(core) == 1 or (len(core) <= 4 and core.replace("_", "a").isalnum())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Hello, world!", ["Hell", "o", ",", " worl", "d", "!"]),
        ("  two  spaces ", ["  two", "  spac", "es", " "]),
        ("a_b1 c", ["a_b1", " c"]),
        ("...", [".", ".", "."]),
        (" \n\t", [" \n\t"]),
    ],
)
def test_the_published_rule_gives_these_pieces(text: str, expected: list[str]) -> None:
    assert token.pieces(text) == expected


def test_a_long_run_of_spaces_is_counted_in_linear_time() -> None:
    assert token.count_tokens(" " * 2_000_000) == 1


def test_a_chat_counts_its_texts_and_four_per_message() -> None:
    parts = [{"type": "text", "text": "Hello"}, {"type": "image_url", "image_url": {"url": "https://example.org/a"}}]
    chat: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None},
    ]
    assert token.count_messages(chat) == 3 + 2 + 3 * token.MESSAGE_TOKENS


def dumped(value: object, *, ascii_only: bool = False) -> bytes:
    return json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


@given(chats, st.booleans())
def test_the_upper_bound_is_never_below_the_bytes_of_all_texts(chat: list[dict[str, Any]], ascii_only: bool) -> None:
    content = sum(len(message["content"].encode("utf-8")) for message in chat)
    bound = token.upper_bound(dumped(chat, ascii_only=ascii_only))
    assert bound >= content + token.MESSAGE_BOUND * len(chat)
    assert bound >= token.count_messages(chat)


def test_the_upper_bound_counts_tools_and_response_format_in_full() -> None:
    chat = dumped([{"role": "user", "content": "hi"}])
    assert token.upper_bound(chat, b"[" + b" " * 98 + b"]", b"{}") == token.upper_bound(chat) + 102


def image_chat(url: str, kind: str = "image_url") -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": kind, kind: {"url": url}}, {"type": "text", "text": "What is it?"}]}]


@pytest.mark.parametrize("size", [4, 4_000_000])
def test_an_image_counts_the_same_whatever_its_bytes(size: int) -> None:
    chat = dumped(image_chat("data:image/png;base64," + "A" * size))
    without = dumped(image_chat("data:image/png;base64,"))
    assert token.upper_bound(chat) == len(without) + token.IMAGE_BOUND + token.MESSAGE_BOUND


def test_an_image_that_hides_its_name_behind_escapes_counts_as_an_image() -> None:
    plain = dumped(image_chat("https://example.org/cat.png"))
    hidden = plain.replace(b"image_url", b"\\u0069mage_url")
    assert token.upper_bound(hidden) >= token.upper_bound(plain) >= token.IMAGE_BOUND


def test_a_slash_escaped_in_base64_never_lowers_the_bound() -> None:
    plain = dumped(image_chat("data:image/png;base64,//AA//=="))
    escaped = plain.replace(b"//AA//", rb"\/\/AA\/\/")
    assert token.upper_bound(escaped) >= token.upper_bound(plain)


def test_base64_that_is_not_an_image_counts_as_text() -> None:
    text = "data:image/png;base64," + "A" * 10_000
    assert token.upper_bound(dumped([{"role": "user", "content": text}])) >= 10_000


def test_a_role_hidden_behind_escapes_counts_as_a_message() -> None:
    plain = dumped([{"role": "user", "content": ""}] * 50)
    assert token.upper_bound(plain.replace(b"role", b"\\u0072ole")) >= token.upper_bound(plain)


@pytest.mark.parametrize("answers", [0, 1, 3])
def test_the_upper_bound_of_a_chat_of_texts_is_its_bytes_and_eight_per_message(answers: int) -> None:
    chat = dumped([{"role": "user", "content": "Hello, world!"}] * answers)
    assert token.upper_bound(chat) == len(chat) + 8 * answers


def test_a_message_counts_four_tokens_beside_its_text() -> None:
    assert token.count_messages([{"role": "user", "content": "Hello"}] * 5) == 5 * (2 + 4)


@pytest.mark.parametrize(
    "image",
    [
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
        {"type": "input_image", "image_url": "https://example.org/cat.png"},
        {"type": "image", "source": {"type": "base64", "data": "AAAA"}},
        {"type": "image_url", "image_url": {"url": 5}},
        {"type": "image_url", "image_url": {"url": None}},
        {"type": "image_url"},
        {"type": "image_url", "image_url": {"url": "data:image/svg+xml,<svg/>"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,\u6f22"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/;base64,AAAA"}},
    ],
    ids=["link", "plain-link", "source", "number", "null", "none", "not-base64", "not-ascii", "link-like-base64"],
)
def test_an_image_counts_fifty_thousand_beside_what_is_not_its_base64(image: dict[str, Any]) -> None:
    chat = dumped([{"role": "user", "content": [image, {"type": "text", "text": "What is it?"}]}])
    assert token.upper_bound(chat) == len(chat) + 50_000 + 8


def test_each_image_counts_and_what_only_speaks_of_one_does_not() -> None:
    twice = image_chat("https://example.org/cat.png") * 2
    assert token.upper_bound(dumped(twice)) == len(dumped(twice)) + 2 * (50_000 + 8)
    parts: list[Any] = ["image", 5, {"type": "text", "text": "an image"}, {"type": "file", "image_url": {"url": "x"}}]
    spoken = dumped([{"role": "user", "content": parts}, {"role": "user", "content": "image_url"}])
    assert token.upper_bound(spoken) == len(spoken) + 2 * 8


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("as it is", "as it is"),
        (None, ""),
        (5, ""),
        ([], ""),
        ([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "one\ntwo"),
        ([{"type": "file", "text": "of a file"}, {"type": "text", "text": "own"}], "own"),
        (["loose", 5, {"text": "of no type"}, {"type": "text", "text": "own"}], "own"),
        ([{"type": "text", "text": None}, {"type": "text"}, {"type": "text", "text": "own"}], "own"),
    ],
)
def test_only_the_text_parts_of_a_content_are_its_text(content: object, text: str) -> None:
    assert token.text_of(content) == text

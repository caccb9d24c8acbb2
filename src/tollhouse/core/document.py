"""Cutting what an assistant shall know into passages that are found, and cited, one by one."""

import re
from collections.abc import Iterator

DOCUMENT_MAX, PASSAGE_MAX = 50_000, 1_200  # characters
_HEADING = re.compile(r"#{1,6}[ \t]+(.+?)[ \t]*#*")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def passages(text: str) -> list[tuple[str, str]]:
    """The passages of a text in plain words or Markdown, as (heading, content): paragraphs under one heading are put
    together as long as they stay within PASSAGE_MAX characters; a longer one is cut between sentences. None for a text
    that says nothing."""
    found: list[tuple[str, str]] = []
    for heading, piece in _pieces(text):
        if found and found[-1][0] == heading and len(found[-1][1]) + len(piece) + 2 <= PASSAGE_MAX:
            found[-1] = heading, f"{found[-1][1]}\n\n{piece}"
        else:
            found.append((heading, piece))
    return found


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Paragraphs, none longer than a passage may be, each with the heading above it."""
    heading, lines = "", list[str]()
    for line in [*text.replace("\r\n", "\n").replace("\0", "").split("\n"), ""]:
        title = _HEADING.fullmatch(line)
        if line.strip() and title is None:
            lines.append(line.strip())
            continue
        for piece in _within(" ".join(lines)):
            yield heading, piece
        lines = []
        heading = title[1][:200] if title is not None else heading


def _within(paragraph: str) -> Iterator[str]:
    piece = ""
    for sentence in _SENTENCE.split(paragraph):
        if piece and len(piece) + 1 + len(sentence) > PASSAGE_MAX:
            yield piece
            piece = ""
        piece = f"{piece} {sentence}" if piece else sentence
        while len(piece) > PASSAGE_MAX:  # no sentence is as long: a table, or a text without full stops
            yield piece[:PASSAGE_MAX]
            piece = piece[PASSAGE_MAX:]
    if piece:
        yield piece

"""What no text may hold, wherever it comes in."""

from collections.abc import Iterator


def holds_nul(document: object) -> bool:
    """Whether any text of a decoded JSON document, names of fields too, holds a NUL, which no store takes."""
    return any("\0" in text for text in _texts(document))


def _texts(document: object) -> Iterator[str]:
    waiting = [document]
    while waiting:
        match waiting.pop():
            case str(text):
                yield text
            case list(items):
                waiting += items
            case dict(members):
                waiting += [*members.keys(), *members.values()]

"""Tokens: a small tokenizer of our own, and how many tokens a request to any provider can have at most."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

MESSAGE_TOKENS: Final = 4
"""What our own tokenizer counts for each message beside its text."""

MESSAGE_BOUND: Final = 8
"""What the upper bound allows each message for the marks a provider puts around it."""

IMAGE_BOUND: Final = 50_000
"""What the upper bound allows each image: more than any vendor charges for one at its highest resolution."""

_PIECE: Final = re.compile(r"\s*+(?:\w{1,4}|[^\w\s])|\s+")


def pieces(text: str) -> list[str]:
    """`text` cut into tokens: ``"".join(pieces(text)) == text``.

    A token is a run of up to four word characters, as long as possible, or one other character that is not a space; the
    space before it belongs to it. Space at the very end is a token of its own.
    """
    return _PIECE.findall(text)


def count_tokens(text: str) -> int:
    """How many tokens `text` has by `pieces`."""
    return len(_PIECE.findall(text))


def count_messages(messages: Iterable[Mapping[str, Any]]) -> int:
    """The input tokens of a chat by our own tokenizer: those of all text contents, and `MESSAGE_TOKENS` per message."""
    return sum(MESSAGE_TOKENS + count_tokens(text_of(message.get("content"))) for message in messages)


def text_of(content: object) -> str:
    """The text of a message's content in the OpenAI shape: a string, or the text parts of a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
    return "\n".join(part for part in parts if isinstance(part, str))


def upper_bound(messages: bytes, tools: bytes = b"", response_format: bytes = b"") -> int:
    """The most input tokens that a provider can count for these JSON values, each as the bytes that came or empty.

    Bytes bound tokens because the tokenizers in use are byte-level: byte pair encoding starts from single bytes and
    only ever merges, and vocabularies of whole characters fall back to single bytes for what they do not know. So a
    text has never more tokens than UTF-8 bytes, and its JSON, with quotes, names and escapes, never fewer bytes than
    the text. The marks that a provider adds around a message are covered by `MESSAGE_BOUND`. An image is priced by its
    size in pixels and not by its bytes, so base64 in the data URL of an image part is left out and `IMAGE_BOUND` counts
    instead. Base64 anywhere else (a text, a file, a sound) is counted in full: a provider may well read it as text.

    Expects JSON that parses, `messages` an array of objects. Costs a search through the bytes; only a body that
    mentions images, or may hide the word behind an escape, is decoded.
    """
    total = len(messages) + len(tools) + len(response_format)
    if b"image" not in messages and b"\\u" not in messages:
        return total + MESSAGE_BOUND * messages.count(b'"role"')
    decoded = json.loads(messages)
    total += MESSAGE_BOUND * len(decoded)
    for message in decoded:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") in _IMAGE_PARTS:
                total += IMAGE_BOUND - _inline_bytes(part.get("image_url"))
    return total


_IMAGE_PARTS: Final = ("image_url", "input_image", "image")


def _inline_bytes(image_url: object) -> int:
    """The base64 bytes of a data URL, at most as many as the JSON holds for them."""
    url = image_url.get("url") if isinstance(image_url, dict) else image_url
    if not isinstance(url, str) or not url.startswith("data:"):
        return 0
    _, base64_mark, payload = url.partition(";base64,")
    return len(payload) if base64_mark and payload.isascii() else 0

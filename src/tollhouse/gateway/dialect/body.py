"""Reading the body of a request in any dialect: JSON, fields, nesting and text, each fault with a sentence that names
the remedy."""

import re
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from tollhouse.core.errors import BadRequest
from tollhouse.core.text import holds_nul

# Deeper than any real schema, and far from where a parser or a writer of JSON gives up.
NESTING_MAX = 200

Request = TypeVar("Request")
_PLACE = re.compile(r" - at `\$\.?(?:key in )?([^`]*)`$")


def read(decoder: msgspec.json.Decoder[Request], body: bytes, what: str) -> Request:
    """The request, or BadRequest. `what` names it: "a chat completion request"."""
    try:
        request = decoder.decode(body)
        _check_nesting(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), what) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}. Send one JSON object in UTF-8.") from None
    except RecursionError:
        raise _too_deep() from None
    _check_text(body)
    return request


def _invalid(message: str, what: str) -> BadRequest:
    place = _PLACE.search(message)
    name = place.group(1) if place else ""
    said = _PLACE.sub("", message)
    unknown = re.search(r"unknown field `([^`]*)`", message)
    if unknown:
        name = f"{name}.{unknown.group(1)}" if name else unknown.group(1)
        return BadRequest(f"The field `{name}` is unknown. Take it out, or check its spelling.", name)
    missing = re.search(r"missing required field `([^`]*)`", message)
    if missing:
        name = f"{name}.{missing.group(1)}" if name else missing.group(1)
        return BadRequest(f"The field `{name}` is missing. Add it.", name)
    if not name:
        return BadRequest(f"The body is not {what}: {said}. Send a JSON object with the fields of one.")
    return BadRequest(f"The field `{name}` is wrong: {said}. Correct it and send the request again.", name)


def _check_nesting(body: bytes) -> None:
    """Nothing later on may fail at the depth of what was read here: not the counting, not the writing to a provider."""
    if body.count(b"[") + body.count(b"{") <= NESTING_MAX:
        return
    level, depth = [msgspec.json.decode(body)], 0
    while level:
        if depth > NESTING_MAX:
            raise _too_deep()
        depth += 1
        level = [inner for value in level for inner in _inside(value)]


def _inside(value: object) -> Iterable[object]:
    match value:
        case dict(fields):
            return fields.values()
        case list(items):
            return items
    return ()


def _too_deep() -> BadRequest:
    return BadRequest("The body is nested too deeply. Send plainer JSON.")


def _check_text(body: bytes) -> None:
    """NUL characters are refused: no store and no provider takes them. (Lone surrogates do not parse at all.)"""
    if b"\\u0000" in body and holds_nul(msgspec.json.decode(body)):
        raise BadRequest("The text holds a NUL character (\\u0000). Take it out.")

"""What the fake provider was asked and what it says to that, whatever vendor it speaks as.

Beside the directives of `outside.script` a message may hold some for the fake provider alone, each a word of its own:

================== ====================================================================================================
``fake:calls=N``   the answer uses the first N tools of the request, all at once
``fake:think=N``   N tokens of thought come before the answer
``fake:cached=N``  N tokens of the input came from the vendor's cache
``fake:written=N`` N tokens of the input went into it, where the vendor counts that
``fake:wait=N``    an answer with an error status asks to be left alone for N seconds
================== ====================================================================================================
"""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tollhouse.outside.script import Script

Outcome = Literal["running", "answered", "broken", "left"]
"""How a call ended: answered to its end, broken off by its script, or left by the client before the end."""

CALL_TOKENS = 3
"""The output tokens of one use of a tool: its name, and its arguments in two pieces."""

SIGNATURE = "c2lnbmVk"
"""What a vendor signs thoughts with."""

_DIRECTIVE = re.compile(r"(?<!\S)fake:([a-z]+)=(\d+)")
_EXAMPLES: dict[object, object] = {"string": "w", "integer": 7, "number": 1.5, "boolean": True, "array": []}


@dataclass(slots=True)
class Call:
    """One request as it was received, and what became of it. `vendor` is whom it took us for, `key` what it came with
    where that vendor looks for keys."""

    method: str
    path: str
    headers: dict[str, str]
    raw_body: bytes
    vendor: str = ""
    key: str | None = None
    input_tokens: int = 0
    cached_tokens: int = 0
    written_tokens: int = 0
    output_tokens: int = 0
    thought_tokens: int = 0
    outcome: Outcome = "running"
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def body(self) -> dict[str, Any]:
        """The request's JSON."""
        decoded: dict[str, Any] = json.loads(self.raw_body)
        return decoded


@dataclass(frozen=True, slots=True)
class Asked:
    """`text` is the last user message's, `most` the maximum of output tokens, `tools` their names in order."""

    text: str
    input_tokens: int
    most: int | None = None
    stream: bool = False
    tools: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """Of a tool."""

    id: str
    name: str
    arguments: dict[str, Any]

    @property
    def pieces(self) -> tuple[str, str]:
        """The arguments as JSON, as they come in a stream."""
        text = json.dumps(self.arguments)
        return text[: len(text) // 2], text[len(text) // 2 :]


@dataclass(frozen=True, slots=True)
class Said:
    """An answer; each thought and each word is a token."""

    thoughts: tuple[str, ...]
    words: tuple[str, ...]
    uses: tuple[Use, ...]
    ended: Literal["stop", "length", "tool_calls"]
    tells_usage: bool

    @property
    def tokens(self) -> int:
        return len(self.thoughts) + len(self.words) + CALL_TOKENS * len(self.uses)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream as it goes over the socket, with the output tokens in it; `closing` once no more follow."""

    wire: bytes
    tokens: int = 0
    closing: bool = False


class Vendor(Protocol):
    """A format of requests and answers."""

    name: str

    def key(self, headers: Mapping[str, str]) -> str | None:
        """The key, where this vendor looks for it; None when it is not there."""

    def wants_key(self) -> bool: ...

    def asked(self, call: Call) -> Asked: ...

    def whole(self, call: Call, said: Said) -> dict[str, Any]: ...

    def events(self, call: Call, said: Said) -> Iterator[Event]:
        """The counts of `call` are right for what was taken before."""

    def failed(self) -> bytes:
        """An error in the middle of a stream."""

    def error(self, status: int) -> bytes:
        """The body of an answer that is an error."""

    def models(self) -> dict[str, Any]: ...


def own_directives(text: str) -> dict[str, int]:
    """Those of the fake provider's own; the last of a kind counts."""
    return {name: int(number) for name, number in _DIRECTIVE.findall(text)}


def answer_to(asked: Asked, script: Script, own: Mapping[str, int], natural_tokens: int) -> Said:
    """`own` are the fake provider's own directives."""
    thoughts = spaced("t", own.get("think", 0))
    length = natural_tokens if script.tokens is None else script.tokens
    words = spaced("w", length) if asked.schema is None else _pieces(json.dumps(example_of(asked.schema)))
    uses = tuple(
        Use(f"call_{at}", name, {"city": f"C{at}"}) for at, name in enumerate(asked.tools[: own.get("calls", 0)])
    )
    ended: Literal["stop", "length", "tool_calls"] = "tool_calls" if uses else "stop"
    if uses:
        words = ()
    elif asked.most is not None and len(thoughts) + len(words) > asked.most:
        words, ended = words[: max(0, asked.most - len(thoughts))], "length"
    return Said(thoughts, words, uses, ended, script.fault is None or script.fault.kind != "nousage")


def spaced(letter: str, count: int) -> tuple[str, ...]:
    return tuple(f" {letter}{number}" if number else f"{letter}0" for number in range(count))


def example_of(schema: Mapping[str, Any]) -> object:
    """Something that the schema allows, as far as tests need it."""
    if schema.get("type") == "object":
        return {name: example_of(inner) for name, inner in schema.get("properties", {}).items()}
    return _EXAMPLES[schema.get("type")]


def count_words(*parts: object) -> int:
    """The input tokens of so many messages, in this provider's own way of counting."""
    return sum(3 + len(json.dumps(part).split()) for part in parts)


def data(payload: object, name: str | None = None) -> bytes:
    """An event with this payload."""
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + json.dumps(payload).encode() + b"\n\n"


def _pieces(text: str) -> tuple[str, ...]:
    return tuple(text[at : at + 4] for at in range(0, len(text), 4))

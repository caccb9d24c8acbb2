"""Calls of tools as the sandbox makes them: which of the request's tools, and with what arguments.

A tool is called when the message tells so (``sandbox:tools=N``) or when `tool_choice` demands it. The arguments satisfy
the tool's own schema. Source: OpenAI's API reference, chat completions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import msgspec

from tollhouse.core.token import pieces
from tollhouse.outside.sample import Unsatisfiable, sample
from tollhouse.outside.story import sentence

_NO_PARAMETERS: Final = {"type": "object", "properties": {}}


class Uncallable(ValueError):
    """No such call can be made. The message names the remedy."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`said` are the tokens of the arguments, or of the input of a custom tool; those of the name are counted too."""

    id: str
    type: Literal["function", "custom"]
    name: str
    said: list[str]

    @property
    def name_tokens(self) -> int:
        return len(pieces(self.name))

    @property
    def tokens(self) -> int:
        return self.name_tokens + len(self.said)

    def whole(self) -> dict[str, Any]:
        """As it stands in a message."""
        return self._shape("".join(self.said))

    def deltas(self, index: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """As it stands in a stream: the tokens of each piece, and the piece. `index` is its place among the calls."""
        yield self.name_tokens, {"index": index, **self._shape("")}
        for token in self.said:
            yield 1, {"index": index, self.type: {self._text_name: token}}

    @property
    def _text_name(self) -> str:
        return "arguments" if self.type == "function" else "input"

    def _shape(self, text: str) -> dict[str, Any]:
        return {"id": self.id, "type": self.type, self.type: {"name": self.name, self._text_name: text}}


def make_calls(request: Mapping[str, Any], count: int, seed: bytes) -> tuple[ToolCall, ...]:
    """`count` calls of the request's tools in turn, a pure function of the arguments; `seed` is at least 8 bytes.

    `tool_choice` has the last word: it may forbid calls, demand one, or leave only certain tools, and
    `parallel_tool_calls` false allows no second. Raises `Uncallable`.
    """
    tools, choice = _tools(request.get("tools")), request.get("tool_choice")
    if choice == "none":
        return ()
    names, must = _choice(choice)
    if names is not None:
        tools = [tool for tool in tools if tool[1] in names]
    if must:
        count = max(1, count)
    if request.get("parallel_tool_calls") is False:
        count = min(1, count)
    if count and not tools:
        raise Uncallable("A call of a tool is wanted and the request has no such tool; name one in `tools`")
    return tuple(_call(tools[place % len(tools)], place, seed) for place in range(count))


def cut(calls: tuple[ToolCall, ...], most: int) -> tuple[ToolCall, ...]:
    """What fits into so many tokens. A call whose name does not fit is not begun."""
    found: list[ToolCall] = []
    for call in calls:
        if most < call.name_tokens:
            break
        found.append(replace(call, said=call.said[: most - call.name_tokens]))
        most -= call.tokens
    return tuple(found)


_Tool = tuple[Literal["function", "custom"], str, object]
"""Type, name, and the schema of the arguments."""


def _tools(given: object) -> list[_Tool]:
    found: list[_Tool] = []
    for tool in given if isinstance(given, list) else ():
        match tool:
            case {"type": "function", "function": {"name": str(name), **about}}:
                found.append(("function", name, about.get("parameters") or _NO_PARAMETERS))
            case {"type": "custom", "custom": {"name": str(name)}}:
                found.append(("custom", name, None))
            case _:
                raise Uncallable("Each of `tools` must be a function or a custom tool with a name")
    return found


def _choice(choice: object) -> tuple[list[str] | None, bool]:
    """Which tools may be called, None: all of them; and whether one must be."""
    match choice:
        case None | "auto":
            return None, False
        case "required":
            return None, True
        case {"type": "function", "function": {"name": str(name)}} | {"type": "custom", "custom": {"name": str(name)}}:
            return [name], True
        case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": list(allowed)}}:
            return [name for _, name, _ in _tools(allowed)], mode == "required"
    raise Uncallable("`tool_choice` must be none, auto, required, name a tool, or list those that are allowed")


def _call(tool: _Tool, place: int, seed: bytes) -> ToolCall:
    kind, name, schema = tool
    number = (int.from_bytes(seed[:8]) + place) % (1 << 64)
    text = sentence(number) if kind == "custom" else _arguments(name, schema, number)
    return ToolCall(f"call_sandbox_{number:016x}", kind, name, pieces(text))


def _arguments(name: str, schema: object, number: int) -> str:
    try:
        return msgspec.json.encode(sample(schema, number.to_bytes(8)[::-1])).decode()
    except Unsatisfiable as problem:
        raise Uncallable(f"The parameters of the tool {name[:64]!r} have no sample: {problem}") from None

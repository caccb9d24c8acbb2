"""One of the answers in a chat completion of the sandbox: whole, in pieces, or cut short."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tollhouse.outside.toolcall import ToolCall, cut


@dataclass(frozen=True, slots=True)
class Said:
    """A text, as its tokens, or calls of tools; never both."""

    text: list[str]
    finish_reason: Literal["stop", "length", "tool_calls"]
    calls: tuple[ToolCall, ...] = ()

    @property
    def tokens(self) -> int:
        return len(self.text) + sum(call.tokens for call in self.calls)

    def at_most(self, tokens: int) -> "Said":
        return self if self.tokens <= tokens else Said(self.text[:tokens], "length", cut(self.calls, tokens))

    def message(self) -> dict[str, Any]:
        """The whole, in OpenAI's shape."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.text), "refusal": None}
        if self.calls:
            message |= {"content": None, "tool_calls": [call.whole() for call in self.calls]}
        return message

    def deltas(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The pieces in OpenAI's shape, each after its number of tokens; what begins a message has none."""
        yield 0, {"role": "assistant", "content": None if self.calls else ""}
        for token in self.text:
            yield 1, {"content": token}
        for index, call in enumerate(self.calls):
            for tokens, piece in call.deltas(index):
                yield tokens, {"tool_calls": [piece]}

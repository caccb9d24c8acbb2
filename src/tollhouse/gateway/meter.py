"""Counts what a provider produces, chunk by chunk, reads what it says about that, and writes the charge beside it."""

from typing import Any

import msgspec
from msgspec import Struct

from tollhouse.core.money import format_credits, format_usd
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Settled

# Above this a count cannot be true, whatever the provider says.
TOKENS_BELIEVABLE = 100_000_000


class _Delta(Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[Any] | None = None


class _Choice(Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class Chunk(Struct):
    """What matters of a stream's chunk; everything else passes unread."""

    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


_chunk = msgspec.json.Decoder(Chunk)


class Meter:
    """`output_tokens` counts as the answer comes; `usage` is the provider's own word, the last one counts."""

    def __init__(self) -> None:
        self.output_tokens = 0
        self.usage: Usage | None = None
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self._ended = False

    @property
    def finished(self) -> bool:
        """Whether the answer is whole: the stream says so, or each of the answers in it that had begun does."""
        return self._ended or (bool(self._finished) and self._begun <= self._finished)

    def end(self) -> None:
        """The stream says that it is whole."""
        self._ended = True

    def chunk(self, data: bytes) -> Chunk:
        """Reads one chunk. msgspec.DecodeError when it is not one."""
        chunk = _chunk.decode(data)
        for choice in chunk.choices or ():
            self._begun.add(choice.index)
            if choice.finish_reason is not None:
                self._finished.add(choice.index)
            if choice.delta is not None:
                self.output_tokens += _count(choice.delta)
        if chunk.usage is not None:
            self.usage = read_usage(chunk.usage) or self.usage
        return chunk

    def settlement(self, input_tokens: int) -> Usage:
        """The provider's count, or ours when it gave none; `input_tokens` is our own estimate of the input."""
        return self.usage or Usage(input_tokens, self.output_tokens, estimated=True)


def _count(delta: _Delta) -> int:
    """A delta is one token as a rule; a provider that sends larger pieces is counted at four characters each."""
    text = delta.content or delta.reasoning_content or delta.refusal or ""
    if not text:
        return 1 if delta.tool_calls else 0
    return 1 if len(text) <= 16 else -(-len(text) // 4)


def read_usage(usage: object) -> Usage | None:
    """OpenAI's usage object. None when it is missing or cannot be true; an explicit 0 is a count like any other."""
    if not isinstance(usage, dict):
        return None
    given, made = _tokens(usage.get("prompt_tokens")), _tokens(usage.get("completion_tokens"))
    if given is None or made is None:
        return None
    cached = _tokens(_detail(usage, "prompt_tokens_details", "cached_tokens"))
    reasoning = _tokens(_detail(usage, "completion_tokens_details", "reasoning_tokens"))
    return Usage(given, made, min(cached or 0, given), min(reasoning or 0, made))


def _detail(usage: dict[str, Any], group: str, name: str) -> object:
    details = usage.get(group)
    return details.get(name) if isinstance(details, dict) else None


def _tokens(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOKENS_BELIEVABLE:
        return value
    return None


def usage_object(usage: Usage) -> dict[str, Any]:
    """Our usage in OpenAI's shape; `estimated` stands only where it is true."""
    figures: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    return figures | ({"estimated": True} if usage.estimated else {})


def add_charge(figures: dict[str, Any], usage: Usage, settled: Settled) -> None:
    """Writes the charge beside the vendor's own figures."""
    figures["credits"] = format_credits(settled.charged_micros)
    figures["cost_usd"] = format_usd(settled.cost_nanos)
    if usage.estimated:
        figures["estimated"] = True

"""Counts what a provider produces, piece by piece, and keeps what it says about that."""

from collections.abc import Iterable

from tollhouse.core.price import Usage
from tollhouse.gateway.dialect.neutral import (
    Counted,
    Ending,
    Failed,
    Finished,
    Piece,
    ReasoningPiece,
    RefusalPiece,
    TextPiece,
    ToolBegan,
    ToolCall,
    ToolPiece,
    Whole,
)

# Above this a count cannot be true, whatever the provider says.
TOKENS_BELIEVABLE = 100_000_000


class Meter:
    """`output_tokens` counts as the answer comes; `usage` is the provider's own word, the last one counts. `failed` is
    the error that the provider reported in the middle of its answer."""

    def __init__(self) -> None:
        self.output_tokens = 0
        self.usage: Usage | None = None
        self.failed: str | None = None
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self.ended = False

    @property
    def finished(self) -> bool:
        """Whether the answer is whole: the stream says so, or each of the answers in it that had begun does."""
        return self.ended or (bool(self._finished) and self._begun <= self._finished)

    @property
    def has_output(self) -> bool:
        """Whether the provider has produced anything that it may charge for as output."""
        return self.output_tokens > 0 or (self.usage is not None and self.usage.output_tokens > 0)

    def count(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            match piece:
                case TextPiece() | ReasoningPiece() | RefusalPiece():
                    self.text(piece.choice, piece.text)
                case ToolBegan():
                    self.begin(piece.choice)
                    self.output_tokens += 1
                case ToolPiece():
                    self.text(piece.choice, piece.arguments)
                case Ending():
                    self.finish(piece.choice)
                case Counted():
                    self.usage = piece.usage
                case Failed():
                    self.failed = piece.message
                case Finished():
                    self.ended = True

    def begin(self, choice: int) -> None:
        self._begun.add(choice)

    def finish(self, choice: int) -> None:
        self._begun.add(choice)
        self._finished.add(choice)

    def text(self, choice: int, text: str) -> None:
        """A piece is one token as a rule; a provider that sends larger pieces is counted at four characters each."""
        self._begun.add(choice)
        if text:
            self.output_tokens += 1 if len(text) <= 16 else -(-len(text) // 4)

    def settlement(self, input_tokens: int) -> Usage:
        """The provider's count, or ours when it gave none; `input_tokens` is our own estimate of the input."""
        return self.usage or Usage(input_tokens, self.output_tokens, estimated=True)


def tokens(value: object) -> int | None:
    """A count of tokens as a provider says it; None when it is missing or cannot be true. An explicit 0 is a count."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOKENS_BELIEVABLE:
        return value
    return None


def count_text(whole: Whole) -> int:
    """The output tokens of an answer that does not say, at four characters each."""
    characters = 0
    for choice in whole.choices:
        for part in choice.parts:
            characters += len(part.name) + len(part.arguments) if isinstance(part, ToolCall) else len(part.text)
    return -(-characters // 4)

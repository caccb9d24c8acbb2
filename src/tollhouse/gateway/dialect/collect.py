"""Between an answer in pieces and the same answer whole."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tollhouse.core.price import Usage
from tollhouse.gateway.dialect.neutral import (
    Began,
    Choice,
    Counted,
    Ended,
    Ending,
    Finished,
    Piece,
    Reasoning,
    ReasoningPiece,
    Refusal,
    RefusalPiece,
    Text,
    TextPiece,
    ToolBegan,
    ToolCall,
    ToolPiece,
    Whole,
)


@dataclass(slots=True)
class _Growing:
    """A part that is not complete yet. `first` says which it is, without its text."""

    first: Text | Reasoning | Refusal | ToolBegan
    texts: list[str] = field(default_factory=list)

    def part(self) -> Text | ToolCall | Reasoning | Refusal:
        text = "".join(self.texts)
        match self.first:
            case Text():
                return Text(text)
            case Refusal():
                return Refusal(text)
            case Reasoning(_, signature, redacted):
                return Reasoning(text, signature, redacted)
            case ToolBegan():
                return ToolCall(self.first.id, self.first.name, text)


@dataclass(slots=True)
class _Answer:
    """One choice; stop is what an answer ends in when its provider never says."""

    parts: list[_Growing] = field(default_factory=list)
    calls: dict[int, _Growing] = field(default_factory=dict)  # by slot
    logprobs: dict[str, Any] | None = None
    ended: Ended = "stop"
    stop_sequence: str | None = None

    def say(self, first: Text | Reasoning | Refusal, text: str) -> None:
        """More of the last part if that is of the same kind and open, else the first of a new one."""
        last = self.parts[-1] if self.parts else None
        if last is None or last.first != first:
            last = _Growing(first)
            self.parts.append(last)
        last.texts.append(text)

    def seal(self, piece: ReasoningPiece) -> None:
        """Signature and redacted text close the thoughts before them, or stand alone."""
        last = self.parts[-1] if self.parts else None
        sealed = Reasoning("", piece.signature, piece.redacted)
        if last is not None and last.first == Reasoning(""):
            last.first = sealed
        else:
            self.parts.append(_Growing(sealed))

    def join(self, logprobs: dict[str, Any]) -> None:
        """They stand in lists, one for content and one for refusals; a piece has those of its own tokens."""
        joined = self.logprobs = self.logprobs or {}
        for name, tokens in logprobs.items():
            known = joined.get(name)
            if known is None:
                joined[name] = list(tokens) if isinstance(tokens, list) else tokens
            elif isinstance(known, list) and isinstance(tokens, list):
                known += tokens

    def begin(self, piece: ToolBegan) -> None:
        call = self.calls[piece.slot] = _Growing(piece)
        self.parts.append(call)

    def choice(self) -> Choice:
        parts = tuple(part.part() for part in self.parts)
        return Choice(parts, self.ended, self.stop_sequence, self.logprobs)


class Collector:
    """Takes the pieces of an answer as they come."""

    def __init__(self) -> None:
        self._id = ""
        self._answers: dict[int, _Answer] = {}

    def add(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, Began):
                self._id = piece.id
            elif isinstance(piece, TextPiece | ReasoningPiece | RefusalPiece | ToolBegan | ToolPiece | Ending):
                answer = self._answers.get(piece.choice)
                if answer is None:
                    answer = self._answers[piece.choice] = _Answer()
                _add(answer, piece)

    def whole(self, usage: Usage | None) -> Whole:
        """What came until now."""
        choices = tuple(answer.choice() for _, answer in sorted(self._answers.items()))
        return Whole(self._id, choices, usage)


def _add(answer: _Answer, piece: TextPiece | ReasoningPiece | RefusalPiece | ToolBegan | ToolPiece | Ending) -> None:
    match piece:
        case TextPiece():
            if piece.text:
                answer.say(Text(""), piece.text)
            if piece.logprobs is not None:
                answer.join(piece.logprobs)
        case ReasoningPiece():
            if piece.text:
                answer.say(Reasoning(""), piece.text)
            if piece.signature is not None or piece.redacted is not None:
                answer.seal(piece)
        case RefusalPiece():
            if piece.text:
                answer.say(Refusal(""), piece.text)
        case ToolBegan():
            answer.begin(piece)
        case ToolPiece():
            answer.calls[piece.slot].texts.append(piece.arguments)
        case Ending():
            answer.ended, answer.stop_sequence = piece.ended, piece.stop_sequence


def pieces(whole: Whole) -> list[Piece]:
    """A whole answer told again as a stream; a part is one piece."""
    told: list[Piece] = [Began(whole.id)]
    for index, choice in enumerate(whole.choices):
        told += _told(index, choice)
    if whole.usage is not None:
        told.append(Counted(whole.usage))
    return [*told, Finished()]


def _told(index: int, choice: Choice) -> Iterator[Piece]:
    slot, logprobs = 0, choice.logprobs
    for part in choice.parts:
        match part:
            case Text():
                yield TextPiece(index, part.text, logprobs)
                logprobs = None
            case Refusal():
                yield RefusalPiece(index, part.text)
            case Reasoning():
                if part.text:
                    yield ReasoningPiece(index, part.text)
                if part.signature is not None or part.redacted is not None:
                    yield ReasoningPiece(index, "", part.signature, part.redacted)
            case ToolCall():
                yield ToolBegan(index, slot, part.id, part.name)
                if part.arguments:
                    yield ToolPiece(index, slot, part.arguments)
                slot += 1
    if logprobs is not None:
        yield TextPiece(index, "", logprobs)
    yield Ending(index, choice.ended, choice.stop_sequence)

"""Answers as they are kept, to be given again: under an idempotency key, and in an organisation's answer cache."""

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from tollhouse.core.admission import Candidate
from tollhouse.core.price import Usage
from tollhouse.flows.once import Once
from tollhouse.flows.operation import Answer, Settled
from tollhouse.gateway.dialect.collect import pieces
from tollhouse.gateway.dialect.neutral import Whole
from tollhouse.gateway.exchange import Chat, Exchange, Plain

STATUS = 200


@dataclass(frozen=True, slots=True)
class Kept:
    """`answer` is a plain one, without its charge; `whole` a streamed one. The charge is added where it is stored."""

    model: str
    created: int
    usage: Usage
    answer: dict[str, Any] | None = None
    whole: Whole | None = None
    charged_micros: int = 0
    cost_nanos: int = 0
    available_micros: int = 0

    @property
    def settled(self) -> Settled:
        return Settled(self.charged_micros, self.cost_nanos, 0, self.available_micros, late=False, replayed=True)

    def charged(self, settled: Settled) -> "Kept":
        """The same answer at the charge of now."""
        return replace(
            self,
            charged_micros=settled.charged_micros,
            cost_nanos=settled.cost_nanos,
            available_micros=settled.available_micros,
        )

    def under(self, once: Once) -> Answer:
        """As it is kept under an idempotency key."""
        return Answer(once, STATUS, msgspec.json.decode(msgspec.json.encode(self)))  # parts of it may still be bytes

    def plain(self, exchange: Exchange) -> bytes:
        """As the answer to a request that wants it in one piece."""
        if self.answer is not None:
            answer = self.answer
        else:
            assert self.whole is not None and isinstance(exchange, Chat)
            answer = exchange.answer(self.whole, self.model)
        exchange.charge(answer, self.usage, self.settled)
        return msgspec.json.encode(answer)

    def stream(self, exchange: Chat) -> bytes:
        """As the answer to a request that wants it in pieces, all of them at once."""
        assert self.whole is not None
        writer = exchange.writer(self.model)
        return writer.write(pieces(self.whole)) + writer.end(self.usage, self.settled)


def kept_plain(once: Once, exchange: Exchange, candidate: Candidate, plain: Plain, usage: Usage) -> Answer:
    return Kept(candidate.model.id, exchange.created, usage, answer=plain.answer).under(once)


def kept_whole(once: Once, exchange: Chat, candidate: Candidate, whole: Whole, usage: Usage) -> Answer:
    return Kept(candidate.model.id, exchange.created, usage, whole=whole).under(once)


def read(response: dict[str, Any]) -> Kept:
    return msgspec.convert(response, Kept)

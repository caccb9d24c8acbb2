"""A model that talks to a person: the same admission, pump and settlement as any other call, read here as text."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from tollhouse.core.ask import Ask, CallWant, Size
from tollhouse.core.conversation import State, Trouble
from tollhouse.core.errors import Overloaded, TollhouseError
from tollhouse.core.key import Mode, Scope
from tollhouse.core.own_model import OwnModel
from tollhouse.core.price import Usage
from tollhouse.core.prompt import Line
from tollhouse.flows import own_model as own_models
from tollhouse.flows.operation import Admit, Admitted, Bearer, Outcome, Release, Settled
from tollhouse.flows.talk import Speech, Spoken, Wish
from tollhouse.gateway.dialect import NotAnAnswer, chat
from tollhouse.gateway.dialect.chat_stream import ChunkReader
from tollhouse.gateway.dialect.neutral import Ending, Piece, RefusalPiece, TextPiece
from tollhouse.gateway.exchange import Chat
from tollhouse.gateway.pump import Pumps
from tollhouse.gateway.sse import EventReader
from tollhouse.gateway.stream import StreamCall
from tollhouse.store.db import Database

ENDPOINT = "/chat"
NEEDS: frozenset[Scope] = frozenset({"gateway"})
_CUT_SHORT = {
    "length": Trouble("length", "The answer is cut off here: it reached the largest length that it may have."),
    "content_filter": Trouble("content_filter", "The provider's filter held the rest of the answer back."),
}
_STOPPED_SERVER = Trouble("interrupted", "The answer was interrupted: the server stopped.")


class Talks:
    """See `flows.talk.Talk`."""

    def __init__(self, pumps: Pumps, db: Database, clock: Callable[[], datetime], mode: Mode) -> None:
        self._pumps = pumps
        self._db = db
        self._clock = clock
        self._mode = mode

    async def __call__(self, wish: Wish) -> Speech:
        if self._pumps.draining:
            raise Overloaded("This server is going down; nothing was taken. Try again: another one answers.")
        own = await own_models.called(self._db, wish.organization_id, wish.person_id, wish.model)
        lines = wish.lines if own is None else _told(own, wish.lines)
        exchange = Chat(chat.SURFACE, _body(wish, lines), int(self._clock().timestamp()))
        size = exchange.size
        if self._mode == "test":
            size = Size(size.input_tokens, size.output_tokens, exchange.sandbox_tokens())
        ask = Ask(
            organization_id=wish.organization_id,
            credential=wish.credential,
            subject_id=wish.person_id,
            channel="chat",
            want=_want(exchange, size, own),
            needs=NEEDS,
            rules=wish.rules,
            free=wish.free,
        )
        admitted = await self._pumps.teller.admit(Admit(wish.organization_id, ask, ENDPOINT, stream=True))
        try:
            call = SpokenCall(self._pumps, admitted, exchange, size, Bearer(wish.credential, NEEDS))
            self._pumps.start(call)
        except Exception as error:
            outcome = Outcome("failed", error=f"not sent to a provider: {error}")
            await self._pumps.teller.do(Release(admitted.organization_id, admitted.id, outcome))
            raise
        return Answering(call)


class SpokenCall(StreamCall):
    """A stream that is read here. What is said to a person is kept with their conversation and nowhere else."""

    def __init__(self, pumps: Pumps, admitted: Admitted, exchange: Chat, size: Size, bearer: Bearer) -> None:
        super().__init__(pumps, admitted, exchange, size, bearer=bearer)
        self._records = False
        self._unwanted = False
        self._failure: BaseException | None = None
        self._booked: tuple[Usage, Settled | None, TollhouseError | None] | None = None
        self._over: asyncio.Future[None] = pumps.loop.create_future()

    def cut(self) -> None:
        """Nobody wants more of it: the provider is left, and nobody else is asked."""
        self._unwanted = self.left = True
        self._cut()

    async def ended(self, cut_short: Trouble | None) -> Spoken:
        """How it ended; `cut_short` is what the provider said of its end."""
        await asyncio.shield(self._over)
        if self._booked is None:
            return self._spoken("failed", Usage(0, 0), None, self._trouble(self._failure))
        usage, settled, broken = self._booked
        if broken is None:
            return self._spoken("done", usage, settled, cut_short)
        if self._unwanted:
            return self._spoken("stopped", usage, settled, None)
        return self._spoken("incomplete", usage, settled, self._trouble(broken))

    def _spoken(self, state: State, usage: Usage, settled: Settled | None, error: Trouble | None) -> Spoken:
        quote, booked = self.candidate.quote, state != "failed"
        charged, cost = (settled.charged_micros, settled.cost_nanos) if settled else (0, 0)
        if booked and settled is None:
            charged, cost = quote.charge_micros(usage), quote.cost_nanos(usage)
        return Spoken(
            state=state,
            model_id=self.candidate.model.id,
            model_name=self.candidate.model.display_name,
            reason=self.reason,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_nanos=cost,
            charged_micros=charged,
            first_token_ms=self._first_byte_ms,
            duration_ms=self._elapsed_ms(),
            error=error,
            settled=settled is not None or not booked,
        )

    def _trouble(self, error: BaseException | None) -> Trouble:
        if self._stopped:
            return _STOPPED_SERVER
        if isinstance(error, TollhouseError):
            return Trouble(error.code, str(error))
        return Trouble("internal_error", "The answer failed inside the gateway. Try again.")

    def _limit_drain(self) -> None:
        if self._unwanted:
            self._cut()
        else:
            super()._limit_drain()

    def _ending(self, usage: Usage, settled: Settled | None, broken: TollhouseError | None) -> bytes:
        self._booked = usage, settled, broken
        return b""

    def _end(self, last: bytes) -> None:
        super()._end(last)
        self._set_over()

    def fail(self, error: BaseException) -> None:
        self._failure = error
        super().fail(error)
        self._set_over()

    def finished(self) -> None:
        super().finished()
        self._outbox.end()
        self._set_over()

    def _set_over(self) -> None:
        if not self._over.done():
            self._over.set_result(None)


class Answering:
    """See `flows.talk.Speech`."""

    def __init__(self, call: SpokenCall) -> None:
        self._call = call
        self._cut_short: Trouble | None = None

    @property
    def id(self) -> UUID:
        return self._call.admitted.id

    @property
    def model_id(self) -> str:
        return self._call.candidate.model.id

    @property
    def model_name(self) -> str:
        return self._call.candidate.model.display_name

    @property
    def reason(self) -> str | None:
        return self._call.reason

    @property
    def trial_remaining(self) -> int | None:
        admission = self._call.admitted.admission
        if self._call.candidate.model is not admission.terms.model:
            return None  # another one answers: the trial message was given back
        return admission.trial_remaining

    async def pieces(self) -> AsyncIterator[str]:
        events, chunks = EventReader(), ChunkReader()
        async for segment in self._call.chunks():
            text = "".join(self._text(piece) for data in events.feed(segment) for piece in _read(chunks, data))
            if text:
                yield text

    def _text(self, piece: Piece) -> str:
        match piece:
            case TextPiece(text=text) | RefusalPiece(text=text):
                return text
            case Ending(ended=ended):
                self._cut_short = _CUT_SHORT.get(ended)
        return ""

    async def end(self) -> Spoken:
        return await self._call.ended(self._cut_short)

    def stop(self) -> None:
        self._call.cut()


def _read(chunks: ChunkReader, data: bytes) -> list[Piece]:
    """What a model says beside text, such as the call of a tool that it was not given, is no text."""
    try:
        return chunks.read(data)
    except NotAnAnswer:
        return []


def _want(exchange: Chat, size: Size, own: OwnModel | None) -> CallWant:
    """What is meant for a model of one's own is told to no other."""
    if own is None:
        return CallWant(exchange.model, size, shape=exchange.shape)
    return CallWant(own.model_id, size, fallback=False, own=own.own)


def _told(own: OwnModel, lines: Sequence[Line]) -> Sequence[Line]:
    """What the owner of a model tells it always comes first, in one system message with the rest."""
    if not own.system_message:
        return lines
    if lines and lines[0].role == "system":
        return [Line("system", f"{own.system_message}\n\n{lines[0].content}"), *lines[1:]]
    return [Line("system", own.system_message), *lines]


def _body(wish: Wish, lines: Sequence[Line]) -> bytes:
    """The wish as a client of OpenAI's dialect would send it."""
    body: dict[str, object] = {
        "model": wish.model,
        "messages": [{"role": line.role, "content": line.content} for line in lines],
        "stream": True,
    }
    if wish.max_output_tokens is not None:
        body["max_tokens"] = wish.max_output_tokens
    return msgspec.json.encode(body)

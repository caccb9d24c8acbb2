"""A call answered in pieces."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from tollhouse.core.errors import ProviderBroke, ProviderFailed, TollhouseError
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Admitted, Settled
from tollhouse.gateway.call import SETTLE_WAIT_S, Call, failure
from tollhouse.gateway.meter import add_charge, usage_object
from tollhouse.gateway.outbox import Outbox
from tollhouse.gateway.sse import EventReader, TooLong, event
from tollhouse.gateway.wire import error_body
from tollhouse.outside import Provider, ProviderFault, Reply

if TYPE_CHECKING:
    from tollhouse.gateway.pump import Pumps

STREAM_MAX = 64 * 1024 * 1024
OUTBOX_MAX = 256 * 1024  # what waits for a client that reads slowly
STALL_S = 60.0  # a client that reads nothing for so long has left
READ_ON_S = 0.25  # how long a finished answer may take to end its HTTP body
DONE = b"[DONE]"


class StreamCall(Call):
    """`chunks` gives the pieces, each as bytes of the stream, until the end of the answer."""

    def __init__(
        self, pumps: "Pumps", admitted: Admitted, provider: Provider, body: bytes, estimate: int, usage: bool
    ) -> None:
        super().__init__(pumps, admitted, provider, body, estimate)
        self._wants_usage = usage
        self._outbox = Outbox(OUTBOX_MAX)
        self._ended = False
        self._head: dict[str, Any] = {}  # id, created, model of the provider's chunks: our usage chunk carries the same

    def chunks(self) -> AsyncIterator[bytes]:
        return self._outbox.read()

    def client_left(self) -> None:
        super().client_left()
        self._outbox.drop()

    def fail(self, error: BaseException) -> None:
        super().fail(error)
        self._outbox.end()

    async def run(self) -> None:
        cut = False
        try:
            broken = await self._relay()
        except TimeoutError:
            cut = not self._stopped
            broken = ProviderBroke("The call was cut off; what had come until then is charged.")
        except TollhouseError as error:
            broken = error
        usage = self.meter.settlement(self._input_estimate)
        if broken is not None and not cut and self.meter.output_tokens == 0 and self.meter.usage is None:
            await self._release(str(broken))
            await self._put(event(error_body(broken)))
            self.fail(broken)
            return
        ended = ("done", None) if broken is None else ("incomplete", str(broken))
        unsettled = self._pumps.loop.call_later(SETTLE_WAIT_S, lambda: self._end(self._ending(usage, None, broken)))
        settled = await self._settle(usage, *ended)
        unsettled.cancel()
        self._end(self._ending(usage, settled, broken))

    def _end(self, last: bytes) -> None:
        """The last of the answer, once."""
        if not self._ended:
            self._ended = True
            if not self.left:
                self._outbox.add(last)
            self._outbox.end()
            self._begin()

    async def _relay(self) -> TollhouseError | None:
        """Passes the answer on until its end; what broke it, if something did."""
        async with self._reading():
            reply = await self._open(stream=True)
            try:
                if reply.content_type != "text/event-stream":
                    raise ProviderFailed("The provider's answer is not a stream; nothing was charged. Try again.")
                return await self._read(reply)
            finally:
                await reply.close()

    async def _read(self, reply: Reply) -> TollhouseError | None:
        reader, size = EventReader(), 0
        try:
            async for segment in reply.segments():
                size += len(segment)
                events = reader.feed(segment)
                out, ended, broken = self._take(events)
                if out:
                    self._mark_first_byte()
                    if not self.begun.done():
                        self.begun.set_result(None)
                    await self._put(out)
                if broken is not None or size > STREAM_MAX:
                    return broken or ProviderBroke("The provider's answer is longer than allowed; it was cut off.")
                if ended:
                    break
        except ProviderFault as fault:
            return failure(fault) if not self.begun.done() else ProviderBroke(f"The answer broke off: {fault}.")
        except TooLong:
            return ProviderBroke("The provider sent an event that is too long; the answer was cut off.")
        if self.meter.finished:
            await _read_to_end(reply)
            return None
        return ProviderBroke("The provider ended its answer without finishing it; what came until then is charged.")

    def _take(self, events: list[bytes]) -> tuple[bytes, bool, TollhouseError | None]:
        """The bytes to pass on for these events; whether the stream says it is done; what broke it."""
        out: list[bytes] = []
        for data in events:
            if data == DONE:
                self.meter.end()
                return b"".join(out), True, None
            try:
                chunk = self.meter.chunk(data)
                self._head = self._head or _head_of(data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return (
                    b"".join(out),
                    True,
                    ProviderBroke("The provider sent something that is not a chunk of an answer."),
                )
            if chunk.error is not None:
                return b"".join(out), True, ProviderBroke("The provider reported an error in the middle of its answer.")
            if chunk.choices:
                out.append(event(data))
        return b"".join(out), False, None

    def _ending(self, usage: Usage, settled: Settled | None, broken: TollhouseError | None) -> bytes:
        if broken is not None:
            return event(error_body(broken))
        ending = event(DONE)
        if self._wants_usage:
            figures = usage_object(usage)
            if settled is not None:
                add_charge(figures, usage, settled)
            chunk = self._head | {"object": "chat.completion.chunk", "choices": [], "usage": figures}
            ending = event(msgspec.json.encode(chunk)) + ending
        return ending

    async def _put(self, chunk: bytes) -> None:
        if self._outbox.full:
            try:
                async with asyncio.timeout(STALL_S):
                    await self._outbox.room()
            except TimeoutError:
                self.client_left()
        if not self.left:
            self._outbox.add(chunk)


async def _read_to_end(reply: Reply) -> None:
    """Whatever follows the end is ignored; a connection read to its end can be used again."""
    try:
        async with asyncio.timeout(READ_ON_S):
            async for _ in reply.segments():
                pass
    except (ProviderFault, TimeoutError):
        return


def _head_of(data: bytes) -> dict[str, Any]:
    chunk = msgspec.json.decode(data)
    return {name: chunk[name] for name in ("id", "created", "model", "system_fingerprint") if name in chunk}

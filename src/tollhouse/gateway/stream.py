"""A call answered in pieces."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from tollhouse.core.ask import Size
from tollhouse.core.errors import ProviderBroke, TollhouseError
from tollhouse.core.price import Usage
from tollhouse.flows.once import Once
from tollhouse.flows.operation import Admitted, Answer, Bearer, Settled
from tollhouse.gateway.attempt import of_answer, of_fault
from tollhouse.gateway.call import SETTLE_WAIT_S, Call
from tollhouse.gateway.dialect import NotAnAnswer, Relay
from tollhouse.gateway.exchange import Chat, Recorded
from tollhouse.gateway.kept import kept_whole
from tollhouse.gateway.outbox import Outbox
from tollhouse.gateway.sse import EventReader, TooLong
from tollhouse.outside import ProviderFault, Reply

if TYPE_CHECKING:
    from tollhouse.gateway.pump import Pumps

STREAM_MAX = 64 * 1024 * 1024
OUTBOX_MAX = 256 * 1024  # what waits for a client that reads slowly
STALL_S = 60.0  # a client that reads nothing for so long has left
READ_ON_S = 0.25  # how long a finished answer may take to end its HTTP body


class StreamCall(Call):
    """`chunks` gives the pieces, each as bytes of the stream, until the end of the answer."""

    def __init__(
        self,
        pumps: "Pumps",
        admitted: Admitted,
        exchange: Chat,
        size: Size,
        once: Once | None = None,
        bearer: Bearer | None = None,
    ) -> None:
        super().__init__(pumps, admitted, exchange, size, once, bearer)
        self._chat = exchange
        self._outbox = Outbox(OUTBOX_MAX)
        self._ended = False
        self._relay: Relay | None = None
        keeps = self.admitted.keeps
        self._records = self._once is not None or keeps.cache_ttl_s is not None or keeps.stores_content

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
        broken: TollhouseError | None
        try:
            broken = await self._attempted(self._read)
        except TimeoutError:
            cut = not self._stopped
            broken = self._forbidden or ProviderBroke("The call was cut off; what had come until then is charged.")
        except TollhouseError as error:
            broken = error
        if broken is not None and not cut and not self.meter.has_output:
            await self._release(str(broken))
            self.fail(broken)
            return
        usage = self._believed(self.meter.usage, self.meter.output_tokens)
        state, said = ("done", None) if broken is None else ("incomplete", str(broken))
        unsettled = self._pumps.loop.call_later(SETTLE_WAIT_S, lambda: self._end(self._ending(usage, None, broken)))
        settled = await self._settle(usage, state, said, self._kept(usage, broken))
        unsettled.cancel()
        self._end(self._ending(usage, settled, broken))
        recorded = self._relay
        if broken is None and isinstance(recorded, Recorded):
            keeper, whole = self._pumps.keeper, recorded.whole(usage)
            await keeper.keep(self.admitted, self.candidate, self._chat, lambda: whole, usage)

    def _kept(self, usage: Usage, broken: TollhouseError | None) -> Answer | None:
        """Of an answer that broke off there is nothing to tell again: who asks again is told that it was lost."""
        if self._once is None or broken is not None or not isinstance(self._relay, Recorded):
            return None
        return kept_whole(self._once, self._chat, self.candidate, self._relay.whole(usage), usage)

    def _end(self, last: bytes) -> None:
        """The last of the answer, once."""
        if not self._ended:
            self._ended = True
            if not self.left:
                self._outbox.add(last)
            self._outbox.end()
            self._begin()

    async def _read(self, reply: Reply) -> TollhouseError | None:
        """Passes an answer on until its end; what broke it, if something did. AttemptFailed when it broke before any
        output: until then everything is held back, so that another candidate can still answer."""
        if reply.content_type != "text/event-stream":
            raise of_answer("The provider's answer is not a stream")
        self._relay = relay = self._new_relay()
        self.meter = meter = relay.meter
        reader, size, passed = EventReader(), 0, False
        held: list[bytes] = []
        broken: str | None = None
        try:
            async for segment in reply.segments():
                size += len(segment)
                broken = _pass_on(relay, reader.feed(segment), held)
                if held and (passed or meter.has_output or meter.finished):
                    passed = True
                    self._mark_first_byte()
                    self._begin()
                    await self._put(b"".join(held))
                    held.clear()
                if broken is None and size > STREAM_MAX:
                    broken = "The provider's answer is longer than allowed; it was cut off"
                if broken is not None or meter.ended:
                    break
            else:
                broken = "The provider ended its answer without finishing it"
        except ProviderFault as fault:
            if not passed:
                raise of_fault(fault, 200) from None
            broken = f"The answer broke off: {fault}"
        except TooLong:
            broken = "The provider sent an event that is too long; the answer was cut off"
        if meter.finished:  # it is whole, whatever came after it
            await _read_to_end(reply)
            return None
        if not passed:
            raise of_answer(broken or "The provider's answer is empty")
        return ProviderBroke(f"{broken}; what came until then is charged.")

    def _new_relay(self) -> Relay:
        if self._records:
            return self._chat.recorded(self.candidate)
        return self._chat.relay(self.candidate)

    def _ending(self, usage: Usage, settled: Settled | None, broken: TollhouseError | None) -> bytes:
        if self._relay is None:  # it was cut off before its provider said anything, when nobody listened any more
            return b""
        return self._relay.end(usage, settled) if broken is None else self._relay.error(broken)

    async def _put(self, chunk: bytes) -> None:
        if self._outbox.full:
            try:
                async with asyncio.timeout(STALL_S):
                    await self._outbox.room()
            except TimeoutError:
                self.client_left()
        if not self.left:
            self._outbox.add(chunk)


def _pass_on(relay: Relay, events: list[bytes], out: list[bytes]) -> str | None:
    """The events as the client gets them; what broke the answer, if something did. After its end nothing counts."""
    meter = relay.meter
    for data in events:
        try:
            passed = relay.take(data)
        except NotAnAnswer:
            return "The provider sent something that is not a piece of an answer"
        if meter.failed is not None:
            return "The provider reported an error in the middle of its answer"
        if passed:
            out.append(passed)
        if meter.ended:
            break
    return None


async def _read_to_end(reply: Reply) -> None:
    """Whatever follows the end is ignored; a connection read to its end can be used again."""
    try:
        async with asyncio.timeout(READ_ON_S):
            async for _ in reply.segments():
                pass
    except (ProviderFault, TimeoutError):
        return

"""A call answered in one piece."""

from functools import partial

import msgspec

from tollhouse.core.errors import ProviderFailed, TollhouseError
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Answer, Settled
from tollhouse.gateway.attempt import of_answer, of_fault
from tollhouse.gateway.call import SETTLE_WAIT_S, Call
from tollhouse.gateway.dialect import NotAnAnswer
from tollhouse.gateway.exchange import Chat, Plain
from tollhouse.gateway.kept import kept_plain
from tollhouse.outside import ProviderFault, Reply


class PlainCall(Call):
    """After `begun` the `answer` is there, settled and with its charge in it."""

    answer = b""
    settled: Settled | None = None
    _raw = b""  # what the provider sent

    async def run(self) -> None:
        try:
            plain = await self._attempted(self._read)
        except TollhouseError as error:
            await self._release(str(error))
            self.fail(error)
            return
        except TimeoutError:
            cut = self._forbidden or ProviderFailed(
                "The call was cut off before the provider answered. Try again.", 503
            )
            if self._stopped:
                await self._release(str(cut))
            else:  # its client left long ago, and the provider was at work: at least the input is paid
                await self._settle(Usage(self._size.input_estimate, 0, estimated=True), "incomplete", str(cut))
            self.fail(cut)
            return
        usage = self._believed(plain.usage, plain.output_estimate)
        kept = self._kept(plain, usage)
        unsettled = self._pumps.loop.call_later(SETTLE_WAIT_S, self._give, plain, usage, None)
        settled = await self._settle(usage, "done", answer=kept)
        unsettled.cancel()
        if not self.begun.done():
            self._give(plain, usage, settled)
        if isinstance(self._exchange, Chat):
            whole = partial(self._exchange.whole, self.candidate, self._raw)
            await self._pumps.keeper.keep(self.admitted, self.candidate, self._exchange, whole, usage)

    def _kept(self, plain: Plain, usage: Usage) -> Answer | None:
        """What the settlement keeps for those who ask again."""
        return None if self._once is None else kept_plain(self._once, self._exchange, self.candidate, plain, usage)

    def _give(self, plain: Plain, usage: Usage, settled: Settled | None) -> None:
        self.settled = settled
        self._exchange.charge(plain.answer, usage, settled)
        self.answer = msgspec.json.encode(plain.answer)
        self._begin()

    async def _read(self, reply: Reply) -> Plain:
        self._mark_first_byte()
        try:
            self._raw = await reply.read(self._exchange.answer_max)
        except ProviderFault as fault:
            raise of_fault(fault, 200) from None
        try:
            return self._exchange.plain(self.candidate, self._raw)
        except NotAnAnswer:
            raise of_answer("The provider's answer is not one in its own dialect") from None

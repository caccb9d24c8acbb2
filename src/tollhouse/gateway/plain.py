"""A call answered in one piece."""

from typing import Any

import msgspec

from tollhouse.core.errors import ProviderFailed, TollhouseError
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Answer, Settled
from tollhouse.gateway.call import SETTLE_WAIT_S, Call, failure
from tollhouse.gateway.meter import add_charge, read_usage, usage_object
from tollhouse.outside import ProviderFault

ANSWER_MAX = 32 * 1024 * 1024


class PlainCall(Call):
    """After `begun` the `answer` is there, settled and with its charge in it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.answer = b""
        self.settled: Settled | None = None

    async def run(self) -> None:
        try:
            answer, usage = await self._read()
        except TollhouseError as error:
            await self._release(str(error))
            self.fail(error)
            return
        except TimeoutError:
            cut = ProviderFailed("The call was cut off before the provider answered. Try again.", 503)
            if self._stopped:
                await self._release(str(cut))
            else:  # its client left long ago, and the provider was at work: at least the input is paid
                await self._settle(Usage(self._input_estimate, 0, estimated=True), "incomplete", str(cut))
            self.fail(cut)
            return
        kept = self._kept(answer, usage)
        unsettled = self._pumps.loop.call_later(SETTLE_WAIT_S, self._give, answer)
        settled = await self._settle(usage, "done", answer=kept)
        unsettled.cancel()
        if not self.begun.done():
            self.settled = settled
            add_charge(answer["usage"], usage, settled)
            self._give(answer)

    def _kept(self, answer: dict[str, Any], usage: Usage) -> Answer | None:
        """What the settlement keeps for those who ask again."""
        return None

    def _give(self, answer: dict[str, Any]) -> None:
        self.answer = msgspec.json.encode(answer)
        self._begin()

    async def _read(self) -> tuple[dict[str, Any], Usage]:
        async with self._reading():
            reply = await self._open(stream=False)
            self._mark_first_byte()
            try:
                body = await reply.read(ANSWER_MAX)
            except ProviderFault as fault:
                raise failure(fault) from None
            finally:
                await reply.close()
        try:
            answer = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get("choices"), list):
            raise ProviderFailed("The provider's answer is not a chat completion; nothing was charged. Try again.")
        usage = read_usage(answer.get("usage"))
        if usage is None:
            usage = Usage(self._input_estimate, self._count(answer), estimated=True)
            answer["usage"] = usage_object(usage)
        return answer, usage

    def _count(self, answer: dict[str, Any]) -> int:
        """The output tokens of an answer that does not say, at four characters each."""
        text = sum(
            len(msgspec.json.encode(choice.get("message"))) for choice in answer["choices"] if isinstance(choice, dict)
        )
        return -(-text // 4)

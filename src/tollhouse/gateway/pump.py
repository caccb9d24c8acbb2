"""The pump: a supervised task owns a call from the provider's first byte to the settlement; the response only listens.

When the client leaves, the pump goes on: it drains the provider's answer for a while, so that the bill is the true one,
and settles. Nothing of a settlement hangs on the response, its generator or its cancellation.
"""

import asyncio

import structlog

from tollhouse.core.errors import Forbidden, ProviderFailed, TollhouseError, Unauthenticated
from tollhouse.flows.spend import Teller
from tollhouse.gateway.call import CHECKPOINT_S, Call
from tollhouse.gateway.keeper import Keeper
from tollhouse.gateway.providers import Providers

log = structlog.get_logger()


class Pumps:
    """All calls of this process that are not settled yet."""

    def __init__(self, teller: Teller, providers: Providers, keeper: Keeper) -> None:
        self.teller = teller
        self.providers = providers
        self.keeper = keeper
        self.loop = asyncio.get_running_loop()
        self.drains = 0
        self.draining = False  # no new work
        self.closing = False
        self._running: dict[asyncio.Task[None], Call] = {}
        self._ticker = asyncio.create_task(self._tick(), name="checkpoints")

    @property
    def open(self) -> int:
        return len(self._running)

    def start(self, call: Call) -> None:
        task = asyncio.create_task(call.run(), name=f"call {call.admitted.id}")
        self._running[task] = call
        task.add_done_callback(self._ended)

    async def close(self, grace_s: float) -> None:
        """Lets the calls finish for so long, then settles what they have, before the teller may close."""
        self.draining = True
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        self.closing = True
        for call in self._running.values():
            call.stop()
        if self._running:
            await asyncio.wait(self._running, timeout=5)
        self._ticker.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        call = self._running.pop(task)
        call.finished()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error(
                "a call's pump failed; the reaper will close its reservation",
                call=str(call.admitted.id),
                exc_info=error,
            )
            call.fail(ProviderFailed("The call failed inside the gateway. Try again.", 500))

    async def _tick(self) -> None:
        """Every live call renews its lease and writes down what it has used; one whose key works no more ends."""
        while True:
            await asyncio.sleep(1.0)
            now = self.loop.time()
            due = [call for call in self._running.values() if call.checkpoint_at <= now]
            for call in due:
                call.checkpoint_at = now + CHECKPOINT_S
            renewals = await asyncio.gather(*(self.teller.do(call.renewal()) for call in due), return_exceptions=True)
            for call, error in zip(due, renewals, strict=True):
                if isinstance(error, Unauthenticated | Forbidden):
                    call.forbid(error)
                elif isinstance(error, Exception) and not isinstance(error, TollhouseError):
                    log.error("a checkpoint failed", exc_info=error)

"""One call that was admitted: what plain and streamed answers have in common."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec

from tollhouse.core.errors import Overloaded, ProviderFailed
from tollhouse.core.price import Usage
from tollhouse.flows.once import Once
from tollhouse.flows.operation import Admitted, Answer, Outcome, Release, Renew, Settle, Settled
from tollhouse.gateway.meter import Meter
from tollhouse.outside import Provider, ProviderFault, ProviderTimeout, Reply

if TYPE_CHECKING:
    from tollhouse.gateway.pump import Pumps

CHECKPOINT_S = 5.0  # how much of a stream a killed process may lose
DRAIN_S = 30.0  # how long a call goes on for the bill's sake after its client left
DRAINS_MAX = 64
SETTLE_WAIT_S = 10.0  # an answer is held back for its settlement no longer than this

Result = TypeVar("Result")


class Call(ABC):
    """One call that was admitted. `begun` is set when there is something to answer, or the failure before it."""

    def __init__(
        self, pumps: "Pumps", admitted: Admitted, provider: Provider, body: bytes, input_estimate: int
    ) -> None:
        self.admitted = admitted
        self.begun: asyncio.Future[None] = pumps.loop.create_future()
        self.meter = Meter()
        self.left = False
        self.checkpoint_at = pumps.loop.time() + CHECKPOINT_S
        self._pumps = pumps
        self._provider = provider
        self._body = body
        self._input_estimate = input_estimate
        self._began = pumps.loop.time()
        self._first_byte_ms: int | None = None
        self._status: int | None = None
        self._deadline: asyncio.Timeout | None = None
        self._draining = False
        self._stopped = False
        self._once: Once | None = None  # the idempotency key that the call runs under

    @abstractmethod
    async def run(self) -> None:
        """Reads the provider's answer, passes it on and settles; whatever happens, the call is settled or released."""

    def _begin(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Tells whoever listens that there will be no answer, or no more of it."""
        if not self.begun.done():
            self.begun.set_exception(error)
            self.begun.exception()  # a client that left asks no more; that is no fault

    def client_left(self) -> None:
        """From now on nobody listens; the provider's answer is still read for a while."""
        if not self.left:
            self.left = True
            self._limit_drain()

    def finished(self) -> None:
        if self._draining:
            self._draining = False
            self._pumps.drains -= 1

    def renewal(self) -> Renew:
        """What a checkpoint writes down: the lease goes on, and this much was used so far."""
        used = self.meter.usage
        tokens_in = used.input_tokens if used else self._input_estimate
        tokens_out = used.output_tokens if used else self.meter.output_tokens
        return Renew(self.admitted.organization_id, self.admitted.id, tokens_in, tokens_out)

    def stop(self) -> None:
        """The process is going down: read no more, settle what there is."""
        self._stopped = True
        if self._deadline is not None:
            self._deadline.reschedule(self._pumps.loop.time())

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        """While the provider is read: ends in a TimeoutError when a drain has lasted too long, or the process stops."""
        async with asyncio.timeout(None) as deadline:
            self._deadline = deadline
            self._limit_drain()
            try:
                yield
            finally:
                self._deadline = None

    def _limit_drain(self) -> None:
        if not self.left or self._deadline is None or self._draining:
            return
        now = self._pumps.loop.time()
        if self._pumps.drains >= DRAINS_MAX:
            self._deadline.reschedule(now)
            return
        self._draining = True
        self._pumps.drains += 1
        self._deadline.reschedule(now + DRAIN_S)

    def _mark_first_byte(self) -> None:
        if self._first_byte_ms is None:
            self._first_byte_ms = self._elapsed_ms()

    def _elapsed_ms(self) -> int:
        return int((self._pumps.loop.time() - self._began) * 1000)

    def _outcome(self, state: str, error: str | None) -> Outcome:
        return Outcome(state, self.left, error, self._status, self._first_byte_ms, self._elapsed_ms())

    async def _settle(
        self, usage: Usage, state: str, error: str | None = None, answer: Answer | None = None
    ) -> Settled:
        """`answer` is kept in the same commit."""
        organization_id, id_ = self.admitted.organization_id, self.admitted.id
        provider_id, outcome = self.admitted.admission.terms.route.provider_id, self._outcome(state, error)
        teller = self._pumps.teller
        return await self._insist(lambda: teller.do(Settle(organization_id, id_, usage, outcome, provider_id, answer)))

    async def _release(self, error: str) -> None:
        organization_id, id_ = self.admitted.organization_id, self.admitted.id
        outcome = self._outcome("failed", error)
        once = self._once
        await self._insist(lambda: self._pumps.teller.do(Release(organization_id, id_, outcome, once=once)))

    async def _insist(self, operation: Callable[[], Awaitable[Result]]) -> Result:
        """What the provider was paid for is booked, however long the database is away; repeating it does no harm."""
        pause = 0.1
        while True:
            try:
                return await operation()
            except Overloaded:
                if self._pumps.closing and pause > 1:
                    raise  # the reaper settles it from its last checkpoint
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    async def _open(self, *, stream: bool) -> Reply:
        """The provider's answer once its status is 200. ProviderFailed otherwise."""
        try:
            reply = await self._provider.chat(self._body, stream=stream)
        except ProviderFault as fault:
            raise failure(fault) from None
        self._status = reply.status
        if reply.status != 200:
            try:
                raise await refusal(reply)
            finally:
                await reply.close()
        return reply


def failure(fault: ProviderFault) -> ProviderFailed:
    """A provider's fault before any output, as the customer sees it."""
    if isinstance(fault, ProviderTimeout):
        return ProviderFailed(f"The call failed: {fault}; nothing was charged. Try again.", 504)
    return ProviderFailed(f"The call failed: {fault}; nothing was charged. Try again.")


async def refusal(reply: Reply) -> ProviderFailed:
    """A status other than 200. What the provider says about the request itself is passed on; what it says about our
    account there is not the customer's business."""
    if reply.status in (400, 413, 422):
        return ProviderFailed(await _message(reply), 400)
    if reply.status == 429:
        return ProviderFailed(
            "The provider limits our calls at the moment; nothing was charged. Try again shortly.", 429
        )
    if reply.status in (503, 529):
        return ProviderFailed("The provider is overloaded at the moment; nothing was charged. Try again shortly.", 503)
    return ProviderFailed(f"The provider refused the call (status {reply.status}); nothing was charged.", 502)


async def _message(reply: Reply) -> str:
    try:
        said = msgspec.json.decode(await reply.read(64 * 1024))
        message = said["error"]["message"]
    except (ProviderFault, msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, RecursionError):
        message = "no reason given"
    return f"The provider would not take the request: {str(message)[:500]}"

"""One call that was admitted: what plain and streamed answers have in common, and who is asked for one."""

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from tollhouse.core.admission import Candidate
from tollhouse.core.ask import Size
from tollhouse.core.errors import BadRequest, Conflict, Overloaded, ProviderFailed, TollhouseError
from tollhouse.core.price import Usage
from tollhouse.core.refusals import LimitExceeded
from tollhouse.flows.once import Once
from tollhouse.flows.operation import (
    Admitted,
    Answer,
    Answered,
    Attempt,
    Bearer,
    Outcome,
    Release,
    Renew,
    Settle,
    Settled,
)
from tollhouse.gateway.attempt import AttemptFailed, of_fault, of_refusal
from tollhouse.gateway.dialect.meter import Meter
from tollhouse.gateway.exchange import Exchange
from tollhouse.outside import ProviderFault, Reply

if TYPE_CHECKING:
    from tollhouse.gateway.pump import Pumps

CHECKPOINT_S = 5.0  # how much of a stream a killed process may lose
DRAIN_S = 30.0  # how long a call goes on for the bill's sake after its client left
DRAINS_MAX = 64
SETTLE_WAIT_S = 10.0  # an answer is held back for its settlement no longer than this
TRY_S = 120.0  # after so long no further provider is asked
PAUSE_S = (0.05, 0.25)  # before another attempt, at random, so that those who failed together do not come together
# What a provider may count beyond what it was sent: marks of its own around tools and messages, and rounding.
INPUT_MARGIN = 10_000
OUTPUT_MARGIN = 1_000

Result = TypeVar("Result")


class Call(ABC):
    """One call that was admitted. `begun` is set when there is something to answer, or the failure before it.

    `size` is what the call was admitted with, `candidate` who is asked at the moment; `number` counts the attempts."""

    def __init__(
        self,
        pumps: "Pumps",
        admitted: Admitted,
        exchange: Exchange,
        size: Size,
        once: Once | None = None,
        bearer: Bearer | None = None,
    ) -> None:
        self.admitted = admitted
        self.begun: asyncio.Future[None] = pumps.loop.create_future()
        self.meter = Meter()
        self.left = False
        self.checkpoint_at = pumps.loop.time() + CHECKPOINT_S
        self.number = 1
        self._candidates = admitted.admission.terms.candidates
        self.candidate = self._candidates[0]
        self._passed_over = False  # the first was not asked
        self._once = once  # the idempotency key that the call runs under
        self._bearer = bearer  # asked again with each checkpoint: a call does not outlive its key
        self._forbidden: TollhouseError | None = None
        self._pumps = pumps
        self._exchange = exchange
        self._size = size
        self._began = pumps.loop.time()
        self._first_byte_ms: int | None = None
        self._status: int | None = None
        self._deadline: asyncio.Timeout | None = None
        self._draining = False
        self._stopped = False
        self._body = self._first_body()

    @property
    def reason(self) -> str | None:
        """Why another model or connection answers than the one that was named; None when it does."""
        terms, first = self.admitted.admission.terms, self._candidates[0]
        if self.candidate.model is first.model and self.candidate.route == first.route:
            return terms.reason
        fallback = f"fallback: {first.model.id} did not answer"
        if self.candidate.model is first.model:
            fallback = f"fallback: another connection of {first.model.id} answered"
        return f"{terms.reason}; {fallback}" if terms.reason else fallback

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
        tokens_in = used.input_tokens if used else self._size.input_estimate
        tokens_out = used.output_tokens if used else self.meter.output_tokens
        return Renew(
            self.admitted.organization_id, self.admitted.id, tokens_in, tokens_out, bearer=self._bearer
        )  # fmt: skip

    def forbid(self, error: TollhouseError) -> None:
        """Its key works no more: read no more, settle what there is."""
        self._forbidden = error
        self._cut()

    def stop(self) -> None:
        """The process is going down: read no more, settle what there is."""
        self._stopped = True
        self._cut()

    def _cut(self) -> None:
        if self._deadline is not None:
            self._deadline.reschedule(self._pumps.loop.time())

    # ------------------------------------------------------------------------------------------- who is asked

    def _first_body(self) -> bytes:
        """The body for the first candidate that can be asked such a thing. BadRequest names what the model that was
        asked for by name has not: another one is no answer to that."""
        terms = self.admitted.admission.terms
        refused: BadRequest | None = None
        for candidate in self._candidates:
            try:
                body = self._exchange.body(candidate)
            except BadRequest as error:
                if terms.asked == candidate.model.id:
                    raise
                refused = refused or error
                continue
            self._passed_over = candidate is not self.candidate
            self.candidate = candidate
            return body
        assert refused is not None  # there is always one candidate
        raise refused

    async def _attempted(self, read: Callable[[Reply], Awaitable[Result]]) -> Result:
        """What `read` makes of the first answer that comes: one candidate after another, each at most twice, as long
        as nothing has been passed on. ProviderFailed when nobody answers, TimeoutError when the time is up."""
        async with self._reading():
            if self._passed_over:
                await self._record(Outcome("failed", error="not asked: its provider has not what was asked for"))
            if not self._allowed():
                await self._pass(self._resting(), pause=False)
            repeated = False
            while True:
                try:
                    return await self._attempt(read)
                except AttemptFailed as failed:
                    if failed.again and not repeated and self._may_go_on() and self._allowed():
                        repeated = True
                        await self._again(failed)
                        continue
                    repeated = False
                    await self._pass(failed)

    async def _attempt(self, read: Callable[[Reply], Awaitable[Result]]) -> Result:
        breaker = self._pumps.providers.breaker(self.candidate.route)
        try:
            result = await self._send(read)
        except AttemptFailed as failed:
            if breaker is not None and failed.ill:
                breaker.failed(self._pumps.loop.time(), failed.retry_after_s)
            elif breaker is not None:
                breaker.succeeded(self._pumps.loop.time())
            raise
        if breaker is not None:
            breaker.succeeded(self._pumps.loop.time())
        return result

    async def _send(self, read: Callable[[Reply], Awaitable[Result]]) -> Result:
        provider = self._pumps.providers.of(self.candidate.route)
        self._status = None
        try:
            reply = await provider.send(
                self._exchange.operation,
                self.candidate.model.provider_model_id,
                self._body,
                stream=self._exchange.wants_stream,
            )
        except ProviderFault as fault:
            raise of_fault(fault) from None
        self._status = reply.status
        try:
            if reply.status != 200:
                raise await of_refusal(reply)
            return await read(reply)
        finally:
            await reply.close()

    def _may_go_on(self) -> bool:
        gone = self.left or self._stopped or self._forbidden is not None or self._pumps.closing
        return not gone and self._pumps.loop.time() - self._began < TRY_S

    def _allowed(self) -> bool:
        breaker = self._pumps.providers.breaker(self.candidate.route)
        return breaker is None or breaker.allows(self._pumps.loop.time())

    def _resting(self) -> AttemptFailed:
        """This candidate failed so often that it is left alone for a while."""
        breaker = self._pumps.providers.breaker(self.candidate.route)
        assert breaker is not None
        error = ProviderFailed("The provider fails at the moment; nothing was sent or charged. Try again shortly.", 503)
        error.retry_after_s = max(1, min(60, round(breaker.retry_in(self._pumps.loop.time()))))
        return AttemptFailed(error, ill=False)

    async def _again(self, failed: AttemptFailed) -> None:
        await self._pause(failed.retry_after_s, failed)
        try:
            await self._record(self._failed(failed))
        except (Conflict, Overloaded):
            raise failed.error from None

    async def _pass(self, failed: AttemptFailed, pause: bool = True) -> None:
        """On to the next candidate; the failure when there is none, or nobody waits any more."""
        while failed.others and self._may_go_on():
            following = self._following()
            if following is None:
                break
            if pause:
                await self._pause(None, failed)
            self.candidate, self._body = following
            try:
                await self._record(self._failed(failed))
            except LimitExceeded:
                pause = False
                continue
            except (Conflict, Overloaded):
                break
            return
        raise failed.error from None

    def _following(self) -> tuple[Candidate, bytes] | None:
        now, seen = self._pumps.loop.time(), self._candidates.index(self.candidate) + 1
        for candidate in self._candidates[seen:]:
            breaker = self._pumps.providers.breaker(candidate.route)
            try:
                body = self._exchange.body(candidate)
            except BadRequest:
                continue
            if breaker is None or breaker.allows(now):
                return candidate, body
        return None

    async def _pause(self, wanted_s: float | None, failed: AttemptFailed) -> None:
        """The failure, when nobody waits any more after it."""
        await asyncio.sleep(max(wanted_s or 0.0, random.uniform(*PAUSE_S)))  # noqa: S311 - spreads load, guards nothing
        if not self._may_go_on():
            raise failed.error from None

    def _failed(self, failed: AttemptFailed) -> Outcome:
        return Outcome("failed", self.left, str(failed), failed.status, None, self._elapsed_ms())

    async def _record(self, before: Outcome) -> None:
        """The next attempt is durable before its provider is called."""
        route = self.candidate.route
        connection_id = route.connection.id if route.connection else None
        await self._pumps.teller.do(
            Attempt(
                self.admitted.organization_id, self.admitted.id, self.number + 1, self.candidate.model.id,
                route.provider_id, connection_id, route.own_key, before,
            )
        )  # fmt: skip
        self.number += 1
        self.meter = Meter()

    # ------------------------------------------------------------------------------------------- until its end

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

    def _believed(self, usage: Usage | None, estimate: int) -> Usage:
        """The provider's count; ours, when it gave none or one that what it was sent cannot have led to."""
        most_out = 2 * (self.candidate.output_tokens or 0) * self._exchange.answers + OUTPUT_MARGIN
        if (
            usage is None
            or usage.input_tokens > self._size.input_tokens + INPUT_MARGIN
            or usage.output_tokens > max(most_out, 2 * estimate)
        ):
            return Usage(self._size.input_estimate, estimate, estimated=True)
        return usage

    async def _settle(
        self, usage: Usage, state: str, error: str | None = None, answer: Answer | None = None
    ) -> Settled:
        """`answer` is kept in the same commit."""
        organization_id, id_ = self.admitted.organization_id, self.admitted.id
        route, outcome = self.candidate.route, self._outcome(state, error)
        by = Answered(
            self.candidate.model.id, route.provider_id, self.number, "own_key" if route.own_key else "provider"
        )
        teller = self._pumps.teller
        return await self._insist(lambda: teller.do(Settle(organization_id, id_, usage, outcome, by, answer)))

    async def _release(self, error: str) -> None:
        organization_id, id_ = self.admitted.organization_id, self.admitted.id
        outcome, once, teller = self._outcome("failed", error), self._once, self._pumps.teller
        await self._insist(lambda: teller.do(Release(organization_id, id_, outcome, once=once)))

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

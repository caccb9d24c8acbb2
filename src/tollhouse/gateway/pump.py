"""The pump: a supervised task owns a call from the provider's first byte to the settlement; the response only listens.

When the client leaves, the pump goes on: it drains the provider's answer for a while, so that the bill is the true one,
and settles. Nothing of a settlement hangs on the response, its generator or its cancellation.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
import structlog

from tollhouse.core.errors import Overloaded, ProviderBroke, ProviderFailed, TollhouseError
from tollhouse.core.money import format_credits, format_usd
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Admitted, Outcome, Release, Renew, Settle, Settled
from tollhouse.flows.spend import Teller
from tollhouse.gateway.meter import Meter, read_usage
from tollhouse.gateway.outbox import Outbox
from tollhouse.gateway.sse import EventReader, TooLong, event
from tollhouse.gateway.wire import error_body
from tollhouse.outside import Provider, ProviderFault, ProviderTimeout, Reply

CHECKPOINT_S = 5.0  # how much of a stream a killed process may lose
DRAIN_S = 30.0  # how long a call goes on for the bill's sake after its client left
DRAINS_MAX = 64
ANSWER_MAX = 32 * 1024 * 1024
STREAM_MAX = 64 * 1024 * 1024
OUTBOX_MAX = 256 * 1024  # what waits for a client that reads slowly
STALL_S = 60.0  # a client that reads nothing for so long has left
SETTLE_WAIT_S = 10.0  # an answer is held back for its settlement no longer than this
READ_ON_S = 0.25  # how long a finished answer may take to end its HTTP body
DONE = b"[DONE]"

Result = TypeVar("Result")
log = structlog.get_logger()


class Call:
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

    async def run(self) -> None:
        raise NotImplementedError

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

    async def _settle(self, usage: Usage, state: str, error: str | None = None) -> Settled:
        organization_id, id_ = self.admitted.organization_id, self.admitted.id
        provider_id, outcome = self.admitted.admission.route.provider_id, self._outcome(state, error)
        teller = self._pumps.teller
        return await self._insist(lambda: teller.settle(Settle(organization_id, id_, usage, outcome, provider_id)))

    async def _release(self, error: str) -> None:
        organization_id, id_ = self.admitted.organization_id, self.admitted.id
        outcome = self._outcome("failed", error)
        await self._insist(lambda: self._pumps.teller.do(Release(organization_id, id_, outcome)))

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


class PlainCall(Call):
    """A call answered in one piece. After `begun` the `answer` is there, settled and with its charge in it."""

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
        settling = asyncio.ensure_future(self._settle(usage, "done"))
        done, _ = await asyncio.wait([settling], timeout=SETTLE_WAIT_S)
        if done:
            self.settled = settling.result()
            _add_charge(answer.setdefault("usage", {}), usage, self.settled)
        self.answer = msgspec.json.encode(answer)
        if not self.begun.done():
            self.begun.set_result(None)
        await settling

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
            answer["usage"] = _usage_object(usage)
        return answer, usage

    def _count(self, answer: dict[str, Any]) -> int:
        """The output tokens of an answer that does not say, at four characters each."""
        text = sum(
            len(msgspec.json.encode(choice.get("message"))) for choice in answer["choices"] if isinstance(choice, dict)
        )
        return -(-text // 4)


class StreamCall(Call):
    """A call answered in pieces: `chunks` gives them, each as bytes of the stream, until the end of the answer."""

    def __init__(
        self, pumps: "Pumps", admitted: Admitted, provider: Provider, body: bytes, estimate: int, usage: bool
    ) -> None:
        super().__init__(pumps, admitted, provider, body, estimate)
        self._wants_usage = usage
        self._outbox = Outbox(OUTBOX_MAX)
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
        settling = asyncio.ensure_future(self._settle(usage, *ended))
        done, _ = await asyncio.wait([settling], timeout=SETTLE_WAIT_S)
        await self._put(self._ending(usage, settling.result() if done else None, broken))
        self._outbox.end()
        if not self.begun.done():
            self.begun.set_result(None)
        await settling

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
            figures = _usage_object(usage)
            if settled is not None:
                _add_charge(figures, usage, settled)
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


class Pumps:
    """All calls of this process that are not settled yet."""

    def __init__(self, teller: Teller) -> None:
        self.teller = teller
        self.loop = asyncio.get_running_loop()
        self.drains = 0
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
        """Every live call renews its lease and writes down what it has used."""
        while True:
            await asyncio.sleep(1.0)
            now = self.loop.time()
            due = [call for call in self._running.values() if call.checkpoint_at <= now]
            for call in due:
                call.checkpoint_at = now + CHECKPOINT_S
            renewals = await asyncio.gather(*(self.teller.do(call.renewal()) for call in due), return_exceptions=True)
            for error in renewals:
                if isinstance(error, Exception) and not isinstance(error, TollhouseError):
                    log.error("a checkpoint failed", exc_info=error)


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


def _usage_object(usage: Usage) -> dict[str, Any]:
    """Our usage in OpenAI's shape; `estimated` stands only where it is true."""
    figures: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    return figures | ({"estimated": True} if usage.estimated else {})


def _add_charge(figures: dict[str, Any], usage: Usage, settled: Settled) -> None:
    figures["credits"] = format_credits(settled.charged_micros)
    figures["cost_usd"] = format_usd(settled.cost_nanos)
    if usage.estimated:
        figures["estimated"] = True

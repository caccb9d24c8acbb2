"""The client for asyncio."""

import asyncio
import random
import time
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from tollhouse.client import calls
from tollhouse.client.answers import (
    Access,
    Balance,
    Release,
    Renewal,
    Reservation,
    Run,
    Settlement,
    Transactions,
    Usage,
)
from tollhouse.client.attempts import Done, Lost, Reply, attempt_s, judge
from tollhouse.client.calls import Answer, Call, Credits, Id, Wanted, read_charge
from tollhouse.client.errors import TollhouseError
from tollhouse.client.operation import BaseOperation, Ending, leaves_open, raise_unsettled
from tollhouse.client.settings import LIMITS, RUN_S, Patience, read_settings

DELIVERIES = 3


class AsyncClient:
    """`Client` for asyncio: the same methods with the same meaning, to be awaited; `async with client.operation(...)`.

    One client serves any number of tasks of one event loop."""

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: float = 10.0,
        retry_for: float = 20.0,
        settle_for: float = 60.0,
    ) -> None:
        self._settings = read_settings(api_key, base_url, timeout, retry_for, settle_for)
        self._http = httpx.AsyncClient(
            base_url=self._settings.base_url, headers=dict(self._settings.headers), limits=LIMITS
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    # --------------------------------------------------------------------------------------------------------- reading

    async def balance(self) -> Balance:
        return await self._do(calls.balance())

    async def transactions(
        self,
        *,
        type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Transactions:
        return await self._do(calls.transactions(type, since, until, limit, cursor))

    async def access_check(
        self,
        capability: str | None = None,
        *,
        quality: str | None = None,
        model: str | None = None,
        input_tokens: int | None = None,
        max_output_tokens: int | None = None,
        assistant: str | None = None,
        user: str | None = None,
    ) -> Access:
        return await self._do(
            calls.access_check(capability, quality, model, input_tokens, max_output_tokens, assistant, user)
        )

    async def reservation(self, id: Id) -> Reservation:
        return await self._do(calls.reservation(id))

    # -------------------------------------------------------------------------------------------------------- spending

    async def reserve(
        self, capability: str | None = None, *, idempotency_key: str | None = None, **wanted: Unpack[Wanted]
    ) -> Reservation:
        return await self._do(calls.reserve(capability, idempotency_key, wanted))

    async def settle(self, id: Id, *, credits: Credits | None = None, usage: Usage | None = None) -> Settlement:
        charge = read_charge(credits, usage)
        call = calls.settle(id, charge)
        try:
            return await self._do(call, self._settings.settling)
        except TollhouseError as error:
            if not leaves_open(error):
                raise
            failure = error
        raise_unsettled(str(id), charge, failure, None)

    async def release(self, id: Id, reason: str) -> Release:
        return await self._do(calls.release(id, reason))

    async def renew(self, id: Id, ttl_seconds: int) -> Renewal:
        return await self._do(calls.renew(id, ttl_seconds))

    async def run(
        self,
        capability: str,
        input: Mapping[str, Any],
        *,
        quality: str | None = None,
        user: str | None = None,
        idempotency_key: str | None = None,
        timeout: float = RUN_S,  # noqa: ASYNC109  # as in Client
    ) -> Run:
        call = calls.run(capability, input, quality, user, idempotency_key)
        return await self._do(call, self._settings.running(timeout))

    def operation(
        self, capability: str | None = None, *, idempotency_key: str | None = None, **wanted: Unpack[Wanted]
    ) -> "AsyncOperation":
        return AsyncOperation(self, calls.reserve(capability, idempotency_key, wanted))

    # -------------------------------------------------------------------------------------------------------- carrying

    async def _do(self, call: Call[Answer], patience: Patience | None = None) -> Answer:
        patience = patience or self._settings.ordinary
        began, tries = time.monotonic(), 0
        while True:
            outcome = await self._attempt(call, attempt_s(call, patience, time.monotonic() - began))
            tries += 1
            step = judge(call, outcome, tries, time.monotonic() - began, patience, random.random())  # noqa: S311
            if isinstance(step, Done):
                return step.answer
            await asyncio.sleep(step.seconds)

    async def _attempt(self, call: Call[Any], seconds: float) -> Reply | Lost:
        timeout = httpx.Timeout(seconds, connect=min(seconds, self._settings.ordinary.attempt_s))
        try:
            async with (
                asyncio.timeout(seconds),
                self._http.stream(
                    call.method, call.path, content=call.body, headers=dict(call.headers), timeout=timeout
                ) as response,
            ):
                body = b"".join([piece async for piece in response.aiter_raw()])
        except (httpx.TransportError, TimeoutError) as error:
            return Lost(error)
        return Reply(response.status_code, response.headers, body)


class AsyncOperation(BaseOperation):
    __doc__ = BaseOperation.__doc__

    def __init__(self, client: AsyncClient, reserving: Call[Reservation]) -> None:
        super().__init__(reserving)
        self._client = client
        self._renewing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._reservation = await self._client._do(self._begin())
        self._renewing = asyncio.create_task(self._renew(), name=f"tollhouse-renew-{self._reservation.id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        assert self._renewing is not None
        self._renewing.cancel()
        ending = self._end(problem)
        interrupted, failure = await self._see_through(ending)
        if failure is not None:
            self._undelivered(ending, failure, problem or interrupted)
        if interrupted is not None and not isinstance(problem, asyncio.CancelledError):
            raise interrupted

    async def _see_through(self, ending: Ending) -> tuple[asyncio.CancelledError | None, BaseException | None]:
        """Delivers in a task of its own, so that a cancellation of this one waits until it is done; the cancellation
        that came meanwhile, and what stood in the way. When the loop ends it cancels that task too: the delivery is
        safe to repeat, and repeated."""
        interrupted: asyncio.CancelledError | None = None
        failure: BaseException | None = None
        for _ in range(DELIVERIES):
            delivering = asyncio.create_task(self._deliver(ending))
            while not delivering.done():
                try:
                    await asyncio.wait([delivering])
                except asyncio.CancelledError as error:
                    interrupted = error
            if not delivering.cancelled():
                failure = delivering.exception()
                if failure is None:
                    self.result = delivering.result()
                return interrupted, failure
        return interrupted, asyncio.CancelledError("the event loop was ending")

    async def _deliver(self, ending: Ending) -> Settlement | Release:
        return await self._client._do(*self._delivery(ending, self._client._settings))

    async def _renew(self) -> None:
        """Until the block has been left. It comes late when the block keeps the event loop from running."""
        call, first_s = self._renewal()
        wait: float | None = first_s
        while wait is not None:
            await asyncio.sleep(wait)
            try:
                wait = self._renewed(await self._client._do(call, self._client._settings.once))
            except Exception as error:
                wait = self._not_renewed(error)

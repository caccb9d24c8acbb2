"""The teller: the one place where a process reserves, settles, releases and renews.

Operations queue up while a batch is served; whatever waits when it is done is the next batch, in one short transaction
(flows/batch.py, flows/answer.py). There is no timer. A full queue refuses, it does not grow.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import cast

import psycopg
import structlog

from tollhouse.core.catalogue import Catalogue
from tollhouse.core.credit import MoreGrantsNeeded
from tollhouse.core.errors import Overloaded
from tollhouse.core.key import Mode
from tollhouse.flows.answer import answer
from tollhouse.flows.batch import load, write
from tollhouse.flows.operation import Admit, Admitted, AnyOperation, Operation, Outcome, Release, Result
from tollhouse.store.account import GRANTS_READ
from tollhouse.store.db import UNAVAILABLE, TellerTx
from tollhouse.store.exchange import connect_teller, disconnect_teller

BATCH_MAX = 512
QUEUE_MAX = 4096
RETRY_S = 1.0
log = structlog.get_logger()


class Teller:
    """One per process. `mode` is the installation's; `clock` gives the real time; an organisation's own time may be
    ahead of it in test mode."""

    def __init__(self, url: str, mode: Mode, clock: Callable[[], datetime]) -> None:
        self._url = url
        self.mode = mode
        self._clock = clock
        self._waiting: deque[AnyOperation] = deque()
        self._arrived = asyncio.Event()
        self._connection: TellerTx | None = None
        self._catalogue: Catalogue | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._uncalled: list[Release] = []

    @property
    def catalogue(self) -> Catalogue | None:
        """As it was in the last batch; for those who only look. None before the first."""
        return self._catalogue

    async def open(self) -> None:
        self._task = asyncio.create_task(self._run(), name="teller")

    async def close(self) -> None:
        """Serves what waits, then stops. Pumps must have ended before: what comes later is refused."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        await self._disconnect()

    async def do(self, operation: Operation[Result]) -> Result:
        """Queues the operation and waits for its commit. Overloaded when the queue is full or the database is away; a
        refusal is raised as it is. What was written when this is cancelled stays written."""
        if self._closing or len(self._waiting) >= QUEUE_MAX:
            raise Overloaded("Too many calls wait for their turn; nothing was taken. Try again in a second.")
        operation.result = asyncio.get_running_loop().create_future()
        self._waiting.append(cast(AnyOperation, operation))
        self._arrived.set()
        return await operation.result

    async def admit(self, operation: Admit) -> Admitted:
        """For an ask without an idempotency key."""
        found = await self.do(operation)
        assert isinstance(found, Admitted)
        return found

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._uncalled:
                await self._give_back()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
                await self._serve([one for one in batch if not one.result.cancelled()])
            if self._closing:
                return

    async def _serve(self, batch: list[AnyOperation]) -> None:
        """Nobody who waits is ever forgotten: whatever goes wrong, each gets an answer or an error."""
        if not batch:
            return
        try:
            answers = await self._attempt(batch)
        except UNAVAILABLE as error:
            await self._disconnect()
            log.warning("teller: the database does not answer", error=str(error).strip(), operations=len(batch))
            answers = [Overloaded("The database does not answer at the moment; try again shortly.") for _ in batch]
        except Exception as error:
            await self._disconnect()
            if len(batch) > 1:  # one of them is at fault: each alone, so that the others do not suffer
                log.warning("teller: a batch failed, serving one by one", error=repr(error), operations=len(batch))
                for operation in batch:
                    await self._serve([operation])
                return
            log.error("teller: an operation failed", operation=type(batch[0]).__name__, exc_info=error)
            answers = [error]
        for operation, found in zip(batch, answers, strict=True):
            if operation.result.done():  # who waited was cancelled
                self._take_back(operation, found)
                continue
            if isinstance(found, BaseException):
                operation.result.set_exception(found)
            else:
                operation.result.set_result(found)  # type: ignore[arg-type]  # each operation's own kind of answer

    async def _attempt(self, batch: list[AnyOperation]) -> list[object]:
        if self._connection is not None and self._connection.closed:
            await self._disconnect()
        if self._connection is None:
            self._connection = await connect_teller(self._url)
        return await self._transact(self._connection, batch)

    async def _transact(self, tx: TellerTx, operations: list[AnyOperation]) -> list[object]:
        """One transaction, committed. The answers are in the operations' order, refusals among them as exceptions.
        After an error, giving the connection up is the rollback."""
        for grants_read in GRANTS_READ:
            batch = await load(tx, operations, self._clock(), self._catalogue, self.mode, grants_read)
            self._catalogue = batch.catalogue
            try:
                answers = [answer(batch, number, operation) for number, operation in enumerate(operations)]
            except MoreGrantsNeeded:
                continue
            try:
                await write(tx, batch)
            except UNAVAILABLE:
                # the reply to the commit may be lost: what was admitted is refused now, and so nobody calls it
                for operation, found in zip(operations, answers, strict=True):
                    self._take_back(operation, found)
                raise
            return answers
        raise AssertionError("all grants were loaded, and more were needed")

    def _take_back(self, operation: AnyOperation, found: object) -> None:
        """A call that may have been admitted and that nobody will make is released shortly. What the host application
        calls by itself stays: it asks again under its idempotency key, or its time runs out."""
        if isinstance(operation, Admit) and operation.endpoint is not None and isinstance(found, Admitted):
            outcome = Outcome("failed", error="not sent to a provider")
            self._uncalled.append(Release(found.organization_id, found.id, outcome, once=operation.once))
            asyncio.get_running_loop().call_later(RETRY_S, self._arrived.set)

    async def _give_back(self) -> None:
        uncalled, self._uncalled = self._uncalled, []
        loop = asyncio.get_running_loop()
        for release in uncalled:
            release.result = loop.create_future()
        for start in range(0, len(uncalled), BATCH_MAX):
            await self._serve([*uncalled[start : start + BATCH_MAX]])
        self._uncalled += [one for one in uncalled if isinstance(one.result.exception(), Overloaded)]
        if self._uncalled:
            loop.call_later(RETRY_S, self._arrived.set)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await disconnect_teller(connection)

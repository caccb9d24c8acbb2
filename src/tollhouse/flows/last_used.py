"""When keys were last used: remembered in memory with each call, written together once a minute."""

import asyncio
import contextlib
from datetime import datetime
from uuid import UUID

import structlog

from tollhouse.core.errors import Overloaded
from tollhouse.flows.auth import Identity
from tollhouse.store import key as keys
from tollhouse.store.db import Database

WRITTEN_EVERY_S = 60.0
log = structlog.get_logger()


class LastUsed:
    """One per process: `saw` is called with every request that comes with a key, and costs no write. A process that is
    killed forgets the last minute."""

    def __init__(self, db: Database, every_s: float = WRITTEN_EVERY_S) -> None:
        self._db = db
        self._every_s = every_s
        self._seen: dict[UUID, tuple[Identity, datetime]] = {}
        self._task: asyncio.Task[None] | None = None

    def saw(self, identity: Identity, now: datetime) -> None:
        self._seen[identity.credential.id] = identity, now

    def open(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="last used")

    async def close(self) -> None:
        """Writes what is left; the database must still be open."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.write()

    async def write(self) -> None:
        """What cannot be written now is written the next time."""
        if not self._seen:
            return
        seen, self._seen = self._seen, {}
        try:
            async with self._db.worker() as tx:
                await keys.write_last_used(
                    tx, {(one.organization_id, id_): at for id_, (one, at) in seen.items()}
                )  # fmt: skip
        except Overloaded as error:
            self._seen = seen | self._seen
            log.warning("when keys were last used is not written: the database does not answer", error=str(error))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.write()
            except Exception as error:
                log.error("when keys were last used could not be written", exc_info=error)

"""What changes while somebody looks: told to the pages that are open, whichever process serves them.

Only that something changed is told, never what: whoever hears it looks again, with the rights that they have then.
"""

import asyncio
import contextlib
from collections import defaultdict
from types import TracebackType
from typing import Literal, get_args
from uuid import UUID

import structlog

from tollhouse.store import live as store
from tollhouse.store.db import UNAVAILABLE, OperatorTx, TenantTx, WorkerTx

# "usage": credits, limits or figures; "notice": something to be told of; "conversations": the list of chats.
Topic = Literal["usage", "notice", "conversations"]
TOPICS: frozenset[str] = frozenset(get_args(Topic))
EVERYBODY = "*"
FOLLOWERS_MAX = 8  # of one person in one process: so many windows look at once
SILENCE_S = 60.0
RETRY_S = 2.0

log = structlog.get_logger()


class Follower:
    """One open page. What it has not heard yet is a set: however slow it is, it holds no more than the topics."""

    def __init__(self, live: "Live", organization_id: UUID, person_id: UUID) -> None:
        self.organization_id = organization_id
        self.person_id = person_id
        self._live = live
        self._unheard: set[str] = set()
        self._woken = asyncio.Event()
        self.over = False
        self.elsewhere = False

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.leave(self)

    def hear(self, topic: str) -> None:
        self._unheard.add(topic)
        self._woken.set()

    def end(self, *, elsewhere: bool) -> None:
        """Nothing more comes: a newer page took its place, or another process is to be asked from here on."""
        self.over, self.elsewhere = True, elsewhere
        self._woken.set()

    async def changed(self, within_s: float) -> list[str]:
        """The topics in which something has changed since it was asked last, in alphabetical order; empty when nothing
        did for so long, or when it is `over`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._woken.wait()
        topics = sorted(self._unheard)
        self._unheard.clear()
        if not self.over:
            self._woken.clear()
        return topics


class Live:
    """One per process. It listens from the first follower on, with one connection, and again whenever that breaks."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._following: defaultdict[UUID, list[Follower]] = defaultdict(list)  # by organisation, the oldest first
        self._task: asyncio.Task[None] | None = None
        self._draining = False

    @staticmethod
    async def tell(
        tx: TenantTx | WorkerTx | OperatorTx, organization_id: UUID, person_id: UUID | None, topic: Topic
    ) -> None:
        """To the person's pages in this organisation, or everybody's in it, when the transaction commits."""
        await store.notify(tx, f"{organization_id} {person_id or EVERYBODY} {topic}")

    def follow(self, organization_id: UUID, person_id: UUID) -> Follower:
        """To be used as a context. Of too many of one person, the oldest is over; in a process that goes down, it."""
        follower = Follower(self, organization_id, person_id)
        if self._draining:
            follower.end(elsewhere=True)
            return follower
        mine = [one for all_here in self._following.values() for one in all_here if one.person_id == person_id]
        for oldest in mine[: max(0, len(mine) + 1 - FOLLOWERS_MAX)]:
            oldest.end(elsewhere=False)
            self.leave(oldest)
        self._following[organization_id].append(follower)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="live")
        return follower

    def leave(self, follower: Follower) -> None:
        """Once or often."""
        here = self._following[follower.organization_id]
        if follower in here:
            here.remove(follower)
        if not here:
            del self._following[follower.organization_id]

    def drain(self) -> None:
        """Ends every page's listening: the browsers ask again, and another process answers."""
        self._draining = True
        for follower in [one for here in self._following.values() for one in here]:
            follower.end(elsewhere=True)

    async def close(self) -> None:
        self.drain()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except UNAVAILABLE as error:
                log.warning("live: the database does not answer", error=str(error).strip())
            await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        """Until the connection breaks. What was told before it stood nobody heard: so everybody looks again."""
        connection = await store.listen(self._url)
        try:
            for here in self._following.values():
                for follower in here:
                    for topic in TOPICS:
                        follower.hear(topic)
            while True:
                async for payload in store.heard(connection, SILENCE_S):
                    self._pass_on(payload)
        finally:
            await connection.close()

    def _pass_on(self, payload: str) -> None:
        """Who else writes on this channel of the database is not understood."""
        match payload.split(" "):
            case [organization, person, topic] if topic in TOPICS:
                with contextlib.suppress(ValueError):
                    for follower in self._following.get(UUID(organization), ()):
                        if person in (EVERYBODY, str(follower.person_id)):
                            follower.hear(topic)

"""The web process: builds everything from a frozen Config and routes by the first part of the path."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import msgspec
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from tollhouse import __version__, api, migrations, web
from tollhouse.api.state import State as ApiState
from tollhouse.config import Config
from tollhouse.core.errors import Overloaded
from tollhouse.flows.auth import Authentication
from tollhouse.flows.chat import Parts as ChatParts
from tollhouse.flows.connection import Policy
from tollhouse.flows.jwks import KeySets
from tollhouse.flows.jwt import Tokens
from tollhouse.flows.last_used import LastUsed
from tollhouse.flows.live import Live
from tollhouse.flows.oidc import OpenId
from tollhouse.flows.site import Site
from tollhouse.flows.spend import Teller
from tollhouse.flows.writing import Writers
from tollhouse.gateway import routes
from tollhouse.gateway.completion import Completions
from tollhouse.gateway.http import request_id, send_json, send_refusal
from tollhouse.gateway.keeper import Keeper
from tollhouse.gateway.providers import Providers
from tollhouse.gateway.pump import Pumps
from tollhouse.gateway.state import State as GatewayState
from tollhouse.gateway.talk import Talks
from tollhouse.outside.fetch import Fetcher
from tollhouse.store import revision
from tollhouse.store.db import Database
from tollhouse.web.state import State as WebState

# How long calls may go on after SIGTERM; the supervisor waits a little longer.
GRACE_S = 25.0

log = structlog.get_logger()


class App:
    """The ASGI application. `drain` comes first on SIGTERM: no new work, calls under way may finish."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._draining = False
        self._gateway: ASGIApp | None = None
        self._api: ASGIApp | None = None
        self._web: ASGIApp | None = None
        self._db: Database | None = None
        self._pumps: Pumps | None = None
        self._live: Live | None = None
        self._parts = AsyncExitStack()  # what was opened, closed in reverse
        self._drain: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path.startswith("/v1/") and self._gateway is not None:
            if self._draining and scope["method"] == "POST":
                refusal = Overloaded("This server is going down. Try again: another one answers.")
                await send_refusal(send, routes.refusal_at(path), refusal, [request_id(clock())])
                return
            await self._gateway(scope, receive, send)
        elif path in self._operations:
            await self._operations[path](self, send)
        elif self._api is not None and (path.startswith("/api/") or path in ("/api", "/openapi.json")):
            await self._api(scope, receive, send)
        elif self._web is not None:
            await self._web(scope, receive, send)

    def drain(self) -> None:
        """Readiness off, no new calls. What runs may go on for the grace period, then it is settled as it stands."""
        self._draining = True
        if self._live is not None:
            self._live.drain()
        if self._pumps is not None and self._drain is None:
            self._drain = asyncio.get_running_loop().create_task(self._pumps.close(GRACE_S), name="drain")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._start()
        except Exception as error:
            log.error("the server cannot start", exc_info=error)
            await self._parts.aclose()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.drain()
        if self._drain is not None:
            await self._drain
        await self._parts.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        config = self._config
        assert config.database_url is not None
        keyring, mode = config.keyring(), config.mode
        self._db = db = Database(config.database_url)
        await db.open()
        self._parts.push_async_callback(db.close)
        teller = Teller(config.database_url, mode, clock)
        await teller.open()
        self._parts.push_async_callback(teller.close)
        policy = Policy(keyring, mode, config.allow_private_providers)
        providers = Providers(policy)
        self._parts.push_async_callback(providers.close)
        self._pumps = Pumps(teller, providers, Keeper(db, clock))
        self._parts.push_async_callback(self._pumps.close, 0.0)
        self._live = live = Live(config.database_url)
        self._parts.push_async_callback(live.close)
        fetcher = Fetcher()
        self._parts.push_async_callback(fetcher.close)
        tokens = Tokens(db, KeySets(fetcher), policy, clock)
        site = Site(
            config.origin, mode, keyring, config.sign_up, sends_mail=config.smtp_url is not None,
            security_contact=config.security_contact, name=config.brand_name, hue=config.brand_hue, mark=config.mark(),
        )  # fmt: skip
        open_id = OpenId(db, site, policy, tokens.key_sets, clock)
        last_used = LastUsed(db)
        last_used.open()
        self._parts.push_async_callback(last_used.close)
        authentication = Authentication(db, site, tokens, last_used.saw)
        self._gateway = routes.Gateway(
            GatewayState(db, teller, self._pumps, providers, authentication, mode, clock, config.body_max_bytes)
        )
        complete = Completions(self._pumps, clock).complete
        self._api = api.build(ApiState(db, teller, authentication, policy, clock, complete, tokens, site))
        talk, writers = Talks(self._pumps, db, clock, mode), Writers(db, clock, live.tell)
        self._parts.push_async_callback(writers.close)
        chat = ChatParts(db, talk, clock, writers)
        self._web = web.build(WebState(db, teller, site, clock, policy, tokens.key_sets, open_id, live, talk, chat))
        spare_the_collector()

    async def _healthz(self, send: Send) -> None:
        await send_json(send, 200, b'{"status":"ok"}')

    async def _version(self, send: Send) -> None:
        await send_json(send, 200, msgspec.json.encode({"version": __version__}))

    async def _readyz(self, send: Send) -> None:
        failing = "draining" if self._draining else await self._failing()
        body = {"status": "ready"} if failing is None else {"status": "not ready", "failing": failing}
        await send_json(send, 200 if failing is None else 503, msgspec.json.encode(body))

    async def _failing(self) -> str | None:
        """The part that keeps this process from serving."""
        if self._db is None:
            return "starting"
        try:
            async with self._db.nobody() as tx:
                found = await revision.current(tx)
        except Overloaded:
            return "database"
        return None if found == migrations.head() else "migrations"

    _operations: dict[str, Callable[["App", Send], Awaitable[None]]] = {  # noqa: RUF012 (a constant table of methods)
        "/healthz": _healthz,
        "/readyz": _readyz,
        "/version": _version,
    }


def spare_the_collector() -> None:
    """What was made up to here stays for ever: the garbage collector need not walk over it again and again. What a call
    makes is freed by counting; cycles are few, and are looked for less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def clock() -> datetime:
    """The real time: read here and in the command line, passed on from there."""
    return datetime.now(UTC)


def build(config: Config) -> App:
    return App(config)

"""One web process: uvicorn around the app, on a socket that is its own or the supervisor's."""

from __future__ import annotations

import socket
from types import FrameType

import uvicorn

from tollhouse.app import GRACE_S, App, build
from tollhouse.config import Config
from tollhouse.edge import Edge, Limits, Settings, room_for_connections
from tollhouse.listener import listen

# A proxy on this machine speaks for many, and who is on this machine could do worse than connect.
LOOPBACK = ("127.0.0.0/8", "::1/128")


class Server(uvicorn.Server):
    """Tells the app at the signal, not when the last connection has ended: only then can it limit the drain. Leaves
    with status 0 after a signal: to be told to stop is no failure."""

    def __init__(self, settings: Settings, app: App) -> None:
        super().__init__(settings)
        self._app = app
        self._edge = settings.edge

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._edge.start()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        self._edge.stop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True
        self._app.drain()


def serve(config: Config, fd: int | None = None) -> None:
    """Serves until SIGTERM or SIGINT; calls under way are finished, then the app's shutdown runs.

    `fd` is a listening socket inherited from the supervisor; without it, binds `config.host` and `config.port`."""
    listener = socket.socket(fileno=fd) if fd is not None else listen(config.host, config.port)
    app = build(config)
    limits = Limits(per_address=config.connections_per_address, in_all=room_for_connections())
    settings = Settings(
        app,
        Edge(limits, config.trusted_proxies, LOOPBACK),
        loop="uvloop",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="debug" if config.log_level == "debug" else "warning",
        server_header=False,
        # The app drains by itself within its grace period; this ends what is left then: clients that do not read.
        timeout_graceful_shutdown=int(GRACE_S) + 8,
    )
    Server(settings, app).run(sockets=[listener])

"""The edge of the web process: uvicorn's protocol with the limits it lacks. How long a request may take to come in, how
large its head may be, how long an answer may go unread, how many connections one address may have, and who is calling.
"""

from __future__ import annotations

import asyncio
import re
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tollhouse.core.throttle import subject

Network = IPv4Network | IPv6Network
# Descriptors that are no clients': the database, logs, what the runtime holds.
RESERVED_FDS = 128
FDS_WANTED = 65_536
SLICES = 8
# Of a longer time between two turns of the timer, the rest is not held against anybody.
KEPT_BUSY_S = 1.0
_HOST = re.compile(rb"([A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{0,5})?")


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, with an error of one `sweep_s`; sizes in bytes. A body may take `body_s`, and on top the time
    that it needs at `body_rate` bytes a second. An answer that is not read ends after `stuck_s` in which nothing of it
    was taken. `per_address` and `in_all` are for one process."""

    head_s: float = 10.0
    body_s: float = 30.0
    body_rate: float = 10_000.0
    idle_s: float = 75.0
    stuck_s: float = 60.0
    head_bytes: int = 32 * 1024
    headers: int = 100
    pipelined: int = 16
    per_address: int = 1000
    in_all: int = 10_000
    sweep_s: float = 1.0


class Edge:
    """What the connections of a process share: limits, counts, and one timer for all of them. Peers in `exempt` may
    have any number of connections; those in `trusted` say in X-Forwarded-For for whom they call."""

    def __init__(self, limits: Limits, trusted: Iterable[str] = (), exempt: Iterable[str] = ()) -> None:
        self.limits = limits
        self.trusted = tuple(map(ip_network, trusted))
        self._exempt = (*self.trusted, *map(ip_network, exempt))
        # The time in which this process served: while it was kept from reading, nobody was slow.
        self.now = 0.0
        self._by_address: dict[str, int] = {}
        self._slices: list[set[Connection]] = [set() for _ in range(SLICES)]
        self._count = 0
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        period = self.limits.sweep_s / SLICES
        before = loop.time()

        def sweep() -> None:
            nonlocal before
            now = loop.time()
            self.now += min(now - before, KEPT_BUSY_S)
            before = now
            self._turn = (self._turn + 1) % SLICES
            self._timer = loop.call_later(period, sweep)
            for connection in tuple(self._slices[self._turn]):
                connection.look(self.now)

        self._timer = loop.call_later(period, sweep)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def enter(self, connection: Connection, peer: str) -> HTTPStatus | None:
        """Takes the connection in; otherwise why not."""
        if self._count >= self.limits.in_all:
            return HTTPStatus.SERVICE_UNAVAILABLE
        if not is_in(peer, self._exempt):
            held = self._by_address.get(subject(peer), 0)
            if held >= self.limits.per_address:
                return HTTPStatus.TOO_MANY_REQUESTS
            self._by_address[subject(peer)] = held + 1
        self._count += 1
        self._slices[id(connection) // 64 % SLICES].add(connection)
        return None

    def leave(self, connection: Connection, peer: str) -> None:
        self._count -= 1
        self._slices[id(connection) // 64 % SLICES].discard(connection)
        held = self._by_address.get(subject(peer), 0)
        if held > 1:
            self._by_address[subject(peer)] = held - 1
        else:
            self._by_address.pop(subject(peer), None)


class Settings(uvicorn.Config):
    """uvicorn's, with the edge."""

    def __init__(self, app: Any, edge: Edge, **settings: Any) -> None:
        super().__init__(app, http=Connection, ws="none", proxy_headers=False, **settings)
        self.edge = edge


# What a connection reads at the moment. Plain numbers: they are looked at several times in each request.
NOTHING, HEAD, BODY = range(3)


class Connection(HttpToolsProtocol):
    """One connection. What it is waiting for, and since when, is looked at by the edge's timer; so no request sets or
    stops one of its own."""

    def __init__(self, config: uvicorn.Config, *arguments: Any, **named: Any) -> None:
        super().__init__(config, *arguments, **named)
        assert isinstance(config, Settings)
        self._edge = config.edge
        self._limits = config.edge.limits
        self._entered = False
        self._peer = ""
        self._speaks_for_others = False
        self._silent = True  # no request has come yet
        self._reading = NOTHING
        self._since = 0.0  # of what it reads, or since when it is idle
        self._size = 0  # bytes that came since it began to read
        self._hosts: list[bytes] = []
        self._answer: tuple[HTTPStatus, str] | None = None  # in place of 400
        self._unread = 0  # bytes that waited for the client when we looked last
        self._taken_at = 0.0  # when it took some of them, or there were none

    # ---------------------------------------------------------------------------------------------- as uvicorn calls it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._since = self._taken_at = self._edge.now
        self._peer = self.client[0] if self.client else ""
        refused = self._edge.enter(self, self._peer)
        self._entered = refused is None
        self._speaks_for_others = is_in(self._peer, self._edge.trusted)
        if refused is not None:
            self._refuse(refused, "Too many connections. Close some, or use them again.")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._entered:
            self._edge.leave(self, self._peer)

    def data_received(self, data: bytes) -> None:
        if not self._entered:
            return
        if self._reading == NOTHING:
            self._reading = HEAD
            self._since = self._edge.now
            self._size = 0
        self._size += len(data)
        super().data_received(data)
        if self._reading == HEAD and self._size > self._limits.head_bytes and not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of this request is too large.")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"host":
            self._hosts.append(value)
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        limits = self._limits
        hosts = self._hosts
        if (
            len(hosts) != 1
            or not is_host(hosts[0])
            or len(self.headers) > limits.headers
            or self._size > limits.head_bytes
            or self.pipeline
        ):
            self._check_head(hosts)
        self._hosts = []
        self._since = self._edge.now
        if self._speaks_for_others:
            forwarded = (value for name, value in self.headers if name == b"x-forwarded-for")
            self.scope["client"] = (client_of(self._peer, forwarded, self._edge.trusted), 0)
        super().on_headers_complete()
        self._silent = False
        self._reading = BODY

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._reading = NOTHING
        self._since = self._edge.now

    def on_response_complete(self) -> None:
        """Starts the next request that waits, if any; how long the connection may be idle is the edge's to see."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._since = self._edge.now
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def resume_writing(self) -> None:
        self._taken_at = self._edge.now  # much of what waited was taken, and what comes next may fill its place at once
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._refuse(*(self._answer or (HTTPStatus.BAD_REQUEST, "This is not HTTP as it should be.")))

    # ----------------------------------------------------------------------------------------------------------- limits

    def _check_head(self, hosts: list[bytes]) -> None:
        """Raises when the request is not to be served; the parser then has `send_400_response` called."""
        limits = self._limits
        too_large = self._size > limits.head_bytes and self._head_size() > limits.head_bytes
        if too_large or len(self.headers) > limits.headers:
            self._answer = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of this request is too large."
        elif len(hosts) > 1 or (not hosts and self.parser.get_http_version() != "1.0"):
            self._answer = HTTPStatus.BAD_REQUEST, "A request has one Host header."
        elif hosts and not is_host(hosts[0]):
            self._answer = HTTPStatus.BAD_REQUEST, "The Host header is no name of a host."
        elif len(self.pipeline) >= limits.pipelined:
            self._answer = HTTPStatus.TOO_MANY_REQUESTS, "Too many requests at once on one connection."
        if self._answer is not None:
            raise ValueError(self._answer[1])

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def look(self, now: float) -> None:
        """Ends the connection when it has kept us waiting for too long."""
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread < self._unread:
            self._taken_at = now
        self._unread = unread
        if now - self._taken_at > self._limits.stuck_s:
            self.transport.abort()
        elif not self.transport.is_closing():
            self._look_at_reading(now)

    def _look_at_reading(self, now: float) -> None:
        answered = self._silent or self.cycle.response_complete
        if self.flow.read_paused or (self._reading == NOTHING and not answered):
            self._since = now  # it waits for us
        waited = now - self._since
        limits = self._limits
        if self._reading == HEAD:
            if waited > limits.head_s:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The head of this request did not come in time.")
        elif self._reading == BODY:
            allowed = limits.head_s if answered else limits.body_s + self._size / limits.body_rate
            if waited > allowed:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The body of this request did not come in time.")
        elif waited > (limits.head_s if self._silent else limits.idle_s):
            self.transport.close()

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Says why, unless that would stand in the place or in the middle of the answer to another request; closes."""
        idle = self._silent or self.cycle.response_complete
        if idle or (self._reading == BODY and not self.pipeline and not self.cycle.response_started):
            self.transport.write(
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
                f"content-length: {len(message)}\r\nconnection: close\r\n\r\n{message}".encode()
            )
        self.transport.close()


def is_in(address: str, networks: Iterable[Network]) -> bool:
    """False also for what is no address."""
    found = _parsed(address)
    return found is not None and any(found in network for network in networks)


def client_of(peer: str, forwarded: Iterable[bytes], trusted: Iterable[Network]) -> str:
    """Who calls, by the X-Forwarded-For of a trusted `peer`: the last hop that is not trusted itself, since anything
    before it may have been made up. Where the chain breaks off, the last hop that was named."""
    hops = [hop.strip() for value in forwarded for hop in value.decode("latin-1").split(",")]
    networks = tuple(trusted)
    nearest = peer
    for hop in reversed(hops):
        address = _parsed(_without_port(hop))
        if address is None:
            break
        nearest = str(address)
        if not any(address in network for network in networks):
            break
    return nearest


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _without_port(hop: str) -> str:
    """192.0.2.7:4711 and [2001:db8::7]:4711 have one."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


@lru_cache(maxsize=256)
def is_host(value: bytes) -> bool:
    """Whether it can be the name of a host, with or without a port."""
    return _HOST.fullmatch(value) is not None


def room_for_connections() -> int:
    """How many connections of clients this process may hold, after raising its limit of descriptors as far as it goes:
    a call needs another one, to the provider."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FDS_WANTED if hard == resource.RLIM_INFINITY else min(hard, FDS_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    most = FDS_WANTED if soft == resource.RLIM_INFINITY else soft
    return max(16, (most - RESERVED_FDS) // 2)

"""The edge, over real sockets: who is slow, silent, too many or malformed is cut off, and whoever behaves is served
beside them all the while."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.server import Server
from tollhouse.edge import Edge, Limits, Settings, client_of, is_host, is_in, room_for_connections
from tollhouse.listener import listen
from tollhouse.server import Server as TollhouseServer

LIMITS = Limits(
    head_s=0.5, body_s=0.6, body_rate=100_000.0, idle_s=0.9, stuck_s=0.6, head_bytes=4096, headers=20, pipelined=4,
    per_address=1000, in_all=1000, sweep_s=0.08,
)  # fmt: skip
GET = b"GET /ok HTTP/1.1\r\nhost: test\r\n\r\n"
PIECE = bytes(64 * 1024)


@dataclass(slots=True)
class Application:
    """Answers what it saw; /stream goes on until the client is gone, /wait until it is let go."""

    left: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[str] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        self.calls.append(path)
        if path == "/stream":
            await self._stream(receive, send)
            return
        if path == "/wait":
            await self.go.wait()
        size = 0
        while path != "/early":
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            size += len(message["body"])
            if not message["more_body"]:
                break
        body = json.dumps({"client": (scope["client"] or [None])[0], "size": size, "path": path}).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, receive: Any, send: Any) -> None:
        await receive()
        gone = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            await asyncio.sleep(0)
        self.left.set()

    def drain(self) -> None:
        """What the server tells it at a signal."""


@dataclass(frozen=True, slots=True)
class House:
    port: int
    application: Application

    async def connect(self, receive_buffer: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raw = socket.socket()
        raw.setblocking(False)
        if receive_buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.port))
        return await asyncio.open_connection(sock=raw, limit=4096)

    async def said(self, *pieces: bytes, pause: float = 0.0, seconds: float = 8.0) -> bytes:
        """Sends the pieces, and what comes until the server closes the connection."""
        async with asyncio.timeout(seconds):
            reader, writer = await self.connect()
            try:
                return await self._said(reader, writer, pieces, pause)
            finally:
                writer.close()

    async def _said(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pieces: tuple[bytes, ...], pause: float
    ) -> bytes:
        answer = asyncio.ensure_future(self._all(reader))
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                if answer.done():
                    break
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
        return await answer

    @staticmethod
    async def _all(reader: asyncio.StreamReader) -> bytes:
        found = b""
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                found += piece
        return found

    async def serves(self, **headers: str) -> dict[str, Any]:
        """A normal client is served, at once."""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        request = f"GET /ok HTTP/1.1\r\nhost: test\r\n{lines}connection: close\r\n\r\n"
        answer = await self.said(request.encode(), seconds=3)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return found


@asynccontextmanager
async def running(limits: Limits = LIMITS, trusted: tuple[str, ...] = ()) -> AsyncIterator[House]:
    application = Application()
    listener = listen("127.0.0.1", 0)
    settings = Settings(application, Edge(limits, trusted), lifespan="off", log_config=None, access_log=False)
    server: Any = TollhouseServer(settings, application)  # type: ignore[arg-type]  # all of the app that it uses
    served = asyncio.ensure_future(server._serve(sockets=[listener]))
    try:
        yield House(listener.getsockname()[1], application)
    finally:
        application.go.set()
        server.should_exit = server.force_exit = True
        await served


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with running() as made:
        yield made


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# -------------------------------------------------------------------------------------------------------- slow to speak


async def test_a_head_that_trickles_in_is_cut_off_while_others_are_served(house: House) -> None:
    slow = [
        asyncio.ensure_future(house.said(b"GET /ok HTTP/1.1\r\n", *[b"x-a: b\r\n"] * 100, pause=0.1)) for _ in range(20)
    ]
    await asyncio.sleep(0.2)
    for _ in range(5):
        await house.serves()
    answers = await asyncio.gather(*slow)
    assert {status(answer) for answer in answers} == {408}
    assert set(house.application.calls) == {"/ok"}
    assert len(house.application.calls) == 5


async def test_a_connection_that_never_says_anything_is_closed(house: House) -> None:
    async with asyncio.timeout(4):
        assert await house.said() == b""


async def test_blank_lines_keep_no_connection_open(house: House) -> None:
    assert status(await house.said(*[b"\r\n"] * 100, pause=0.1)) == 408


async def test_an_idle_connection_is_closed_and_one_that_is_used_again_is_not(house: House) -> None:
    async with asyncio.timeout(8):
        reader, writer = await house.connect()
        for _ in range(4):
            writer.write(GET)
            assert b"200 OK" in await reader.readuntil(b"}")
            await asyncio.sleep(LIMITS.idle_s * 0.6)
        assert await reader.read() == b""
        writer.close()


async def test_a_body_that_does_not_come_is_cut_off(house: House) -> None:
    head = b"POST /ok HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n"
    assert status(await house.said(head, *[b"x"] * 100, pause=0.05)) == 408
    async with asyncio.timeout(2):
        await house.application.left.wait()
    await house.serves()


async def test_a_chunked_body_that_does_not_end_is_cut_off(house: House) -> None:
    head = b"POST /ok HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n"
    assert status(await house.said(head, *[b"1\r\nx\r\n"] * 100, pause=0.05)) == 408


async def test_a_large_body_may_take_its_time_at_a_fair_rate(house: House) -> None:
    pieces = [bytes(20_000)] * 20  # 2 s at 200 kB/s, three times as long as a small body may take
    head = b"POST /ok HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 400000\r\n\r\n"
    answer = await house.said(head, *pieces, pause=0.1, seconds=15)
    assert status(answer) == 200
    assert b'"size": 400000' in answer


async def test_an_application_that_takes_its_time_is_not_the_clients_slowness(house: House) -> None:
    """The body waits unread, larger than what is held for it, longer than a body may take."""
    size = 3_000_000
    head = f"POST /wait HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n".encode()
    answer = asyncio.ensure_future(house.said(head, bytes(size)))
    await asyncio.sleep(1.5)
    assert not answer.done()
    house.application.go.set()
    assert b'"size": 3000000' in await answer


async def test_who_goes_on_sending_after_the_answer_is_not_listened_to_for_long(house: House) -> None:
    head = b"POST /early HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n"
    answer = await house.said(head, *[b"x"] * 200, pause=0.05)
    assert answer.count(b"HTTP/1.1") >= 1
    assert status(answer) == 200
    assert house.application.calls == ["/early"]


# --------------------------------------------------------------------------------------------------------- slow to read


async def test_who_does_not_read_the_answer_is_cut_off_and_the_application_told(house: House) -> None:
    reader, writer = await house.connect(receive_buffer=4096)
    writer.write(b"GET /stream HTTP/1.1\r\nhost: test\r\n\r\n")
    async with asyncio.timeout(6):
        await house.serves()
        await house.application.left.wait()
    writer.transport.abort()
    del reader


async def test_who_reads_slowly_but_reads_is_served_on(house: House) -> None:
    reader, writer = await house.connect(receive_buffer=256 * 1024)
    writer.write(b"GET /stream HTTP/1.1\r\nhost: test\r\n\r\n")
    loop = asyncio.get_running_loop()
    began, taken = loop.time(), 0
    while loop.time() - began < 4 * LIMITS.stuck_s:
        taken += len(await reader.read(200_000))
        await asyncio.sleep(0.01)
    assert not house.application.left.is_set(), taken
    writer.transport.abort()
    async with asyncio.timeout(3):
        await house.application.left.wait()


async def test_a_long_call_without_a_byte_is_waited_for(house: House) -> None:
    """The model thinks: nobody is slow."""
    answer = asyncio.ensure_future(house.said(b"GET /wait HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"))
    await asyncio.sleep(2 * LIMITS.idle_s)
    assert not answer.done()
    house.application.go.set()
    assert status(await answer) == 200


# ------------------------------------------------------------------------------------------------------------ too large


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET /ok HTTP/1.1\r\nhost: test\r\nx: " + b"a" * 5000 + b"\r\n\r\n"],
        [b"GET /ok HTTP/1.1\r\nhost: test\r\nx: ", *[b"a" * 500] * 40],
        [b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nhost: test\r\n\r\n"],
        [b"GET /", *[b"a" * 500] * 40],
        [b"GET /ok HTTP/1.1\r\nhost: test\r\n" + b"x: y\r\n" * 20 + b"\r\n"],
    ],
    ids=["one header", "one that goes on", "a path", "a path that goes on", "many headers"],
)
async def test_a_head_that_is_too_large_is_refused(house: House, pieces: list[bytes]) -> None:
    assert status(await house.said(*pieces, pause=0.001)) == 431
    assert house.application.calls == []


async def test_a_large_body_in_the_same_segment_is_no_large_head(house: House) -> None:
    request = b"POST /ok HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 20000\r\n\r\n" + bytes(20_000)
    assert b'"size": 20000' in await house.said(request)


# ------------------------------------------------------------------------------------------ pipelining, and half closed


async def test_pipelined_requests_are_answered_in_order(house: House) -> None:
    requests = b"".join(f"GET /{number} HTTP/1.1\r\nhost: test\r\n\r\n".encode() for number in range(4))
    answer = await house.said(requests + b"GET /last HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
    paths = [json.loads(part.partition(b"}")[0] + b"}")["path"] for part in answer.split(b"\r\n\r\n")[1:]]
    assert paths == ["/0", "/1", "/2", "/3", "/last"]


async def test_thousands_of_pipelined_requests_are_not_held(house: House) -> None:
    answer = await house.said(GET * 5000)
    assert answer.count(b"200 OK") <= LIMITS.pipelined + 1
    assert len(house.application.calls) <= LIMITS.pipelined + 1
    await house.serves()


async def test_what_is_wrong_behind_a_request_is_never_told_as_its_answer(house: House) -> None:
    answer = asyncio.ensure_future(
        house.said(b"GET /wait HTTP/1.1\r\nhost: test\r\n\r\nGET /ok HTTP/1.1\r\nhost: a b\r\n\r\n")
    )
    assert await answer == b""


async def test_a_head_behind_a_running_call_is_bounded_too(house: House) -> None:
    answer = await house.said(b"GET /wait HTTP/1.1\r\nhost: test\r\n\r\n", *[b"GET /" + b"a" * 1000] * 100, pause=0.001)
    assert answer == b""
    assert house.application.calls == ["/wait"]


async def test_a_half_closed_connection_is_one_that_left(house: House) -> None:
    _, writer = await house.connect()
    writer.write(b"POST /ok HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\n12345")
    writer.write_eof()
    async with asyncio.timeout(3):
        await house.application.left.wait()
    writer.close()


# ------------------------------------------------------------------------------------------------- too many connections


async def test_an_address_has_so_many_connections_and_gets_them_back() -> None:
    async with running(replace(LIMITS, per_address=3)) as house:
        held = [await house.connect() for _ in range(3)]
        for _, writer in held:
            writer.write(b"G")
        await asyncio.sleep(0.1)
        assert status(await house.said(GET)) == 429
        assert house.application.calls == []
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.2)
        await house.serves()


async def test_a_trusted_proxy_has_as_many_as_it_wants() -> None:
    async with running(replace(LIMITS, per_address=3), trusted=("127.0.0.0/8",)) as house:
        held = [await house.connect() for _ in range(8)]
        await house.serves()
        for _, writer in held:
            writer.close()


async def test_in_all_there_are_no_more_than_the_process_can_hold() -> None:
    async with running(replace(LIMITS, in_all=3), trusted=("127.0.0.0/8",)) as house:
        held = [await house.connect() for _ in range(3)]
        await asyncio.sleep(0.1)
        assert status(await house.said(GET)) == 503
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.2)
        await house.serves()


async def test_silent_connections_make_room_by_themselves() -> None:
    async with running(replace(LIMITS, per_address=30)) as house:
        held = [await house.connect() for _ in range(30)]
        await asyncio.sleep(3 * LIMITS.head_s)
        await house.serves()
        for _, writer in held:
            writer.close()


@pytest.fixture
def descriptors() -> Iterator[Any]:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield resource
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_connections_leave_descriptors_for_providers_and_the_database(descriptors: Any) -> None:
    _, hard = descriptors.getrlimit(descriptors.RLIMIT_NOFILE)
    descriptors.setrlimit(descriptors.RLIMIT_NOFILE, (512, hard))
    most = room_for_connections()
    soft, _ = descriptors.getrlimit(descriptors.RLIMIT_NOFILE)
    assert soft == min(hard, 65_536) if hard != descriptors.RLIM_INFINITY else soft == 65_536
    assert 2 * most <= soft - 100


# ---------------------------------------------------------------------------------------------------------------- Host


@pytest.mark.parametrize(
    "host",
    [
        b"host: a b", b"host: evil\x01", b"host: <script>", b"host: user@test", b"host: test/path", b"host:",
        b"host: a,b", b"host: test:99999999", b"host: [::1", b"host: t\xc3\xa9st", b"host: a\r\nhost: b", b"x: y",
    ],
)  # fmt: skip
async def test_a_host_that_is_none_is_refused(house: House, host: bytes) -> None:
    assert status(await house.said(b"GET /ok HTTP/1.1\r\n" + host + b"\r\n\r\n")) == 400
    assert house.application.calls == []


@pytest.mark.parametrize("host", [b"test", b"test:8400", b"[::1]:8400", b"127.0.0.1", b"a.b-c.d.", b"xn--bcher-kva.de"])
async def test_a_host_that_is_one_is_served_whatever_it_is(house: House, host: bytes) -> None:
    answer = await house.said(b"GET /ok HTTP/1.1\r\nHost: " + host + b"\r\nconnection: close\r\n\r\n")
    assert status(answer) == 200


async def test_an_old_client_needs_no_host(house: House) -> None:
    assert status(await house.said(b"GET /ok HTTP/1.0\r\n\r\n")) == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"nonsense\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: test\r\n\r\n", b"CONNECT test:443 HTTP/1.1\r\nhost: test\r\n\r\n",
        b"POST /ok HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /ok HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        b"GET /ok HTTP/1.1\r\nhost: test\r\nx y: z\r\n\r\n",
    ],
)  # fmt: skip
async def test_what_is_no_request_is_refused(house: House, request_: bytes) -> None:
    assert status(await house.said(request_)) == 400
    assert house.application.calls == []


@given(st.binary(max_size=40))
def test_no_host_holds_what_a_link_or_a_header_could_be_broken_with(value: bytes) -> None:
    if is_host(value):
        assert not set(value) & set(b"/\\@?#<>\"'&;,\r\n\t \0%")


# ------------------------------------------------------------------------------------------------------ who is calling


async def test_without_a_trusted_proxy_nobody_says_who_they_are(house: House) -> None:
    seen = await house.serves(x_forwarded_for="203.0.113.9", x_real_ip="203.0.113.9", forwarded="for=203.0.113.9")
    assert seen["client"] == "127.0.0.1"


async def test_a_trusted_proxy_says_for_whom_it_calls_with_each_request() -> None:
    async with running(trusted=("127.0.0.1/32",)) as house:
        assert (await house.serves(x_forwarded_for="198.51.100.1, 203.0.113.9"))["client"] == "203.0.113.9"
        assert (await house.serves())["client"] == "127.0.0.1"
        both = b"GET /ok HTTP/1.1\r\nhost: test\r\nx-forwarded-for: 203.0.113.1\r\n\r\n"
        both += b"GET /ok HTTP/1.1\r\nhost: test\r\nx-forwarded-for: 203.0.113.2\r\nconnection: close\r\n\r\n"
        answer = await house.said(both)
        assert answer.index(b"203.0.113.1") < answer.index(b"203.0.113.2")


@pytest.mark.parametrize(
    ("forwarded", "found"),
    [
        ([], "10.0.0.1"),
        ([b"203.0.113.9"], "203.0.113.9"),
        ([b"198.51.100.7, 203.0.113.9"], "203.0.113.9"),  # the first was made up by the client
        ([b"203.0.113.9, 10.0.0.2"], "203.0.113.9"),  # two proxies of ours
        ([b"203.0.113.9", b"10.0.0.2, 10.0.0.3"], "203.0.113.9"),
        ([b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ([b"203.0.113.9:4711"], "203.0.113.9"),
        ([b"[2001:db8::7]:4711"], "2001:db8::7"),
        ([b"2001:db8::7"], "2001:db8::7"),
        ([b"::ffff:203.0.113.9"], "203.0.113.9"),
        ([b"unknown"], "10.0.0.1"),
        ([b"203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
        ([b"203.0.113.9, "], "10.0.0.1"),
        ([b"\xff\xfe"], "10.0.0.1"),
    ],
)
def test_the_last_hop_that_nobody_trusts_is_the_caller(forwarded: list[bytes], found: str) -> None:
    assert client_of("10.0.0.1", forwarded, Edge(LIMITS, ["10.0.0.0/8"]).trusted) == found


@given(st.lists(st.binary(max_size=30), max_size=4))
def test_no_header_makes_a_caller_that_is_no_address(forwarded: list[bytes]) -> None:
    found = client_of("10.0.0.1", forwarded, Edge(LIMITS, ["10.0.0.0/8"]).trusted)
    assert is_in(found, Edge(LIMITS, ["0.0.0.0/0", "::/0"]).trusted)


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.0.0.1", False),
        ("2001:db8::1", False),
        ("", False),
        ("x", False),
    ],
)
def test_which_peers_are_trusted(address: str, inside: bool) -> None:
    assert is_in(address, Edge(LIMITS, ["10.0.0.0/8"]).trusted) is inside


async def test_the_server_itself_has_the_edge(database_url: str) -> None:
    """As it is started, on uvloop, with the limits it has: ten seconds for a head."""
    async with Server(database_url, TOLLHOUSE_TRUSTED_PROXIES="127.0.0.1") as server:
        house = House(server.port, Application())
        slow = asyncio.ensure_future(house.said(b"GET /ok HTTP/1.1\r\n", *[b"x-a: b\r\n"] * 120, pause=0.5, seconds=60))
        assert status(await house.said(b"GET /healthz HTTP/1.1\r\nhost: a b\r\n\r\n")) == 400
        assert (
            status(await house.said(b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: " + bytes(b"y" * 40_000) + b"\r\n\r\n"))
            == 431
        )
        assert status(await house.said(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")) == 200
        assert status(await slow) == 408
        assert await server.stop() == 0


async def test_nothing_is_left_of_connections_that_ended(house: House) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    for _ in range(20):
        await house.serves()
        await house.said(b"nonsense\r\n\r\n")
    await asyncio.sleep(0.2)
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) <= before + 1

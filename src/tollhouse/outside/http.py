"""What all providers over HTTP have in common: sockets, deadlines, limits, and the care for the key.

The bytes of the answer are passed on as they come: nothing is decompressed (identity is asked for), no redirect is
followed, so the key never leaves the host it was given for, and neither proxies of the environment nor cookies apply.
"""

import asyncio
import io
import re
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import ClassVar, Final

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from tollhouse.outside import (
    Deadlines,
    Operation,
    Phase,
    ProviderFault,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnreachable,
    ReplyBroken,
    ReplyTooLarge,
)
from tollhouse.outside.address import GuardedResolver, check_base_url

_HEADER_BYTES: Final = 8190
_HEADERS: Final = 128
_LARGE_BODY_BYTES: Final = 1 << 20
_KEEP_ALIVE_S: Final = 30.0
_CHECK_S: Final = 15.0  # somebody waits for the outcome of a check
_RETRY_AFTER_MOST_S: Final = 3600.0
_SECRET_BYTES: Final = 8  # what is shorter ("none", "EMPTY") is no secret, and would only garble a refusal
_NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_KEY: Final = re.compile(r"[!-~]+")


class HttpReply:
    """One answer over HTTP; see `outside.Reply`.

    One timer per reply watches the deadlines and looks at the clock again when it rings. A timer per segment would cost
    more than reading the segment. Where a provider refuses and quotes the `key`, it is blotted out.
    """

    def __init__(self, response: aiohttp.ClientResponse, deadlines: Deadlines, began: float, key: str | None) -> None:
        self.status = response.status
        self.content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.retry_after_s = retry_after_s(response.headers, time.time())
        self._response = response
        self._deadlines = deadlines
        self._began = began
        self._key = key.encode() if key and len(key) >= _SECRET_BYTES and self.status != 200 else None
        self._waiting_since: float | None = None
        self._any_segment = False
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_at(self._loop.time() + self._longest_sleep(), self._watch)

    async def read(self, limit: int) -> bytes:
        body = bytearray()
        announced = self._response.content_length or 0
        if announced <= limit:
            async for segment in self:
                body += segment
                if len(body) > limit:
                    break
            else:
                return bytes(body.replace(self._key, b"[key]") if self._key else body)
        await self.close()
        raise ReplyTooLarge(limit)

    def segments(self) -> AsyncIterator[bytes]:
        return self

    async def close(self) -> None:
        self._timer.cancel()
        self._response.close()  # its socket is still held only before the end, and is closed then

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self._waiting_since = self._loop.time()
        try:
            segment = await self._response.content.readany()
        except ProviderFault:
            await self.close()
            raise
        except (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError):
            await self.close()
            raise ReplyBroken from None
        finally:
            self._waiting_since = None
        if not segment:
            self._timer.cancel()
            raise StopAsyncIteration
        self._any_segment = True
        return segment

    def _longest_sleep(self) -> float:
        return min(self._deadlines.first_byte, self._deadlines.idle, self._deadlines.total)

    def _watch(self) -> None:
        """Ends the reply when a deadline has passed, else sleeps until the next one can pass."""
        now = self._loop.time()
        phase, due = self._next_deadline(now)
        if now < due:
            self._timer = self._loop.call_at(due, self._watch)
            return
        self._response.content.set_exception(ProviderTimeout(phase))
        self._response.close()

    def _next_deadline(self, now: float) -> tuple[Phase, float]:
        total = self._began + self._deadlines.total
        since = now if self._waiting_since is None else self._waiting_since
        phase: Phase = "idle" if self._any_segment else "first_byte"
        quiet = since + self._deadlines.idle
        if phase == "first_byte" and self._waiting_since is not None:
            quiet = min(quiet, max(self._began + self._deadlines.first_byte, since))
        return ("total", total) if total <= quiet else (phase, quiet)


class HttpProvider(ABC):
    """One connection: a base URL and its key, None for servers without keys. Each vendor says where its operations are
    and how the key is carried.

    Keeps one pool of sockets, and one TLS context, for as long as it lives. How many calls run at once is decided where
    calls are admitted, so the pool itself has no limit. `allow_private` admits http and addresses of the own network:
    for connections of the operator, never for those of a tenant. Names are looked up with `resolver`, the system's when
    None; it is closed with the provider. Raises `ValueError` for an address or a key that no provider can have.
    """

    versions: ClassVar[tuple[str, ...]] = ()
    """What the path of the API may end in; the first is added to a base URL that ends in none of them."""

    models: ClassVar[str]
    """Path and query of the list of models, kept short: it is free, and most vendors want the key for it."""

    def __init__(
        self,
        base_url: str,
        key: str | None,
        deadlines: Deadlines | None = None,
        *,
        allow_private: bool,
        resolver: AbstractResolver | None = None,
    ) -> None:
        if key and not _KEY.fullmatch(key):
            raise ValueError("the key of a provider must be printable ASCII without spaces; copy it again")
        base = check_base_url(base_url, allow_private=allow_private)
        if self.versions and base.name not in self.versions:
            base = base / self.versions[0]
        self._base = str(base)
        self._key = key or None
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "tollhouse"} | self._own_headers(self._key)
        self._post_headers = self._headers | {"Content-Type": "application/json"}
        self._deadlines = deadlines or Deadlines()
        self._allow_private = allow_private
        self._inner_resolver = resolver
        self._resolver: GuardedResolver | None = None
        self._session: aiohttp.ClientSession | None = None

    @abstractmethod
    def _own_headers(self, key: str | None) -> dict[str, str]:
        """The headers that this vendor wants with every request, the key among them."""

    @abstractmethod
    def _path(self, operation: Operation, model: str, *, stream: bool) -> str:
        """Path and query of the operation, percent-encoded. Raises `ProviderLacks`."""

    def _refuses_key(self, status: int) -> bool:
        """Whether the status of a check says that the key is not accepted."""
        return status in (401, 403)

    async def send(self, operation: Operation, model: str, body: bytes, *, stream: bool) -> HttpReply:
        path = self._path(operation, model, stream=stream)
        # A body of many megabytes is handed over in parts, so that writing it does not hold up everybody else.
        data = body if len(body) <= _LARGE_BODY_BYTES else io.BytesIO(body)
        return await self._request("POST", path, data, self._post_headers, self._deadlines)

    async def check(self) -> None:
        deadlines = replace(self._deadlines, first_byte=min(self._deadlines.first_byte, _CHECK_S))
        reply = await self._request("GET", self.models, None, self._headers, deadlines)
        await reply.close()
        problem = self._problem(reply)
        if problem is not None:
            raise ProviderRefused(problem, reply.status)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._resolver is not None:
            await self._resolver.close()
            self._resolver = None

    async def _request(
        self, method: str, path: str, data: bytes | io.BytesIO | None, headers: dict[str, str], deadlines: Deadlines
    ) -> HttpReply:
        session = self._session or self._open()
        url = URL(f"{self._base}/{path}", encoded=True)
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(began + min(deadlines.first_byte, deadlines.total)):
                response = await session.request(method, url, data=data, headers=headers, allow_redirects=False)
        except aiohttp.ConnectionTimeoutError:
            raise ProviderTimeout("connect") from None
        except TimeoutError:
            raise ProviderTimeout("first_byte") from None
        except aiohttp.ClientResponseError:
            raise ReplyBroken from None
        except aiohttp.ClientConnectorDNSError:
            raise ProviderUnreachable("the provider's name cannot be resolved") from None
        except aiohttp.ClientSSLError:
            raise ProviderUnreachable("no secure connection to the provider can be made") from None
        except (aiohttp.ClientError, OSError):
            raise ProviderUnreachable from None
        return HttpReply(response, deadlines, began, self._key)

    def _problem(self, reply: HttpReply) -> str | None:
        """What the answer to a check says against the connection, with the remedy."""
        status = reply.status
        if status == 200:
            fits = reply.content_type == "application/json"
            return None if fits else "the provider answers with something else than JSON; correct the base URL"
        if self._refuses_key(status):
            return f"the provider refuses the key (status {status}); replace it"
        if status in (404, 405, 410):
            return f"the provider has no list of models at this address (status {status}); correct the base URL"
        if 300 <= status < 400:
            return f"the provider redirects (status {status}), which is never followed; correct the base URL"
        if status == 429:
            return "the provider limits our calls at the moment (status 429); check again later"
        if status >= 500:
            return f"the provider has trouble at the moment (status {status}); check again later"
        return f"the provider refuses the check (status {status}); correct the base URL or the key"

    def _open(self) -> aiohttp.ClientSession:
        """The session is made with the first call, for it belongs to the event loop that runs then."""
        inner = self._inner_resolver or aiohttp.DefaultResolver()
        self._resolver = GuardedResolver(inner, allow_private=self._allow_private)
        self._session = aiohttp.ClientSession(
            # The connector sets TCP_NODELAY on each socket and shares one TLS context between them.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S, resolver=self._resolver),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._deadlines.connect),
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
            max_headers=_HEADERS,
        )
        return self._session


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """The seconds that a provider asks callers to wait, at most 3600: `retry-after-ms`, else `Retry-After` as seconds
    or as an HTTP date, which counts from the answer's own date, else from `now` (Unix seconds).

    None when nothing is said, or nothing sensible: a word, a negative or endless number, a moment that has passed.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _NUMBER.fullmatch(milliseconds):
        return min(float(milliseconds) / 1000, _RETRY_AFTER_MOST_S)
    said = headers.get("retry-after", "").strip()
    if _NUMBER.fullmatch(said):
        return min(float(said), _RETRY_AFTER_MOST_S)
    until = _moment(said)
    if until is None:
        return None
    answered = _moment(headers.get("date", ""))
    wait_s = until - (now if answered is None else answered)
    return min(wait_s, _RETRY_AFTER_MOST_S) if wait_s >= 0 else None


def _moment(date: str) -> float | None:
    """An HTTP date in Unix seconds; None for anything else."""
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None

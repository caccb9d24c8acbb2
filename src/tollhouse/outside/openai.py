"""Any server that speaks OpenAI's chat completions over HTTP: OpenAI, Together, Ollama, vLLM and many more.

The bytes of the answer are passed on as they come: nothing is decompressed (identity is asked for), no redirect is
followed, so the key never leaves the host it was given for, and neither proxies of the environment nor cookies apply.
"""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from yarl import URL

from tollhouse.outside import (
    Deadlines,
    Phase,
    ProviderFault,
    ProviderTimeout,
    ProviderUnreachable,
    ReplyBroken,
    ReplyTooLarge,
)

_HEADER_BYTES: Final = 8190
_HEADERS: Final = 128
_LARGE_BODY_BYTES: Final = 1 << 20
_KEEP_ALIVE_S: Final = 30.0


class OpenAIReply:
    """One answer over HTTP; see `outside.Reply`.

    One timer per reply watches the deadlines and looks at the clock again when it rings. A timer per segment would cost
    more than reading the segment. Where a provider refuses and quotes the `key`, it is blotted out.
    """

    def __init__(self, response: aiohttp.ClientResponse, deadlines: Deadlines, began: float, key: str | None) -> None:
        self.status = response.status
        self.content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._response = response
        self._deadlines = deadlines
        self._began = began
        self._key = key.encode() if key and self.status != 200 else None
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


class OpenAICompatible:
    """One connection: a base URL such as ``https://api.openai.com/v1`` and its key, None for servers without keys.

    Keeps one pool of sockets, and one TLS context, for as long as it lives. How many calls run at once is decided where
    calls are admitted, so the pool itself has no limit. Raises `ValueError` for an address that is not http or https.
    """

    def __init__(self, base_url: str, key: str | None, deadlines: Deadlines | None = None) -> None:
        url = URL(base_url.rstrip("/") + "/chat/completions")
        if url.scheme not in ("http", "https") or not url.host or url.user is not None or url.query_string:
            raise ValueError("the address of a provider must look like https://host/v1, without user name and query")
        self._url = url
        self._headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "tollhouse",
        }
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._key = key
        self._deadlines = deadlines or Deadlines()
        self._session: aiohttp.ClientSession | None = None

    async def chat(self, body: bytes, *, stream: bool) -> OpenAIReply:
        session = self._session or self._open()
        loop = asyncio.get_running_loop()
        began = loop.time()
        # A body of many megabytes is handed over in parts, so that writing it does not hold up everybody else.
        data = body if len(body) <= _LARGE_BODY_BYTES else io.BytesIO(body)
        try:
            async with asyncio.timeout_at(began + min(self._deadlines.first_byte, self._deadlines.total)):
                response = await session.post(self._url, data=data, headers=self._headers, allow_redirects=False)
        except aiohttp.ConnectionTimeoutError:
            raise ProviderTimeout("connect") from None
        except TimeoutError:
            raise ProviderTimeout("first_byte") from None
        except aiohttp.ClientResponseError:
            raise ReplyBroken from None
        except (aiohttp.ClientError, OSError):
            raise ProviderUnreachable from None
        return OpenAIReply(response, self._deadlines, began, self._key)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        """The session is made with the first call, for it belongs to the event loop that runs then."""
        self._session = aiohttp.ClientSession(
            # The connector sets TCP_NODELAY on each socket and shares one TLS context between them.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._deadlines.connect),
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
            max_headers=_HEADERS,
        )
        return self._session

"""Where Tollhouse is, who calls, and how long to try."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from tollhouse import __version__

BASE_URL = "http://127.0.0.1:8400"
RUN_S = 120.0
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=4.0)
"""Nobody waits for a connection: a settlement must not queue behind other calls. An idle one ends before the server
would close it."""
_VISIBLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that one attempt may take, and all of them together; `total_s` None: there is one attempt."""

    attempt_s: float
    total_s: float | None


@dataclass(frozen=True, slots=True)
class Settings:
    base_url: str
    headers: Mapping[str, str]
    ordinary: Patience
    settling: Patience
    once: Patience

    def running(self, total_s: float) -> Patience:
        check_seconds("timeout", total_s)
        return Patience(self.ordinary.attempt_s, total_s)


def read_settings(
    api_key: str | None,
    base_url: str | None,
    timeout: float,
    retry_for: float,
    settle_for: float,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """ValueError that names the remedy; the key is never part of it."""
    for name, seconds in (("timeout", timeout), ("retry_for", retry_for), ("settle_for", settle_for)):
        check_seconds(name, seconds)
    key = api_key if api_key is not None else environment.get("TOLLHOUSE_API_KEY", "")
    if not key:
        raise ValueError("There is no API key. Pass api_key=..., or set TOLLHOUSE_API_KEY.")
    if not _VISIBLE.fullmatch(key):
        raise ValueError("The API key holds a space, a line end or another sign that no key has. Copy it again.")
    url = base_url if base_url is not None else environment.get("TOLLHOUSE_URL") or BASE_URL
    return Settings(
        base_url=_checked_url(url),
        headers={
            "authorization": f"Bearer {key}",
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"tollhouse-python/{__version__}",
        },
        ordinary=Patience(timeout, retry_for),
        settling=Patience(timeout, settle_for),
        once=Patience(timeout, None),
    )


def check_seconds(name: str, seconds: float) -> None:
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{name} is a number of seconds above 0, not {seconds!r}")


def _checked_url(url: str) -> str:
    remedy = f'base_url is the address of the server, for example "{BASE_URL}"'
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{remedy}; this one cannot be read: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{remedy}; it begins with http:// or https:// and names a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{remedy}; without a user and a password: the API key says who calls")
    if parts.query or parts.fragment:
        raise ValueError(f"{remedy}; without a query and a fragment")
    return url.rstrip("/")

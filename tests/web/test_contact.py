"""Whom to tell about a hole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.web.serving import serving
from tollhouse.config import Config, ConfigError, read

PATH = "/.well-known/security.txt"


async def test_it_is_said_whom_to_tell_and_until_when_that_holds(database_url: str) -> None:
    async with serving(database_url, security_contact="mailto:ada@example.com") as place:
        seen = await place.visitor().get(PATH)
        lines = dict(line.split(": ", 1) for line in seen.text.splitlines())
        assert (seen.status, seen.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert (lines["Contact"], lines["Canonical"]) == ("mailto:ada@example.com", place.url + PATH)
        ends = datetime.fromisoformat(lines["Expires"])
        assert timedelta(days=29) < ends - datetime.now(UTC) < timedelta(days=365)


async def test_where_nobody_is_named_there_is_no_such_page(database_url: str) -> None:
    async with serving(database_url) as place:
        assert (await place.visitor().get(PATH)).status == 404


@pytest.mark.parametrize(
    ("given", "contact"),
    [
        ("", ""), ("ada@example.com", "mailto:ada@example.com"), ("mailto:ada@example.com", "mailto:ada@example.com"),
        (" https://example.com/security ", "https://example.com/security"),
    ],
)  # fmt: skip
def test_an_address_becomes_what_the_page_says(given: str, contact: str) -> None:
    assert Config(security_contact=given).security_contact == contact


@pytest.mark.parametrize(
    "wrong", ["ada", "http://example.com", "a@b.c\nPolicy: x", "a b@c.d", "//evil.example/@", "ä@b.c"]
)
def test_what_is_no_address_is_refused(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLHOUSE_SECURITY_CONTACT", wrong)
    with pytest.raises(ConfigError, match="TOLLHOUSE_SECURITY_CONTACT must be a mail address or a page"):
        read()

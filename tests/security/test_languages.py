"""Every page that there is, asked for in German: nothing of it is left in English but what people and programs are
called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from bs4 import BeautifulSoup
from bs4.element import NavigableString, Tag
from psycopg import AsyncConnection

from tests.security.callers import Caller
from tests.security.walker import Route, Walk, routes
from tests.security.world import World
from tollhouse.web import language

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Words that no German sentence has.
_ENGLISH = re.compile(
    r"\b(?:the|of|and|is|are|you|your|with|from|this|that|not|its|by|to|for|or|which|who|been|has|have|then|there)\b"
)
_SHOWN = ("aria-label", "title", "placeholder", "alt", "data-empty")
# What is not ours to translate: code, what was typed, names of things, and what says itself that it is English.
_DATA = "code, pre, .mono, script, svg, [lang=en]:not(html), time, textarea, option[value]:not([value=''])"
# The page with all parts, for who builds pages.
_IN_ENGLISH = {"GET /design", "GET /design/bare"}


async def test_no_page_in_german_has_english_left(world: World) -> None:
    walk = Walk(world)
    left: dict[str, set[str]] = {}
    owner, superadmin = await world.caller("owner"), await world.caller("superadmin")
    for route in routes():
        caller = superadmin if route.policy == "platform" else owner
        if not route.is_page or route.method != "GET" or route.example.ends or route.name in _IN_ENGLISH:
            continue
        english, german = await page_in(walk, route, caller, "en"), await page_in(walk, route, caller, "de")
        if english is None or german is None:
            continue
        assert german.html is None or german.html["lang"] == "de", route.name
        both = set(texts(english)) & set(texts(german))
        found = {one for one in texts(german) if _ENGLISH.search(one) or (one in both and is_ours(one))}
        if found:
            left[route.name] = found
    stored = await in_the_database(world.house.database_url)
    assert {name: found - stored for name, found in left.items() if found - stored} == {}


async def in_the_database(url: str) -> set[str]:
    """What models, assistants and AI features are said to be and know, and the subjects of mail: in the language of who
    wrote it."""
    async with await AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(
            """SELECT description FROM model UNION SELECT description FROM capability
               UNION SELECT description FROM quality_level UNION SELECT subject FROM mail
               UNION SELECT description FROM assistant UNION SELECT system_message FROM assistant
               UNION SELECT said FROM assistant, jsonb_array_elements(tasks) AS task,
                   jsonb_each_text(task) AS _ (_, said)
               UNION SELECT source FROM document UNION SELECT title FROM document"""
        )
        return {" ".join(row[0].split()) for row in await cursor.fetchall()}


async def page_in(walk: Walk, route: Route, caller: Caller, code: str) -> BeautifulSoup | None:
    """None for what is no page: a file, or a way on."""
    found = {place: await walk.world.object(kind) for place, kind in route.example.kinds(route.path).items()}
    asking = replace(caller, headers={**caller.headers, "accept-language": code})
    reply = await walk.send(route, asking, found, "words")
    if not reply.headers.get("content-type", "").startswith("text/html") or reply.status >= 400:
        return None
    return BeautifulSoup(reply.raw, "html.parser")


def texts(page: BeautifulSoup) -> Iterator[str]:
    """What is read or heard on a page."""
    data = {id(inner) for outer in page.select(_DATA) for inner in (outer, *outer.descendants)}
    for node in page.descendants:
        if id(node) in data:
            continue
        if type(node) is NavigableString:
            yield from filter(None, [" ".join(node.split())])
        elif isinstance(node, Tag):
            yield from (str(node[name]) for name in _SHOWN if node.get(name))


def is_ours(text: str) -> bool:
    """Whether it is a text of ours that is another one in German. One word alone may be what something is called."""
    with language.speaking("de"):
        return " " in text and language.gettext(text) != text

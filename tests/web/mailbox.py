"""What people do who sign up and sign in by the pages: they send forms, and open the links in their mail."""

from __future__ import annotations

import re
from typing import Any

from psycopg import AsyncConnection

from tests.web.serving import Answer, Place, Visitor

PASSWORD = "lantern otter quilt seven"
_LINK = re.compile(r"https?://[^/\s]+(/\S+)")


async def rows(place: Place, query: Any, *parameters: Any) -> list[Any]:
    async with await AsyncConnection.connect(place.database_url) as connection:
        return await (await connection.execute(query, parameters)).fetchall()


async def letters(place: Place, email: str) -> list[str]:
    """The texts that the address was sent, latest first."""
    return [row[0] for row in await rows(place, "SELECT body FROM mail WHERE recipient = %s ORDER BY id DESC", email)]


async def link(place: Place, email: str) -> str:
    """The path of the first link in the last mail to the address."""
    found = _LINK.search((await letters(place, email))[0])
    assert found is not None
    return found.group(1)


async def send(visitor: Visitor, path: str, fields: dict[str, str], page: str | None = None) -> Answer:
    """Fills in the form that stands on the page (the path itself when none is named), and sends it to the path."""
    token = (await visitor.get(page or path)).token
    return await visitor.post(path, {"csrf": token, **fields})


async def sign_up(place: Place, email: str, password: str = PASSWORD) -> Visitor:
    """Somebody who signed up, confirmed their address and is signed in."""
    visitor = place.visitor()
    answer = await send(visitor, "/sign-up", {"email": email, "name": "Ada Lovelace", "password": password})
    assert answer.status == 200, answer.text
    answer = await send(visitor, await link(place, email), {"password": password})
    assert answer.status == 303, answer.text
    found = await rows(place, "SELECT id FROM person WHERE email = %s", email)
    visitor.person_id = found[0][0]
    return visitor


async def sign_in(place: Place, email: str, password: str = PASSWORD) -> tuple[Visitor, Answer]:
    visitor = place.visitor()
    return visitor, await send(visitor, "/sign-in", {"email": email, "password": password})


async def is_in(visitor: Visitor) -> bool:
    """Whether the browser is signed in, with nothing left to do."""
    return (await visitor.get("/settings")).status == 200


def said(answer: Answer) -> str:
    """What a person reads on the page."""
    main = answer.soup.find("main")
    assert main is not None, answer.text
    return " ".join(main.get_text(" ").split())


def wrong(answer: Answer, name: str) -> str:
    """What stands at a field that is wrong, which has the focus."""
    field = answer.soup.select_one(f'#field-{name}[aria-invalid="true"]')
    assert field is not None and field.has_attr("autofocus"), answer.text
    told = answer.soup.find(id=str(field["aria-describedby"]).split()[-1])
    assert told is not None
    return " ".join(told.get_text(" ").split())

"""Signing up by the pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tests.web.mailbox import PASSWORD, is_in, letters, link, rows, said, send, sign_up, wrong
from tests.web.serving import Place, clock, serving
from tollhouse.flows.invitation import Wanted, invite
from tollhouse.flows.order import Order
from tollhouse.flows.organization import Insider, New, make

ADA = {"email": "ada@example.com", "name": "Ada Lovelace", "password": PASSWORD}


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with serving(database_url) as made:
        yield made


async def invited(place: Place, email: str) -> str:
    """The token of an invitation to the organisation Mill."""
    order = Order("system", clock())
    async with place.db.operator() as tx:
        team = await make(tx, order, New("Mill", "team"), None)
    await invite(place.db, place.site, Insider(team.id, Order(f"key:{uuid4()}", clock()), None), Wanted(email, "admin"))
    return (await link(place, email)).removeprefix("/invitations/")


async def test_who_signs_up_confirms_the_address_with_the_password_and_is_signed_in(place: Place) -> None:
    visitor = place.visitor()
    answer = await send(visitor, "/sign-up", ADA)
    assert answer.status == 200 and "ada@example.com" in said(answer) and "/outbox" in answer.text
    assert place.site.cookie not in visitor.cookies
    there = await link(place, "ada@example.com")
    assert there.startswith("/verify-email/")
    for _ in range(2):  # programs that read mail first use nothing up
        assert (await place.visitor().get(there)).status == 200
    answer = await send(visitor, there, {"password": "not the one that was chosen"})
    assert (answer.status, "not the password" in said(answer)) == (401, True)
    assert not await is_in(visitor)
    answer = await send(visitor, there, {"password": PASSWORD})
    assert (answer.status, answer.headers["location"]) == (303, "/")
    assert await is_in(visitor)
    again = await place.visitor().get(there)
    assert (again.status, "works no more" in said(again)) == (404, True)


async def test_an_address_that_has_an_account_is_answered_the_same_and_only_its_owner_learns_of_it(
    place: Place,
) -> None:
    await sign_up(place, "ada@example.com")
    before = await rows(place, "SELECT person_id, hash FROM password")
    known = await send(place.visitor(), "/sign-up", {**ADA, "password": "another of the same strength 42"})
    fresh = await send(place.visitor(), "/sign-up", {**ADA, "email": "eve@example.com"})
    assert known.status == fresh.status == 200
    assert said(known).replace("ada@", "eve@") == said(fresh)
    assert "You have an account there already" in (await letters(place, "ada@example.com"))[0]
    assert set(before) <= set(await rows(place, "SELECT person_id, hash FROM password"))


@pytest.mark.parametrize(
    ("fields", "name", "words"),
    [
        ({"email": "ada"}, "email", "This is not an e-mail address"),
        ({"email": ""}, "email", "Fill this in"),
        ({"password": "short"}, "password", "at least 10 characters"),
        ({"password": "password123"}, "password", "too easy to guess"),
        ({"password": "x" * 201}, "password", "longer than 200"),
        ({"name": "x" * 201}, "name", "longer than 200"),
    ],
)
async def test_what_is_wrong_stands_at_its_field_and_the_rest_stays_typed(
    place: Place, fields: dict[str, str], name: str, words: str
) -> None:
    visitor = place.visitor()
    sent = ADA | fields
    answer = await send(visitor, "/sign-up", sent)
    assert answer.status in (400, 422) and words in wrong(answer, name)
    for kept in ("email", "name"):
        assert str(answer.soup.select_one(f"#field-{kept}")["value"]) == sent[kept]  # type: ignore[index]
    assert sent["password"] not in answer.text
    assert await rows(place, "SELECT FROM mail") == []


async def test_where_only_who_is_invited_signs_up_the_page_says_so_and_the_form_is_refused(database_url: str) -> None:
    async with serving(database_url, sign_up="invited") as place:
        visitor = place.visitor()
        answer = await visitor.get("/sign-up")
        assert answer.status == 200 and "by invitation only" in said(answer)
        assert answer.soup.select_one("#field-password") is None
        answer = await send(visitor, "/sign-up", ADA, page="/sign-in")
        assert answer.status == 403 and await rows(place, "SELECT FROM person WHERE email = 'ada@example.com'") == []
        assert 'href="/sign-up"' not in (await visitor.get("/sign-in")).text

        token = await invited(place, "ada@example.com")
        page = f"/sign-up?invitation={token}"
        answer = await visitor.get(page)
        assert "Mill" in said(answer) and str(answer.soup.select_one("#field-email")["value"]) == "ada@example.com"  # type: ignore[index]
        for other in ({"email": "eve@example.com"}, {"invitation": "A" * 43}, {"invitation": ""}):
            answer = await send(visitor, "/sign-up", {**ADA, "invitation": token, **other}, page=page)
            assert answer.status in (403, 404)
        answer = await send(visitor, "/sign-up", {**ADA, "invitation": token}, page=page)
        assert (answer.status, answer.headers["location"]) == (303, f"/invitations/{token}")
        assert await is_in(visitor)


async def test_an_invitation_that_leads_nowhere_says_so(place: Place) -> None:
    answer = await place.visitor().get("/sign-up?invitation=" + "A" * 43)
    assert (answer.status, "no such invitation" in said(answer)) == (404, True)


async def test_too_many_who_sign_up_from_one_place_are_told_when_to_come_back(place: Place) -> None:
    visitor = place.visitor()
    answers = [await send(visitor, "/sign-up", {**ADA, "email": f"ada{number}@example.com"}) for number in range(11)]
    assert [one.status for one in answers] == [200] * 10 + [429]
    answer = answers[-1]
    assert int(answer.headers["retry-after"]) > 0 and "Wait" in said(answer)
    assert str(answer.soup.select_one("#field-email")["value"]) == "ada10@example.com"  # type: ignore[index]


async def test_who_is_signed_in_is_led_on(place: Place) -> None:
    visitor = await place.person("ada@example.com")
    assert (await visitor.get("/sign-up")).headers["location"] == "/"
    token = "A" * 43
    assert (await visitor.get(f"/sign-up?invitation={token}")).headers["location"] == f"/invitations/{token}"

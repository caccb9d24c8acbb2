"""What people set for themselves by the pages: profile, security, privacy."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pyotp
import pytest

from tests.web.mailbox import PASSWORD, is_in, letters, link, rows, said, send, sign_in, sign_up, wrong
from tests.web.serving import Place, Visitor, clock, serving
from tollhouse.core.throttle import SIGN_IN_ACCOUNT
from tollhouse.flows import impersonation, session, throttle
from tollhouse.flows.erasure import erase
from tollhouse.flows.export import export
from tollhouse.flows.order import Order
from tollhouse.flows.organization import New, make
from tollhouse.flows.session import Signed
from tollhouse.store import member as members
from tollhouse.web import account, confirm, own_privacy, security
from tollhouse.web.route import SIGNED_IN

SECURITY = "/settings/security"
CODE = SECURITY + "/code"
OTHER_PASSWORD = "walnut ferry carpet nine"


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with serving(database_url) as made:
        yield made


async def long_ago(place: Place) -> None:
    """Everybody proved who they are more than ten minutes ago."""
    await place.change("UPDATE session SET proved_at = now() - interval '11 minutes'")


async def signed(place: Place, visitor: Visitor) -> Signed:
    cookie = visitor.cookies[place.site.cookie]
    found = await session.find(place.db, place.site.keyring, place.site.mode, cookie, clock())
    assert isinstance(found, Signed)
    return found


# ------------------------------------------------------------------------------------------------------ who may come in


async def test_every_page_of_the_settings_is_for_its_person_alone(place: Place) -> None:
    token = (await place.visitor().get("/sign-in")).token
    for row in (*account.PAGES, *security.PAGES, *own_privacy.PAGES, *confirm.PAGES):
        assert row.needs is SIGNED_IN, row
        path = re.sub(r"\{\w+(:uuid)?\}", str(uuid4()), row.path)
        answer = await place.visitor().ask(
            row.methods[0], path, data={"csrf": token} if "POST" in row.methods else None
        )
        assert answer.status == 303 and answer.headers["location"].startswith("/sign-in?next="), row


async def test_who_acts_as_somebody_else_sees_and_changes_nothing_of_theirs(place: Place) -> None:
    superadmin, ada = await sign_up(place, "root@example.com"), await sign_up(place, "ada@example.com")
    await place.change("UPDATE person SET superadmin = true WHERE id = %s", superadmin.person_id)
    who = await signed(place, superadmin)
    order = Order(who.actor, clock())
    assert ada.person_id is not None
    cookie = await impersonation.begin(
        place.db, place.site, order, who, ada.person_id, "to look at a fault of theirs", "Tests"
    )
    acting = place.visitor()
    acting.cookies = {place.site.cookie: cookie}
    token = (await acting.get("/forgot-password")).token
    posts = {
        "/settings": {"name": "Eve"}, "/settings/email": {"email": "eve@example.com"}, CODE: {},
        SECURITY + "/password": {"password": OTHER_PASSWORD}, SECURITY + "/recovery-codes": {},
        SECURITY + "/sessions/end-others": {}, "/settings/privacy/export": {},
        "/settings/privacy/erase": {"email": "ada@example.com"}, "/confirm": {"password": PASSWORD},
    }  # fmt: skip
    for path, fields in posts.items():
        answer = await acting.post(path, {"csrf": token, **fields})
        assert answer.status == 403 and "who alone may do this" in said(answer), path
        if path != SECURITY + "/sessions/end-others" and path != "/settings/privacy/export":
            assert (await acting.get(path)).status == 403, path
    for path in (SECURITY, "/settings/privacy"):
        assert (await acting.get(path)).status == 403
    assert await is_in(ada) and "Ada Lovelace" in (await ada.get("/settings")).text


# ---------------------------------------------------------------------------------------------------------- the profile


async def test_a_name_is_changed(place: Place) -> None:
    visitor = await sign_up(place, "ada@example.com")
    answer = await send(visitor, "/settings", {"name": "  Augusta Ada   King "})
    assert (answer.status, answer.headers["location"]) == (303, "/settings")
    page = await visitor.get("/settings")
    assert str(page.soup.select_one("#field-name")["value"]) == "Augusta Ada King"  # type: ignore[index]
    answer = await send(visitor, "/settings", {"name": "x" * 201})
    assert answer.status == 422 and "longer than 200" in wrong(answer, "name")


async def test_an_address_changes_when_its_link_is_opened_by_who_asked(place: Place) -> None:
    visitor, stranger = await sign_up(place, "ada@example.com"), await sign_up(place, "eve@example.com")
    answer = await send(visitor, "/settings/email", {"email": "ada@new.example"})
    assert answer.status == 200 and "ada@new.example" in said(answer)
    there = await link(place, "ada@new.example")
    assert (await place.visitor().get(there)).headers["location"].startswith("/sign-in?next=%2Fchange-email%2F")
    answer = await stranger.get(there)
    assert (answer.status, "for another account" in said(answer)) == (403, True)
    assert (await send(stranger, there, {}, page="/settings")).status == 403
    assert "ada@example.com" in (await visitor.get("/settings")).text
    before = dict(visitor.cookies)
    answer = await send(visitor, there, {})
    assert (answer.status, answer.headers["location"]) == (303, "/settings")
    assert "ada@new.example" in (await visitor.get("/settings")).text
    assert "a***@n***.example" in (await letters(place, "ada@example.com"))[0]
    visitor.cookies = before
    assert not await is_in(visitor)
    assert (await sign_in(place, "ada@example.com"))[1].status == 401
    assert (await sign_in(place, "ada@new.example"))[1].status == 303


async def test_who_wants_an_address_that_is_somebodys_is_told_the_same(place: Place) -> None:
    visitor = await sign_up(place, "ada@example.com")
    await sign_up(place, "eve@example.com")
    taken = await send(visitor, "/settings/email", {"email": "eve@example.com"})
    free = await send(visitor, "/settings/email", {"email": "new@example.com"})
    assert said(taken).replace("eve@", "new@") == said(free)
    assert "http" not in (await letters(place, "eve@example.com"))[0]
    assert (await send(visitor, "/settings/email", {"email": "ada@example.com"})).status == 409


async def test_one_goes_on_in_another_organisation_of_ones_own_and_in_no_other(place: Place) -> None:
    visitor = await sign_up(place, "ada@example.com")
    order = Order("system", clock())
    async with place.db.operator() as tx:
        mine, other = (
            await make(tx, order, New("Mill", "team"), None),
            await make(tx, order, New("Forge", "team"), None),
        )
        assert visitor.person_id is not None
        await members.insert(tx, mine.id, visitor.person_id, "member", order.now)
    path = "/organizations/switch"
    for wanted in (str(other.id), str(uuid4()), "x"):
        answer = await send(visitor, path, {"organization": wanted, "next": "/settings"}, page="/settings")
        assert answer.status == 404
    before = dict(visitor.cookies)
    answer = await send(visitor, path, {"organization": str(mine.id), "next": "//evil.example"}, page="/settings")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    assert "Mill" in (await visitor.get("/settings")).text
    visitor.cookies = before
    assert not await is_in(visitor)


# ------------------------------------------------------------------------------------------------- proving who one is


async def test_what_changes_how_one_signs_in_asks_first_who_one_is_and_leads_back(place: Place) -> None:
    visitor = await sign_up(place, "ada@example.com")
    token = (await visitor.get("/settings")).token
    await long_ago(place)
    asked = {
        "/settings/email": {"email": "eve@example.com"}, SECURITY + "/password": {"password": OTHER_PASSWORD},
        CODE: {}, CODE + "/confirm": {"code": "123456"}, CODE + "/remove": {"code": "123456"},
        SECURITY + "/recovery-codes": {}, "/settings/privacy/erase": {"email": "ada@example.com"},
        f"{SECURITY}/identities/{uuid4()}/remove": {"subject": "x"},
    }  # fmt: skip
    for path, fields in asked.items():
        if "/identities/" not in path:
            answer = await visitor.get(path)
            assert answer.headers["location"] == "/confirm?next=" + path.replace("/", "%2F"), path
        answer = await visitor.post(path, {"csrf": token, **fields}, {"referer": place.url + SECURITY})
        assert answer.headers["location"] == "/confirm?next=%2Fsettings%2Fsecurity", path
    page = "/confirm?next=%2Fsettings%2Femail"
    answer = await send(visitor, "/confirm", {"password": "not my password", "next": "/settings/email"}, page=page)
    assert (answer.status, "not right" in said(answer)) == (401, True)
    answer = await send(visitor, "/confirm", {"next": "/settings/email"}, page=page)
    assert (answer.status, "Fill in your password or a code" in said(answer)) == (400, True)
    before = dict(visitor.cookies)
    answer = await send(visitor, "/confirm", {"password": PASSWORD, "next": "/settings/email"}, page=page)
    assert (answer.status, answer.headers["location"]) == (303, "/settings/email")
    assert (await visitor.get("/settings/email")).status == 200
    visitor.cookies = before
    assert not await is_in(visitor)


async def test_after_proving_one_is_led_nowhere_else(place: Place) -> None:
    visitor = await sign_up(place, "ada@example.com")
    for there in ("//evil.example", "https://evil.example", "/\\evil.example"):
        answer = await send(visitor, "/confirm", {"password": PASSWORD, "next": there})
        assert (answer.status, answer.headers["location"]) == (303, "/")


async def test_who_has_neither_password_nor_code_proves_it_by_signing_in_anew(place: Place) -> None:
    visitor = await place.person("ada@example.com")
    await long_ago(place)
    page = await visitor.get("/confirm?next=/settings/email")
    assert page.soup.select_one("#field-password") is None and page.soup.select_one("#field-code") is None
    answer = await send(visitor, "/sign-in/link", {"email": "ada@example.com"}, page="/confirm")
    assert answer.status == 200
    await send(visitor, await link(place, "ada@example.com"), {})
    assert (await visitor.get("/settings/email")).status == 200


async def test_guesses_of_the_password_are_throttled_there_too(place: Place) -> None:
    visitor = await sign_up(place, "ada@example.com")
    token = (await visitor.get("/confirm")).token
    for _ in range(SIGN_IN_ACCOUNT.burst - 2):  # confirming the address took one
        await throttle.check(place.db, place.site.keyring, SIGN_IN_ACCOUNT, "ada@example.com", now=clock())
    assert (await visitor.post("/confirm", {"csrf": token, "password": "a guess"})).status == 401
    answer = await visitor.post("/confirm", {"csrf": token, "password": PASSWORD})
    assert answer.status == 429 and int(answer.headers["retry-after"]) > 0


# ------------------------------------------------------------------------------------------------------------ security


async def test_another_password_ends_all_other_sessions(place: Place) -> None:
    visitor = await sign_up(place, "ada@example.com")
    other, _ = await sign_in(place, "ada@example.com")
    path, before = SECURITY + "/password", dict(visitor.cookies)
    answer = await send(visitor, path, {"password": "ada@example.com"})
    assert answer.status == 400 and "too easy to guess" in wrong(answer, "password")
    answer = await send(visitor, path, {"password": OTHER_PASSWORD})
    assert (answer.status, answer.headers["location"]) == (303, SECURITY)
    assert await is_in(visitor) and not await is_in(other)
    visitor.cookies = before
    assert not await is_in(visitor)
    assert (await sign_in(place, "ada@example.com"))[1].status == 401
    assert (await sign_in(place, "ada@example.com", OTHER_PASSWORD))[1].status == 303


async def test_an_app_is_added_by_a_code_of_it_and_the_recovery_codes_are_shown_once(place: Place) -> None:
    visitor = await sign_up(place, "ada@example.com")
    other, _ = await sign_in(place, "ada@example.com")
    assert (await visitor.get(CODE)).soup.select_one("#totp-secret") is None
    await send(visitor, CODE, {})
    page = await visitor.get(CODE)
    secret = page.soup.select_one("#totp-secret").get_text()  # type: ignore[union-attr]
    assert page.soup.select_one(".qr svg") is not None and f"secret={secret}" in page.text
    answer = await send(visitor, CODE + "/confirm", {"code": "000000"})
    assert answer.status == 400 and "not right" in wrong(answer, "code")
    assert answer.soup.select_one("#totp-secret").get_text() == secret  # type: ignore[union-attr]
    before = dict(visitor.cookies)
    answer = await send(visitor, CODE + "/confirm", {"code": pyotp.TOTP(secret).now()})
    codes = answer.soup.select_one("#codes").get_text().split()  # type: ignore[union-attr]
    assert answer.status == 200 and len(set(codes)) == 10
    assert not await is_in(other) and await is_in(visitor)
    for path in (CODE, SECURITY, CODE + "/confirm", SECURITY + "/recovery-codes"):
        text = (await visitor.get(path)).text
        assert secret not in text and not any(code in text for code in codes), path
    # the page with the codes is for the new cookie: its forms work
    assert (await visitor.post("/sign-out", {"csrf": answer.token})).status == 303
    visitor.cookies = before
    assert not await is_in(visitor)


async def added(place: Place, visitor: Visitor) -> list[str]:
    """The recovery codes of somebody who has added an app."""
    await send(visitor, CODE, {})
    secret = (await visitor.get(CODE)).soup.select_one("#totp-secret").get_text()  # type: ignore[union-attr]
    answer = await send(visitor, CODE + "/confirm", {"code": pyotp.TOTP(secret).now()})
    return answer.soup.select_one("#codes").get_text().split()  # type: ignore[union-attr]


async def test_recovery_codes_are_renewed_and_the_app_is_removed_by_a_code(place: Place) -> None:
    visitor = await sign_up(place, "ada@example.com")
    former = await added(place, visitor)
    answer = await send(visitor, SECURITY + "/recovery-codes", {})
    codes = answer.soup.select_one("#codes").get_text().split()  # type: ignore[union-attr]
    assert answer.status == 200 and not set(codes) & set(former)
    assert (await send(visitor, CODE + "/remove", {"code": former[0]})).status == 401
    answer = await send(visitor, "/confirm", {"code": codes[1]})
    assert answer.status == 303
    assert "Recovery codes that are left: 9" in said(await visitor.get(SECURITY))
    answer = await send(visitor, CODE + "/remove", {"code": codes[0]})
    assert (answer.status, answer.headers["location"]) == (303, SECURITY)
    assert (await sign_in(place, "ada@example.com"))[1].headers["location"] == "/"
    answer = await send(visitor, SECURITY + "/recovery-codes", {}, page=SECURITY)
    assert (answer.status, "no second factor" in said(answer)) == (409, True)


async def test_a_superadmin_keeps_the_second_factor_in_live_mode(database_url: str) -> None:
    async with serving(database_url, mode="live") as place:
        visitor = await sign_up(place, "ada@example.com")
        await place.change("UPDATE person SET superadmin = true WHERE id = %s", visitor.person_id)
        assert "when you have added an app" in said(await visitor.get(SECURITY))
        codes = await added(place, visitor)
        answer = await send(visitor, CODE + "/remove", {"code": codes[0]})
        assert (answer.status, "Superadmins need a second factor" in said(answer)) == (403, True)


async def test_sessions_are_listed_and_ended_by_their_person_alone(place: Place) -> None:
    visitor, stranger = await sign_up(place, "ada@example.com"), await sign_up(place, "eve@example.com")
    others = [(await sign_in(place, "ada@example.com"))[0] for _ in range(3)]
    page = await visitor.get(SECURITY)
    paths = [str(form["action"]) for form in page.soup.select('form[action$="/end"]')]
    assert len(paths) == 3 and "This one" in said(page) and "127.0.0.1" in said(page)
    assert (await send(stranger, paths[0], {}, page=SECURITY)).status == 404
    assert [await is_in(one) for one in others] == [True] * 3
    assert (await send(visitor, paths[0], {}, page=SECURITY)).status == 303
    assert sum([await is_in(one) for one in others]) == 2
    assert (await send(visitor, paths[0], {}, page=SECURITY)).status == 404
    assert (await send(visitor, SECURITY + "/sessions/x/end", {}, page=SECURITY)).status == 404
    assert (await send(visitor, SECURITY + "/sessions/end-others", {}, page=SECURITY)).status == 303
    assert [await is_in(one) for one in others] == [False] * 3
    assert await is_in(visitor) and await is_in(stranger)


# -------------------------------------------------------------------------------------------------------------- privacy


async def task_of(place: Place, visitor: Visitor) -> tuple[UUID, UUID]:
    query = "SELECT organization_id, id FROM privacy_task WHERE subject_id = %s ORDER BY id DESC"
    organization_id, task_id = (await rows(place, query, visitor.person_id))[0]
    return organization_id, task_id


async def test_a_file_of_ones_data_is_ordered_followed_and_downloaded_by_oneself(place: Place) -> None:
    visitor, stranger = await sign_up(place, "ada@example.com"), await sign_up(place, "eve@example.com")
    page = "/settings/privacy"
    assert "Nothing yet" in said(await visitor.get(page))
    for _ in range(2):  # what is ordered twice is made once
        answer = await send(visitor, page + "/export", {}, page=page)
        assert (answer.status, answer.headers["location"]) == (303, page)
    answer = await visitor.get(page)
    assert answer.text.count("File of your data") == 1 and "Waiting" in said(answer)
    part = await visitor.get(page, hx_request="true")
    assert part.text.lstrip().startswith('<div id="tasks"') and "hx-trigger" in part.text
    organization_id, task_id = await task_of(place, visitor)
    file = f"{page}/{task_id}/file"
    assert (await visitor.get(file)).status == 404
    await export(place.db, clock, organization_id, task_id)
    assert "hx-trigger" not in (await visitor.get(page, hx_request="true")).text
    assert (await visitor.get(page)).soup.select_one(f'a[href="{file}"]') is not None
    cookie = f"{place.site.cookie}={visitor.cookies[place.site.cookie]}"
    async with visitor.client.get(place.url + file, headers={"cookie": cookie}) as response:
        assert response.status == 200 and response.headers["cache-control"] == "no-store"
        assert response.headers["content-disposition"] == f'attachment; filename="export-{task_id}.zip"'
        names = zipfile.ZipFile(io.BytesIO(await response.read())).namelist()
    assert len(names) > 3
    assert (await stranger.get(file)).status == 404
    assert (await place.visitor().get(file)).headers["location"].startswith("/sign-in?next=")
    assert (await visitor.get(f"{page}/x/file")).status == 404


async def test_an_account_is_erased_after_its_address_was_typed_and_then_nobody_is_signed_in(place: Place) -> None:
    visitor = await sign_up(place, "ada@example.com")
    path = "/settings/privacy/erase"
    answer = await send(visitor, path, {"email": "eve@example.com"})
    assert answer.status == 400 and "not the address of your account" in wrong(answer, "email")
    assert await rows(place, "SELECT FROM privacy_task") == []
    answer = await send(visitor, path, {"email": "ada@example.com"})
    assert (answer.status, answer.headers["location"]) == (303, "/settings/privacy")
    assert "Erasure of your account" in said(await visitor.get("/settings/privacy"))
    await erase(place.db, clock, *await task_of(place, visitor))
    assert not await is_in(visitor)
    assert (await sign_in(place, "ada@example.com"))[1].status == 401


async def test_the_last_owner_of_a_team_is_told_what_to_do_first(place: Place) -> None:
    visitor = await place.in_a_team("ada@example.com", "owner")
    answer = await send(visitor, "/settings/privacy/erase", {"email": "ada@example.com"})
    assert (answer.status, "Make somebody else an owner there first" in said(answer)) == (409, True)

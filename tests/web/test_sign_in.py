"""Signing in by the pages, in all ways, and out again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import pyotp
import pytest
from yarl import URL

from tests.fake_idp import FakeIdp
from tests.web.mailbox import PASSWORD, is_in, letters, link, rows, said, send, sign_in, sign_up, wrong
from tests.web.serving import Answer, Place, Visitor, serving

ELSEWHERE = [
    "https://evil.example", "//evil.example", "/\\evil.example", "/%09/evil.example", "/\t/evil.example",
    "evil.example", "javascript:alert(1)", "/" + "x" * 2000, "/\r\nset-cookie: a=b", "\\\\evil.example", "/é", "",
]  # fmt: skip


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with serving(database_url) as made:
        yield made


# ---------------------------------------------------------------------------------------------------------- by password


async def test_a_password_signs_in_with_a_cookie_that_scripts_and_other_sites_do_not_get(place: Place) -> None:
    await sign_up(place, "ada@example.com")
    visitor, answer = await sign_in(place, " Ada@Example.com ")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    (cookie,) = [one for one in answer.cookies if one.startswith(f"{place.site.cookie}=")]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Max-Age=2592000" in cookie and "Path=/" in cookie
    assert await is_in(visitor)


async def test_one_is_led_to_where_one_wanted_to_go_and_nowhere_else(place: Place) -> None:
    visitor = await sign_up(place, "ada@example.com")
    assert (await visitor.get("/sign-in?next=/settings%3Ftab=1")).headers["location"] == "/settings?tab=1"
    for there in ELSEWHERE:
        answer = await visitor.get(f"/sign-in?next={quote(there, safe='')}")
        assert answer.headers["location"] in ("/", "/%09/evil.example"), there
    stranger = place.visitor()
    answer = await stranger.get("/settings/security")
    assert answer.headers["location"] == "/sign-in?next=%2Fsettings%2Fsecurity"
    page = await stranger.get(answer.headers["location"])
    assert str(page.soup.select_one('form[action="/sign-in"] input[name="next"]')["value"]) == "/settings/security"  # type: ignore[index]
    for there in ("/settings/security", *ELSEWHERE[:4]):
        one = place.visitor()
        answer = await send(one, "/sign-in", {"email": "ada@example.com", "password": PASSWORD, "next": there})
        assert answer.status == 303
        assert answer.headers["location"] == (there if there in ("/settings/security", "/%09/evil.example") else "/")


async def test_a_wrong_password_and_an_address_without_an_account_are_refused_alike(place: Place) -> None:
    await sign_up(place, "ada@example.com")
    pages = []
    for email in ("ada@example.com", "eve@example.com"):
        visitor, answer = await sign_in(place, email, "not the password of anybody")
        assert answer.status == 401 and place.site.cookie not in visitor.cookies
        assert str(answer.soup.select_one("#field-email")["value"]) == email  # type: ignore[index]
        assert "not the password" not in answer.text
        pages.append(said(answer))
    assert pages[0] == pages[1] and "The e-mail address or the password is not right" in pages[0]


async def test_who_guesses_is_told_when_to_come_back_and_others_are_not_kept_out(place: Place) -> None:
    await sign_up(place, "ada@example.com")
    await sign_up(place, "eve@example.com")
    visitor = place.visitor()
    guess = {"email": "ada@example.com", "password": "a guess"}
    statuses = [(await send(visitor, "/sign-in", guess)).status for _ in range(10)]
    assert statuses == [401] * 10
    answer = await send(visitor, "/sign-in", {**guess, "password": PASSWORD})
    assert answer.status == 429 and int(answer.headers["retry-after"]) > 0 and "Wait" in said(answer)
    assert (await sign_in(place, "eve@example.com"))[1].status == 303


async def test_who_has_not_confirmed_the_address_gets_the_link_once_more(place: Place) -> None:
    await send(place.visitor(), "/sign-up", {"email": "ada@example.com", "password": PASSWORD})
    visitor, answer = await sign_in(place, "ada@example.com")
    assert (answer.status, "Confirm your e-mail address first" in said(answer)) == (403, True)
    assert place.site.cookie not in visitor.cookies and len(await letters(place, "ada@example.com")) == 2


async def test_no_cookie_that_was_there_before_is_signed_in_afterwards(place: Place) -> None:
    """Session fixation: neither a made-up cookie, nor the one of somebody else who was signed in."""
    await sign_up(place, "ada@example.com")
    former = await sign_up(place, "eve@example.com")
    planted = dict(former.cookies)
    token = (await former.get("/forgot-password")).token
    answer = await former.post("/sign-in", {"csrf": token, "email": "ada@example.com", "password": PASSWORD})
    assert answer.status == 303 and former.cookies[place.site.cookie] != planted[place.site.cookie]
    assert "ada@example.com" in (await former.get("/settings")).text
    old = place.visitor()
    old.cookies = planted
    assert not await is_in(old)
    made_up = place.visitor()
    made_up.cookies = {place.site.cookie: "A" * 43}
    await send(made_up, "/sign-in", {"email": "ada@example.com", "password": PASSWORD})
    assert made_up.cookies[place.site.cookie] != "A" * 43 and await is_in(made_up)


async def test_who_is_suspended_gets_no_session(place: Place) -> None:
    visitor = await sign_up(place, "ada@example.com")
    await place.change("UPDATE person SET suspended_at = now() WHERE id = %s", visitor.person_id)
    other, answer = await sign_in(place, "ada@example.com")
    assert (answer.status, "suspended" in said(answer)) == (403, True)
    assert not await is_in(other) and not await is_in(visitor)
    assert "suspended" in said(await visitor.get("/sign-in"))
    assert "suspended" in said(await visitor.get("/sign-in/code"))
    answer = await send(visitor, "/sign-in/code", {"code": "123456"})
    assert (answer.status, "suspended" in said(answer)) == (403, True)


async def test_signing_out_ends_the_session_and_may_be_repeated(place: Place) -> None:
    visitor = await sign_up(place, "ada@example.com")
    kept = dict(visitor.cookies)
    for _ in range(2):
        answer = await send(visitor, "/sign-out", {}, page="/forgot-password")
        assert (answer.status, answer.headers["location"]) == (303, "/sign-in")
        assert any(one.startswith(f"{place.site.cookie}=") and "Max-Age=0" in one for one in answer.cookies)
    visitor.cookies = kept
    assert not await is_in(visitor)
    assert (await visitor.get("/sign-out")).status == 405


# ---------------------------------------------------------------------------------------------------------- by a link


async def test_a_link_signs_in_once_and_opening_it_does_not_use_it_up(place: Place) -> None:
    await place.person("ada@example.com")
    visitor = place.visitor()
    answer = await send(visitor, "/sign-in/link", {"email": "ada@example.com", "password": "", "next": "/"})
    assert answer.status == 200 and place.site.cookie not in visitor.cookies
    there = await link(place, "ada@example.com")
    for _ in range(2):
        answer = await visitor.get(there)
        assert answer.status == 200 and "ada@example.com" in said(answer) and not await is_in(visitor)
    token = (await visitor.get(there)).token
    other = place.visitor()
    other_token = (await other.get(there)).token
    answer = await visitor.post(there, {"csrf": token})
    assert answer.status == 303 and await is_in(visitor)
    answer = await other.post(there, {"csrf": other_token})
    assert answer.status == 404 and "works no more" in said(answer) and not await is_in(other)


@pytest.mark.parametrize(
    ("wanted", "led"),
    [("/admin/keys?all=1", "/admin/keys?all=1"), ("//evil.example", "/"), ("https://evil.example", "/")],
)
async def test_a_link_leads_on_to_where_one_wanted_to_go_and_nowhere_else(
    place: Place, wanted: str, led: str
) -> None:  # fmt: skip
    await place.person("ada@example.com")
    visitor = place.visitor()
    await send(visitor, "/sign-in/link", {"email": "ada@example.com", "next": wanted})
    there = await link(place, "ada@example.com")
    page = await visitor.get(there)
    [form] = page.soup.select("form[action^='/sign-in/link/']")
    fields = {str(one["name"]): str(one["value"]) for one in form.select("input[name]")}
    answer = await visitor.post(str(form["action"]), fields)
    assert (answer.status, answer.headers["location"]) == (303, led)
    assert await is_in(visitor)


async def test_a_link_that_is_made_up_or_of_another_kind_opens_nothing(place: Place) -> None:
    await place.person("ada@example.com")
    await send(place.visitor(), "/forgot-password", {"email": "ada@example.com"})
    reset = (await link(place, "ada@example.com")).rpartition("/")[2]
    visitor = place.visitor()
    for token in (reset, "A" * 43, "x", "%00", "a%2Fb"):
        for path in ("/sign-in/link/", "/verify-email/"):
            assert (await visitor.get(path + token)).status == 404
    token = (await visitor.get("/sign-in")).token
    assert (await visitor.post(f"/sign-in/link/{reset}", {"csrf": token})).status == 404
    assert not await is_in(visitor)


@pytest.mark.parametrize("path", ["/sign-in/link", "/forgot-password"])
async def test_asking_for_mail_tells_nobody_who_has_an_account(place: Place, path: str) -> None:
    await place.person("ada@example.com")
    answers = [await send(place.visitor(), path, {"email": email}) for email in ("ada@example.com", "eve@example.com")]
    assert [one.status for one in answers] == [200, 200]
    assert said(answers[0]).replace("ada@", "eve@") == said(answers[1])
    assert (len(await letters(place, "ada@example.com")), await letters(place, "eve@example.com")) == (1, [])
    answer = await send(place.visitor(), path, {"email": "nobody"})
    assert answer.status == 400 and "not an e-mail address" in wrong(answer, "email")
    for _ in range(4):
        await send(place.visitor(), path, {"email": "ada@example.com"})
    answer = await send(place.visitor(), path, {"email": "ada@example.com"})
    assert answer.status == 429 and int(answer.headers["retry-after"]) > 0
    assert len(await letters(place, "ada@example.com")) == 5


async def test_a_forgotten_password_is_replaced_once_and_all_sessions_end(place: Place) -> None:
    signed = await sign_up(place, "ada@example.com")
    visitor = place.visitor()
    await send(visitor, "/forgot-password", {"email": "ada@example.com"})
    there = await link(place, "ada@example.com")
    answer = await send(visitor, there, {"password": "short"})
    assert answer.status == 400 and "at least 10" in wrong(answer, "password")
    token = (await visitor.get(there)).token
    answer = await visitor.post(there, {"csrf": token, "password": "walnut ferry carpet nine"})
    assert (answer.status, answer.headers["location"]) == (303, "/sign-in")
    assert (await visitor.post(there, {"csrf": token, "password": "walnut ferry carpet ten"})).status == 404
    assert not await is_in(signed)
    assert (await sign_in(place, "ada@example.com"))[1].status == 401
    assert (await sign_in(place, "ada@example.com", "walnut ferry carpet nine"))[1].status == 303


# ------------------------------------------------------------------------------------------------------------- a code


async def with_a_code(place: Place, email: str) -> tuple[str, list[str]]:
    """Somebody with a second factor: its secret, and the recovery codes."""
    visitor = await sign_up(place, email)
    page = "/settings/security/code"
    assert (await send(visitor, page, {})).headers["location"] == page
    secret = (await visitor.get(page)).soup.select_one("#totp-secret").get_text()  # type: ignore[union-attr]
    answer = await send(visitor, page + "/confirm", {"code": pyotp.TOTP(secret).now()})
    assert answer.status == 200, answer.text
    return secret, answer.soup.select_one("#codes").get_text().split()  # type: ignore[union-attr]


async def test_who_has_a_second_factor_is_in_only_after_a_code_that_counts_once(place: Place) -> None:
    _, codes = await with_a_code(place, "ada@example.com")
    visitor, answer = await sign_in(place, "ada@example.com")
    assert (answer.status, answer.headers["location"]) == (303, "/sign-in/code?next=%2F")
    assert (await visitor.get("/settings")).headers["location"] == "/sign-in/code?next=%2Fsettings"
    waiting = visitor.cookies[place.site.cookie]
    answer = await send(visitor, "/sign-in/code", {"code": "000000", "next": "/settings"})
    assert (answer.status, "not right" in said(answer)) == (401, True)
    answer = await send(visitor, "/sign-in/code", {"code": codes[0].upper(), "next": "/settings"})
    assert (answer.status, answer.headers["location"]) == (303, "/settings")
    assert await is_in(visitor) and visitor.cookies[place.site.cookie] != waiting
    again, _ = await sign_in(place, "ada@example.com")
    assert (await send(again, "/sign-in/code", {"code": codes[0], "next": "/"})).status == 401
    for there in ELSEWHERE[:3]:
        one, _ = await sign_in(place, "ada@example.com")
        answer = await send(one, "/sign-in/code", {"code": codes.pop(), "next": there})
        assert (answer.status, answer.headers["location"]) == (303, "/")


async def test_a_link_and_a_provider_do_not_replace_the_second_factor(place: Place) -> None:
    await with_a_code(place, "ada@example.com")
    visitor = place.visitor()
    await send(visitor, "/sign-in/link", {"email": "ada@example.com"})
    there = await link(place, "ada@example.com")
    answer = await send(visitor, there, {})
    assert answer.headers["location"].startswith("/sign-in/code") and not await is_in(visitor)


async def test_codes_are_throttled(place: Place) -> None:
    await with_a_code(place, "ada@example.com")
    visitor, _ = await sign_in(place, "ada@example.com")
    statuses = [(await send(visitor, "/sign-in/code", {"code": "000000"})).status for _ in range(10)]
    assert statuses[0] == 401 and statuses[-1] == 429


# ------------------------------------------------------------------------------------------- at an identity provider


async def offer(place: Place, idp: FakeIdp) -> UUID:
    """The provider as one of this installation, whose callback it knows."""
    id_ = uuid4()
    await place.change(
        "INSERT INTO identity_provider (id, name, issuer, client_id, enabled, created_at) "
        "VALUES (%s, 'Example', %s, %s, true, now())",
        id_, idp.issuer, idp.client_id,
    )  # fmt: skip
    idp.client_secret, idp.methods = None, ("none",)
    idp.redirect_uris.add(place.site.url(f"/sign-in/oidc/{id_}/callback"))
    idp.claims = {"email_verified": True}
    return id_


async def go_away(visitor: Visitor, path: str, page: str = "/sign-in", **fields: str) -> str:
    """The address at the provider that the page after the form leads to."""
    answer = await send(visitor, path, fields, page=page)
    assert answer.status == 200, answer.text
    refresh = answer.soup.select_one('meta[http-equiv="refresh"]')
    assert refresh is not None
    return str(refresh["content"]).removeprefix("0; url=")


async def come_back(place: Place, visitor: Visitor, url: str) -> Answer:
    async with visitor.client.get(URL(url, encoded=True), allow_redirects=False) as response:
        assert response.status == 302, await response.text()
        there = response.headers["location"]
    return await visitor.get(there.removeprefix(place.url), sec_fetch_site="cross-site")


async def test_somebody_new_signs_in_at_a_provider_and_later_comes_as_the_same(place: Place) -> None:
    async with FakeIdp() as idp:
        id_ = await offer(place, idp)
        assert "Continue with Example" in said(await place.visitor().get("/sign-in"))
        visitor = place.visitor()
        answer = await come_back(place, visitor, await go_away(visitor, f"/sign-in/oidc/{id_}", next="/settings"))
        assert (answer.status, answer.headers["location"]) == (303, "/settings")
        assert any("oidc=;" in one and "Max-Age=0" in one for one in answer.cookies)
        assert "ada@example.com" in (await visitor.get("/settings")).text
        again = place.visitor()
        await come_back(place, again, await go_away(again, f"/sign-in/oidc/{id_}"))
        assert await is_in(again) and len(await rows(place, "SELECT FROM person WHERE email = 'ada@example.com'")) == 1


@pytest.mark.parametrize("there", ELSEWHERE[:4])
async def test_a_provider_leads_back_to_nowhere_else(place: Place, there: str) -> None:
    async with FakeIdp() as idp:
        id_ = await offer(place, idp)
        visitor = place.visitor()
        answer = await come_back(place, visitor, await go_away(visitor, f"/sign-in/oidc/{id_}", next=there))
        assert answer.status == 303 and answer.headers["location"] in ("/", "/%09/evil.example")


async def test_an_address_that_has_an_account_is_not_taken_over_at_a_provider(place: Place) -> None:
    await sign_up(place, "ada@example.com")
    async with FakeIdp() as idp:
        id_ = await offer(place, idp)
        visitor = place.visitor()
        answer = await come_back(place, visitor, await go_away(visitor, f"/sign-in/oidc/{id_}"))
        assert (answer.status, "link this one to it there" in said(answer)) == (409, True)
        assert not await is_in(visitor)


async def test_what_comes_back_counts_once_and_in_its_browser_alone(place: Place) -> None:
    async with FakeIdp() as idp:
        id_ = await offer(place, idp)
        visitor, thief = place.visitor(), place.visitor()
        url = await go_away(visitor, f"/sign-in/oidc/{id_}")
        async with visitor.client.get(URL(url, encoded=True), allow_redirects=False) as response:
            callback = response.headers["location"].removeprefix(place.url)
        assert (await thief.get(callback)).status == 400 and not await is_in(thief)
        kept = dict(visitor.cookies)
        assert (await visitor.get(callback)).status == 303
        again = place.visitor()
        again.cookies = kept
        assert (await again.get(callback)).status == 400 and not await is_in(again)
        for path in ("callback", "callback?error=access_denied&state=x"):
            answer = await place.visitor().get(f"/sign-in/oidc/{id_}/{path}")
            assert answer.status == 400 and "Begin again" in said(answer)
        for other in (str(uuid4()), "x"):
            assert (await visitor.get(f"/sign-in/oidc/{other}/callback?code=a&state=b")).status == 404


async def test_asking_a_provider_is_throttled_by_address(place: Place) -> None:
    async with FakeIdp() as idp:
        id_ = await offer(place, idp)
        visitor = place.visitor()
        token = (await visitor.get("/sign-in")).token
        answers = [await visitor.post(f"/sign-in/oidc/{id_}", {"csrf": token}) for _ in range(31)]
        assert [one.status for one in answers] == [200] * 30 + [429]
        assert int(answers[-1].headers["retry-after"]) > 0
        calls = len(idp.calls)
        assert (await visitor.get(f"/sign-in/oidc/{id_}/callback?code=a&state=b")).status == 429
        assert len(idp.calls) == calls


async def test_an_account_elsewhere_is_linked_by_its_person_and_signs_in_from_then_on(place: Place) -> None:
    async with FakeIdp() as idp:
        id_ = await offer(place, idp)
        idp.person = {"sub": "u-9", "email": "someone@else.example", "name": "Ada"}
        visitor = await sign_up(place, "ada@example.com")
        path, page = f"/settings/security/identities/{id_}", "/settings/security"
        answer = await come_back(place, visitor, await go_away(visitor, path, page))
        assert (answer.status, answer.headers["location"]) == (303, page)
        assert "someone@else.example" in said(await visitor.get(page))
        other = place.visitor()
        await come_back(place, other, await go_away(other, f"/sign-in/oidc/{id_}"))
        assert "ada@example.com" in (await other.get("/settings")).text
        stranger = await sign_up(place, "eve@example.com")
        answer = await send(stranger, path + "/remove", {"subject": "u-9"}, page=page)
        assert answer.status == 404
        assert (await send(visitor, path + "/remove", {"subject": "u-9"}, page=page)).status == 303
        assert await rows(place, "SELECT FROM linked_identity") == []


async def test_nobody_links_an_account_to_somebody_who_is_not_signed_in(place: Place) -> None:
    """The answer to a link counts for the person who asked for it, in the session in which they did."""
    async with FakeIdp() as idp:
        id_ = await offer(place, idp)
        page, path = "/settings/security", f"/settings/security/identities/{id_}"
        visitor, victim = await sign_up(place, "eve@example.com"), await sign_up(place, "ada@example.com")
        url = await go_away(visitor, path, page)
        pending = {name: value for name, value in visitor.cookies.items() if name.endswith("oidc")}
        victim.cookies |= pending
        answer = await come_back(place, victim, url)
        assert (answer.status, "somebody else meanwhile" in said(answer)) == (403, True)
        nobody = place.visitor()
        nobody.cookies = dict(pending)
        assert (await come_back(place, nobody, url)).status in (400, 403)
        assert await rows(place, "SELECT FROM linked_identity") == []
        await place.change("UPDATE session SET proved_at = now() - interval '11 minutes'")
        token = (await victim.get(page)).token
        answer = await victim.post(path, {"csrf": token}, {"referer": place.url + page})
        assert answer.headers["location"] == "/confirm?next=%2Fsettings%2Fsecurity"


# --------------------------------------------------------------------------------------------------------- the outbox


@pytest.mark.parametrize("site", [{"sends_mail": True}, {"mode": "live"}])
async def test_mail_is_shown_to_nobody_where_it_is_sent(database_url: str, site: dict[str, Any]) -> None:
    async with serving(database_url, **site) as place:
        await send(place.visitor(), "/sign-up", {"email": "ada@example.com", "password": PASSWORD})
        visitor = await place.person("eve@example.com")
        assert [(await one.get("/outbox")).status for one in (place.visitor(), visitor)] == [404, 404]
        assert "/outbox" not in (await send(place.visitor(), "/forgot-password", {"email": "a@example.com"})).text


async def test_in_test_mode_without_a_mail_server_the_outbox_has_the_links(place: Place) -> None:
    visitor = place.visitor()
    assert "No mail yet" in said(await visitor.get("/outbox"))
    await send(visitor, "/sign-up", {"email": "ada@example.com", "password": PASSWORD})
    answer = await visitor.get("/outbox")
    found = answer.soup.select_one('article a[href^="/verify-email/"]')
    assert found is not None and str(found["href"]) == await link(place, "ada@example.com")
    assert "only for browsers on this machine" in said(answer)


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded", "x-real-ip", "via"])
async def test_the_outbox_is_shown_on_its_own_machine_and_to_superadmins_alone(place: Place, name: str) -> None:
    """What comes through a proxy comes from elsewhere."""
    visitor, superadmin = await place.person("ada@example.com"), await place.person("root@example.com")
    await place.change("UPDATE person SET superadmin = true WHERE id = %s", superadmin.person_id)
    for one, status in ((place.visitor(), 403), (visitor, 403), (superadmin, 200)):
        answer = await one.ask("GET", "/outbox", {name: "for=127.0.0.1"})
        assert answer.status == status and ("tollhouse outbox" in answer.text)

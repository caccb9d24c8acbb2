"""Pages speak the language that somebody chose, else the one that their browser asks for, and all of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.web.browser import PHONE, Window, faults
from tests.web.serving import Place, Visitor, clock, serving
from tollhouse.core.errors import NotFound
from tollhouse.core.session import Impersonator
from tollhouse.flows import session
from tollhouse.flows.order import Order
from tollhouse.web import figure, language
from tollhouse.web.language import LANGUAGES, _, ngettext, speaking, wanted

ROOT = Path(__file__).parents[2]
GERMAN, ENGLISH = "de-AT, en;q=0.5", "en-GB"
NOON = datetime(2026, 9, 3, 12, 5, tzinfo=UTC)


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with serving(database_url) as made:
        yield made


async def spoken(visitor: Visitor, path: str = "/sign-in", asks: str = ENGLISH) -> str:
    """The language that the page says it is in; its heading is in that one."""
    page = await visitor.get(path, accept_language=asks)
    html = page.soup.select_one("html")
    assert html is not None
    return str(html["lang"])


async def choose(visitor: Visitor, code: str, page: str = "/sign-in") -> tuple[int, str]:
    """Presses the switch at the foot of that page; status and where it leads."""
    token = (await visitor.get("/forgot-password")).token
    referer = page if "//" in page else visitor.url + page
    answer = await visitor.post("/language", {"language": code, "csrf": token}, {"referer": referer})
    return answer.status, answer.headers.get("location", "")


# ----------------------------------------------------------------------------------------------------------- which one


@pytest.mark.parametrize(
    ("chosen", "accepted", "code"),
    [
        (None, "", "en"),
        (None, "de", "de"),
        (None, "de-CH, fr;q=0.9", "de"),
        (None, "fr, de;q=0.3, en;q=0.8", "en"),
        (None, "fr, DE;q=0.3", "de"),
        (None, "de;q=0, en;q=0.1", "en"),
        (None, "de;q=much, *", "en"),
        (None, "fr", "en"),
        ("de", "en", "de"),
        ("en", "de", "en"),
        ("fr", "de", "de"),
        ("../../etc", "en", "en"),
    ],
)
def test_what_was_chosen_counts_before_what_the_browser_asks_for(chosen: str | None, accepted: str, code: str) -> None:
    assert wanted(chosen, accepted) == code


async def test_a_page_is_in_the_language_that_the_browser_asks_for_and_says_so(place: Place) -> None:
    visitor = place.visitor()
    for asks, code, heading in ((GERMAN, "de", "Bei Tollhouse anmelden"), (ENGLISH, "en", "Sign in to Tollhouse")):
        page = await visitor.get("/sign-in", accept_language=asks)
        html, title = page.soup.select_one("html"), page.soup.select_one("h1")
        assert html is not None and title is not None
        assert (html["lang"], title.get_text()) == (code, heading)
        assert "Accept-Language" in page.headers["vary"] and "Cookie" in page.headers["vary"]


async def test_requests_at_the_same_time_do_not_mix_their_languages(place: Place) -> None:
    visitor = place.visitor()
    asks = [GERMAN, ENGLISH] * 10
    assert await asyncio.gather(*(spoken(visitor, asks=one) for one in asks)) == ["de", "en"] * 10


# ----------------------------------------------------------------------------------------------------------- the switch


async def test_a_visitor_switches_at_the_foot_of_the_page_and_it_stays_in_the_browser(place: Place) -> None:
    visitor = place.visitor()
    page = await visitor.get("/sign-in?next=/admin", accept_language=ENGLISH)
    form = page.soup.select_one('form[action="/language"]')
    assert form is not None
    assert [one["value"] for one in form.select("button")] == list(LANGUAGES)
    referer = {"referer": place.url + "/sign-in?next=/admin"}
    answer = await visitor.post("/language", {"language": "de", "csrf": page.token}, referer)
    assert (answer.status, answer.headers["location"]) == (303, "/sign-in?next=/admin")
    (cookie,) = [one for one in answer.cookies if "-language=" in one]
    assert "HttpOnly" in cookie and "Max-Age=31536000" in cookie and "SameSite=lax" in cookie
    assert await spoken(visitor) == "de" and await spoken(place.visitor()) == "en"
    assert await choose(visitor, "en") == (303, "/sign-in") and await spoken(visitor, asks=GERMAN) == "en"
    assert await choose(visitor, "") == (303, "/sign-in") and await spoken(visitor, asks=GERMAN) == "de"


async def test_the_switch_takes_only_languages_that_there_are_and_leads_nowhere_else(place: Place) -> None:
    visitor = place.visitor()
    assert (await choose(visitor, "fr"))[0] == (await choose(visitor, "xx"))[0] == 400
    assert await choose(visitor, "de", "https://evil.example/") == (303, "/")
    assert await choose(visitor, "de", "//evil.example/sign-in") == (303, "/sign-in")
    assert await choose(visitor, "de", "//evil.example//other.example") == (303, "/")
    answer = await visitor.post("/language", {"language": "de", "csrf": (await visitor.get("/sign-in")).token})
    assert (answer.status, answer.headers["location"]) == (303, "/"), "a browser that does not say where it was"
    answer = await visitor.post("/language", {"language": "en", "csrf": "made up"})
    assert answer.status == 403 and await spoken(visitor) == "de"


async def test_what_a_person_chose_is_theirs_in_every_browser_and_nobody_elses(place: Place) -> None:
    ada, grace = await place.person("ada@example.com"), await place.person("grace@example.com")
    page = await ada.get("/settings", accept_language=ENGLISH)
    assert page.soup.select_one('option[value=""]') is not None
    assert (await ada.post("/language", {"language": "de", "csrf": page.token})).status == 303
    assert ada.person_id is not None
    begun = await session.begin(
        place.db, place.site, Order("system", clock()), ada.person_id, "link", session.Browser("another browser")
    )
    elsewhere = Visitor(place.url, place.client, {place.site.cookie: begun.cookie})
    assert await spoken(elsewhere, "/settings") == "de" and await spoken(grace, "/settings") == "en"
    chosen = (await elsewhere.get("/settings")).soup.select_one("option[selected]")
    assert chosen is not None and chosen["value"] == "de"
    token = (await elsewhere.get("/settings")).token
    await elsewhere.post("/language", {"language": "", "csrf": token})
    assert await spoken(elsewhere, "/settings") == "en" and await spoken(elsewhere, "/settings", GERMAN) == "de"


async def test_who_acts_as_somebody_else_changes_nothing_of_theirs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages are for who looks at them; the other finds them as they were."""
    ada = await place.person("ada@example.com")
    operator = await place.person("op@example.com")
    assert ada.person_id is not None and operator.person_id is not None
    await place.change("UPDATE person SET language = 'de' WHERE id = %s", ada.person_id)
    assert await spoken(ada, "/settings/security") == "de"
    found = await session.find(place.db, place.site.keyring, "test", ada.cookies[place.site.cookie], clock())
    assert isinstance(found, session.Signed) and found.language == "de"
    await place.change("UPDATE person SET superadmin = true WHERE id = %s", operator.person_id)
    await place.change(
        """UPDATE session SET method = 'impersonation', impersonator_id = %s, impersonation_reason = 'They asked us to',
               impersonator_session_id = (SELECT id FROM session WHERE person_id = %s) WHERE person_id = %s""",
        operator.person_id, operator.person_id, ada.person_id,
    )  # fmt: skip
    acting = await session.find(place.db, place.site.keyring, "test", ada.cookies[place.site.cookie], clock())
    assert isinstance(acting, session.Signed) and isinstance(acting.impersonator, Impersonator)
    assert await spoken(ada, "/organizations") == "en"
    token = (await ada.get("/organizations")).token
    assert (await ada.post("/language", {"language": "en", "csrf": token})).status == 303
    async with place.db.person(ada.person_id) as tx:
        cursor = await tx.execute("SELECT language FROM person WHERE id = %s", (ada.person_id,))
        assert await cursor.fetchone() == ("de",)


# ------------------------------------------------------------------------------------------------------------ all of it


async def test_parts_forms_words_and_refusals_are_in_the_language_too(place: Place) -> None:
    ada = await place.person("ada@example.com")
    part = await ada.get("/settings/privacy", accept_language=GERMAN, hx_request="true")
    assert "Datenschutz" in part.text or "bestellt" in part.text
    lost = await ada.get("/nowhere", accept_language=GERMAN)
    assert lost.status == 404 and "Hier gibt es nichts" in lost.text and "There is no page" not in lost.text
    plain = await ada.ask("GET", "/nowhere", {"accept": "*/*", "accept-language": GERMAN})
    assert "Unter dieser Adresse gibt es keine Seite" in plain.text
    token = (await ada.get("/settings")).token
    wrong = await ada.ask("POST", "/settings", {"accept-language": GERMAN}, data={"name": "x" * 300, "csrf": token})
    assert wrong.status == 422 and "Das ist länger als 200 Zeichen" in wrong.text
    saved = await ada.ask("POST", "/settings", {"accept-language": GERMAN}, data={"name": "Ada", "csrf": token})
    assert saved.status == 303 and "Ihr Name ist gespeichert." in (await ada.get("/settings")).text


async def test_what_rules_refuse_with_is_in_the_language_too_with_its_figures(place: Place) -> None:
    visitor = place.visitor()
    form = {"email": "ada@example.com", "password": "short", "csrf": (await visitor.get("/sign-up")).token}
    short = await visitor.ask("POST", "/sign-up", {"accept-language": GERMAN}, data=form)
    assert "Ein Passwort hat mindestens 10 Zeichen" in short.text and "A password has" not in short.text
    wrong = await visitor.ask("POST", "/sign-in", {"accept-language": GERMAN}, data=form)
    assert "Die E-Mail-Adresse oder das Passwort stimmt nicht." in wrong.text
    with speaking("de"):
        assert language.refusal(NotFound("Nobody translated this.")) == "Nobody translated this."
        assert language.refusal("100 %(name)s") == "100 %(name)s"
    assert language.refusal(NotFound("There is no such person.")) == "There is no such person."


def test_every_text_is_translated_and_nothing_else_is() -> None:
    done = subprocess.run([sys.executable, ROOT / "locale" / "check.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_texts_take_values_and_numbers_of_things() -> None:
    assert (_("Open %(name)s", name="100 %"), _("Save")) == ("Open 100 %", "Save")
    assert [ngettext("%(num)s model", "%(num)s models", n) for n in (0, 1, 2)] == ["0 models", "1 model", "2 models"]
    with speaking("de"):
        assert (_("Open %(name)s", name="100 %"), _("Save")) == ("100 % öffnen", "Speichern")
        assert [ngettext("%(num)s model", "%(num)s models", n) for n in (0, 1)] == ["0 Modelle", "1 Modell"]
        assert _("What nobody translated") == "What nobody translated"
        assert (language.pgettext("state", "Open"), language.gettext("")) == ("Offen", "")


def test_days_numbers_and_money_are_written_as_the_language_does() -> None:
    written = [
        figure.day(NOON), figure.minute(NOON), figure.number(1234567), figure.number(0.125, 2),
        figure.credits(1_234_567_890), figure.credits(-15_000, 2), figure.cents(499), figure.nanos(1_230_000),
    ]  # fmt: skip
    assert written == [
        "3 Sep 2026", "3 Sep 2026, 12:05 UTC", "1,234,567", "0.12", "1,234.56789", "-0.02", "$4.99", "$0.00123",
    ]  # fmt: skip
    with speaking("de"):
        written = [figure.day(NOON), figure.number(1234567), figure.credits(1_500_000), figure.cents(499)]
        assert written == ["3. Sept. 2026", "1.234.567", "1,5", "4,99\xa0$"]


async def test_german_pages_fit_on_a_phone_and_are_accessible(place: Place, window: Window) -> None:
    ada = await place.person("ada@example.com")
    cookies = {**ada.cookies, f"{place.site.cookie}-language": "de"}
    page = await window(place.url + "/settings", PHONE, cookies=cookies)
    found = {}
    for path in ("/settings", "/settings/security", "/admin", "/admin/keys/new", "/admin/settings", "/organizations"):
        await page.goto(place.url + path)
        assert await page.get_attribute("html", "lang") == "de"
        found[path] = await faults(page)
    visitor = await window(place.url + "/", PHONE, cookies={f"{place.site.cookie}-language": "de"})
    for path in ("/", "/sign-in", "/sign-up", "/forgot-password"):
        await visitor.goto(place.url + path)
        found[path] = await faults(visitor)
    assert {path: fault for path, fault in found.items() if fault} == {}

"""The door to every page: who may come in, what may be sent, and what is said to everybody else."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
from starlette.responses import PlainTextResponse, Response

from tests.web.serving import Place, serving
from tollhouse.core.errors import Overloaded
from tollhouse.web import PAGES, forms
from tollhouse.web.asset import Assets
from tollhouse.web.forms import Field
from tollhouse.web.page import CONTENT_SECURITY_POLICY
from tollhouse.web.route import ANYONE, HELD, SIGNED_IN, SUPERADMIN, Access, page
from tollhouse.web.visit import Visit

FIELDS = (
    Field("email", most=60),
    Field("password", secret=True),
    Field("agree", required=False),
    Field("tags", required=False, many=True),
)
TYPED = {"email": "ada@example.com", "password": "a long password"}
SECRET_OF_A_FAULT = "the inner life of a page"


async def says(visit: Visit) -> Response:
    return PlainTextResponse("come in")


async def asks(visit: Visit) -> Response:
    return visit.page("design/bare.html", form=forms.blank(FIELDS))


async def takes(visit: Visit) -> Response:
    form = visit.form(*FIELDS)
    if not form.ok:
        return visit.page("design/bare.html", 422, form=form)
    return visit.go("/form", told=f"Welcome, {form['email']}: {', '.join(form.all('tags'))}.")


async def fails(visit: Visit) -> Response:
    raise RuntimeError(SECRET_OF_A_FAULT)


async def refuses(visit: Visit) -> Response:
    raise Overloaded("The database is away. Try again.")


TABLE = (
    page("/open", says, needs=ANYONE),
    page("/mine", says, ("GET", "POST"), needs=SIGNED_IN),
    page("/things/{thing}", says, needs=SIGNED_IN),
    page("/keys", says, needs="keys.manage"),
    page("/ops", says, needs=SUPERADMIN),
    page("/sign-in/code", says, needs=HELD),
    page("/form", asks, needs=ANYONE),
    page("/form", takes, ("POST",), needs=ANYONE),
    page("/fails", fails, needs=ANYONE),
    page("/refuses", refuses, needs=ANYONE),
)


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with serving(database_url, TABLE) as made:
        yield made


# ------------------------------------------------------------------------------------------------------------ the table


def test_every_page_has_a_policy_and_every_path_stands_once() -> None:
    for row in PAGES:
        assert isinstance(row.needs, Access | str), row
    rows = [(row.path, method) for row in PAGES for method in row.methods]
    assert len(rows) == len(set(rows))
    paths = [row.path for row in PAGES]
    assert all(paths.index(path) + paths.count(path) > at for at, path in enumerate(paths)), "rows of a path lie apart"


# ------------------------------------------------------------------------------------------------------ who may come in


async def test_a_visitor_sees_what_is_open_and_is_sent_to_sign_in_for_the_rest(place: Place) -> None:
    visitor = place.visitor()
    assert (await visitor.get("/open")).status == 200
    for path, wanted in {
        "/mine": "%2Fmine",
        "/mine?tab=2&q=a": "%2Fmine%3Ftab%3D2%26q%3Da",
        "/keys": "%2Fkeys",
        "/ops": "%2Fops",
    }.items():
        answer = await visitor.get(path)
        assert (answer.status, answer.headers["location"]) == (303, f"/sign-in?next={wanted}")


async def test_no_page_that_is_asked_for_sends_browsers_elsewhere_after_signing_in(place: Place) -> None:
    """What browsers would take for another host is written so that they do not, or comes back as the home page."""
    for path, wanted in {
        "/things/%5C%5Cevil.example": "/things/%5C%5Cevil.example",
        "/things/%C3%A9": "/things/%C3%A9",
        "/things/x?next=%0d%0aSet-Cookie:a": "/things/x?next=%0d%0aSet-Cookie:a",
        "/things/" + "x" * 2000: "/",
    }.items():
        answer = await place.visitor().get(path)
        assert answer.headers["location"] == "/sign-in?next=" + quote(wanted, safe="")
    answer = await place.visitor().get("/mine", hx_request="true", hx_current_url="https://evil.example//evil.example")
    assert (answer.status, answer.headers["hx-redirect"]) == (200, "/sign-in?next=%2F")


async def test_a_form_of_a_session_that_has_ended_leads_back_to_its_page(place: Place) -> None:
    visitor = place.visitor()
    answer = await visitor.post("/mine", {}, {"hx-request": "true", "hx-current-url": place.url + "/mine"})
    assert (answer.status, answer.headers["hx-redirect"]) == (200, "/sign-in?next=%2Fmine")
    answer = await visitor.post("/mine", {})
    assert (answer.status, answer.headers["location"]) == (303, "/sign-in?next=%2F")


async def test_roles_open_what_they_may_and_the_refusal_names_who_may(place: Place) -> None:
    statuses = {}
    for role in ("owner", "admin", "member"):
        visitor = await place.in_a_team(f"{role}@example.com", role)
        statuses[role] = [(await visitor.get(path)).status for path in ("/open", "/mine", "/keys", "/ops")]
        if role == "member":
            answer = await visitor.get("/keys")
            assert "Your role here is member, and this needs: admin or owner" in answer.soup.get_text()
    assert statuses == {"owner": [200, 200, 200, 404], "admin": [200, 200, 200, 404], "member": [200, 200, 403, 404]}


async def test_only_superadmins_learn_that_a_page_of_theirs_is_there(place: Place) -> None:
    visitor = await place.person("ada@example.com")
    there, nowhere = await visitor.get("/ops"), await visitor.get("/nowhere")
    assert there.status == nowhere.status == 404
    assert there.soup.find("main").get_text()[:80] == nowhere.soup.find("main").get_text()[:80]  # type: ignore[union-attr]
    await place.change("UPDATE person SET superadmin = true WHERE id = %s", visitor.person_id)
    assert (await visitor.get("/ops")).status == 200


async def test_a_suspended_person_is_nobody_and_a_suspended_organisation_opens_nothing(place: Place) -> None:
    visitor = await place.in_a_team("ada@example.com", "owner")
    await place.change("UPDATE organization SET suspended_at = now() WHERE name = 'Mill'")
    answer = await visitor.get("/keys")
    assert (answer.status, "Mill is suspended" in answer.text) == (403, True)
    assert (await visitor.get("/mine")).status == 200
    await place.change("UPDATE person SET suspended_at = now() WHERE id = %s", visitor.person_id)
    answer = await visitor.get("/mine")
    assert (answer.status, answer.headers["location"]) == (303, "/sign-in?next=%2Fmine")
    assert (await visitor.get("/sign-in/code")).status == 200


async def test_who_awaits_a_code_is_led_to_it_and_nobody_else_is(place: Place) -> None:
    visitor = await place.person("ada@example.com")
    assert (await visitor.get("/sign-in/code")).headers["location"] == "/"
    assert (await place.visitor().get("/sign-in/code")).headers["location"] == "/"
    await place.change(
        "INSERT INTO totp (person_id, secret, confirmed_at, created_at) VALUES (%s, %s, now(), now())",
        visitor.person_id,
        b"sealed",
    )
    answer = await visitor.get("/mine")
    assert (answer.status, answer.headers["location"]) == (303, "/sign-in/code?next=%2Fmine")
    assert (await visitor.get("/sign-in/code")).status == 200


async def test_a_cookie_that_is_nobodys_is_left_alone(place: Place) -> None:
    """A session's cookie is replaced while others of its requests are on their way."""
    visitor = place.visitor()
    for cookie in ("A" * 43, "x", '"', "a" * 4000):
        visitor.cookies = {place.site.cookie: cookie}
        answer = await visitor.get("/mine")
        assert answer.status == 303 and answer.cookies == []


# --------------------------------------------------------------------------------------------------------------- forms


async def test_a_form_of_ours_is_taken_and_its_word_is_shown_once(place: Place) -> None:
    visitor = place.visitor()
    token = (await visitor.get("/form")).token
    answer = await visitor.post("/form", {**TYPED, "csrf": token})
    assert (answer.status, answer.headers["location"]) == (303, "/form")
    assert "Welcome, ada@example.com" in (await visitor.get("/form")).soup.select_one("#toaster").get_text()  # type: ignore[union-attr]
    assert "Welcome, ada" not in (await visitor.get("/form")).text


async def test_a_form_without_our_token_is_refused(place: Place) -> None:
    ours, other, signed = place.visitor(), place.visitor(), await place.person("ada@example.com")
    tokens = [(await one.get("/form")).token for one in (ours, other, signed)]
    assert len(set(tokens)) == 3
    for one, allowed in ((ours, 0), (other, 1), (signed, 2)):
        for number, token in enumerate(tokens):
            answer = await one.post("/form", {**TYPED, "csrf": token})
            assert answer.status == (303 if number == allowed else 403), (number, allowed)
        for token in ("", "x", tokens[allowed][:-1] + "?", tokens[allowed] + "a", "é"):
            answer = await one.post("/form", {**TYPED, "csrf": token})
            assert (answer.status, "Reload it and send again" in answer.text) == (403, True), token
    assert (await place.visitor().post("/form", {**TYPED, "csrf": tokens[0]})).status == 403


async def test_the_token_may_come_in_a_header_for_parts_of_pages(place: Place) -> None:
    visitor = place.visitor()
    token = (await visitor.get("/form")).token
    assert (await visitor.post("/form", TYPED, {"x-csrf-token": token, "hx-request": "true"})).status == 200
    assert (await visitor.post("/form", TYPED, {"x-csrf-token": "x", "hx-request": "true"})).status == 403


async def test_the_cookie_of_a_visitor_is_ours_or_none(place: Place) -> None:
    """A cookie that somebody else set, from a neighbouring host, ties no token."""
    visitor = place.visitor()
    token = (await visitor.get("/form")).token
    ((name, value),) = visitor.cookies.items()
    forged = base64.urlsafe_b64encode(b"chosen by somebody").decode().rstrip("=")
    for cookie in (forged + value[value.index(".") :], value[:-1] + "~", forged, "", "."):
        visitor.cookies = {name: cookie}
        assert (await visitor.post("/form", {**TYPED, "csrf": token})).status == 403
    visitor.cookies = {name: value}
    assert (await visitor.post("/form", {**TYPED, "csrf": token})).status == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": ""},
        {"sec-fetch-site": "", "origin": "null"},
        {"sec-fetch-site": "", "origin": "https://evil.example"},
    ],
)
async def test_a_form_of_another_site_is_refused_with_every_token(place: Place, headers: dict[str, str]) -> None:
    visitor = place.visitor()
    token = (await visitor.get("/form")).token
    answer = await visitor.post("/form", {**TYPED, "csrf": token}, headers)
    assert (answer.status, "was not sent from a page of" in answer.text) == (403, True)


async def test_a_browser_that_tells_only_the_origin_may_send_forms(place: Place) -> None:
    visitor = place.visitor()
    token = (await visitor.get("/form")).token
    headers = {"sec-fetch-site": "", "origin": place.url}
    assert (await visitor.post("/form", {**TYPED, "csrf": token}, headers)).status == 303


async def test_what_was_typed_stays_but_no_secret_and_the_fault_stands_at_its_field(place: Place) -> None:
    visitor = place.visitor()
    token = (await visitor.get("/form")).token
    typed = {"email": "x" * 61, "password": "never shown again", "agree": "yes", "csrf": token}
    answer = await visitor.post("/form", typed)
    assert answer.status == 422 and "never shown again" not in answer.text
    email = answer.soup.select_one("#field-email")
    assert email is not None and (email["value"], email["aria-invalid"]) == ("x" * 61, "true")
    told = answer.soup.find(id=str(email["aria-describedby"]))
    assert told is not None and "longer than 60 characters" in told.get_text()
    assert answer.soup.select_one("#field-agree-yes").has_attr("checked")  # type: ignore[union-attr]
    answer = await visitor.post("/form", {"csrf": token})
    assert answer.status == 422 and answer.text.count("Fill this in.") == 2


async def test_what_is_typed_is_text_in_the_page(place: Place) -> None:
    visitor = place.visitor()
    token = (await visitor.get("/form")).token
    answer = await visitor.post("/form", {"email": '"><img src=x onerror=alert(1)>', "csrf": token})
    assert answer.status == 422 and answer.soup.find("img") is None
    assert "onerror" in str(answer.soup.select_one("#field-email")["value"])  # type: ignore[index]


async def test_forms_have_bounds(place: Place) -> None:
    visitor = place.visitor()
    token = (await visitor.get("/form")).token
    plain = {"content-type": "application/x-www-form-urlencoded"}
    many = "&".join(f"tags={number}" for number in range(201))
    for data, headers, status in (
        ("email=" + "x" * forms.BODY_MAX, plain, 413),
        (many, plain, 413),
        ("email=%FF", plain, 400),
        (b"email=\xff", plain, 400),
        ("{}", {"content-type": "application/json"}, 415),
        ("email=a", {"content-type": "text/plain"}, 415),
        (f"csrf={token}&email=a&email=b", plain, 400),
        (f"csrf={token}&email=a&role=owner", plain, 400),
        (f"csrf={token}&email=a%00&password=a", plain, 422),
        (f"csrf={token}&email=a%0Ab&password=a", plain, 422),
        (f"csrf={token}&email=a&password=a&tags=1&tags=2", plain, 303),
    ):
        assert (await visitor.post("/form", data, headers)).status == status, str(data)[:80]


async def test_a_word_for_the_next_page_that_we_did_not_write_is_not_shown(place: Place) -> None:
    visitor = place.visitor()
    said = base64.urlsafe_b64encode(b"success Send your password to evil.example").decode().rstrip("=")
    visitor.cookies = {f"{place.site.cookie}-told": f"{said}.{'A' * 43}"}
    assert "evil.example" not in (await visitor.get("/form")).text


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/nowhere", 404, "There is no page at this address"),
        ("GET", "/open%0A", 404, "There is no page at this address"),
        ("PUT", "/open", 405, "cannot be asked for like this"),
        ("GET", "/fails", 500, "Something went wrong on our side"),
        ("GET", "/refuses", 503, "The database is away"),
    ],
)
async def test_a_refusal_is_a_page_a_part_or_plain_text(
    place: Place, method: str, path: str, status: int, words: str
) -> None:
    visitor = place.visitor()
    whole = await visitor.ask(method, path)
    part = await visitor.ask(method, path, {"hx-request": "true"})
    plain = await visitor.ask(method, path, {"accept": "*/*"})
    assert (whole.status, part.status, plain.status) == (status, status, status)
    assert words in whole.soup.select_one("main").get_text()  # type: ignore[union-attr]
    assert whole.headers["x-request-id"] in whole.text
    assert part.soup.find("html") is None and words in part.soup.select_one('[role="alert"]').get_text()  # type: ignore[union-attr]
    assert plain.headers["content-type"].startswith("text/plain") and words in plain.text
    for answer in (whole, part, plain):
        assert SECRET_OF_A_FAULT not in answer.text and "Traceback" not in answer.text
    assert whole.headers.get("allow") == ("GET" if status == 405 else None)
    assert whole.headers.get("retry-after") == ("1" if status == 503 else None)


# -------------------------------------------------------------------------------------------------------------- headers


async def test_every_answer_says_what_the_browser_may_not_do(place: Place) -> None:
    visitor = place.visitor()
    static = Assets()["app.css"].url
    for path in ("/open", "/mine", "/form", "/nowhere", "/fails", static):
        headers = (await visitor.get(path)).headers
        assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert "camera=()" in headers["permissions-policy"]
        assert "strict-transport-security" not in headers
        assert ("no-store" in headers["cache-control"]) == (path != static)
    assert "unsafe" not in CONTENT_SECURITY_POLICY and "*" not in CONTENT_SECURITY_POLICY


async def test_over_tls_cookies_are_for_tls_and_this_host_alone(database_url: str) -> None:
    async with serving(database_url, TABLE, origin="https://ai.example.com") as place:
        visitor = place.visitor()
        answer = await visitor.get("/form")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        (cookie,) = answer.cookies
        name, _, rest = cookie.partition("=")
        assert name == "__Host-tollhouse-visitor" and "Domain" not in rest
        assert {part.strip().lower() for part in rest.split(";")[1:]} == {
            "httponly",
            "path=/",
            "samesite=lax",
            "secure",
        }
        headers = {"sec-fetch-site": "", "origin": "https://ai.example.com"}
        assert (await visitor.post("/form", {**TYPED, "csrf": answer.token}, headers)).status == 303


async def test_pages_without_a_form_leave_no_cookie(place: Place) -> None:
    assert (await place.visitor().get("/open")).cookies == []


async def test_head_is_answered_like_get_without_a_body(place: Place) -> None:
    visitor = place.visitor()
    head, got = await visitor.ask("HEAD", "/open"), await visitor.get("/open")
    assert (head.status, head.text, head.headers["content-length"]) == (200, "", got.headers["content-length"])


# -------------------------------------------------------------------------------------------------- what we really have


async def test_the_first_page_is_html_for_browsers_and_text_for_programs(database_url: str) -> None:
    async with serving(database_url) as place:
        visitor = place.visitor()
        page = await visitor.get("/")
        assert (
            page.status == 200
            and page.soup.select_one('a[href="/sign-in"]')
            and page.soup.select_one('a[href="/sign-up"]')
        )
        text = await visitor.get("/", accept="*/*")
        assert text.headers["content-type"].startswith("text/plain") and "POST /v1/chat/completions" in text.text
        signed = await place.person("ada@example.com")
        assert (await signed.get("/")).headers["location"] == "/chat"
        assert (await signed.get("/chat")).status == 200
        assert (await signed.get("/", accept="*/*")).headers["content-type"].startswith("text/plain")


async def test_who_must_be_invited_is_not_asked_to_sign_up(database_url: str) -> None:
    async with serving(database_url, sign_up="invited") as place:
        assert (await place.visitor().get("/")).soup.select_one('a[href="/sign-up"]') is None


async def test_the_design_is_shown_in_test_mode_only(database_url: str) -> None:
    async with serving(database_url, mode="live") as place:
        for path in ("/design", "/design/bare"):
            assert (await place.visitor().get(path)).status == 404
    async with serving(database_url) as place:
        for path in ("/design", "/design/bare"):
            assert (await place.visitor().get(path)).status == 200

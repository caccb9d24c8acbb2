"""What no client of ours would send: keys, tokens, cookies, heads, paths, queries and forms that are made to break in
or to break something. Nobody is let in, nothing of anybody is told, no mistake of ours is met, and nobody is sent to
another site."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import quote, urlencode
from uuid import uuid4

import pytest
import pytest_asyncio
from bs4 import BeautifulSoup

from tests.carriers import Carriers, carriers
from tests.conftest import Cluster, SeededTemplate
from tests.flows.doorway import ADA, PASSWORD, Doorway
from tests.house import House, Tenant, fresh_house
from tests.security import forged
from tests.security.wire import ELSEWHERE, Line, Seen, assert_harmless, is_local, send
from tollhouse import web

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "Canary of the other mill"
GUARDED = (
    b"/api/credits/balance",
    b"/api/keys",
    b"/api/audit",
    b"/api/operator/organizations",
    b"/v1/models",
    b"/v1/key",
)
NUMBERS = random.Random(5)


@dataclass(frozen=True, slots=True)
class Scene:
    """`tenant` has a key with every scope; in `others` each name is the canary, and so is what their people wrote."""

    house: House
    cast: Carriers
    tenant: Tenant
    others: Tenant
    others_cookie: str

    async def ask(self, target: bytes, *headers: Line, body: bytes = b"", method: bytes = b"GET") -> Seen:
        """Whatever it is: it does no harm."""
        seen = await send(self.house, target, headers, body, method)
        assert_harmless(seen, (method, target[:200], headers), CANARY)
        return seen

    async def ask_as(self, key: str, target: bytes, *, allow_canary: bool) -> Seen:
        """With a key; operators see everybody's names."""
        seen = await send(self.house, target, [(b"x-api-key", key.encode())])
        assert_harmless(seen, target[:200], *(() if allow_canary else (CANARY,)))
        return seen

    async def nobody_gets_in(self, *headers: Line) -> None:
        for target in GUARDED:
            seen = await self.ask(target, *headers)
            assert seen.status in (400, 401, 403, 431), (target, headers, seen.status, seen.body[:200])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Scene]:
    proxied = {
        "TOLLHOUSE_TRUSTED_PROXIES": "127.0.0.1", "TOLLHOUSE_PUBLIC_URL": "http://tollhouse.test",
        "TOLLHOUSE_ALLOW_PRIVATE_PROVIDERS": "true",
    }  # fmt: skip
    async with (
        fresh_house(cluster, seeded_template, 1, **proxied) as house,
        carriers(house.database_url, "http://tollhouse.test") as cast,
    ):
        scopes = ("gateway", "credits", "act_as", "manage")
        tenant, others = [await house.organization(scopes=scopes) for _ in range(2)]
        await house.change("UPDATE organization SET name = %s WHERE id = %s", CANARY, others.id)
        await house.change("UPDATE api_key SET name = %s WHERE organization_id = %s", CANARY, others.id)
        person = await cast.member(others.id, "owner")
        yield Scene(house, cast, tenant, others, await cast.session(person, others.id))


def bent(secret: str) -> list[bytes]:
    """Nearly the secret: each differs from it in what a careless comparison would pass over."""
    whole = secret.encode()
    flipped = []
    for _ in range(12):
        at = NUMBERS.randrange(8, len(whole))
        flipped.append(whole[:at] + bytes([whole[at] ^ NUMBERS.choice((1, 2, 4, 32))]) + whole[at + 1 :])
    return [
        whole[:-1], whole[1:], whole + b"A", b"A" + whole, whole * 2, whole + b" " + whole, whole + b"," + whole,
        whole.swapcase(), whole.upper(), whole.lower(), b'"' + whole + b'"', b"'" + whole + b"'", b"<" + whole + b">",
        whole + b"%00", whole + b"\\0", whole + b"\xc2\xa0", b"\xef\xbb\xbf" + whole,
        whole.replace(b"t", b"\xef\xbd\x94"), whole + b"' OR '1'='1", b"%", b"*", b"null", b"undefined", b"true", b"0",
        b"[]", b"{}", b"-", b"\xff" * 44, base64.b64encode(whole), base64.b64encode(whole + b":"),
        quote(secret[::-1]).encode(), b"x" * 16_000, *flipped,
    ]  # fmt: skip


async def test_a_key_that_is_nearly_right_lets_nobody_in(scene: Scene) -> None:
    key = scene.others.key
    for credential in bent(key):
        if credential != key.encode():
            await scene.nobody_gets_in((b"authorization", b"Bearer " + credential))
            await scene.nobody_gets_in((b"x-api-key", credential))


async def test_a_key_in_the_wrong_place_lets_nobody_in(scene: Scene) -> None:
    key = scene.others.key.encode()
    basic = base64.b64encode(b"user:" + key)
    for name, value in (
        (b"authorization", key), (b"authorization", b"Basic " + basic), (b"authorization", b"Bearer:" + key),
        (b"authorization", b"Bearer\t" + key), (b"authorization", b"Bearer=" + key),
        (b"authorization", b"Token " + key), (b"authorization", b"Bearer Bearer " + key),
        (b"authorization", b"Bearer\xc2\xa0" + key), (b"proxy-authorization", b"Bearer " + key), (b"api-key", key),
        (b"x-goog-api-key", key), (b"x_api_key", key), (b"cookie", b"authorization=" + key),
        (b"cookie", b"tollhouse=" + key), (b"x-api-key", b"Bearer " + key), (b"forwarded", b"for=" + key),
        (b"x-forwarded-authorization", b"Bearer " + key), (b"x-tollhouse-user", key),
    ):  # fmt: skip
        await scene.nobody_gets_in((name, value))
    for target in GUARDED:
        for parameter in (b"key", b"api_key", b"access_token", b"token", b"authorization"):
            assert (await scene.ask(target + b"?" + parameter + b"=" + key)).status in (400, 401)


async def test_of_two_credentials_the_stranger_is_not_believed(scene: Scene) -> None:
    mine, theirs = scene.tenant.key.encode(), scene.others.key.encode()
    for pair in (
        ((b"authorization", b"Bearer " + mine), (b"x-api-key", theirs)),
        ((b"x-api-key", mine), (b"x-api-key", theirs)),
        ((b"authorization", b"Bearer " + mine), (b"authorization", b"Bearer " + theirs)),
        ((b"authorization", b"Bearer " + theirs + b", Bearer " + mine),),
    ):
        await scene.nobody_gets_in(*pair)
        await scene.nobody_gets_in(*reversed(pair))


async def test_a_cookie_that_is_nearly_right_lets_nobody_in(scene: Scene) -> None:
    name, ours = scene.cast.site.cookie.encode(), (b"sec-fetch-site", b"same-origin")
    whole = scene.others_cookie.encode()
    assert (await send(scene.house, b"/api/members", [(b"cookie", name + b"=" + whole), ours])).status == 200
    cookies = [name + b"=" + one for one in bent(scene.others_cookie) if one.strip() != whole and b"," not in one]
    cookies += [
        name.upper() + b"=" + whole, name + b"2=" + whole, b"x" + name + b"=" + whole, b"__Host-" + name + b"=" + whole,
        name + b"[]=" + whole, b'"' + name + b'"=' + whole, name + b"=a; " + name + b"=" + whole,
        name + b"=; " + name + b"=" + whole, b"$Version=1; " + name + b'="' + whole + b'"', b"=" + whole, b";" * 5000,
        b"; ".join(b"c%d=%d" % (n, n) for n in range(2000)), name + b"==" + whole, name + b"=" + whole + b"\x01",
    ]  # fmt: skip
    for cookie in cookies:
        seen = await send(scene.house, b"/api/members", [(b"cookie", cookie), ours])
        assert_harmless(seen, cookie[:200], CANARY)
        assert seen.status in (400, 401, 431), (cookie[:200], seen.status)
        page = await scene.ask(b"/", (b"cookie", cookie), (b"accept", b"text/html"))
        assert page.status in (200, 400, 431)


async def test_a_token_that_is_forged_lets_nobody_in(scene: Scene) -> None:
    issuer, other = await scene.cast.issuer(scene.others.id), await scene.cast.issuer(scene.tenant.id)
    seen = await send(scene.house, b"/v1/models", [(b"authorization", b"Bearer " + issuer.token("ada").encode())])
    assert seen.status == 200, seen.body  # so the issuer is trusted and its keys are had
    for what, token in forged.tokens(issuer, other):
        for target in (b"/v1/models", b"/api/credits/balance"):
            seen = await scene.ask(target, (b"authorization", b"Bearer " + token))
            assert seen.status == 401, (what, seen.status, seen.body[:200])


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example", b"tollhouse.test@evil.example", b"tollhouse.test:80@evil.example", b"evil.example:99999", b"",
        b" ", b"a b", b"[::1", b"[::1]:x", b"evil.example/", b"evil.example?", b"evil.example#", b"%65vil.example",
        b"<script>", b"evil.example\xff", b"../..", b"evil.example,tollhouse.test", b"tollhouse.test:0", b"x" * 300,
    ],
)  # fmt: skip
async def test_a_host_header_leads_nobody_astray(scene: Scene, host: bytes) -> None:
    for target in (b"/", b"/sign-in", b"/sign-up", b"/settings", b"/api/keys", b"/v1/models", b"/nowhere", b"/design"):
        seen = await scene.ask(target, (b"host", host), (b"accept", b"text/html"))
        assert ELSEWHERE not in seen.whole
    absolute = await scene.ask(b"http://evil.example/sign-in", (b"accept", b"text/html"))
    assert ELSEWHERE not in absolute.whole


@pytest.mark.parametrize(
    "header",
    [
        (b"x-forwarded-host", b"evil.example"), (b"x-forwarded-proto", b"evil"),
        (b"x-forwarded-prefix", b"//evil.example"), (b"forwarded", b"for=1.2.3.4;host=evil.example;proto=https"),
        (b"x-original-url", b"/api/keys"), (b"x-rewrite-url", b"/api/keys"), (b"x-host", b"evil.example"),
        (b"x-http-host-override", b"evil.example"), (b"x-forwarded-server", b"evil.example"),
        (b"x-forwarded-port", b"99"), (b"x-original-host", b"evil.example"), (b"x-script-name", b"/evil"),
        (b"x-real-ip", b"127.0.0.1"), (b"true-client-ip", b"127.0.0.1"), (b"x-forwarded-user", b"admin"),
        (b"x-remote-user", b"admin"), (b"remote-user", b"admin"), (b"x-tollhouse-user", b"admin"),
        (b"x-organization-id", b"00000000-0000-0000-0000-000000000001"),
    ],
)  # fmt: skip
async def test_headers_of_proxies_change_nothing(scene: Scene, header: Line) -> None:
    def said(seen: Seen) -> tuple[int, bytes | None, bytes]:
        changing = re.compile(rb"[0-9a-f]{8}-[0-9a-f-]{27}|value=\"[^\"]*\"")
        return seen.status, seen.header(b"location"), changing.sub(b"", seen.body)

    for target in (b"/", b"/sign-in", b"/settings", b"/api/keys", b"/v1/models", b"/api/operator/people", b"/nowhere"):
        with_it = await scene.ask(target, header, (b"accept", b"text/html"))
        assert said(with_it) == said(await scene.ask(target, (b"accept", b"text/html")))
        assert ELSEWHERE not in with_it.whole


@pytest.mark.parametrize(
    "value",
    [
        b"", b",", b",,,,", b"unknown", b"_hidden", b"127.0.0.1", b"::ffff:127.0.0.1", b"[::1]:80", b"::1%25eth0",
        b"1.2.3.4:99999", b"999.1.1.1", b"0x7f.1", b"1.2.3.4, evil, 5.6.7.8", b"' OR 1=1", b"\xff\xfe",
        b"1.2.3.4," * 900, b"<script>alert(1)</script>", b"1.2.3.4\x01",
    ],
)  # fmt: skip
async def test_a_chain_of_proxies_that_is_made_up_breaks_nothing(scene: Scene, value: bytes) -> None:
    """Each is used for what counts by address and writes addresses down: a key nobody knows, and a session."""
    for target in (b"/api/keys", b"/v1/models", b"/sign-in"):
        await scene.ask(target, (b"x-forwarded-for", value), (b"x-api-key", b"sk-" + uuid4().hex.encode()))
    seen = await scene.ask(b"/api/keys", (b"x-forwarded-for", value), (b"x-api-key", scene.tenant.key.encode()))
    assert seen.status in (200, 400)


QUERIES = [
    b"%", b"%zz", b"%00", b"a%00=b", b"limit=%00", b"cursor=%00", b"%ff", b"cursor=%ff", b"cursor=%ed%a0%80", b"=",
    b"==", b"&", b"&&&=&", b"[]=1", b"limit[]=1", b"limit=1&limit=2", b"cursor=a&cursor=b", b"limit=-1", b"limit=0",
    b"limit=1e9", b"limit=99999999999999999999999999", b"limit=NaN", b"limit=Infinity", b"limit=0x10", b"limit=%D9%A3",
    b"limit=1;limit=2", b"limit=true", b"limit= 1", b"limit=", b"cursor=", b"cursor=" + b"A" * 8000,
    b"cursor=../../etc/passwd", b"cursor=eyJhIjoxfQ", b"cursor=eyJhIjoxfQ==", b"cursor=bnVsbA", b"cursor=' OR '1'='1",
    b"cursor=%27%3B--", b"q=%25%25%25%25%25%25", b"q=" + b"_" * 4000, b"q=%F0%9F%92%A9", b"q=%5c", b"search=%25",
    b"email=%25", b"since=9999-99-99", b"from=2026-01-01", b"until=-1", b"from=0001-01-01T00:00:00Z",
    b"from=9999-12-31T23:59:59Z", b"organization_id=00000000-0000-0000-0000-000000000000", b"organization_id=%00",
    b"format=../../x", b"format=%00", b"end_user=%00", b"user=%ed%a0%80", b"subject=" + b"a" * 9000,
    b"actor=person:%00", b"action=%00", b"kind=%00", b"&".join(b"p%d=%d" % (n, n) for n in range(1500)), b"a" * 12_000,
    b"_method=DELETE", b"__proto__[x]=1", b"next=//evil.example",
]  # fmt: skip


async def test_a_query_string_breaks_nothing(scene: Scene) -> None:
    document = (await scene.house.call("GET", "/openapi.json")).body
    paths = [path for path, ways in document["paths"].items() if "get" in ways and "{" not in path]
    paths += ["/v1/models", "/v1/key", "/v1/usage"]
    assert len(paths) > 30
    for number, path in enumerate(paths):
        key = scene.house.operator_key if path.startswith("/api/operator/") else scene.tenant.key
        named = [one["name"].encode() for one in document["paths"].get(path, {}).get("get", {}).get("parameters", ())]
        queries = [one for place, one in enumerate(QUERIES) if (place + number) % 4 == 0]
        queries += [name + b"=" + value for name in named for value in (b"%00", b"%ed%a0%80", b"", b"-1", b"x" * 5000)]
        for query in queries:
            await scene.ask_as(key, path.encode() + b"?" + query, allow_canary=path.startswith("/api/operator/"))


async def test_a_name_in_a_path_breaks_nothing(scene: Scene) -> None:
    document = (await scene.house.call("GET", "/openapi.json")).body
    paths = [path for path in document["paths"] if "{" in path]
    assert len(paths) > 30
    for path in paths:
        key = scene.house.operator_key if path.startswith("/api/operator/") else scene.tenant.key
        for name in ("%00", "a%00b", "%ff", "%ed%a0%80", "..", "%2e%2e", "%27", "%25", "-1", "0" * 3000, "%0d%0ax:y"):
            await scene.ask_as(key, re.sub(r"\{\w+\}", name, path).encode(), allow_canary=False)


TRICKS = [
    b"//api/keys", b"/api//keys", b"/api/./keys", b"/api/x/../keys", b"/api/%2e/keys", b"/api/x/%2e%2e/keys",
    b"/API/keys", b"/Api/Keys", b"/api/keys/", b"/api/keys//", b"/api/keys%00", b"/api/keys%0a", b"/api/keys%20",
    b"/api/keys;x=1", b"/api/keys.json", b"/api%2fkeys", b"/api%252fkeys", b"/%61pi/keys", b"/api/ke%79s",
    b"/api\\keys", b"/api/keys%5c", b"/v1/../api/keys", b"/v1/%2e%2e/api/keys", b"/healthz/../api/keys",
    b"/healthz/%2e%2e/api/keys", b"/healthz;/../api/keys", b"/healthz%2f..%2fapi%2fkeys", b"/static/../api/keys",
    b"/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd", b"/static/../../../../etc/passwd", b"/..%2f..%2fetc%2fpasswd",
    b"/static/dist/..%2f..%2f..%2fconfig.py", b"/static/dist/../../config.py", b"/static/%00",
    b"/static/app.css%00.js", b"/static//etc/passwd", b"/\xc0\xae\xc0\xae/api/keys", b"/api/\xff", b"/api/%ff",
    b"/%ed%a0%80", b"/api/keys\xe2\x80\xa8", b"/" + b"a/" * 3000, b"/" + b"%2e%2e/" * 500, b"/api/operator/../keys",
    b"/api/operator%2fpeople", b"/api/%6fperator/people", b"/API/operator/people", b"/api/Operator/people",
    b"/api/operator//people", b"/api/operator/people/", b"/api/operator/./people", b"/operator", b"/Operator",
    b"//operator", b"/operator/", b"/%6fperator", b"/admin", b"/ADMIN", b"//admin", b"/admin%2fkeys",
    b"/admin/..;/admin", b"/.env", b"/.git/config", b"/openapi.json/..", b"*", b"/v1/models/../../api/keys",
    b"/v1/models/%2e%2e%2f%2e%2e%2fapi%2fkeys", b"/v1/models/%00", b"/v1/models/" + b"x" * 6000, b"//evil.example",
    b"//evil.example/%2e%2e", b"/\\evil.example", b"/%5cevil.example", b"/%09/evil.example", b"///evil.example/",
    b"/.//evil.example",
]  # fmt: skip


@pytest.mark.parametrize("target", TRICKS)
async def test_a_path_that_is_written_otherwise_leads_to_nothing_more(scene: Scene, target: bytes) -> None:
    """Nobody gets in; and a key without the scope `operator` gets no further than it does the straight way."""
    nobody = await scene.ask(target)
    assert nobody.status in (303, 400, 401, 404, 405), (target, nobody.status)
    for method in (b"GET", b"POST", b"DELETE"):
        seen = await scene.ask(target, (b"x-api-key", scene.tenant.key.encode()), method=method)
        if b"perator" in target:
            assert seen.status in (303, 400, 401, 403, 404, 405), (target, seen.status)


METHODS = (b"x-http-method-override", b"x-http-method", b"x-method-override", b"_method")


async def test_a_method_is_not_overridden(scene: Scene) -> None:
    made = await scene.house.key(scene.tenant.id, ("credits",))
    target, mine = f"/api/keys/{made['id']}".encode(), (b"x-api-key", scene.tenant.key.encode())
    for header in METHODS:
        for method in (b"GET", b"POST", b"OPTIONS", b"HEAD"):
            await scene.ask(target, mine, (header, b"DELETE"), method=method)
        await scene.ask(target + b"?_method=DELETE", mine)
    body = b"_method=DELETE"
    await scene.ask(target, mine, (b"content-type", b"application/x-www-form-urlencoded"), body=body, method=b"POST")
    for method in (b"TRACE", b"delete", b"Delete", b"PURGE", b"PROPFIND", b"MOVE", b"CONNECT", b"GETDELETE", b"PATCHY"):
        seen = await scene.ask(target, mine, (b"x-canary", b"reflected-canary"), method=method)
        assert seen.status in (400, 404, 405) and b"reflected-canary" not in seen.whole, (method, seen.status)
    kept = await scene.house.call("GET", "/api/credits/balance", headers={"x-api-key": made["key"]})
    assert kept.status == 200


# ---------------------------------------------------------------------------------------------------------------- forms

OURS = ((b"accept", b"text/html"), (b"sec-fetch-site", b"same-origin"))
FORM = (b"content-type", b"application/x-www-form-urlencoded")
NO_FORMS: list[tuple[bytes, bytes]] = [
    (b"multipart/form-data; boundary=x", b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\na@b.c\r\n--x--\r\n'),
    (b"multipart/form-data", b"--\r\n"), (b"application/json", b'{"email":"a@b.c"}'), (b"text/plain", b"email=a@b.c"),
    (b"application/x-www-form-urlencoded-not", b"a=b"), (b"", b"a=b"),
    (FORM[1] + b"; charset=utf-7", b"+ADw-script+AD4-=1"), (FORM[1], b"&".join(b"f%d=1" % n for n in range(201))),
    (FORM[1], b"a=" + b"x" * 65_536), (FORM[1], b"a&" * 20_000), (FORM[1], b"\xff\xfe=\x00"), (FORM[1], b"a=%ff"),
    (FORM[1], b"a=%ed%a0%80"), (FORM[1], b"a=\xed\xa0\x80"), (FORM[1], b"%00=%00"), (FORM[1], b"="), (FORM[1], b"&&&"),
    (FORM[1], b"%"), (FORM[1], b"csrf=a&csrf=b"), (FORM[1], b"csrf=%00"), (FORM[1], b"csrf=" + b"a" * 9000),
    (FORM[1], b"email=a@b.c&email=d@e.f"), (FORM[1], b"email[]=a"), (FORM[1], b"__proto__=1"),
    (FORM[1], b"superadmin=true"),
]  # fmt: skip
EVIL = [
    "", "\0", "a\0b", "\r\nset-cookie: stolen=1", "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>',
    "{{7*7}}", "{% raise %}", "x" * 3_000, "\u202egro.live", "' OR '1'='1", "$(id)", "../../../etc/passwd",
    "a@b.c\nbcc: d@e.f", "a@b.c, d@e.f", "-1", "1e999", "NaN", "99999999999999999999", "//evil.example",
    "https://evil.example/", "javascript:alert(1)", "\ufeff", "\u2028", "%s%s%n",
    "00000000-0000-0000-0000-000000000000", "2026-13-45T99:99", "on",
]  # fmt: skip


async def owner(scene: Scene) -> Line:
    """The cookie of a new owner of the organisation."""
    session = await scene.cast.session(await scene.cast.member(scene.tenant.id, "owner"), scene.tenant.id)
    return b"cookie", f"{scene.cast.site.cookie}={session}".encode()


def places(method: str) -> list[str]:
    """The pages whose path is always the same."""
    return [row.path for row in web.PAGES if method in row.methods and "{" not in row.path]


async def test_what_is_no_form_breaks_nothing(scene: Scene) -> None:
    cookie = await owner(scene)
    for path in places("POST"):
        for kind, body in NO_FORMS:
            for who in ((), (cookie,)):
                headers = [*OURS, *who, *([(b"content-type", kind)] if kind else [])]
                seen = await scene.ask(path.encode(), *headers, body=body, method=b"POST")
                assert seen.status in (303, 400, 403, 404, 413, 415), (path, kind, body[:80], seen.status)
                assert b"set-cookie" not in dict(seen.headers) or who == ()


async def test_what_is_typed_into_a_form_breaks_nothing_and_is_shown_as_text(scene: Scene) -> None:
    """Every field of every form that a page shows, filled with each of these, with the token of the page."""
    tried = 0
    for path in places("GET"):
        cookie = await owner(scene)  # of a session of its own: some forms end it
        for who in ((), (cookie,)):
            shown = await scene.ask(path.encode(), *OURS, *who)
            if shown.status != 200:
                continue
            visitor = [(b"cookie", value.partition(b";")[0]) for name, value in shown.headers if name == b"set-cookie"]
            for form in BeautifulSoup(shown.body, "html.parser").select('form[method="post" i]'):
                action = str(form.get("action") or path)
                assert is_local(action.encode()), action
                fields = [str(one["name"]) for one in form.select("[name]")]
                token = form.select_one('input[name="csrf"]')
                assert token is not None, (path, action)
                for evil in EVIL:
                    typed = urlencode(
                        {name: evil for name in fields} | {"csrf": str(token["value"])}, errors="surrogatepass"
                    )
                    seen = await scene.ask(
                        action.encode(), *OURS, *(who or visitor[:1]), FORM, body=typed.encode(), method=b"POST"
                    )
                    assert b"<script>alert(1)" not in seen.body and b"<img src=x" not in seen.body, (action, evil)
                    assert not any(b"stolen" in value for name, value in seen.headers if name == b"set-cookie")
                    tried += 1
    assert tried > 20


# ------------------------------------------------------------------------------------------------- where one is sent to

ASTRAY = [
    "//evil.example", "///evil.example", "////evil.example", "/\\evil.example", "\\\\evil.example", "\\/evil.example",
    "/\t/evil.example", "/\n/evil.example", "\t//evil.example", " //evil.example", "https://evil.example",
    "https:evil.example", "http:/evil.example", "https:///evil.example", "HTTPS://evil.example",
    "javascript:alert(document.domain)//evil.example", "data:text/html,evil.example",
    "/%2fevil.example/..//evil.example", "//evil.example/%2e%2e", "/.//evil.example", "/..//evil.example",
    "//evil%E3%80%82example@evil.example", "https://tollhouse.test@evil.example",
    "https://tollhouse.test.evil.example", "//tollhouse.test:80@evil.example", "/\x00/evil.example",
    "\u2028//evil.example", "/\u3000/evil.example", "\uff0f\uff0fevil.example", "evil.example", "?next=//evil.example",
    "/x\r\nlocation: https://evil.example",
]  # fmt: skip


def leads_away(seen: Seen) -> list[str]:
    """Links, forms and hidden fields of a page that would bring its reader to the other site, or say so later."""
    page = BeautifulSoup(seen.body, "html.parser")
    found = [str(one.get(name)) for name in ("href", "action", "src") for one in page.select(f"[{name}]")]
    found += [str(one.get("value")) for one in page.select('input[name="next"]')]
    return [one for one in found if ELSEWHERE.decode() in one and not is_local(one.encode())]


@pytest.mark.parametrize("astray", ASTRAY)
async def test_next_never_leads_to_another_site(scene: Scene, astray: str) -> None:
    cookie = await owner(scene)
    asked = quote(astray, safe="", errors="surrogatepass").encode()
    for path in places("GET"):
        for who in ((), (cookie,)):
            seen = await scene.ask(path.encode() + b"?next=" + asked, *OURS, *who)
            assert leads_away(seen) == [], path


async def test_signing_in_leads_to_no_other_site_whatever_the_form_says(scene: Scene) -> None:
    await Doorway(scene.cast.db).newcomer()
    shown = await scene.ask(b"/sign-in", *OURS)
    visitor = next(value.partition(b";")[0] for name, value in shown.headers if name == b"set-cookie")
    token = BeautifulSoup(shown.body, "html.parser").select_one('input[name="csrf"]')
    assert token is not None
    entered = 0
    for astray in ASTRAY:
        typed = urlencode({"email": ADA, "password": PASSWORD, "next": astray, "csrf": str(token["value"])})
        seen = await scene.ask(b"/sign-in", *OURS, (b"cookie", visitor), FORM, body=typed.encode(), method=b"POST")
        entered += seen.status == 303
    assert entered > len(ASTRAY) / 2

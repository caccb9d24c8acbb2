"""Each secret of an installation, made recognisable, goes through success and failure: what was said, logged, started
and stored meanwhile holds none of them, unless sealed or digested."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pyotp
import pytest
from psycopg import sql

from tests.carriers import Carriers, carriers
from tests.conftest import TEST_SECRET, Cluster, SeededTemplate
from tests.dump import tables_with
from tests.fake_provider import FakeProvider
from tests.house import House, Tenant, ask
from tests.house import house as running
from tests.server import Program
from tests.web.serving import Answer, Visitor

SECRET_KEY = "canary-secret-key-of-the-installation-0123456789"
DATABASE = "canary-of-the-database-password"
MAIL = "canary-of-the-mail-password"
PASSWORD, WRONG = "canary five herons wait", "canary nine herons left"
PROVIDER = "sk-canary-of-a-provider-0123456789abcdef"
IDP = "canary-of-an-identity-provider"
EMAIL = "canary@example.com"
MODEL = "gpt-4o-mini"


@dataclass
class Watch:
    """All secrets there are by their names, and all that was answered besides what shows a secret once."""

    secrets: dict[str, str]
    answers: list[str] = field(default_factory=list)

    def saw(self, status: int, headers: Any, text: str) -> None:
        # a session's cookie is for whoever gets it; everything else is for logs, screens and caches, too
        kept = {name: value for name, value in headers.items() if name.lower() != "set-cookie"}
        self.answers.append(f"{status} {json.dumps(kept)} {text}")

    def in_text(self, text: str) -> list[str]:
        return [name for name, secret in self.secrets.items() if secret in text]

    def assert_nowhere(self, what: str, text: str) -> None:
        assert self.in_text(text) == [], what


@dataclass(frozen=True, slots=True)
class Stage:
    house: House
    cast: Carriers
    watch: Watch
    tenant: Tenant
    provider: FakeProvider
    person: Visitor
    database: str  # its name

    async def call(self, method: str, path: str, key: str | None = None, **options: Any) -> tuple[int, str]:
        headers = options.pop("headers", {}) | ({} if key is None else {"authorization": f"Bearer {key}"})
        reply = await self.house.call(method, path, headers=headers, **options)
        text = reply.raw.decode(errors="replace")
        self.watch.saw(reply.status, reply.headers, text)
        return reply.status, text

    async def chat(self, key: str, text: str = "sandbox:tokens=1", **fields: Any) -> int:
        return (await self.call("POST", "/v1/chat/completions", key, json=ask(text, MODEL, **fields)))[0]

    async def page(self, path: str, shows: bool = False) -> Answer:
        """A page of the person's. `shows`: it is the one that shows a secret, once."""
        seen = await self.person.get(path)
        if not shows:
            self.watch.saw(seen.status, seen.headers, seen.text)
        return seen

    async def fill(self, on: str, to: str, shows: bool = False, **fields: str) -> Answer:
        """A form, sent from the page that has it."""
        token = (await self.page(on, shows)).token
        seen = await self.person.post(to, {"csrf": token, **fields})
        if not shows:
            self.watch.saw(seen.status, seen.headers, seen.text)
        return seen

    def cookie(self, name: str) -> str:
        """The person's session, as another secret."""
        value = self.person.cookies[self.cast.site.cookie]
        self.watch.secrets[name] = value
        return value

    async def link(self, kind: str) -> str:
        """The token of the link in the last mail of this kind."""
        rows = await self.house.rows("SELECT body FROM mail WHERE kind = %s ORDER BY created_at DESC LIMIT 1", kind)
        found = re.search(r"/([A-Za-z0-9_-]{43})\b", rows[0][0])
        assert found is not None, rows
        self.watch.secrets[f"link of {kind}"] = found[1]
        return found[1]

    async def worker(self, **settings: str) -> str:
        """What a worker says that tries to send the mail that waits."""
        started = Program(self.house.database_url, "worker", TOLLHOUSE_LOG_LEVEL="debug", **settings)
        async with started as program:
            async with asyncio.timeout(30):
                while not await self.house.rows("SELECT 1 FROM mail WHERE error IS NOT NULL"):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            self.watch.assert_nowhere("arguments of the worker", arguments(program.process.pid))
            await program.stop()
            return program.said()


def arguments(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")


@asynccontextmanager
async def stage(cluster: Cluster, template: SeededTemplate) -> AsyncIterator[Stage]:
    """Settings, keys and people with secrets that are known by their names."""
    watch = Watch(
        {"secret key": SECRET_KEY, "former secret key": TEST_SECRET.decode(), "database password": DATABASE,
         "mail password": MAIL, "password": PASSWORD, "wrong password": WRONG, "provider key": PROVIDER,
         "identity provider's secret": IDP, "operator's key": template.operator_key}
    )  # fmt: skip
    settings = {
        "TOLLHOUSE_SECRET_KEY": SECRET_KEY, "TOLLHOUSE_PREVIOUS_SECRET_KEYS": TEST_SECRET.decode(),
        "TOLLHOUSE_LOG_LEVEL": "debug", "TOLLHOUSE_ALLOW_PRIVATE_PROVIDERS": "true",
        "TOLLHOUSE_SMTP_URL": f"smtp://canary:{MAIL}@127.0.0.1:9",
    }  # fmt: skip
    with cluster.database(template.name) as url:
        async with (
            FakeProvider(keys=[PROVIDER]) as provider,
            running(url.replace("tollhouse@", f"tollhouse:{DATABASE}@", 1), template, 1, **settings) as house,
            carriers(house.database_url, house.server.url) as cast,
        ):
            assert DATABASE in house.database_url
            tenant = await house.organization(scopes=("gateway", "credits", "act_as", "manage"))
            watch.secrets["API key"] = tenant.key
            person = Visitor(house.server.url, house.session)
            with psycopg.connect(url) as connection:
                name = connection.info.dbname
            yield Stage(house, cast, watch, tenant, provider, person, name)


async def people(on: Stage) -> None:
    """Signing up, in and out, with and without a second factor, rightly and wrongly."""
    await on.fill("/sign-up", "/sign-up", email=EMAIL, name="Ada", password=PASSWORD)
    token = await on.link("verify_email")
    path = f"/verify-email/{token}"
    shown = await on.person.get(path)
    seen = await on.person.post(path, {"csrf": shown.token, "password": PASSWORD})
    assert seen.status == 303, seen.text
    on.cookie("first session")
    await on.page("/settings")
    await on.page(f"/verify-email/{token[:-1]}A")
    await on.fill("/settings/security", "/settings/security/code", shows=True)
    shown = await on.page("/settings/security/code", shows=True)
    secret = shown.soup.select_one("#totp-secret")
    assert secret is not None, shown.text
    on.watch.secrets["second factor"] = app_secret = (
        str(secret.get("value") or secret.get_text()).replace(" ", "").strip()
    )
    await on.person.post("/settings/security/code/confirm", {"csrf": shown.token, "code": "000000"})
    app = pyotp.TOTP(app_secret)
    shown = await on.page("/settings/security/code", shows=True)
    codes = await on.person.post("/settings/security/code/confirm", {"csrf": shown.token, "code": app.now()})
    assert codes.status == 200, codes.text
    recovery = [one.get_text().strip() for one in codes.soup.select("#codes span")]
    assert len(recovery) >= 8, codes.text
    on.watch.secrets |= {f"recovery code {number}": code for number, code in enumerate(recovery)}
    on.cookie("second session")
    await on.fill("/settings", "/sign-out")
    for password in (WRONG, PASSWORD):
        await on.fill("/sign-in", "/sign-in", email=EMAIL, password=password, next="/settings")
    await on.fill("/sign-in/code", "/sign-in/code", code=recovery[0][:-1] + "z")
    assert (await on.fill("/sign-in/code", "/sign-in/code", code=recovery[0])).status == 303
    on.cookie("third session")
    await on.page("/settings/security")
    visitor = on.person.cookies.pop(on.cast.site.cookie)
    await on.fill("/sign-in", "/sign-in/link", email=EMAIL, password="")
    await on.page(f"/sign-in/link/{await on.link('sign_in')}"[:-1])
    await on.fill("/forgot-password", "/forgot-password", email=EMAIL)
    await on.link("reset_password")
    on.person.cookies[on.cast.site.cookie] = visitor


async def keys(on: Stage) -> None:
    """Keys and tokens that are right, nearly right, in the wrong place, revoked, and rotated."""
    key = on.tenant.key
    assert await on.chat(key) in (200, 402, 404)
    for wrong in (key[:-1], key + "A", key.swapcase(), f"{key} {key}"):
        on.watch.secrets.setdefault("API key without its end", key[:-1])
        await on.call("GET", "/api/credits/balance", wrong)
        await on.call("GET", "/v1/models", wrong)
    await on.call("GET", f"/api/credits/balance?api_key={key}")
    await on.call("GET", f"/api/keys/{key}", key)
    await on.call("POST", "/api/credits/reservations", key, json={"capability": key, "key": key, "user": {"a": key}})
    await on.call("POST", "/v1/chat/completions", key, json=ask("x", key, api_key=key))
    await on.call("POST", "/v1/messages", headers={"x-api-key": key, "authorization": f"Bearer {PROVIDER}"}, json={})
    made = json.loads((await on.house.call("POST", "/api/keys", headers=on.tenant.headers, json=NEW_KEY)).raw)
    on.watch.secrets["another API key"] = made["key"]
    await on.call("DELETE", f"/api/keys/{made['id']}", key)
    await on.call("GET", "/api/credits/balance", made["key"])
    issuer = await on.cast.issuer(on.tenant.id)
    for name, token in {"token": issuer.token("ada"), "expired token": issuer.token("ada", exp=1)}.items():
        on.watch.secrets[name] = token
        on.watch.secrets[f"signature of the {name}"] = token.rpartition(".")[2]
        await on.call("GET", "/v1/models", token)
        await on.call("GET", "/v1/models", token[:-6] + "AAAAAA")


NEW_KEY = {"name": "another", "scopes": ["credits"], "mode": "test"}


async def providers(on: Stage) -> None:
    """A provider's key through success, refusals that repeat it, and a server that is gone; mistyped at each place."""
    key = on.tenant.key
    connection = {"provider": "openai", "base_url": on.provider.url, "key": PROVIDER}
    _, made = await on.call("POST", "/api/connections", key, json=connection)
    id_ = json.loads(made)["id"]
    assert await on.chat(key) == 200
    echo = json.dumps({"error": {"message": f"Incorrect API key provided: {PROVIDER}", "code": "invalid_api_key"}})
    for status in ("401 Unauthorized", "400 Bad Request", "429 Too Many Requests", "500 Oops"):
        for stream in (False, True):
            raw = f"HTTP/1.1 {status}\r\nx-key: {PROVIDER}\r\ncontent-length: {len(echo)}\r\n\r\n{echo}".encode()
            on.provider.raw_answers.extend([raw] * 4)
            await on.chat(key, stream=stream)
            on.provider.raw_answers.clear()
    on.provider.raw_answers.extend([f"no HTTP but {PROVIDER}".encode()] * 4)
    await on.chat(key)
    on.provider.raw_answers.clear()
    await on.call("POST", f"/api/connections/{id_}/test", key)
    await on.call("PATCH", f"/api/connections/{id_}", key, json={"base_url": "http://127.0.0.1:9/v1", "key": PROVIDER})
    await on.chat(key)
    await on.call("POST", f"/api/connections/{id_}/test", key)
    for wrong in (
        connection | {"key": [PROVIDER]}, connection | {"key": PROVIDER + "\n"},
        connection | {"api_key": PROVIDER}, connection | {"base_url": f"http://u:{PROVIDER}@127.0.0.1/v1"},
        connection | {"base_url": f"http://127.0.0.1/v1?key={PROVIDER}"}, connection | {"priority": PROVIDER},
    ):  # fmt: skip
        await on.call("POST", "/api/connections", key, json=wrong)
        await on.call("POST", "/api/connections/test", key, json=wrong)
    operator = on.house.operator_key
    provider = {"name": "Login", "issuer": on.provider.root, "client_id": "tollhouse", "client_secret": IDP}
    for wrong in (
        provider,
        provider | {"client_secret": [IDP]},
        provider | {"secret": IDP},
        provider | {"enabled": IDP},
    ):
        await on.call("POST", "/api/operator/identity-providers", operator, json=wrong)
        await on.call("POST", "/api/operator/identity-providers/test", operator, json=wrong)


@contextmanager
def broken(cluster: Cluster, on: Stage, *statements: sql.Composed) -> Iterator[None]:
    """The first statement breaks the database, the second mends it."""
    name = [on.database]
    with psycopg.connect(cluster.postgres.url(on.database, "postgres"), autocommit=True) as connection:
        connection.execute(statements[0])
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        connection.execute(end, name)
        try:
            yield
        finally:
            connection.execute(statements[1])


async def everything_fails(on: Stage) -> None:
    key = on.tenant.key
    await on.chat(key)
    await on.call("GET", "/api/credits/balance", key)
    await on.call(
        "POST", "/api/connections", key, json={"provider": "openai", "key": PROVIDER, "base_url": on.provider.url}
    )
    for path in ("/settings", "/settings/security", "/admin/keys"):
        await on.page(path)
    shown = await on.person.get("/sign-in")
    csrf = {"csrf": shown.token} if 'name="csrf"' in shown.text else {}
    seen = await on.person.post("/sign-in", {"email": EMAIL, "password": PASSWORD, **csrf})
    on.watch.saw(seen.status, seen.headers, seen.text)
    token = on.watch.secrets["link of reset_password"]
    seen = await on.person.get(f"/reset-password/{token}")
    on.watch.saw(seen.status, seen.headers, seen.text.replace(token, ""))  # the form of the link leads to itself
    await on.call("GET", "/v1/models", on.watch.secrets["token"][:-6] + "BBBBBB")


async def test_no_secret_is_told_logged_or_stored(cluster: Cluster, seeded_template: SeededTemplate) -> None:
    async with stage(cluster, seeded_template) as on:
        await people(on)
        await keys(on)
        await providers(on)
        name = sql.Identifier(on.database)
        down = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 0"), sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1")
        with broken(cluster, on, *(one.format(name) for one in down)):
            await everything_fails(on)
        for table in ("api_key", "password", "session", "connection", "one_time_token", "jwt_issuer"):
            kept, gone = sql.Identifier(table), sql.Identifier(f"{table}_gone")
            rename = sql.SQL("ALTER TABLE {} RENAME TO {}")
            with broken(cluster, on, rename.format(kept, gone), rename.format(gone, kept)):
                await everything_fails(on)
        said = await on.worker(TOLLHOUSE_SECRET_KEY=SECRET_KEY, TOLLHOUSE_SMTP_URL=f"smtp://canary:{MAIL}@127.0.0.1:9")
        watch = on.watch
        assert len(watch.secrets) > 25 and len(watch.answers) > 100
        assert any(answer.startswith("500") for answer in watch.answers), "nothing crashed, so nothing was proved"
        assert "Traceback" in on.house.server.said()
        watch.assert_nowhere("logs of the server", on.house.server.said())
        watch.assert_nowhere("logs of the worker", said)
        watch.assert_nowhere("arguments of the server", arguments(on.house.server.process.pid))
        assert [(one, told) for one in watch.answers if (told := watch.in_text(one))] == []
        found = tables_with(on.house.database_url, watch.secrets.values())
        named = {name: found[secret] for name, secret in watch.secrets.items() if secret in found}
        links = {name: tables for name, tables in named.items() if name.startswith("link of ")}
        assert {table for tables in links.values() for table in tables} <= {"mail"}  # until it is sent
        assert {name: tables for name, tables in named.items() if name not in links} == {}


BAD_SETTINGS = [
    {"TOLLHOUSE_DATABASE_URL": f"postgresql://tollhouse:{DATABASE}@127.0.0.1:9/tollhouse"},
    {"TOLLHOUSE_DATABASE_URL": f"mysql://tollhouse:{DATABASE}@127.0.0.1/tollhouse"},
    {"TOLLHOUSE_DATABASE_URL": f"postgresql://tollhouse:{DATABASE}@[::1/tollhouse"},
    {"TOLLHOUSE_DATABASE_URL": f"postgresql://tollhouse:{DATABASE}@127.0.0.1:port/tollhouse?x={DATABASE}"},
    {"TOLLHOUSE_SECRET_KEY": SECRET_KEY[:20]},
    {"TOLLHOUSE_PREVIOUS_SECRET_KEYS": f"{SECRET_KEY},{SECRET_KEY[:20]}"},
    {"TOLLHOUSE_SMTP_URL": f"http://canary:{MAIL}@127.0.0.1"},
    {"TOLLHOUSE_SMTP_URL": f"smtp://canary:{MAIL}@[::1"},
    {"TOLLHOUSE_SMTP_URL": f"smtp://canary:{MAIL}@127.0.0.1:port/path"},
    {"TOLLHOUSE_MODE": "live", "TOLLHOUSE_OPERATOR_KEY": PROVIDER},
    {"OPENAI_API_KEY": PROVIDER, "OPENAI_BASE_URL": f"https://u:{PROVIDER}@127.0.0.1/v1"},
    {"OPENAI_API_KEY": PROVIDER, "OPENAI_BASE_URL": "nowhere"},
]


@pytest.mark.parametrize("settings", BAD_SETTINGS, ids=range(len(BAD_SETTINGS)))
async def test_settings_that_are_wrong_are_not_repeated(settings: dict[str, str]) -> None:
    """Whatever a command says of them, and however it ends."""
    nowhere = f"postgresql://tollhouse:{DATABASE}@127.0.0.1:9/tollhouse_{uuid4().hex}"
    watch = Watch({"secret key": SECRET_KEY[:20], "database": DATABASE, "mail": MAIL, "provider": PROVIDER})
    whole = {"TOLLHOUSE_LOG_LEVEL": "debug", "TOLLHOUSE_PORT": "0", **settings}

    async def said_by(command: str) -> str:
        async with Program(nowhere, command, **whole) as program:
            with suppress(TimeoutError):  # of those that wait until there is a database
                assert await program.wait(40) != 0, program.said()
            return program.said()

    for said in await asyncio.gather(*map(said_by, ("serve", "worker", "doctor"))):
        assert said
        watch.assert_nowhere(said, said)

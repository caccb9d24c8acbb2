"""Sends the examples of all routes that there are as whoever it is, and says what came back that should not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from tests.conftest import TEST_SECRET
from tests.house import Reply
from tests.security.callers import CALLERS, EVERYTHING, OPERATORS, Caller, may
from tests.security.example import Example, at, filled
from tests.security.examples import API, GATEWAY
from tests.security.pages import PAGES
from tests.security.world import World, canaries_in, canary
from tests.test_policies import API as API_POLICIES
from tests.test_policies import GATEWAY as GATEWAY_POLICIES
from tests.test_policies import PAGES as PAGE_POLICIES
from tests.test_policies import of_api, served
from tollhouse import web
from tollhouse.core.link import form_token
from tollhouse.core.vault import Keyring
from tollhouse.web import token

TABLES = ((API_POLICIES, API), (GATEWAY_POLICIES, GATEWAY), (PAGE_POLICIES, PAGES))
_KEYRING = Keyring(TEST_SECRET)
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# What somebody else is told who names what is A's in the rest of a request.
_NOT_THEIRS = frozenset({400, 403, 404, 409, 422})
# What the same request may meet in another organisation, which has other things.
_OF_ITS_OWN = frozenset({400, 402, 403, 404, 409, 422})
# What is another's is not there; 409: there could be no such thing in an organisation of that kind.
_OF_ITS_OWN_PAGE = _OF_ITS_OWN | {303}  # what a form leads to
_NOWHERE = frozenset({404, 409})
# With whom one may sign in is there for everybody to read.
_ON_PAGES = frozenset({"identity_provider"})
# The teller may find that there is no such thing before it looks at who asks.
_NOT_THEIR_ID = frozenset({403, 404})


@dataclass(frozen=True, slots=True)
class Route:
    name: str
    policy: str
    example: Example

    @property
    def method(self) -> str:
        return self.name.split(" ", 1)[0]

    @property
    def path(self) -> str:
        return self.name.split(" ", 1)[1]

    @property
    def is_page(self) -> bool:
        return not self.path.startswith(("/api/", "/v1/"))


def missing() -> list[str]:
    """The routes that are served without an example, and the examples without a route."""
    app = served()
    api = of_api(one for one in app.routes if getattr(one, "path", None) != app.openapi_url)
    pages = {f"{method} {row.path}" for row in web.PAGES for method in row.methods}
    tables = ((set(api), API), (set(GATEWAY_POLICIES), GATEWAY), (pages, PAGES))
    return [name for names, examples in tables for name in names ^ examples.keys()]


def routes() -> list[Route]:
    """All of them, as the tables of policies have them, which the tests there hold against what is served; last
    those after which somebody is gone."""
    found = []
    for policies, examples in TABLES:
        for name, policy in policies.items():
            if name in examples:
                found.append(Route(name, policy, examples[name]))
    return sorted(found, key=lambda route: route.example.ends)


# ---------------------------------------------------------------------------------------------------- what is expected


@dataclass(frozen=True, slots=True)
class Expected:
    """`changes`: it is done to organisation A, as it should be. `let_in`: whatever comes, it is no refusal of this
    caller."""

    statuses: frozenset[int]
    changes: bool = False
    let_in: bool = False
    location: str | None = None


def expected(route: Route, caller: Caller) -> Expected | None:
    """None: this one does not come here."""
    return _of_a_page(route, caller) if route.is_page else _of_a_call(route, caller)


def _of_a_call(route: Route, caller: Caller) -> Expected:
    by_teller = route.policy.startswith("the teller: ")
    if caller.refused is not None:
        shut = caller.refused == 403 and by_teller and route.example.in_path(route.path)
        return Expected(_NOT_THEIR_ID if shut else frozenset({caller.refused}))
    if (by_teller and caller.refused_by_teller is not None) or not may(route.policy, caller):
        return Expected(_NOT_THEIR_ID if by_teller and route.example.in_path(route.path) else frozenset({403}))
    return _let_in(route, caller)


def _let_in(route: Route, caller: Caller) -> Expected:
    example, right = route.example, _status(route.example, caller)
    if caller.home == "A" or (route.policy == "platform" and caller.name in OPERATORS):
        return Expected(frozenset({right}), changes=True, let_in=True)
    if set(example.in_path(route.path).values()) - {"token"}:
        return Expected(_NOWHERE, let_in=True)
    if set(example.kinds(route.path).values()) - {"from", "to", "soon", "idp", "jwks_url"}:
        return Expected(_NOT_THEIRS, let_in=True)
    met = _OF_ITS_OWN_PAGE if route.is_page else _OF_ITS_OWN
    return Expected(frozenset({right, *example.differs.values()}) | met, let_in=True)


def _status(example: Example, caller: Caller) -> int:
    return example.differs.get(caller.name, example.status)


def _of_a_page(route: Route, caller: Caller) -> Expected | None:
    if caller.page is None:
        return None
    if route.policy == "anyone":
        return Expected(frozenset({_status(route.example, caller)}), changes=True, let_in=True)
    if route.policy == "held":
        if caller.page in ("held", "suspended"):
            return Expected(frozenset({_status(route.example, caller)}), changes=True, let_in=True)
        return Expected(frozenset({303}), location="/")
    if caller.page != "signed in":
        return Expected(frozenset({303}), location="/sign-in")
    if route.policy != "signed in" and not may(route.policy, caller):
        return Expected(frozenset({404 if route.policy == "platform" else 403}))
    return _let_in(route, caller)


# ------------------------------------------------------------------------------------------------------------ the calls


@dataclass
class Walk:
    """`wrong` is every deviation, in words."""

    world: World
    wrong: list[str] = field(default_factory=list)

    async def send(self, route: Route, caller: Caller, found: dict[str, str], text: str, **more: Any) -> Reply:
        """`more`: further fields of the body."""
        example = route.example
        headers = dict(caller.headers) | filled(dict(example.headers), found, text)
        query = filled(example.query, {name: quote(value) for name, value in found.items()}, text)
        path = quote(at(route.path, found)) + (f"?{query}" if query else "")
        options: dict[str, Any] = {"allow_redirects": False}
        if route.is_page:
            headers |= {"accept": "text/html", "sec-fetch-site": "same-origin"}
            if route.method != "GET":
                headers, csrf = with_token(headers)
                options["data"] = {"csrf": csrf} | filled(example.body or {}, found, text)
        else:
            if route.method == "POST":
                headers.setdefault("idempotency-key", str(uuid4()))
            if example.body is not None or more:
                options["json"] = filled((example.body or {}) | more, found | _named(more, self.world), text)
        return await self.world.house.call(route.method, path, headers=headers, **options)

    async def visit(self, route: Route, caller: Caller, want: Expected, *, fresh: bool) -> None:
        """One call, and what is wrong with its answer."""
        await self.world.forget_tries()
        found = {
            place: await self.world.object(kind, fresh=fresh)
            for place, kind in route.example.kinds(route.path).items()
        }  # fmt: skip
        if want.changes and "<own_email>" in found:
            found["<own_email>"] = self.world.emails.get(caller.name, "nobody@example.com")
        ours = want.changes and caller.home == "A"
        text = canary("text") if ours else f"words {uuid4().hex}"
        text = text.replace(" ", "_")
        reply = await self.send(route, caller, found, text)
        if route.is_page:
            await self.world.keep_cookie(caller.name, [one for name, one in _all(reply) if name == "set-cookie"])
        self._check(route, caller, want, reply, found)
        if want.statuses in (_NOWHERE, _NOT_THEIR_ID) and route.example.in_path(route.path) and not route.is_page:
            await self._check_same_as_never_was(route, caller, reply, found)

    def _check(self, route: Route, caller: Caller, want: Expected, reply: Reply, found: Mapping[str, str]) -> None:
        who = f"{route.name} as {caller.name}"
        on = reply.headers.get("hx-redirect")  # a part of a page is told so that the whole goes elsewhere
        status = reply.status if on is None else 303
        if status not in want.statuses:
            self.wrong.append(f"{who}: {status}, not {sorted(want.statuses)}: {reply.raw[:200]!r}")
        declared = 403 in (route.example.status, route.example.differs.get(caller.name))
        if not route.is_page and reply.status == 403 and not declared and want.let_in and _forbids(reply):
            self.wrong.append(f"{who}: refused: {reply.raw[:200]!r}")
        location = reply.headers.get("location", on or "")
        if want.location is not None and not location.startswith(want.location):
            self.wrong.append(f"{who}: sent to {location!r}, not to {want.location!r}")
        out = reply.raw.decode(errors="replace") + json.dumps(_all(reply))
        for value in found.values():  # what they sent themselves may come back
            out = out.replace(value, "")
        may_see = caller.sees if want.let_in and _shows(caller, route) else frozenset()
        if may_see is not EVERYTHING:
            told = (
                canaries_in(out)
                - may_see
                - set(route.example.tells)
                - {"text"}
                - (_ON_PAGES if route.is_page else frozenset())
            )
            if told:
                self.wrong.append(f"{who}: is told {sorted(told)} of A ({reply.status})")
        if "secret" in canaries_in(out):
            self.wrong.append(f"{who}: is told a secret")

    async def _check_same_as_never_was(
        self, route: Route, caller: Caller, reply: Reply, found: Mapping[str, str]
    ) -> None:
        """What is another's looks as if it had never been."""
        never = dict(found) | {place: str(uuid4()) for place in route.example.in_path(route.path)}
        other = await self.send(route, caller, never, "words")
        if _anonymous(other, never) != _anonymous(reply, found):
            self.wrong.append(f"{route.name} as {caller.name}: tells what is another's from what never was")


def _named(more: Mapping[str, Any], world: World) -> dict[str, str]:
    """The ids of what further fields name."""
    wanted = {"<organization>": str(world.id), "<member>": world.objects.get("member", str(world.id))}
    return {place: id_ for place, id_ in wanted.items() if place in more.values()}


def _all(reply: Reply) -> list[tuple[str, str]]:
    """Every header, also where there are two of one name."""
    return [(name.lower(), value) for name, value in reply.headers.items()]


def _forbids(reply: Reply) -> bool:
    """Whether it is about who asks, and not about what."""
    return b'"code":"forbidden"' in reply.raw


def _shows(caller: Caller, route: Route) -> bool:
    """Operators look into organisations by the routes that are theirs, and by no other."""
    return caller.home == "A" or caller.name not in OPERATORS or route.policy == "platform" or route.path == "/outbox"


def _anonymous(reply: Reply, found: Mapping[str, str]) -> tuple[int, str]:
    text = reply.raw.decode(errors="replace")
    for value in found.values():
        text = text.replace(value, "ID")
    return reply.status, _ID.sub("ID", text)


def with_token(headers: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The headers and the CSRF token of a form that this browser got, so that a refusal is not about the form."""
    sent = dict(headers)
    session = re.search(r"tollhouse=([^;]+)", sent.get("cookie", ""))
    if session is not None:
        return sent, token.sign(_KEYRING, "form", f"session {form_token(session[1])}")
    sent["cookie"] = "tollhouse-visitor=" + token.seal(_KEYRING, "visitor", "somebody")
    return sent, token.sign(_KEYRING, "form", "visitor somebody")


async def everybody(world: World) -> list[Caller]:
    return [await world.caller(name) for name in CALLERS]

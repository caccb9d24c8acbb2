"""An OpenID provider for tests: real sockets and the real protocol (discovery, authorize, token with PKCE, JWKS), and
strict towards its clients, and misbehaving on command. It is an issuer of plain tokens too."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote_plus

from aiohttp import web
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from yarl import URL


def new_key(kind: str = "EC", kid: str | None = None) -> Key:
    parameters: Any = {"kid": kid or secrets.token_hex(4)}
    match kind:
        case "RSA":
            return RSAKey.generate_key(2048, parameters)
        case "OKP":
            return OKPKey.generate_key("Ed25519", parameters)
        case curve:
            return ECKey.generate_key("P-256" if curve == "EC" else curve, parameters)


def encoded(part: object) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(key: Key, header: Mapping[str, Any], claims: object) -> str:
    """Signed with the algorithm of the header, whatever else it says: no library looks at it."""
    head = f"{encoded(dict(header))}.{encoded(claims)}"
    signature = jws.JWSRegistry.algorithms[header["alg"]].sign(head.encode(), key)
    return f"{head}.{encoded(signature)}"


@dataclass
class Grant:
    """What a code is worth, and for whom."""

    client_id: str
    redirect_uri: str
    challenge: str
    nonce: str | None


@dataclass
class FakeIdp:
    """Use as ``async with FakeIdp() as idp``. Whoever comes to authorize is signed in as `person` at once.

    `description`, `claims`, `header` and `token_answer` are laid over what is right; None as a value takes it out.
    `jwks_raw` is answered as it is in place of the keys; `jwks_status`, `jwks_location` and `wait_s` belong to it.
    """

    client_id: str = "tollhouse"
    client_secret: str | None = "s3cret/of+the:client"
    redirect_uris: set[str] = field(default_factory=set)
    methods: tuple[str, ...] = ("client_secret_basic",)
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "u-1", "email": "ada@example.com", "name": "Ada"})
    keys: list[Key] = field(default_factory=lambda: [new_key()])
    algorithm: str = "ES256"
    description: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    token_answer: dict[str, Any] = field(default_factory=dict)
    jwks_raw: bytes | None = None
    jwks_status: int = 200
    jwks_location: str | None = None
    wait_s: float = 0.0
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.codes: dict[str, Grant] = {}
        self.issuer = ""

    @property
    def jwks_url(self) -> str:
        return f"{self.issuer}/keys"

    def count(self, path: str) -> int:
        return self.calls.count(path)

    # ----------------------------------------------------------------------------------------------------- as an issuer

    def token(self, header: Mapping[str, Any] | None = None, key: Key | None = None, **claims: Any) -> str:
        """A token of half an hour, signed with the first key; None takes a claim or a header out."""
        key = key or self.keys[0]
        now = int(time.time())
        said = {"iss": self.issuer, "sub": self.person["sub"], "iat": now, "exp": now + 1800} | claims
        head = {"alg": self.algorithm, "typ": "JWT", "kid": key.kid} | dict(header or {})
        return sign(key, _without_none(head), _without_none(said))

    # -------------------------------------------------------------------------------------------------------- the pages

    async def _describe(self, _request: web.Request) -> web.Response:
        right = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": self.jwks_url,
            "response_types_supported": ["code", "id_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": list(self.methods),
            "authorization_response_iss_parameter_supported": True,
        }
        return web.json_response(_without_none(right | self.description))

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = request.query
        if asked["client_id"] != self.client_id or asked["redirect_uri"] not in self.redirect_uris:
            return web.Response(status=400, text="unknown client or redirect_uri")
        right = asked["response_type"] == "code" and "openid" in asked["scope"].split() and asked.get("state")
        if not right or asked["code_challenge_method"] != "S256":
            return web.Response(status=400, text="not what is asked here")
        code = secrets.token_urlsafe(16)
        self.codes[code] = Grant(
            asked["client_id"], asked["redirect_uri"], asked["code_challenge"], asked.get("nonce")
        )  # fmt: skip
        back = URL(asked["redirect_uri"]).update_query(code=code, state=asked["state"], iss=self.issuer)
        return web.Response(status=302, headers={"location": str(back)})

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if not self._knows(request, form):
            return web.json_response({"error": "invalid_client"}, status=401)
        grant = self.codes.pop(str(form.get("code")), None)
        digest = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        if (
            grant is None
            or form.get("grant_type") != "authorization_code"
            or form.get("redirect_uri") != grant.redirect_uri
            or encoded(digest) != grant.challenge
        ):
            return web.json_response({"error": "invalid_grant", "error_description": "<script>no</script>"}, status=400)
        said = {"aud": self.client_id, "nonce": grant.nonce} | self.person | self.claims
        answer = {"access_token": "at", "token_type": "Bearer", "id_token": self.token(self.header, **said)}
        return web.json_response(_without_none(answer | self.token_answer))

    def _knows(self, request: web.Request, form: Mapping[str, Any]) -> bool:
        scheme, _, pair = request.headers.get("authorization", "").partition(" ")
        if self.client_secret is None:
            return not scheme and form.get("client_id") == self.client_id
        if "client_secret_basic" in self.methods:
            given = [unquote_plus(part) for part in base64.b64decode(pair).decode().split(":", 1)]
            return scheme == "Basic" and given == [self.client_id, self.client_secret]
        return (form.get("client_id"), form.get("client_secret")) == (self.client_id, self.client_secret)

    async def _jwks(self, _request: web.Request) -> web.Response:
        await asyncio.sleep(self.wait_s)
        if self.jwks_location is not None:
            return web.Response(status=302, headers={"location": self.jwks_location})
        if self.jwks_raw is not None:
            return web.Response(status=self.jwks_status, body=self.jwks_raw, content_type="application/json")
        keys = [key.as_dict(private=False) for key in self.keys]
        return web.json_response({"keys": keys}, status=self.jwks_status)

    # ------------------------------------------------------------------------------------------------------- the server

    @web.middleware
    async def _counted(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.calls.append(request.path)
        response: web.StreamResponse = await handler(request)
        return response

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._counted])
        app.router.add_get("/.well-known/openid-configuration", self._describe)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        app.router.add_get("/keys", self._jwks)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.issuer = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        await self._runner.cleanup()


def _without_none(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}


def query_of(url: str) -> dict[str, str]:
    return dict(URL(url).query)


def with_query(url: str, **changes: str) -> str:
    """The address with these parts of its query in place of what it has."""
    return str(URL(url).update_query(changes))

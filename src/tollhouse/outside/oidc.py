"""What an identity provider says of itself, and the exchange of a code for an ID token."""

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus

from tollhouse.outside.address import check_url
from tollhouse.outside.fetch import Fetcher, FetchFailed

_PATH: Final = "/.well-known/openid-configuration"
_URL_LENGTH: Final = 2000


class ProviderUnusable(Exception):
    """People cannot sign in with the provider. The message says why, in words of ours, and begins in lower case."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """`basic`: the secret goes into the Authorization header, else into the form. `says_issuer`: the provider names
    itself whenever it sends a browser back."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_url: str
    basic: bool
    says_issuer: bool


@dataclass(frozen=True, slots=True)
class Client:
    """`secret` None: a public client, which only proves that it began the sign-in."""

    id: str
    secret: str | None = field(repr=False)
    redirect_uri: str


async def discover(fetcher: Fetcher, issuer: str, *, allow_private: bool) -> Discovered:
    """The provider's own description, from where the issuer says it is. Raises `ProviderUnusable`."""
    try:
        found = (await fetcher.get(issuer.rstrip("/") + _PATH, allow_private=allow_private)).document()
    except FetchFailed as problem:
        raise ProviderUnusable(f"its description ({_PATH}) cannot be read: {problem}") from None
    if found.get("issuer") != issuer:
        raise ProviderUnusable("its description is of another issuer; enter the issuer exactly as it stands there")
    if "code" not in _list(found, "response_types_supported", "code"):
        raise ProviderUnusable("it does not offer the response type 'code'")
    if "S256" not in _list(found, "code_challenge_methods_supported", "S256"):
        raise ProviderUnusable("it does not offer PKCE with S256")
    methods = _list(found, "token_endpoint_auth_methods_supported", "client_secret_basic")
    return Discovered(
        issuer,
        _address(found, "authorization_endpoint", allow_private=allow_private),
        _address(found, "token_endpoint", allow_private=allow_private),
        _address(found, "jwks_uri", allow_private=allow_private),
        basic="client_secret_basic" in methods or "client_secret_post" not in methods,
        says_issuer=found.get("authorization_response_iss_parameter_supported") is True,
    )


async def redeem(
    fetcher: Fetcher, provider: Discovered, client: Client, code: str, verifier: str, *, allow_private: bool
) -> str:
    """The ID token that the code is worth, not verified yet. Raises `ProviderUnusable`."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": client.redirect_uri,
        "code_verifier": verifier,
    }
    headers = {}
    if client.secret is None or not provider.basic:
        form["client_id"] = client.id
    if client.secret is not None and provider.basic:
        pair = f"{quote_plus(client.id)}:{quote_plus(client.secret)}"
        headers["Authorization"] = "Basic " + b64encode(pair.encode()).decode()
    elif client.secret is not None:
        form["client_secret"] = client.secret
    try:
        answer = await fetcher.post(provider.token_endpoint, form, headers, allow_private=allow_private)
        found = answer.document()
    except FetchFailed as problem:
        raise ProviderUnusable(f"the exchange of the code failed: {problem}") from None
    if answer.status != 200:
        raise ProviderUnusable(_refusal(answer.status, found))
    token = found.get("id_token")
    if not isinstance(token, str):
        raise ProviderUnusable("it gave no ID token for the code; allow the scope 'openid' for this application there")
    return token


def _refusal(status: int, found: dict[str, Any]) -> str:
    match found.get("error"):
        case "invalid_client" | "unauthorized_client":
            return "it does not know this application, or not with this secret; an operator can correct that"
        case "invalid_grant":
            return "it does not take the code, which counts once and for a short time"
        case _:
            return f"it refused the exchange of the code (status {status})"


def _list(found: dict[str, Any], name: str, otherwise: str) -> list[Any]:
    """What it offers; a provider that does not say offers `otherwise`."""
    value = found.get(name)
    return value if isinstance(value, list) else [otherwise]


def _address(found: dict[str, Any], name: str, *, allow_private: bool) -> str:
    value = found.get(name)
    try:
        if not isinstance(value, str) or len(value) > _URL_LENGTH:
            raise ValueError("it is missing")
        return str(check_url(value, allow_private=allow_private))
    except ValueError as error:
        raise ProviderUnusable(f"the {name!r} of its description cannot be used: {error}") from None

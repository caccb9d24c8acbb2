"""Issuers whose tokens an organisation trusts: how many, and which audiences may be its own."""

import re
from uuid import UUID

from tollhouse.core.errors import BadRequest

OF_AN_ORGANIZATION_MAX = 20
_PREFIX = "tollhouse:"
_TEXT = re.compile(r"[!-~]{1,500}")


def default_audience(organization_id: UUID) -> str:
    """What tokens for the organisation say in `aud` when nothing else is agreed; nobody else can have it."""
    return f"{_PREFIX}{organization_id}"


def check_audience(organization_id: UUID, audience: str) -> str:
    """BadRequest for what names another organisation, or nobody."""
    own = default_audience(organization_id)
    if audience.casefold().startswith(_PREFIX) and audience != own:
        raise BadRequest(
            f"An audience that begins with {_PREFIX!r} names an organisation: yours is {own!r}.", "audience"
        )
    if not _TEXT.fullmatch(audience):
        raise BadRequest("The audience must be 1 to 500 visible ASCII characters, as it stands in 'aud'.", "audience")
    return audience


def check_issuer(issuer: str) -> str:
    """BadRequest for what no token says in `iss`."""
    if not _TEXT.fullmatch(issuer):
        raise BadRequest("The issuer must be 1 to 500 visible ASCII characters, as it stands in 'iss'.", "issuer")
    return issuer

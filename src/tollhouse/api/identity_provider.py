"""Identity providers that people may sign in with, as operators manage them. No answer holds a client secret."""

import re
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from tollhouse.api.body import Body, StrictRoute, without_default
from tollhouse.api.caller import Operator
from tollhouse.api.state import Shared
from tollhouse.flows import identity_provider as flow
from tollhouse.flows.oidc import redirect_uri
from tollhouse.flows.site import Site
from tollhouse.store.identity_provider import IdentityProvider

_VISIBLE = re.compile(r"[!-~]{1,1000}")


def _visible(value: str) -> str:
    if not _VISIBLE.fullmatch(value):
        raise ValueError("must be 1 to 1000 visible ASCII characters without spaces: copy it again")
    return value


ProviderName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Visible = Annotated[str, AfterValidator(_visible)]


class NewProviderBody(Body):
    """`issuer`: exactly as the provider's description names it. Without `client_secret`: a public client."""

    name: ProviderName
    issuer: Visible
    client_id: Visible
    client_secret: Visible | None = None
    enabled: bool = True

    def wanted(self) -> flow.NewProvider:
        return flow.NewProvider(self.name, self.issuer, self.client_id, self.client_secret, self.enabled)


class ProviderChangeBody(Body):
    """What is left out stays as it is; `client_secret` null takes the secret away. Another issuer is another
    provider."""

    name: ProviderName = Field(default="", json_schema_extra=without_default)
    client_id: Visible = Field(default="", json_schema_extra=without_default)
    client_secret: Visible | None = Field(default=None, json_schema_extra=without_default)
    enabled: bool = Field(default=True, json_schema_extra=without_default)

    def wanted(self) -> flow.Change:
        given = self.model_dump(exclude_unset=True)
        secret = flow.NewSecret(given.pop("client_secret")) if "client_secret" in given else None
        return flow.Change(secret=secret, **given)


class ProviderView(BaseModel):
    """`redirect_uri` is what must be registered at the provider, exactly so."""

    id: UUID
    name: str
    issuer: str
    client_id: str
    has_secret: bool
    redirect_uri: str
    enabled: bool
    created_at: datetime
    updated_at: datetime | None

    @classmethod
    def of(cls, row: IdentityProvider, site: Site) -> Self:
        return cls(
            id=row.id, name=row.name, issuer=row.issuer, client_id=row.client_id,
            has_secret=row.secret_ciphertext is not None, redirect_uri=redirect_uri(site, row.id), enabled=row.enabled,
            created_at=row.created_at, updated_at=row.updated_at,
        )  # fmt: skip


class ProvidersView(BaseModel):
    items: list[ProviderView]


class ProviderTriedView(BaseModel):
    """How the test went; `message` is never what the provider wrote."""

    ok: bool
    message: str


router = APIRouter(prefix="/api/operator/identity-providers", tags=["operator"], route_class=StrictRoute)


@router.get("", summary="The identity providers that people may sign in with")
async def read_providers(state: Shared, order: Operator) -> ProvidersView:
    return ProvidersView(items=[ProviderView.of(row, state.site) for row in await flow.read(state.db, order)])


@router.post("", status_code=201, summary="Let people sign in with an identity provider")
async def create_provider(state: Shared, order: Operator, body: NewProviderBody) -> ProviderView:
    row = await flow.create(state.db, state.policy, state.tokens.key_sets, order, body.wanted())
    return ProviderView.of(row, state.site)


@router.post("/test", summary="Test an identity provider before it is made")
async def test_draft(state: Shared, order: Operator, body: NewProviderBody) -> ProviderTriedView:
    tried = await flow.try_draft(state.db, state.policy, state.tokens.key_sets, order, body.wanted())
    return ProviderTriedView(ok=tried.ok, message=tried.message)


@router.patch("/{provider_id}", summary="Change an identity provider, from the next sign-in on")
async def change_provider(state: Shared, order: Operator, provider_id: UUID, body: ProviderChangeBody) -> ProviderView:
    row = await flow.change(state.db, state.policy, order, provider_id, body.wanted())
    return ProviderView.of(row, state.site)


@router.delete("/{provider_id}", status_code=204, summary="Delete an identity provider, and what people linked with it")
async def delete_provider(state: Shared, order: Operator, provider_id: UUID) -> None:
    await flow.delete(state.db, order, provider_id)


@router.post("/{provider_id}/test", summary="Test an identity provider now")
async def test_provider(state: Shared, order: Operator, provider_id: UUID) -> ProviderTriedView:
    tried = await flow.try_stored(state.db, state.policy, state.tokens.key_sets, order, provider_id)
    return ProviderTriedView(ok=tried.ok, message=tried.message)

"""Issuers whose tokens an organisation trusts: who brings one of those calls as that end user."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field, StringConstraints

from tollhouse.api.body import Body, Name, StrictRoute, without_default
from tollhouse.api.caller import Acting, Allowed
from tollhouse.api.state import Shared
from tollhouse.flows import issuer as flow
from tollhouse.flows.issuer import Ordered
from tollhouse.store.jwt_issuer import JwtIssuer

Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Claim = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[!-~]+$")]


class NewIssuerBody(Body):
    """`issuer` and `audience`: what tokens say in `iss` and `aud`; without an audience, `tollhouse:<organisation id>`.
    `jwks_url`: where the issuer publishes its keys. `user_claim`: the claim that says who it is."""

    name: Name
    issuer: Text
    audience: Text | None = None
    jwks_url: Url
    user_claim: Claim = "sub"
    enabled: bool = True

    def wanted(self) -> flow.NewIssuer:
        return flow.NewIssuer(
            self.name, self.issuer, self.audience, self.jwks_url, self.user_claim, self.enabled
        )  # fmt: skip


class IssuerChangeBody(Body):
    """What is left out stays as it is. Another issuer or audience is another entry."""

    name: Name = Field(default="", json_schema_extra=without_default)
    jwks_url: Url = Field(default="", json_schema_extra=without_default)
    user_claim: Claim = Field(default="", json_schema_extra=without_default)
    enabled: bool = Field(default=True, json_schema_extra=without_default)

    def wanted(self) -> flow.Change:
        return flow.Change(**self.model_dump(exclude_unset=True))


class IssuerView(BaseModel):
    id: UUID
    name: str
    issuer: str
    audience: str
    jwks_url: str
    user_claim: str
    enabled: bool
    created_at: datetime
    updated_at: datetime | None

    @classmethod
    def of(cls, row: JwtIssuer) -> Self:
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class IssuersView(BaseModel):
    items: list[IssuerView]


class IssuerTriedView(BaseModel):
    """How the test went; `message` is never what the issuer wrote."""

    ok: bool
    message: str


async def ordering(acting: Annotated[Acting, Depends(Allowed("issuers.manage"))]) -> Ordered:
    return Ordered(acting.organization_id, acting.order)


Manager = Annotated[Ordered, Depends(ordering)]
router = APIRouter(prefix="/api/issuers", tags=["issuers"], route_class=StrictRoute)


@router.get("", summary="The issuers whose tokens are trusted")
async def read_issuers(state: Shared, manager: Manager) -> IssuersView:
    return IssuersView(items=[IssuerView.of(row) for row in await flow.read(state.db, manager.organization_id)])


@router.post("", status_code=201, summary="Trust an issuer")
async def create_issuer(state: Shared, manager: Manager, body: NewIssuerBody) -> IssuerView:
    return IssuerView.of(await flow.create(state.db, state.policy, state.tokens.key_sets, manager, body.wanted()))


@router.post("/test", summary="Test an issuer before it is trusted")
async def test_draft(state: Shared, manager: Manager, body: NewIssuerBody) -> IssuerTriedView:
    tried = await flow.try_draft(state.db, state.policy, state.tokens.key_sets, manager, body.wanted())
    return IssuerTriedView(ok=tried.ok, message=tried.message)


@router.patch("/{issuer_id}", summary="Change an issuer, within five seconds")
async def change_issuer(state: Shared, manager: Manager, issuer_id: UUID, body: IssuerChangeBody) -> IssuerView:
    return IssuerView.of(
        await flow.change(state.db, state.policy, state.tokens.key_sets, manager, issuer_id, body.wanted())
    )


@router.delete("/{issuer_id}", status_code=204, summary="Trust an issuer no more")
async def delete_issuer(state: Shared, manager: Manager, issuer_id: UUID) -> None:
    await flow.delete(state.db, manager, issuer_id)


@router.post("/{issuer_id}/test", summary="Test now whether an issuer's keys can be had")
async def test_issuer(state: Shared, manager: Manager, issuer_id: UUID) -> IssuerTriedView:
    tried = await flow.try_stored(state.db, state.policy, state.tokens.key_sets, manager, issuer_id)
    return IssuerTriedView(ok=tried.ok, message=tried.message)

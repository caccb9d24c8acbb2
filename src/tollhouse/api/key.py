"""API keys of an organisation, as its admins make, change, replace and revoke them; operators use the same bodies."""

from datetime import datetime, timedelta
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tollhouse.api.body import Body, Credits, Moment, Name, StrictRoute, Word, without_default
from tollhouse.api.caller import Acting, Allowed
from tollhouse.api.state import Shared
from tollhouse.core.cursor import cursor_of, id_in
from tollhouse.core.errors import NotFound
from tollhouse.core.key import NETWORKS_MAX, SCOPES, Mode, Scope
from tollhouse.core.money import format_credits
from tollhouse.flows import key as flow
from tollhouse.flows.key import OVERLAP_MAX, KeyChange, Manager
from tollhouse.flows.order import MadeKey, NewKey
from tollhouse.store import key as keys
from tollhouse.store.key import ApiKey

DAY_S = 24 * 60 * 60
MODELS_MAX = 200

router = APIRouter(prefix="/api/keys", tags=["keys"], route_class=StrictRoute)


def _once_each(scopes: list[Scope]) -> list[Scope]:
    return [scope for scope in SCOPES if scope in scopes]


Models = Annotated[list[Word], Field(min_length=1, max_length=MODELS_MAX)]
Networks = Annotated[list[Word], Field(min_length=1, max_length=NETWORKS_MAX)]
PerMinute = Annotated[int, Field(ge=0, le=10**9)]


class KeyBody(Body):
    """`models`: the ids of the models that it may call, others never answer in their place; without them, all.
    `networks`: the addresses that it may come from, such as 192.0.2.0/24; without them, any.
    `credits_per_month` and `requests_per_minute` (calls of models) are limits of this key's own."""

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=20), AfterValidator(_once_each)]
    mode: Mode
    expires_at: Moment | None = None
    models: Models | None = None
    credits_per_month: Credits | None = None
    requests_per_minute: PerMinute | None = None
    networks: Networks | None = None

    def wanted(self) -> NewKey:
        return NewKey(
            self.name, tuple(self.scopes), self.mode, self.expires_at,
            None if self.models is None else tuple(self.models), self.credits_per_month, self.requests_per_minute,
            None if self.networks is None else tuple(self.networks),
        )  # fmt: skip


class KeyChangeBody(Body):
    """What is left out stays as it is; null: all models, any address, no limit. An expiry may only come earlier."""

    name: Name = Field(default="", json_schema_extra=without_default)
    models: Models | None = Field(default=None, json_schema_extra=without_default)
    credits_per_month: Credits | None = Field(default=None, json_schema_extra=without_default)
    requests_per_minute: PerMinute | None = Field(default=None, json_schema_extra=without_default)
    networks: Networks | None = Field(default=None, json_schema_extra=without_default)
    expires_at: Moment = Field(default=datetime.max, json_schema_extra=without_default)

    def wanted(self) -> KeyChange:
        given = {name: getattr(self, name) for name in self.model_fields_set}
        if "models" in given:
            models = given.pop("models")
            given["model_ids"] = None if models is None else sorted(set(models))
        if "credits_per_month" in given:
            given["credits_micros_per_month"] = given.pop("credits_per_month")
        return KeyChange(given)


class RotateBody(Body):
    """For how long the former key works beside the new one: a day when nothing is said, at most seven. `expires_at` of
    the new key; without it, that of the former."""

    overlap_seconds: Annotated[int, Field(ge=0, le=OVERLAP_MAX.total_seconds())] = DAY_S
    expires_at: Moment | None = None


class KeyView(BaseModel):
    """`start` is enough to recognise a key by. `models` null: all; `networks` null: any. `created_by`:
    person:<id>, key:<id> or system. `last_used_at`: to the minute, and about a minute late. `replaced_by`: the key that
    was made in its place."""

    id: UUID
    name: str
    start: str
    scopes: list[Scope]
    mode: Mode
    models: list[str] | None
    credits_per_month: str | None
    requests_per_minute: int | None
    networks: list[str] | None
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime
    created_by: str
    last_used_at: datetime | None
    replaced_by: UUID | None

    @classmethod
    def of(cls, row: ApiKey) -> Self:
        credits = row.credits_micros_per_month
        return cls(
            id=row.id, name=row.name, start=row.start, scopes=row.scopes, mode=row.mode, models=row.model_ids,
            credits_per_month=None if credits is None else format_credits(credits),
            requests_per_minute=row.requests_per_minute, networks=row.networks, expires_at=row.expires_at,
            revoked_at=row.revoked_at, created_at=row.created_at, created_by=row.created_by,
            last_used_at=row.last_used_at, replaced_by=row.replaced_by,
        )  # fmt: skip


class MadeKeyView(KeyView):
    """`key` is shown this once: it is not stored."""

    key: str


class KeysView(BaseModel):
    items: list[KeyView]


class KeysPageView(KeysView):
    """`next_cursor` null: there are no more."""

    next_cursor: str | None


class KeysQuery(BaseModel):
    """`all`: also those that were revoked or have expired. `cursor` is the `next_cursor` of the page before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    all: bool = False
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=100)] = None


def shown_once(response: Response, made: MadeKey) -> MadeKeyView:
    """The new key, in an answer that nobody may keep."""
    response.headers["cache-control"] = "no-store"
    return MadeKeyView(**KeyView.of(made.row).model_dump(), key=made.key)


async def managing(acting: Annotated[Acting, Depends(Allowed("keys.manage"))]) -> Manager:
    return Manager(acting.organization_id, acting.order, acting.caller.credential)


OfOrganization = Annotated[Manager, Depends(managing)]


@router.get("", summary="The organisation's keys, newest first")
async def read_keys(state: Shared, manager: OfOrganization, query: Annotated[KeysQuery, Query()]) -> KeysPageView:
    before = id_in("key", query.cursor)
    async with state.db.tenant(manager.organization_id) as tx:
        found = await keys.page(tx, manager.organization_id, state.clock(), query.limit + 1, before, ended=query.all)
    items = found[: query.limit]
    more = cursor_of("key", str(items[-1].id)) if len(found) > query.limit else None
    return KeysPageView(items=[KeyView.of(row) for row in items], next_cursor=more)


@router.post("", status_code=201, summary="Make a key; it is shown this once")
async def create_key(state: Shared, manager: OfOrganization, body: KeyBody, response: Response) -> MadeKeyView:
    return shown_once(response, await flow.create(state.db, state.policy, manager, body.wanted()))


@router.get("/{key_id}", summary="A key, whatever has become of it")
async def read_key(state: Shared, manager: OfOrganization, key_id: UUID) -> KeyView:
    async with state.db.tenant(manager.organization_id) as tx:
        row = await keys.one(tx, manager.organization_id, key_id)
    if row is None:
        raise NotFound("This organisation has no such key.")
    return KeyView.of(row)


@router.patch("/{key_id}", summary="Change a key, from the next call on")
async def change_key(state: Shared, manager: OfOrganization, key_id: UUID, body: KeyChangeBody) -> KeyView:
    return KeyView.of(await flow.change(state.db, manager, key_id, body.wanted()))


@router.post("/{key_id}/rotate", status_code=201, summary="Make a new key in its place; it is shown this once")
async def rotate_key(
    state: Shared, manager: OfOrganization, key_id: UUID, body: RotateBody, response: Response
) -> MadeKeyView:
    overlap = timedelta(seconds=body.overlap_seconds)
    return shown_once(response, await flow.rotate(state.db, state.policy, manager, key_id, overlap, body.expires_at))


@router.delete("/{key_id}", summary="Revoke a key, from the next call on")
async def revoke_key(state: Shared, manager: OfOrganization, key_id: UUID) -> KeyView:
    return KeyView.of(await flow.revoke(state.db, manager, key_id))

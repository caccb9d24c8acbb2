"""What an organisation chooses for its calls through the gateway and for chats, and what was kept of them."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from tollhouse.api.body import Body, StrictRoute, without_default
from tollhouse.api.caller import Manager
from tollhouse.api.state import Shared
from tollhouse.core.errors import NotFound
from tollhouse.flows import settings as flow
from tollhouse.store import content
from tollhouse.store import settings as store
from tollhouse.store.settings import Settings

router = APIRouter(prefix="/api", tags=["settings"], route_class=StrictRoute)
TTL_MAX_S = 30 * 24 * 60 * 60
Seconds = Annotated[int, Field(ge=1, le=TTL_MAX_S)]
Days = Annotated[int, Field(ge=1, le=3650)]


class SettingsChangeBody(Body):
    """What is left out stays as it is. `cache_ttl_seconds`: for how long an answer is given again to an equal request;
    null, not at all, and what was kept is forgotten. `store_content`: prompts and answers are stored, for
    `retention_days`; what is older is deleted within the hour. `chat_retention_days`: members' chats are deleted after
    so many days without a message; null, never."""

    cache_ttl_seconds: Seconds | None = Field(default=None, json_schema_extra=without_default)
    store_content: bool = Field(default=False, json_schema_extra=without_default)
    retention_days: Days = Field(default=30, json_schema_extra=without_default)
    chat_retention_days: Days | None = Field(default=None, json_schema_extra=without_default)

    def wanted(self) -> flow.Change:
        return flow.Change(
            flow.NewTtl(self.cache_ttl_seconds) if "cache_ttl_seconds" in self.model_fields_set else None,
            self.store_content if "store_content" in self.model_fields_set else None,
            self.retention_days if "retention_days" in self.model_fields_set else None,
            flow.NewChatRetention(self.chat_retention_days) if "chat_retention_days" in self.model_fields_set else None,
        )


class SettingsView(BaseModel):
    cache_ttl_seconds: int | None
    store_content: bool
    retention_days: int
    chat_retention_days: int | None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            cache_ttl_seconds=settings.cache_ttl_s,
            store_content=settings.stores_content,
            retention_days=settings.retention_days,
            chat_retention_days=settings.chat_retention_days,
        )


class ForgottenView(BaseModel):
    """How many there were."""

    forgotten: int


class ContentView(BaseModel):
    """`prompt` is the request as it was sent, `answer` what was answered; null when the call ended without one."""

    request_id: UUID
    prompt: Any
    answer: Any
    created_at: datetime


@router.get("/settings", summary="What the organisation has chosen for its calls")
async def read_settings(state: Shared, manager: Manager) -> SettingsView:
    async with state.db.tenant(manager.organization_id) as tx:
        return SettingsView.of(await store.read(tx, manager.organization_id))


@router.patch("/settings", summary="Choose, from the next call on")
async def change_settings(state: Shared, manager: Manager, body: SettingsChangeBody) -> SettingsView:
    return SettingsView.of(await flow.change(state.db, manager.order, manager.organization_id, body.wanted()))


@router.delete("/settings/cache", summary="Forget every answer that was kept to be given again")
async def empty_cache(state: Shared, manager: Manager) -> ForgottenView:
    return ForgottenView(forgotten=await flow.empty_cache(state.db, manager.order, manager.organization_id))


@router.get("/requests/{request_id}/content", summary="What was said in a request, where it was stored")
async def read_content(state: Shared, manager: Manager, request_id: UUID, response: Response) -> ContentView:
    async with state.db.tenant(manager.organization_id) as tx:
        found = await content.find(tx, manager.organization_id, request_id)
    if found is None:
        raise NotFound("Nothing is stored of such a request. PATCH /api/settings switches storing on for later ones.")
    response.headers["cache-control"] = "no-store"
    return ContentView(
        request_id=found.request_id, prompt=found.prompt, answer=found.answer, created_at=found.created_at
    )


@router.delete("/requests/content", summary="Forget all prompts and answers that were stored")
async def forget_content(state: Shared, manager: Manager) -> ForgottenView:
    return ForgottenView(forgotten=await flow.forget_content(state.db, manager.order, manager.organization_id))

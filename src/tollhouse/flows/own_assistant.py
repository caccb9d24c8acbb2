"""What an organisation's admins make of assistants: which of the platform's their members have, with which limits, and
those of the organisation's own with what they know. Each change is one transaction with its audit row."""

import os
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from tollhouse.core.assistant import (
    Assistant,
    Offer,
    Setting,
    Task,
    TokenPeriod,
    check_open,
    is_on_from_the_start,
)
from tollhouse.core.audit import Detail
from tollhouse.core.document import DOCUMENT_MAX, passages
from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.core.key import ordered_id
from tollhouse.flows.assistant import offers_to
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.store import assistant as store
from tollhouse.store import catalogue, member
from tollhouse.store import organization as organizations
from tollhouse.store import passage as knowledge
from tollhouse.store.assistant import Document
from tollhouse.store.db import Database, TenantTx

ASSISTANTS_MAX, DOCUMENTS_MAX, TASKS_MAX = 50, 50, 12
RESERVED = frozenset({"new", "templates", "models"})  # pages beside those of assistants have these names
_COUNTED_MAX = 500
_NOBODY = UUID(int=0)  # no person: what everybody in the organisation is offered


@dataclass(frozen=True, slots=True)
class Wanted:
    """An assistant as somebody writes it."""

    name: str
    description: str
    role: str
    system_message: str
    tasks: tuple[Task, ...]
    icon: str
    model_id: str | None
    token_limit: int | None
    token_period: TokenPeriod | None


@dataclass(frozen=True, slots=True)
class Detailed:
    """An assistant as admins see it. `members`: whom its limit is for, at most 500 of them."""

    offer: Offer
    setting: Setting | None
    documents: list[Document]
    members: int
    monthly_tokens: int | None


async def listed(db: Database, organization_id: UUID, now: datetime) -> list[Offer]:
    """All that admins can decide about; what is one person's own is not theirs to see."""
    async with db.tenant(organization_id) as tx:
        return await offers_to(tx, organization_id, _NOBODY, now)


async def detailed(db: Database, organization_id: UUID, assistant_id: UUID, now: datetime) -> Detailed:
    """NotFound when there is none."""
    async with db.tenant(organization_id) as tx:
        offer = await _offer(tx, organization_id, assistant_id, now)
        monthly_tokens, _ = await _monthly_tokens(tx, organization_id)
        members = await member.page(tx, organization_id, None, _COUNTED_MAX)
        setting = (await store.settings(tx, organization_id)).get(assistant_id)
        return Detailed(offer, setting, await store.documents(tx, offer.assistant), len(members), monthly_tokens)


async def enable(db: Database, order: Order, organization_id: UUID, assistant_id: UUID) -> Assistant:
    """The members have it from now on. NotFound, PlanRequired."""
    return await _set(db, order, organization_id, assistant_id, enabled=True)


async def disable(db: Database, order: Order, organization_id: UUID, assistant_id: UUID) -> Assistant:
    """Nobody has it any more; what was said with it stays. NotFound."""
    return await _set(db, order, organization_id, assistant_id, enabled=False)


async def _set(db: Database, order: Order, organization_id: UUID, assistant_id: UUID, *, enabled: bool) -> Assistant:
    async with db.tenant(organization_id) as tx:
        await organizations.lock(tx, organization_id)
        offer = await _offer(tx, organization_id, assistant_id, order.now)
        if enabled and offer.state == "plan_required":
            check_open(offer)
        before = (await store.settings(tx, organization_id)).get(assistant_id)
        limit = before.token_limit if before is not None else None
        await store.put_setting(tx, organization_id, Setting(assistant_id, enabled, limit), order.now)
        action = "assistant.enabled" if enabled else "assistant.disabled"
        await record(tx, organization_id, order, action, _about(assistant_id), {"slug": offer.assistant.slug})
        return offer.assistant


async def set_limit(
    db: Database, order: Order, organization_id: UUID, assistant_id: UUID, tokens: int | None
) -> Assistant:
    """So many tokens for each member; None: as the assistant says. NotFound, BadRequest for more than the organisation
    has in a month."""
    async with db.tenant(organization_id) as tx:
        await organizations.lock(tx, organization_id)
        offer = await _offer(tx, organization_id, assistant_id, order.now)
        quota, kind = await _monthly_tokens(tx, organization_id)
        if tokens is not None and tokens < 1:
            raise BadRequest("A limit is at least one token. Leave it empty for the assistant's own.", "token_limit")
        if tokens is not None and quota is not None and tokens > quota:
            raise BadRequest(
                f"The plan has {quota:,} tokens a month for all members together: a limit above it would limit nobody.",
                "token_limit",
            )
        settings = await store.settings(tx, organization_id)
        before = settings.get(assistant_id, Setting(assistant_id, is_on_from_the_start(offer.assistant, kind), None))
        await store.put_setting(tx, organization_id, replace(before, token_limit=tokens), order.now)
        details: dict[str, Detail] = {
            "slug": offer.assistant.slug, "from": before.token_limit, "to": tokens
        }  # fmt: skip
        await record(tx, organization_id, order, "assistant.limited", _about(assistant_id), details)
        return offer.assistant


async def _offer(tx: TenantTx, organization_id: UUID, assistant_id: UUID, now: datetime) -> Offer:
    for offer in await offers_to(tx, organization_id, _NOBODY, now):
        if offer.assistant.id == assistant_id:
            return offer
    raise _no_such()


async def _monthly_tokens(tx: TenantTx, organization_id: UUID) -> tuple[int | None, str]:
    """What the plan gives all members together (None: no limit), and which kind of organisation it is."""
    organization = await organizations.find(tx, organization_id)
    assert organization is not None
    plan = next(one for one in await catalogue.plans(tx) if one.id == organization.plan_id)
    return plan.monthly_tokens, organization.kind


# -------------------------------------------------------------------------------------------------- of one's own making


async def create(db: Database, order: Order, organization_id: UUID, wanted: Wanted) -> Assistant:
    """A new assistant of the organisation's, which its members have at once. BadRequest for an unknown model, Conflict
    for one too many."""
    async with db.tenant(organization_id) as tx:
        await organizations.lock(tx, organization_id)
        await _check(tx, wanted)
        own = [one for one in await store.visible(tx, organization_id, _NOBODY) if not one.of_platform]
        if len(own) >= ASSISTANTS_MAX:
            raise Conflict(f"There are {ASSISTANTS_MAX} assistants here already. Delete one that is not needed.")
        now = order.now
        made = Assistant(
            organization_id, ordered_id(now, os.urandom(10)), None,
            slug_of(wanted.name, await store.slugs(tx, organization_id)), "template", wanted.name, wanted.description,
            wanted.role, wanted.system_message, wanted.tasks, wanted.icon, wanted.model_id, None, (), None,
            wanted.token_limit, wanted.token_period, None, (), False, False, True, 0, now, now,
        )  # fmt: skip
        await store.insert(tx, made)
        await store.put_setting(tx, organization_id, Setting(made.id, True, None), now)
        await record(tx, organization_id, order, "assistant.created", _about(made.id), _told(made))
        return made


async def change(
    db: Database, order: Order, organization_id: UUID, assistant_id: UUID, wanted: Wanted
) -> Assistant:  # fmt: skip
    """NotFound for one that is not the organisation's own, BadRequest for an unknown model."""
    async with db.tenant(organization_id) as tx:
        await organizations.lock(tx, organization_id)
        before = await _own(tx, organization_id, assistant_id)
        if wanted.model_id != before.model_id:
            await _check(tx, wanted)
        after = replace(
            before, name=wanted.name, description=wanted.description, role=wanted.role,
            system_message=wanted.system_message, tasks=wanted.tasks, icon=wanted.icon, model_id=wanted.model_id,
            token_limit=wanted.token_limit, token_period=wanted.token_period, updated_at=order.now,
        )  # fmt: skip
        await store.update(tx, after)
        await record(tx, organization_id, order, "assistant.changed", _about(assistant_id), _told(after))
        return after


async def delete(db: Database, order: Order, organization_id: UUID, assistant_id: UUID) -> Assistant:
    """NotFound for one that is not the organisation's own. Conversations with it stay."""
    async with db.tenant(organization_id) as tx:
        await organizations.lock(tx, organization_id)
        one = await _own(tx, organization_id, assistant_id)
        await store.delete(tx, organization_id, assistant_id, order.now)
        await record(tx, organization_id, order, "assistant.deleted", _about(assistant_id), {"slug": one.slug})
        return one


async def add_document(
    db: Database, order: Order, organization_id: UUID, assistant_id: UUID, title: str, source: str, text: str
) -> int:
    """Something that an assistant of the organisation's own shall know. How many passages it was cut into. NotFound,
    BadRequest for a text that is empty or too long, Conflict for one document too many."""
    if len(text) > DOCUMENT_MAX:
        raise BadRequest(f"A document has at most {DOCUMENT_MAX:,} characters. Divide it.", "text")
    pieces = passages(text)
    if not pieces:
        raise BadRequest("There is no text in it. Paste what the assistant shall know.", "text")
    async with db.tenant(organization_id) as tx:
        await organizations.lock(tx, organization_id)
        one = await _own(tx, organization_id, assistant_id)
        if len(await store.documents(tx, one)) >= DOCUMENTS_MAX:
            raise Conflict(f"An assistant knows at most {DOCUMENTS_MAX} documents. Delete one that is not needed.")
        new = knowledge.NewDocument(ordered_id(order.now, os.urandom(10)), title, source, pieces)
        await knowledge.insert(tx, one, new, order.now)
        details: dict[str, Detail] = {"document": str(new.id), "passages": len(pieces), "characters": len(text)}
        await record(tx, organization_id, order, "assistant.document_added", _about(assistant_id), details)
        return len(pieces)


async def remove_document(
    db: Database, order: Order, organization_id: UUID, assistant_id: UUID, document_id: UUID
) -> None:
    """NotFound when it is none of an assistant of the organisation's own."""
    async with db.tenant(organization_id) as tx:
        await organizations.lock(tx, organization_id)
        one = await _own(tx, organization_id, assistant_id)
        if not await knowledge.delete(tx, one, document_id):
            raise NotFound("This assistant has no such document.")
        details: dict[str, Detail] = {"document": str(document_id)}
        await record(tx, organization_id, order, "assistant.document_removed", _about(assistant_id), details)


async def _own(tx: TenantTx, organization_id: UUID, assistant_id: UUID) -> Assistant:
    one = await store.find(tx, organization_id, assistant_id)
    if one is None or one.of_platform or one.person_id is not None:
        raise _no_such()
    return one


async def _check(tx: TenantTx, wanted: Wanted) -> None:
    known = {one.id for one in await catalogue.models(tx) if one.enabled and one.selectable and one.kind == "chat"}
    if wanted.model_id is not None and wanted.model_id not in known:
        raise BadRequest("There is no such model to choose. Take one of the list.", "model")


def slug_of(name: str, taken: Collection[str]) -> str:
    """The name as it stands in addresses, with a number where another has it already."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    start = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:50].strip("-") or "assistant"
    tries = (start if number == 1 else f"{start}-{number}" for number in range(1, len(taken) + 3 + len(RESERVED)))
    return next(one for one in tries if one not in taken and one not in RESERVED)


def _about(assistant_id: UUID) -> tuple[str, str]:
    return "assistant", str(assistant_id)


def _told(one: Assistant) -> dict[str, Detail]:
    """What of it stands in the audit log: not what it is told, which may hold names."""
    return {
        "slug": one.slug, "model": one.model_id, "tasks": len(one.tasks), "token_limit": one.token_limit,
        "token_period": one.token_period,
    }  # fmt: skip


def _no_such() -> NotFound:
    return NotFound("There is no such assistant here. Choose one of the list.")

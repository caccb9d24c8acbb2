"""`GET /v1/models`, `/v1/models/{id}` and `/v1/key`: what may be asked for, and what is left of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from starlette.requests import Request

from tollhouse.core.ask import AUTO
from tollhouse.core.catalogue import Plan
from tollhouse.core.errors import BadRequest, NotFound
from tollhouse.core.money import format_credits
from tollhouse.core.period import end_of
from tollhouse.core.quota import Counter, Window, counter
from tollhouse.core.refusals import ModelNotFound
from tollhouse.core.routing import Model
from tollhouse.flows.auth import Caller
from tollhouse.gateway.lookup import page_size, parameters, speaks_anthropic
from tollhouse.gateway.state import State
from tollhouse.store import catalogue, credit, jwt_issuer, key, organization, quota
from tollhouse.store.db import TenantTx

PAGE, PAGE_MAX = 20, 1000  # as at Anthropic

_AUTO = {
    "display_name": "Auto",
    "kind": "chat",
    "note": "Answered by the model that fits the question, of those that need no unlocking; the answer names it.",
}


class Catalogue:
    """What is found, as `gateway.lookup.Look`. Models have OpenAI's shape, or Anthropic's for those who speak that;
    fields of ours stand beside the vendor's."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def models(self, request: Request, caller: Caller) -> object:
        """Those that may be asked for by name, in the order in which they are shown, and `auto`. A key that is for some
        models finds these alone."""
        models = await self._models(caller)
        if speaks_anthropic(request.scope):
            return _page(_as_anthropic(models), request)
        return {"object": "list", "data": _as_openai(models)}

    async def model(self, request: Request, caller: Caller) -> object:
        wanted, shape = (
            request.path_params["model_id"],
            _as_anthropic if speaks_anthropic(request.scope) else _as_openai,
        )
        found = next((one for one in shape(await self._models(caller)) if one["id"] == wanted), None)
        if found is None:
            raise ModelNotFound(wanted)
        return found

    async def key(self, request: Request, caller: Caller) -> object:
        """Who calls, what their organisation may spend, and every limit with what is left and its reset."""
        async with self._state.db.tenant(caller.organization_id) as tx:
            plans = {plan.id: plan for plan in await catalogue.plans(tx)}
            owner = await organization.find(tx, caller.organization_id)
            who = await _who(tx, caller)
            statement = await credit.statement(tx, caller.organization_id, self._state.clock())
            if owner is None or who is None or statement is None:
                raise NotFound("The organisation is gone.")
            balance, now = statement.balance, statement.now
            limits = _limits(caller, plans[owner.plan_id], now)
            windows = await quota.read(tx, caller.organization_id, [about.window_id for about, _, _ in limits])
        return {
            **who,
            "organization_id": owner.id,
            "plan": owner.plan_id,
            "credits": {
                "available": format_credits(balance.available_micros),
                "spendable": format_credits(balance.spendable_micros),
                "reserved": format_credits(balance.held_micros),
                "resets_at": balance.period_end,
            },
            "limits": [_limit(scope, about, maximum, windows) for about, maximum, scope in limits],
        }

    async def _models(self, caller: Caller) -> list[Model]:
        async with self._state.db.tenant(caller.organization_id) as tx:
            only = await key.models(tx, caller.organization_id, caller.credential.id)
            found = [model for model in await catalogue.models(tx) if model.selectable and model.enabled]
        return found if only is None else [model for model in found if model.id in only]


async def _who(tx: TenantTx, caller: Caller) -> dict[str, Any] | None:
    """The key, the person, or the end user of a token. None: gone meanwhile."""
    id_, signed = caller.credential.id, caller.signed
    if signed is not None:
        return {"object": "person", "id": id_, "name": signed.name, "email": signed.email, "role": signed.role}
    if caller.credential.kind == "issuer":
        issuer = await jwt_issuer.one(tx, caller.organization_id, id_)
        if issuer is None:
            return None
        trusted = {"id": issuer.id, "name": issuer.name}
        return {"object": "end_user", "id": caller.subject_id, "user": caller.identity.end_user, "issuer": trusted}
    mine = await key.one(tx, caller.organization_id, id_)
    if mine is None:
        return None
    own = mine.credits_micros_per_month
    return {
        "object": "key",
        "id": mine.id,
        "name": mine.name,
        "start": mine.start,
        "mode": mine.mode,
        "scopes": mine.scopes,
        "models": mine.model_ids,
        "networks": mine.networks,
        "credits_per_month": None if own is None else format_credits(own),
        "requests_per_minute": mine.requests_per_minute,
        "expires_at": mine.expires_at,
    }


def _as_openai(models: Sequence[Model]) -> list[dict[str, Any]]:
    shown = [
        {
            "id": model.id,
            "object": "model",
            "created": int(model.created_at.timestamp()),
            "owned_by": model.provider_id,
            "display_name": model.display_name,
            **_ours(model),
        }
        for model in models
    ]
    since = _chat_since(models)
    if since is not None:
        auto = {"id": AUTO, "object": "model", "created": int(since.timestamp()), "owned_by": "tollhouse"}
        shown.append(auto | _AUTO)
    return shown


def _as_anthropic(models: Sequence[Model]) -> list[dict[str, Any]]:
    """Without those that do not chat: that dialect has nothing else."""
    shown = [
        {
            "type": "model",
            "id": model.id,
            "display_name": model.display_name,
            "created_at": model.created_at,
            **_ours(model),
        }
        for model in models
        if model.kind == "chat"
    ]
    since = _chat_since(models)
    if since is not None:
        shown.append({"type": "model", "id": AUTO, "created_at": since} | _AUTO)
    return shown


def _ours(model: Model) -> dict[str, Any]:
    """From `deprecated_at` on, which may lie ahead, the replacement answers, where one is named."""
    fields: dict[str, Any] = {
        "kind": model.kind,
        "tier": model.tier,
        "price_cents": model.price_cents,
        "daily_messages": model.daily_messages,
        "trial_messages": model.trial_messages,
        "max_output_tokens": model.max_output_tokens if model.kind == "chat" else None,
    }
    if model.deprecated_at is not None:
        fields |= {"deprecated_at": model.deprecated_at, "replacement": model.replacement_id}
    return fields


def _chat_since(models: Sequence[Model]) -> datetime | None:
    """When there was the first model that `auto` could choose; None: there is none."""
    return min((model.created_at for model in models if model.kind == "chat"), default=None)


def _page(shown: list[dict[str, Any]], request: Request) -> dict[str, Any]:
    """Anthropic's page: after the model that `after_id` names, or just before the one that `before_id` names.
    BadRequest for a parameter that is none of theirs, and for a model that is not in the list (any more)."""
    given = parameters(request, ("limit", "after_id", "before_id"))
    size = page_size(given.get("limit"), PAGE, PAGE_MAX)
    if "after_id" in given and "before_id" in given:
        raise BadRequest("Send after_id or before_id, not both.", "before_id")
    places = {one["id"]: place for place, one in enumerate(shown)}
    for name in ("after_id", "before_id"):
        if name in given and given[name] not in places:
            raise BadRequest(f"{name!r} names no model of this list. Begin again without it.", name)
    if "before_id" in given:
        end = places[given["before_id"]]
        page, more = shown[max(0, end - size) : end], end > size
    else:
        start = places[given["after_id"]] + 1 if "after_id" in given else 0
        page, more = shown[start : start + size], start + size < len(shown)
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return {"data": page, "has_more": more, "first_id": first, "last_id": last}


def _limits(caller: Caller, plan: Plan, now: datetime) -> list[tuple[Counter, int | None, str]]:
    """The limits that hold whatever model is asked for."""
    return [
        (counter(caller.subject_id, "messages", "day", now), plan.daily_messages, "user"),
        (counter(caller.organization_id, "tokens", "month", now), plan.monthly_tokens, "organization"),
    ]


def _limit(scope: str, about: Counter, maximum: int | None, windows: dict[Any, Window]) -> dict[str, Any]:
    window = windows.get(about.window_id) or Window(about)
    return {
        "scope": scope,
        "meter": about.meter,
        "period": about.period,
        "limit": maximum,
        "used": window.used,
        "remaining": None if maximum is None else max(0, maximum - window.used - window.reserved),
        "resets_at": end_of(about.period, about.starts_at),
    }

"""`GET /v1/models`, `/v1/models/{id}` and `/v1/key`: what may be asked for, and what is left of it."""

import os
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tollhouse.core.catalogue import Plan
from tollhouse.core.errors import ModelNotFound, NotFound
from tollhouse.core.key import ordered_id
from tollhouse.core.money import format_credits
from tollhouse.core.period import end_of
from tollhouse.core.quota import Counter, Window, counter
from tollhouse.core.routing import Model
from tollhouse.flows.auth import Caller, authenticate, credential_of, require
from tollhouse.gateway.dialect.chat_error import error_body, error_headers
from tollhouse.gateway.http import refusal_of
from tollhouse.gateway.state import State
from tollhouse.store import catalogue, credit, key, organization, quota


class Catalogue:
    """The handlers; each answers in OpenAI's shapes, with fields of ours beside."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def models(self, request: Request) -> Response:
        try:
            await self._caller(request)
            async with self._state.db.nobody() as tx:
                found = await catalogue.models(tx)
            shown = [_shape(model) for model in found if model.selectable and model.enabled]
            return self._answer({"object": "list", "data": shown})
        except Exception as error:
            return self._refuse(error)

    async def model(self, request: Request) -> Response:
        model_id = request.path_params["model_id"]
        try:
            await self._caller(request)
            async with self._state.db.nobody() as tx:
                found = await catalogue.models(tx)
            model = next((one for one in found if one.id == model_id and one.selectable and one.enabled), None)
            if model is None:
                raise ModelNotFound(model_id)
            return self._answer(_shape(model))
        except Exception as error:
            return self._refuse(error)

    async def key(self, request: Request) -> Response:
        """The key itself, what its organisation may spend, and every limit with what is left and its reset."""
        try:
            caller = await self._caller(request)
            return self._answer(await self._key(caller))
        except Exception as error:
            return self._refuse(error)

    async def _caller(self, request: Request) -> Caller:
        credential = credential_of(request.scope["headers"])
        caller = await authenticate(self._state.db, self._state.secret, credential, self._state.clock())
        require(caller, "gateway")
        return caller

    async def _key(self, caller: Caller) -> dict[str, Any]:
        async with self._state.db.tenant(caller.organization_id) as tx:
            plans = {plan.id: plan for plan in await catalogue.plans(tx)}
            owner = await organization.find(tx, caller.organization_id)
            mine = await key.one(tx, caller.organization_id, caller.key_id)
            statement = await credit.statement(tx, caller.organization_id, self._state.clock())
            if owner is None or mine is None or statement is None:
                raise NotFound("This key's organisation is gone.")
            balance, now = statement.balance, statement.now
            limits = _limits(caller, plans[owner.plan_id], now)
            windows = await quota.read(tx, caller.organization_id, [about.window_id for about, _, _ in limits])
        return {
            "object": "key",
            "id": mine.id,
            "name": mine.name,
            "start": mine.start,
            "mode": mine.mode,
            "scopes": mine.scopes,
            "expires_at": mine.expires_at,
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

    def _answer(self, body: object) -> Response:
        return Response(msgspec.json.encode(body), media_type="application/json", headers=self._id())

    def _refuse(self, found: Exception) -> Response:
        error = refusal_of(found)
        headers = self._id() | {name.decode(): value.decode() for name, value in error_headers(error)}
        return Response(error_body(error), error.status, media_type="application/json", headers=headers)

    def _id(self) -> dict[str, str]:
        return {"x-request-id": str(ordered_id(self._state.clock(), os.urandom(10)))}


def _shape(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": int(model.created_at.timestamp()),
        "owned_by": model.provider_id,
        "display_name": model.display_name,
        "tier": model.tier,
        "price_cents": model.price_cents,
        "daily_messages": model.daily_messages,
        "trial_messages": model.trial_messages,
        "max_output_tokens": model.max_output_tokens,
    }


def _limits(caller: Caller, plan: Plan, now: datetime) -> list[tuple[Counter, int | None, str]]:
    """The limits that hold whatever model is asked for."""
    own = caller.organization_id
    return [
        (counter(own, "messages", "day", now), plan.daily_messages, "user"),
        (counter(own, "tokens", "month", now), plan.monthly_tokens, "organization"),
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

"""Models and preferences for host applications, for people and for those who come with a token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from tests.api.conftest import ORIGIN, Api, Reply
from tests.api.connecting import rows, serving
from tests.api.test_carriers import cookie
from tests.carriers import KEYRING, Carriers, bearer, carriers
from tests.conftest import Cluster, SeededTemplate
from tollhouse.flows.connection import Policy

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODELS, PREFERENCES = "/api/models", "/api/profile/model-preferences"
GPT, MINI, HAIKU = "gpt-4o", "gpt-4o-mini", "claude-3-5-haiku"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[Api]:
    """One server for all; in the end its ledger must prove."""
    with cluster.database(seeded_template.name) as url:
        async with serving(url, seeded_template.operator_key, Policy(KEYRING, "test", allow_private=True)) as running:
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cast(client: Api) -> AsyncIterator[Carriers]:
    async with carriers(client.database_url, ORIGIN) as made:
        yield made


@dataclass(frozen=True)
class Host:
    """A host application with a key that acts for its end users."""

    api: Api
    id: str
    key: str

    def as_user(self, user: str) -> dict[str, str]:
        return bearer(self.key) | {"X-Tollhouse-User": user}

    async def shown(self, user: str, model_id: str) -> Any:
        """A model as it stands for an end user."""
        data = (await asked(self.api, MODELS, self.as_user(user)))["data"]
        [found] = [one for one in (*data["free"], *data["premium"]) if one["id"] == model_id]
        return found

    async def use(self, user: str, model_id: str) -> Reply:
        """One message."""
        body = {"model": model_id, "input_tokens": 10, "max_output_tokens": 256}
        held = await self.api.call(
            "POST", "/api/credits/reservations", body, Idempotency_Key=str(uuid4()), **self.as_user(user)
        )
        if held.status == 201:
            usage = {"usage": {"input_tokens": 10, "output_tokens": 10}}
            path = f"/api/credits/reservations/{held.body['id']}/settle"
            settled = await self.api.call("POST", path, usage, **self.as_user(user))
            assert settled.status == 200, settled.text
        return held


async def host(client: Api) -> Host:
    organization_id = await client.organization("pro")
    return Host(client, organization_id, await client.key(organization_id, "gateway", "credits", "act_as"))


async def asked(client: Api, path: str, headers: dict[str, str]) -> Any:
    reply = await client.call("GET", path, **headers)
    assert reply.status == 200, reply.text
    return reply.body


async def choose(client: Api, headers: dict[str, str], **body: Any) -> Reply:
    return await client.call("PATCH", PREFERENCES, body, **headers)


def midnight() -> str:
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (day + timedelta(days=1)).isoformat().replace("+00:00", "Z")


async def test_models_stand_there_free_and_premium_with_trial_price_and_decision(client: Api) -> None:
    mill = await host(client)
    data = (await asked(client, MODELS, mill.as_user("ada")))["data"]
    assert set(data) == {"free", "premium", "user_preferences"}
    assert data["user_preferences"] == {"default_model_id": None, "persona_overrides": {}}
    assert {one["tier"] for one in data["free"]} == {"free"} and {one["tier"] for one in data["premium"]} == {"premium"}
    gpt = await mill.shown("ada", GPT)
    assert (gpt["price_cents"], gpt["purchased"], gpt["trial"]) == (299, False, {"remaining": 2, "total": 2})
    assert gpt["usage_today"] == {"used": 0, "limit": 50, "resets_at": midnight()}
    decision = gpt["decision"]
    assert (decision["can_proceed"], decision["state"], decision["reason"]) == (True, "trial", None)
    assert gpt["metadata"] == {
        "speed": "standard", "quality": "excellent", "context_window": 128_000, "cost_per_1m_tokens": 2.5,
        "best_for": ["Deep analysis", "Complex questions", "Nuanced reasoning"],
    }  # fmt: skip
    assert "purchased" not in await mill.shown("ada", MINI)


async def test_the_trial_is_counted_for_each_end_user_and_then_says_what_helps(client: Api) -> None:
    mill = await host(client)
    path = f"{MODELS}/{GPT}/trial-status"
    for left in (1, 0):
        assert (await mill.use("ada", GPT)).status == 201
        status = (await asked(client, path, mill.as_user("ada")))["data"]
        assert status == {
            "trial_messages_remaining": left, "total_trial_messages": 2, "can_use_trial": left > 0,
        }  # fmt: skip
    gpt = await mill.shown("ada", GPT)
    refused = await mill.use("ada", GPT)
    assert (gpt["decision"]["state"], gpt["decision"]["reason"]) == ("trial_exhausted", refused.body["code"])
    assert gpt["decision"]["hints"][0] | {"price_cents": 299, "kind": "unlock"} == gpt["decision"]["hints"][0]
    assert (await asked(client, path, mill.as_user("bob")))["data"]["trial_messages_remaining"] == 2
    free = (await asked(client, f"{MODELS}/{MINI}/trial-status", mill.as_user("ada")))["data"]
    assert free == {"trial_messages_remaining": 0, "total_trial_messages": 0, "can_use_trial": False}


async def test_usage_counts_the_day_and_an_unlocked_model_is_purchased(client: Api) -> None:
    mill = await host(client)
    await mill.use("ada", MINI)
    usage = (await asked(client, f"{MODELS}/{MINI}/usage", mill.as_user("ada")))["data"]
    assert usage == {
        "messages_used_today": 1, "daily_limit": None, "limit_resets_at": midnight(), "has_unlimited_access": True,
    }  # fmt: skip
    grant = {"organization_id": mill.id, "model_id": GPT, "source": "admin_grant", "note": "for the fair"}
    assert (await client.order("POST", "/entitlements", grant)).status == 201
    await mill.use("ada", GPT)
    usage = (await asked(client, f"{MODELS}/{GPT}/usage", mill.as_user("ada")))["data"]
    assert (usage["messages_used_today"], usage["daily_limit"], usage["has_unlimited_access"]) == (1, 50, False)
    gpt = await mill.shown("ada", GPT)
    assert gpt["purchased"] and gpt["decision"]["state"] == "unlocked" and gpt["trial"]["remaining"] == 2
    for path in (f"{MODELS}/gpt-nothing/usage", f"{MODELS}/gpt-nothing/trial-status"):
        missing = await client.call("GET", path, **mill.as_user("ada"))
        assert (missing.status, missing.body["code"]) == (404, "model_not_found")


async def test_preferences_are_chosen_by_slug_kept_and_replaced(client: Api) -> None:
    mill = await host(client)
    ada = mill.as_user("ada")
    chosen = await choose(client, ada, default_model_id=HAIKU, persona_overrides={"marcus": MINI, "laozi": HAIKU})
    assert chosen.status == 200, chosen.text
    assert chosen.body["data"] == {
        "default_model_id": HAIKU, "persona_overrides": {"marcus": MINI, "laozi": HAIKU},
    }  # fmt: skip
    assert (await choose(client, ada, persona_overrides={"marcus": HAIKU})).status == 200
    kept = (await asked(client, MODELS, ada))["data"]["user_preferences"]
    assert kept == {"default_model_id": HAIKU, "persona_overrides": {"marcus": HAIKU}}
    cleared = await choose(client, ada, default_model_id=None)
    assert cleared.body["data"] == {"default_model_id": None, "persona_overrides": {"marcus": HAIKU}}
    assert (await choose(client, ada)).body["data"] == cleared.body["data"]  # nothing named, nothing changed
    other = (await asked(client, MODELS, mill.as_user("bob")))["data"]["user_preferences"]
    assert other == {"default_model_id": None, "persona_overrides": {}}
    found = await rows(client, "SELECT FROM audit WHERE organization_id = %s AND action LIKE 'pref%%'", UUID(mill.id))
    assert found == []  # nobody's business but their own


async def test_what_cannot_be_chosen_is_refused_with_its_field_or_price_and_changes_nothing(client: Api) -> None:
    mill = await host(client)
    ada = mill.as_user("ada")
    await choose(client, ada, default_model_id=HAIKU)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"default_model_id": "gpt-nothing"}, "default_model_id"),
        ({"default_model_id": "text-embedding-3-small"}, "default_model_id"),
        ({"persona_overrides": {"marcus": "gpt-nothing"}}, "persona_overrides"),
        ({"persona_overrides": {"nobody": MINI}}, "persona_overrides"),
        ({"default_model_id": 7}, "default_model_id"),
        ({"persona_overrides": ["marcus"]}, "persona_overrides"),
        ({"default_model": MINI}, "default_model"),
    ]
    for body, field in wrong:
        refused = await choose(client, ada, **body)
        assert refused.status in (400, 422), refused.text
        assert field in refused.text, refused.text
    for body in ({"default_model_id": GPT}, {"default_model_id": MINI, "persona_overrides": {"marcus": GPT}}):
        locked = await choose(client, ada, **body)  # its trial goes on, and would end in the middle of a chat
        assert (locked.status, locked.body["code"]) == (403, "model_locked"), locked.text
        assert (locked.body["model_id"], locked.body["price_cents"]) == (GPT, 299)
    kept = (await asked(client, MODELS, ada))["data"]["user_preferences"]
    assert kept == {"default_model_id": HAIKU, "persona_overrides": {}}


async def test_a_model_that_is_switched_off_is_gone_and_cannot_be_chosen(client: Api, cast: Carriers) -> None:
    mill = await host(client)
    await cast.change("UPDATE model SET enabled = false WHERE id = 'llama-3.1-8b'")
    try:
        data = (await asked(client, MODELS, mill.as_user("ada")))["data"]
        assert "llama-3.1-8b" not in [one["id"] for one in data["free"]]
        refused = await choose(client, mill.as_user("ada"), default_model_id="llama-3.1-8b")
        assert refused.status == 400 and refused.body["errors"][0]["field"] == "default_model_id", refused.text
    finally:
        await cast.change("UPDATE model SET enabled = true WHERE id = 'llama-3.1-8b'")


async def test_sessions_tokens_and_keys_choose_for_whom_they_speak(client: Api, cast: Carriers) -> None:
    mill = await host(client)
    organization_id = UUID(mill.id)
    person = cookie(await cast.session(await cast.member(organization_id), organization_id))
    token = bearer((await cast.issuer(organization_id)).token("ada"))
    for headers, model_id in ((person, MINI), (token, HAIKU)):
        assert (await choose(client, headers, default_model_id=model_id)).status == 200
    for headers, model_id in ((person, MINI), (token, HAIKU), (mill.as_user("ada"), HAIKU)):
        kept = (await asked(client, MODELS, headers))["data"]["user_preferences"]
        assert kept["default_model_id"] == model_id  # the key's end user is the token's
    alone = bearer(mill.key)
    assert (await asked(client, MODELS, alone))["data"]["user_preferences"]["default_model_id"] is None
    refused = await choose(client, alone, default_model_id=MINI)
    assert refused.status == 400 and "X-Tollhouse-User" in refused.body["detail"]


async def test_who_may_not_speak_for_others_is_refused(client: Api, cast: Carriers) -> None:
    mill = await host(client)
    organization_id = UUID(mill.id)
    person = cookie(await cast.session(await cast.member(organization_id), organization_id))
    token = bearer((await cast.issuer(organization_id)).token("ada"))
    without = bearer(await client.key(mill.id, "gateway"))
    useless = bearer(await client.key(mill.id, "manage"))
    named = {"X-Tollhouse-User": "bob"}
    for headers in (person | named, token | named, without | named, useless):
        for reply in (
            await client.call("GET", MODELS, **headers),
            await choose(client, headers, default_model_id=MINI),
        ):
            assert (reply.status, reply.body["code"]) == (403, "forbidden"), reply.text
    assert (await client.call("GET", MODELS)).status == 401
    other = await host(client)
    await choose(client, mill.as_user("ada"), default_model_id=HAIKU)
    assert (await asked(client, MODELS, other.as_user("ada")))["data"]["user_preferences"]["default_model_id"] is None

"""Refusals under an idempotency key: those that stand, and those that are put right under the same key."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.gateway.repeated import code, post
from tests.gateway.surfaces import SURFACES, Surface, Wish
from tests.house import House, Tenant, ask

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

SHORT = "sandbox:tokens=5 sandbox:delay=0"

each_surface = pytest.mark.parametrize("surface", SURFACES, ids=[one.name for one in SURFACES])


@each_surface
async def test_a_refusal_for_want_of_credits_stands(house: House, surface: Surface) -> None:
    """Also when there are credits by now: another key is another try."""
    tenant = await house.organization(credits="0")
    body = surface.body(Wish(SHORT, "sandbox"))
    first = await post(house, tenant, surface.path, body, "a key")
    assert (first.status, code(first)) == (402, "insufficient_credits")
    grant = {"source": "topup", "credits": "5", "note": "late"}
    await house.order("POST", f"/organizations/{tenant.id}/grants", grant, **{"idempotency-key": str(uuid4())})
    again = await post(house, tenant, surface.path, body, "a key")
    assert again.status == 402 and again.body["error"] == first.body["error"]
    assert again.headers["x-should-retry"] == "false"
    assert [state for state, _ in await house.requests(tenant)] == []
    assert (await post(house, tenant, surface.path, body, "another key")).status == 200


async def test_a_refusal_of_the_plan_stands(house: House) -> None:
    path = SURFACES[0].path
    plain = await house.organization(plan="free")
    use: dict[str, Any] = {"X_Tollhouse_Capability": "testimonial_polish"}
    denied = [await post(house, plain, path, ask("hi", "auto"), "a key", **use) for _ in range(2)]
    locked = await house.organization(plan="free")
    await house.change("UPDATE model SET trial_messages = 0 WHERE id = 'gpt-4o'")
    refused = [await post(house, locked, path, ask("hi", "gpt-4o"), "a key") for _ in range(2)]
    await house.change("UPDATE model SET trial_messages = 2 WHERE id = 'gpt-4o'")
    assert [(reply.status, code(reply)) for reply in denied] == [(403, "capability_denied")] * 2
    assert [(reply.status, code(reply)) for reply in refused] == [(403, "model_locked")] * 2
    assert denied[0].body == denied[1].body and refused[0].body == refused[1].body
    assert denied[0].body["error"]["metadata"]["hints"][0]["kind"] == "upgrade"
    after = await post(house, locked, path, ask("hi", "gpt-4o"), "a key")
    assert (after.status, code(after)) == (403, "model_locked")


async def test_what_is_wrong_with_the_request_itself_is_not_kept(house: House) -> None:
    """It is put right under the same key: the body, the model, the key of the API, what has passed in a minute."""
    tenant, path = await house.organization(), SURFACES[0].path
    body = ask(SHORT, "sandbox")
    assert (await post(house, tenant, path, ask("hi", temperature="hot"), "one")).status == 400
    assert (await post(house, tenant, path, ask("hi", "gpt-17"), "one")).status == 404
    stranger = Tenant(tenant.id, "th_test_" + "x" * 36)
    assert (await post(house, stranger, path, body, "one")).status == 401
    reader = Tenant(tenant.id, (await house.key(tenant.id, ("credits",)))["key"])
    assert (await post(house, reader, path, body, "one")).status == 403
    assert (await post(house, tenant, path, body, "one")).status == 200
    rule = {"scope": "organization", "meter": "messages", "period": "minute", "maximum": 1}
    made = await house.order("POST", f"/organizations/{tenant.id}/limits", rule)
    assert (await post(house, tenant, path, body, "two")).status == 200
    limited = await post(house, tenant, path, body, "three")
    assert limited.status == 429 and int(limited.headers["retry-after"]) <= 60
    await house.call(
        "DELETE", f"/api/operator/organizations/{tenant.id}/limits/{made['id']}",
        headers={"authorization": f"Bearer {house.operator_key}"},
    )  # fmt: skip
    assert (await post(house, tenant, path, body, "three")).status == 200


async def test_an_answer_is_told_again_only_to_whom_it_was_for(house: House) -> None:
    """A key that was revoked, or that lacks the scope, gets nothing out of the books."""
    tenant, path, body = await house.organization(), SURFACES[0].path, ask(SHORT, "sandbox")
    made = await house.key(tenant.id)
    first = await post(house, Tenant(tenant.id, made["key"]), path, body, "a key")
    assert first.status == 200
    assert (await post(house, tenant, path, body, "a key")).body == first.body  # another key of the organisation
    reader = Tenant(tenant.id, (await house.key(tenant.id, ("credits",)))["key"])
    assert (await post(house, reader, path, body, "a key")).status == 403
    await house.change("UPDATE api_key SET revoked_at = now() WHERE id = %s", made["id"])
    assert (await post(house, Tenant(tenant.id, made["key"]), path, body, "a key")).status == 401

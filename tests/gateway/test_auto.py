"""Who answers when another model than the one that was named does: `auto`, experiments, replacements of deprecated
models, and the models of a capability."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import Cluster, SeededTemplate
from tests.fake_provider import FakeProvider
from tests.gateway.bill import due
from tests.gateway.connected import connected_house, rest
from tests.gateway.surfaces import SURFACES, Heard, Surface, Wish
from tests.house import House, Reply, Tenant, ask, micros

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

FAST, BALANCED, POWERFUL = "gpt-4o-mini", "gpt-4o", "claude-3-5-haiku"  # the second is premium, with a trial of two
END = "sandbox:tokens=3 sandbox:delay=0"
SIMPLE = f"What is the capital of France? {END}"
MODERATE = f"Explain why, and compare. {END}"
COMPLEX = f"```\ndef f(x): return x\n``` Explain why this algorithm works, and prove it. {END}"

each_surface = pytest.mark.parametrize("surface", SURFACES, ids=[one.name for one in SURFACES])
plain_and_stream = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate, provider: FakeProvider) -> AsyncIterator[House]:
    """The fake provider is all three vendors, and there is a free model of the powerful kind."""
    connected = {
        "OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "sk-openai-0123456789",
        "ANTHROPIC_BASE_URL": provider.root, "ANTHROPIC_API_KEY": "sk-ant-0123456789",
        "GOOGLE_BASE_URL": provider.root, "GOOGLE_API_KEY": "AIza-google-0123456789",
    }  # fmt: skip
    async with connected_house(cluster, seeded_template, connected) as made:
        await made.change("UPDATE model SET quality_tier = 'powerful' WHERE id = %s", POWERFUL)
        yield made


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def rested(house: House) -> None:
    await rest(house)


async def post(house: House, tenant: Tenant, surface: Surface, wish: Wish, **headers: str) -> Reply:
    sent = tenant.headers | {name.replace("_", "-"): value for name, value in headers.items()}
    return await house.call("POST", surface.path, json=surface.body(wish), headers=sent)


def heard(surface: Surface, wish: Wish, reply: Reply) -> Heard:
    assert reply.status == 200, reply.raw
    return surface.stream(reply.raw) if wish.stream else surface.plain(reply.body)


async def chat(house: House, tenant: Tenant, text: str, model: str = "auto", **headers: Any) -> Reply:
    """A call that is answered."""
    reply = await house.chat(tenant, ask(text, model), **headers)
    assert reply.status == 200, reply.raw
    return reply


def answered_by(reply: Reply) -> tuple[str, str | None]:
    """Which model, and why."""
    return reply.headers["x-tollhouse-model"], reply.headers.get("x-tollhouse-reason")


async def written(house: House, tenant: Tenant) -> list[tuple[Any, ...]]:
    """Of each call what was asked for, who answered and why."""
    return await house.rows(
        "SELECT asked_model, model_id, reason FROM request WHERE organization_id = %s ORDER BY id", tenant.id
    )


async def unlock(house: House, tenant: Tenant, model: str) -> None:
    order = {"organization_id": str(tenant.id), "model_id": model, "source": "admin_grant", "note": "a gift"}
    await house.order("POST", "/entitlements", order)


# ----------------------------------------------------------------------------------------------------------------- auto


@plain_and_stream
@each_surface
async def test_the_question_decides_which_model_answers(
    house: House, provider: FakeProvider, surface: Surface, stream: bool
) -> None:
    tenant = await house.organization()
    before = await house.balance(tenant)
    costs = []
    for text, model, level in ((SIMPLE, FAST, "simple"), (COMPLEX, POWERFUL, "complex")):
        wish = Wish(text, "auto", stream)
        reply = await post(house, tenant, surface, wish)
        told = heard(surface, wish, reply)
        found, reason = answered_by(reply)
        assert found == model and reason is not None and reason.startswith(f"auto: {level} (")
        assert provider.log[-1].vendor == reply.headers["x-tollhouse-provider"]
        assert told.text == "w0 w1 w2"
        costs.append(due(model, provider.log[-1]))
        assert told.counts.credits * 1_000_000 == costs[-1]
    assert before - await house.balance(tenant) == sum(costs)
    assert [row[:2] for row in await written(house, tenant)] == [("auto", FAST), ("auto", POWERFUL)]
    assert all(row[2].startswith("auto: ") for row in await written(house, tenant))


async def test_only_models_that_the_caller_may_use_are_chosen_and_no_trial_is_spent(house: House) -> None:
    """The model of the middle is premium: without it a middling question gets the one below."""
    tenant = await house.organization()
    for _ in range(3):
        assert answered_by(await chat(house, tenant, MODERATE)) == (FAST, "auto: moderate (asks for reasoning)")
    reply = await chat(house, tenant, END, BALANCED)
    assert reply.headers["x-trial-remaining"] == "1"
    assert answered_by(await chat(house, tenant, MODERATE))[0] == FAST  # a trial is not enough either
    await unlock(house, tenant, BALANCED)
    for _ in range(3):
        reply = await chat(house, tenant, MODERATE)
        assert answered_by(reply) == (BALANCED, "auto: moderate (asks for reasoning)")
        assert "x-trial-remaining" not in reply.headers
    assert answered_by(await chat(house, tenant, MODERATE, X_Tollhouse_User="jo"))[0] == BALANCED  # it is everybody's


async def test_a_model_that_is_switched_off_is_not_chosen(house: House) -> None:
    tenant = await house.organization()
    await house.change("UPDATE model SET enabled = false WHERE id = %s", POWERFUL)
    try:
        assert answered_by(await chat(house, tenant, COMPLEX))[0] == FAST
    finally:
        await house.change("UPDATE model SET enabled = true WHERE id = %s", POWERFUL)
    assert answered_by(await chat(house, tenant, COMPLEX))[0] == POWERFUL


async def test_where_a_limit_is_reached_the_next_one_answers(house: House) -> None:
    tenant = await house.organization()
    rule = {"scope": "organization", "model": POWERFUL, "meter": "messages", "period": "day", "maximum": 1}
    await house.order("POST", f"/organizations/{tenant.id}/limits", rule)
    models = [answered_by(await chat(house, tenant, COMPLEX))[0] for _ in range(3)]
    assert models == [POWERFUL, FAST, FAST]
    rule = {"scope": "organization", "meter": "messages", "period": "day", "maximum": 3}
    await house.order("POST", f"/organizations/{tenant.id}/limits", rule)
    statuses = [(await house.chat(tenant, ask(COMPLEX, "auto"))).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


async def test_where_the_model_that_was_chosen_fails_the_default_answers(house: House, provider: FakeProvider) -> None:
    tenant = await house.organization()
    provider.orders.extend(["sandbox:fault=status:500"] * 2)
    reply = await chat(house, tenant, COMPLEX)
    model, reason = answered_by(reply)
    assert model == FAST and reason is not None and reason.endswith(f"fallback: {POWERFUL} did not answer")
    ((asked, answered, said),) = await written(house, tenant)
    assert (asked, answered) == ("auto", FAST) and said.startswith("auto: complex") and said.endswith(reason)
    assert micros(reply.headers["x-credits-used"]) == due(FAST, provider.log[-1])


async def test_auto_chooses_no_model_for_embeddings(house: House) -> None:
    tenant = await house.organization()
    books = await house.books()
    body = {"model": "auto", "input": "a text"}
    reply = await house.call("POST", "/v1/embeddings", json=body, headers=tenant.headers)
    assert (reply.status, reply.error["param"]) == (400, "model")
    assert "name an embedding model" in reply.error["message"]
    assert await house.books() == books


# ---------------------------------------------------------------------------------------------------------- experiments


@asynccontextmanager
async def experiment(house: House, name: str, weights: dict[str, int], **about: str) -> AsyncIterator[str]:
    """Its id. It has ended afterwards."""
    arms = [{"model": model, "weight": weight} for model, weight in weights.items()]
    made = await house.order("POST", "/experiments", {"name": name, "arms": arms, **about})
    try:
        yield made["id"]
    finally:
        await house.order("PATCH", f"/experiments/{made['id']}", {})


async def outcomes(house: House, id_: str) -> dict[str, Any]:
    operator = {"authorization": f"Bearer {house.operator_key}"}
    reply = await house.call("GET", f"/api/operator/experiments/{id_}/outcomes", headers=operator)
    assert reply.status == 200, reply.raw
    return {arm["model"]: arm for arm in reply.body["arms"]}


async def test_a_share_of_the_people_gets_another_model_and_keeps_it(house: House) -> None:
    tenant = await house.organization()
    async with experiment(house, "shares", {FAST: 9, POWERFUL: 1}, model=FAST) as id_:
        first = {f"user {n}": answered_by(await chat(house, tenant, END, FAST, X_Tollhouse_User=f"user {n}"))
                 for n in range(120)}  # fmt: skip
        assert dict(first.values()) == {FAST: None, POWERFUL: "experiment: shares"}
        others = [user for user, (model, _) in first.items() if model == POWERFUL]
        assert 1 <= len(others) <= 32  # of twelve: further off once in a million times
        for user in [*others[:3], *(user for user in first if user not in others[:3])][:8]:
            reply = await chat(house, tenant, END, FAST, X_Tollhouse_User=user)
            assert answered_by(reply) == first[user]
        found = await outcomes(house, id_)
        assert found[FAST]["requests"] + found[POWERFUL]["requests"] == 128
    reply = await chat(house, tenant, END, FAST, X_Tollhouse_User=others[0])
    assert answered_by(reply) == (FAST, None)


async def test_what_came_of_an_experiment_is_what_was_used_and_charged(house: House, provider: FakeProvider) -> None:
    tenant, number = await house.organization(), provider.calls
    async with experiment(house, "outcomes", {FAST: 1, POWERFUL: 1}, model=FAST) as id_:
        users = [f"user {n}" for n in range(24)]
        replies = await asyncio.gather(*(chat(house, tenant, END, FAST, X_Tollhouse_User=user) for user in users))
        found = await outcomes(house, id_)
        counted = Counter(answered_by(reply)[0] for reply in replies)
        assert set(counted) == {FAST, POWERFUL}
        for model, vendor in ((FAST, "openai"), (POWERFUL, "anthropic")):
            calls = [call for call in provider.log[number:] if call.vendor == vendor]
            arm = found[model]
            assert (arm["requests"], arm["errors"], arm["running"]) == (counted[model], 0, 0)
            assert arm["input_tokens"] == sum(call.input_tokens for call in calls)
            assert arm["output_tokens"] == sum(call.output_tokens for call in calls)
            assert micros(arm["credits_used"]) == sum(due(model, call) for call in calls)
            assert arm["duration_p95_ms"] >= 0
        user = next(user for user, reply in zip(users, replies, strict=True) if answered_by(reply)[0] == POWERFUL)
        provider.orders.append("sandbox:fault=status:401")
        failed = await house.chat(tenant, ask(END, FAST), X_Tollhouse_User=user, X_Tollhouse_Fallback="off")
        assert failed.status == 502
        assert (await outcomes(house, id_))[POWERFUL]["errors"] == 1


async def test_whoever_may_not_use_the_model_of_an_experiment_takes_no_part_in_it(house: House) -> None:
    tenant, unlocked = await house.organization(), await house.organization()
    await unlock(house, unlocked, BALANCED)
    async with experiment(house, "premium", {BALANCED: 9_999, FAST: 1}, model=FAST) as id_:
        for n in range(10):
            assert answered_by(await chat(house, tenant, END, FAST, X_Tollhouse_User=f"user {n}")) == (FAST, None)
        assert sum(arm["requests"] for arm in (await outcomes(house, id_)).values()) <= 1
        models = [answered_by(await chat(house, unlocked, END, FAST, X_Tollhouse_User=f"u{n}"))[0] for n in range(5)]
        assert models.count(BALANCED) >= 4
        reply = await chat(house, tenant, END, BALANCED)
        assert reply.headers["x-trial-remaining"] == "1"


async def test_an_experiment_about_auto_comes_before_its_choice(house: House) -> None:
    tenant = await house.organization()
    async with experiment(house, "auto", {POWERFUL: 9_999, FAST: 1}, model="auto"):
        models = {answered_by(await chat(house, tenant, SIMPLE, X_Tollhouse_User=f"user {n}")) for n in range(3)}
        assert (POWERFUL, "experiment: auto") in models
    assert answered_by(await chat(house, tenant, SIMPLE))[0] == FAST


async def test_an_experiment_about_a_capability_binds_its_uses_alone(house: House) -> None:
    tenant = await house.organization(plan="pro")
    about = {"capability": "testimonial_polish", "quality": "fast"}
    async with experiment(house, "polish", {"gemini-2.0-flash": 9_999, FAST: 1}, **about):
        use = {"X_Tollhouse_Capability": "testimonial_polish", "X_Tollhouse_Quality": "fast"}
        models = {answered_by(await chat(house, tenant, END, X_Tollhouse_User=f"u{n}", **use)) for n in range(3)}
        assert ("gemini-2.0-flash", "experiment: polish") in models
        assert answered_by(await chat(house, tenant, END, FAST)) == (FAST, None)
        other = use | {"X_Tollhouse_Capability": "question_generation"}
        assert answered_by(await chat(house, tenant, END, **other)) == (FAST, None)


# ----------------------------------------------------------------------------------------------------------- deprecated


@plain_and_stream
@each_surface
async def test_what_replaces_a_deprecated_model_answers_and_is_charged(
    house: House, provider: FakeProvider, surface: Surface, stream: bool
) -> None:
    tenant = await house.organization()
    await house.change(
        """UPDATE model SET deprecated_at = now() - interval '1 minute', replacement_model_id = %s
           WHERE id = 'llama-3.1-8b'""",
        FAST,
    )
    try:
        wish = Wish(END, "llama-3.1-8b", stream)
        reply = await post(house, tenant, surface, wish)
        said = heard(surface, wish, reply)
        assert answered_by(reply) == (FAST, f"deprecated: llama-3.1-8b is replaced by {FAST}")
        assert said.counts.credits * 1_000_000 == due(FAST, provider.log[-1])
        await house.change("UPDATE model SET deprecated_at = now() + interval '1 hour' WHERE id = 'llama-3.1-8b'")
        assert answered_by(await post(house, tenant, surface, wish)) == ("llama-3.1-8b", None)
    finally:
        await house.change(
            "UPDATE model SET deprecated_at = NULL, replacement_model_id = NULL WHERE id = 'llama-3.1-8b'"
        )


async def test_whoever_unlocked_a_deprecated_model_has_what_replaces_it(house: House) -> None:
    tenant, other = await house.organization(), await house.organization()
    await unlock(house, tenant, "claude-3-opus")
    await house.change(
        """UPDATE model SET deprecated_at = now() - interval '1 minute', replacement_model_id = %s
           WHERE id = 'claude-3-opus'""",
        BALANCED,
    )
    try:
        for _ in range(3):
            reply = await chat(house, tenant, END, "claude-3-opus")
            assert answered_by(reply)[0] == BALANCED and "x-trial-remaining" not in reply.headers
        assert (await chat(house, other, END, "claude-3-opus")).headers["x-trial-remaining"] == "1"
    finally:
        await house.change(
            "UPDATE model SET deprecated_at = NULL, replacement_model_id = NULL WHERE id = 'claude-3-opus'"
        )

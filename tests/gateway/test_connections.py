"""Organisations that bring their own keys: their connections come first, cost them a share, and are nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import TEST_SECRET, Cluster, SeededTemplate
from tests.fake_provider import Call, FakeProvider
from tests.gateway.bill import LIST, assert_billed, due, exact
from tests.gateway.surfaces import SURFACES, Surface, Wish
from tests.house import SCOPES, House, Reply, Tenant, micros
from tests.house import house as running
from tests.server import Program
from tollhouse.core.vault import Keyring, association

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("proved")]

PLATFORMS, OWN = "sk-platform-0123456789", "sk-her-own-9876543210"
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-3-5-haiku", "google": "gemini-pro-1.5"}
UNCONNECTED, ITS_VENDOR = "llama-3.1-8b", "together"  # by the platform
CALM = "sandbox:tokens=5 sandbox:delay=0"

each_vendor = pytest.mark.parametrize("vendor", list(MODELS))
plain_and_stream = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@dataclass(frozen=True, slots=True)
class Sides:
    """Two providers: the platform's account, and that of an organisation."""

    platform: FakeProvider
    own: FakeProvider

    @property
    def calls(self) -> tuple[int, int]:
        return self.platform.calls, self.own.calls


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(keys=[PLATFORMS]) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate, platform: FakeProvider) -> AsyncIterator[House]:
    """The platform is connected to three vendors; organisations may connect to this machine too."""
    connected: dict[str, Any] = {
        "OPENAI_BASE_URL": platform.url,
        "ANTHROPIC_BASE_URL": platform.root,
        "GOOGLE_BASE_URL": platform.root,
        **{f"{vendor.upper()}_API_KEY": PLATFORMS for vendor in MODELS},
    }
    with cluster.database(seeded_template.name) as url:
        async with Program(url, "seed", **connected) as seed:
            assert await seed.wait() == 0
        async with running(url, seeded_template, TOLLHOUSE_ALLOW_PRIVATE_PROVIDERS="true") as made:
            yield made
            assert not any(key in made.server.said() for key in (OWN, PLATFORMS))


@pytest_asyncio.fixture(loop_scope="module")
async def sides(platform: FakeProvider) -> AsyncIterator[Sides]:
    platform.log.clear()
    async with FakeProvider(keys=[OWN]) as own:
        yield Sides(platform, own)


async def organization(house: House, credits: str = "100") -> Tenant:
    """Whose key may also manage its connections, and which has unlocked every model."""
    made = await house.organization(credits=credits, scopes=(*SCOPES, "manage"))
    right = {"organization_id": str(made.id), "model_id": MODELS["google"], "source": "admin_grant", "note": "test"}
    await house.order("POST", "/entitlements", right)
    return made


async def connect(house: House, tenant: Tenant, vendor: str, provider: FakeProvider, key: str = OWN) -> str:
    url = provider.url if vendor in ("openai", "together") else provider.root
    wanted = {"provider": vendor, "base_url": url, "key": key}
    reply = await house.call("POST", "/api/connections", json=wanted, headers=tenant.headers)
    assert reply.status == 201, reply.raw
    id_: str = reply.body["id"]
    return id_


async def send(
    house: House, tenant: Tenant, model: str, text: str = CALM, stream: bool = False, surface: Surface = SURFACES[0]
) -> Reply:
    """Only this model may answer; no key is told."""
    headers = tenant.headers | {"x-tollhouse-fallback": "off"}
    reply = await house.call("POST", surface.path, json=surface.body(Wish(text, model, stream=stream)), headers=headers)
    told = reply.raw.decode() + "".join(reply.headers.values())
    assert OWN not in told and PLATFORMS not in told
    return reply


async def booked(house: House, tenant: Tenant) -> list[tuple[str, int, int, int, int]]:
    """Of each call: origin, input and output tokens, micro-credits charged, nano-dollars that it cost the platform."""
    found = await house.rows(
        """SELECT origin, input_tokens, output_tokens, charged_micros, cost_nanos FROM usage_event
           WHERE organization_id = %s ORDER BY reservation_id""",
        tenant.id,
    )
    return [(row[0], row[1], row[2], row[3], row[4]) for row in found]


def own_row(call: Call, charged: int = 0) -> tuple[str, int, int, int, int]:
    return "own_key", call.input_tokens, call.output_tokens, charged, 0


async def attempts(house: House, tenant: Tenant) -> list[tuple[bool, str]]:
    found = await house.rows(
        "SELECT own_key, outcome FROM attempt WHERE organization_id = %s ORDER BY request_id, number", tenant.id
    )
    return [(row[0], row[1]) for row in found]


# ------------------------------------------------------------------------------------------------- her own comes first


@each_vendor
@plain_and_stream
@pytest.mark.parametrize("surface", SURFACES, ids=[one.name for one in SURFACES])
async def test_her_own_connection_is_asked_with_her_own_key_and_costs_her_nothing_here(
    house: House, sides: Sides, vendor: str, stream: bool, surface: Surface
) -> None:
    tenant = await organization(house)
    await connect(house, tenant, vendor, sides.own)
    before = await house.balance(tenant)
    reply = await send(house, tenant, MODELS[vendor], stream=stream, surface=surface)
    assert reply.status == 200, reply.raw
    heard = surface.stream(reply.raw) if stream else surface.plain(reply.body)
    (call,) = sides.own.log
    assert (call.vendor, call.key, sides.platform.calls) == (vendor, OWN, 0)
    assert (heard.text, heard.counts.credits + heard.counts.cost_usd) == ("w0 w1 w2 w3 w4", Decimal(0))
    assert await booked(house, tenant) == [own_row(call)]
    assert await attempts(house, tenant) == [(True, "answered")]
    assert await house.balance(tenant) == before


async def test_others_go_on_over_the_platforms(house: House, sides: Sides) -> None:
    hers, his = await organization(house), await organization(house)
    await connect(house, hers, "openai", sides.own)
    before = await house.balance(his)
    assert (await send(house, his, MODELS["openai"])).status == 200
    assert sides.calls == (1, 0)
    await assert_billed(house, his, before, MODELS["openai"], sides.platform.log[0])


async def test_a_model_that_only_she_has_connected_answers_her_and_the_sandbox_answers_others(
    house: House, sides: Sides
) -> None:
    hers, his = await organization(house), await organization(house)
    await connect(house, hers, ITS_VENDOR, sides.own)
    assert (await send(house, hers, UNCONNECTED)).headers["x-tollhouse-provider"] == ITS_VENDOR
    assert (await send(house, his, UNCONNECTED)).headers["x-tollhouse-provider"] == "sandbox"
    assert sides.calls == (0, 1)


@pytest.mark.parametrize("ending", ["deleted", "switched off"])
async def test_without_her_own_connection_it_is_the_platforms_again_at_the_platforms_price(
    house: House, sides: Sides, ending: str
) -> None:
    tenant = await organization(house)
    path = "/api/connections/" + await connect(house, tenant, "anthropic", sides.own)
    assert (await send(house, tenant, MODELS["anthropic"])).status == 200
    if ending == "deleted":
        assert (await house.call("DELETE", path, headers=tenant.headers)).status == 204
    else:
        assert (await house.call("PATCH", path, json={"enabled": False}, headers=tenant.headers)).status == 200
    before = await house.balance(tenant)
    assert (await send(house, tenant, MODELS["anthropic"])).status == 200
    assert sides.calls == (1, 1)
    (call,) = sides.platform.log
    assert call.key == PLATFORMS
    assert (await booked(house, tenant))[1][0] == "provider"
    assert before - await house.balance(tenant) == due(MODELS["anthropic"], call)


async def test_another_key_counts_from_the_next_call_on(house: House, sides: Sides) -> None:
    tenant = await organization(house)
    id_ = await connect(house, tenant, ITS_VENDOR, sides.own, key="sk-mistyped-0000000")
    wrong = await send(house, tenant, UNCONNECTED)
    assert (wrong.status, wrong.error["code"]) == (502, "provider_error")
    changed = await house.call("PATCH", f"/api/connections/{id_}", json={"key": OWN}, headers=tenant.headers)
    assert changed.status == 200
    assert (await send(house, tenant, UNCONNECTED)).status == 200
    assert [call.key for call in sides.own.log] == ["sk-mistyped-0000000", OWN]


@each_vendor
@pytest.mark.parametrize(("key", "said"), [(OWN, "takes the key"), ("sk-mistyped-0000000", "refuses the key")])
async def test_a_connection_is_tried_before_it_is_made(
    house: House, sides: Sides, vendor: str, key: str, said: str
) -> None:
    tenant = await organization(house)
    url = sides.own.url if vendor == "openai" else sides.own.root
    draft = {"provider": vendor, "base_url": url, "key": key}
    reply = await house.call("POST", "/api/connections/test", json=draft, headers=tenant.headers)
    assert (reply.status, reply.body["ok"]) == (200, key == OWN)
    assert said in reply.body["message"]
    (call,) = sides.own.log
    assert (call.method, call.vendor, call.key) == ("GET", vendor, key)


# ------------------------------------------------------------------------------------------------- when hers does not


@plain_and_stream
async def test_when_her_own_connection_fails_the_platforms_answers_at_the_platforms_price(
    house: House, sides: Sides, stream: bool
) -> None:
    tenant = await organization(house)
    await connect(house, tenant, "openai", sides.own)
    before = await house.balance(tenant)
    sides.own.order = "sandbox:fault=status:500"
    reply = await send(house, tenant, MODELS["openai"], stream=stream)
    assert reply.status == 200, reply.raw
    assert sides.calls == (1, 2)
    assert await attempts(house, tenant) == [(True, "failed"), (True, "failed"), (False, "answered")]
    await assert_billed(house, tenant, before, MODELS["openai"], sides.platform.log[0])


async def test_who_has_no_credits_is_answered_over_her_own_connection_and_never_over_the_platforms(
    house: House, sides: Sides
) -> None:
    tenant = await organization(house, credits="0")
    await connect(house, tenant, "openai", sides.own)
    assert (await send(house, tenant, MODELS["openai"])).status == 200
    sides.own.order = "sandbox:fault=status:500"
    failed = await send(house, tenant, MODELS["openai"])
    assert (failed.status, failed.error["code"]) == (502, "provider_error")
    assert sides.calls == (0, 3)
    assert await house.balance(tenant) == 0


@pytest.mark.parametrize(("vendor", "status"), [("openai", 200), (ITS_VENDOR, 502)])
async def test_a_key_that_cannot_be_opened_is_sent_nowhere(
    house: House, sides: Sides, vendor: str, status: int
) -> None:
    """Where the platform has a connection too, that one answers; else nobody does, and nothing is charged."""
    tenant = await organization(house)
    id_ = await connect(house, tenant, vendor, sides.own)
    before = await house.balance(tenant)
    foreign = Keyring(TEST_SECRET[::-1]).seal(OWN, association(tenant.id, vendor), bytes(12))
    await house.change("UPDATE connection SET key_ciphertext = %s WHERE id = %s", foreign, id_)
    model = MODELS.get(vendor, UNCONNECTED)
    reply = await send(house, tenant, model)
    assert (reply.status, sides.own.calls) == (status, 0)
    if status == 200:
        await assert_billed(house, tenant, before, model, sides.platform.log[0])
    else:
        assert "set up wrongly" in reply.error["message"]
        assert (await booked(house, tenant), await house.balance(tenant)) == ([], before)


async def test_an_answer_over_her_own_connection_that_breaks_off_costs_her_nothing_here_either(
    house: House, sides: Sides
) -> None:
    tenant = await organization(house)
    await connect(house, tenant, "openai", sides.own)
    before = await house.balance(tenant)
    reply = await send(house, tenant, MODELS["openai"], "sandbox:tokens=9 sandbox:fault=cut:3", stream=True)
    assert SURFACES[0].broken(reply.raw)[0] == "w0 w1 w2"
    ((origin, _, tokens_out, charged, cost),) = await booked(house, tenant)
    assert (origin, tokens_out, charged, cost) == ("own_key", 3, 0, 0)
    assert (sides.platform.calls, await house.balance(tenant)) == (0, before)


# ------------------------------------------------------------------------------------------------------- the share


async def test_the_rate_card_says_which_share_of_the_charge_her_own_connection_costs(
    house: House, sides: Sides
) -> None:
    """Last of all here: the rate card holds from now on. Five hundredths, rounded up once."""
    await house.order("POST", "/rate-cards", {"credits_per_usd": "100", "own_key_share": "0.05"})
    tenant = await organization(house)
    await connect(house, tenant, "anthropic", sides.own)
    before = await house.balance(tenant)
    reply = await send(house, tenant, MODELS["anthropic"], "fake:cached=1 sandbox:tokens=7")
    (call,) = sides.own.log
    charged = ceil(exact(MODELS["anthropic"], call) * 50 / 1000)
    assert 0 < charged < due(MODELS["anthropic"], call)
    assert micros(reply.headers["x-credits-used"]) == charged == before - await house.balance(tenant)
    assert await booked(house, tenant) == [own_row(call, charged)]
    most = LIST[MODELS["anthropic"]][3] * 200  # what its maximum of output costs over the platform's
    assert micros(reply.headers["x-credits-reserved"]) > most  # so that the platform's can answer when hers fails

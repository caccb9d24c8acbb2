"""Every client gets what Tollhouse promises, and shows it to its caller. See `tests.clients.contract` for the cases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import pytest_asyncio

from tests.clients import nodes
from tests.clients.contract import BROKEN_AFTER, LEFT_WITH, REFUSALS, ROOT, Turn, python, take_turn
from tests.clients.watcher import Watcher
from tests.house import House, charge, credits, micros

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.xdist_group("clients")]

HINTS = {
    "wrong_key": [],
    "no_credits": ["top_up", "upgrade", "wait"],
    "locked": ["unlock"],
    "unknown": [],
    "limit": ["wait", "upgrade"],
}
KINDS = {
    "wrong_key": "AuthenticationError",
    "locked": "PermissionDeniedError",
    "unknown": "NotFoundError",
    "limit": "RateLimitError",
}
AT_ONCE_S = 2.0  # sooner than any client tries again


@dataclass(frozen=True, slots=True)
class Client:
    """`words`: the driver and its arguments. `hides`: where the client keeps only the vendor's own fields, and so shows
    its caller no charge, and no code of an answer that broke. `obeys`: it asks no second time when x-should-retry
    forbids it."""

    name: str
    words: tuple[str, ...]
    language: Literal["python", "node"]
    path: str
    hides: frozenset[str] = frozenset()
    obeys: bool = True


CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
SUMMED, STREAMED = frozenset({"tools_stream"}), frozenset({"stream", "tools_stream"})
CLIENTS = (
    Client("openai-python", ("drive_openai",), "python", CHAT),
    Client("openai-python-responses", ("drive_responses",), "python", RESPONSES),
    Client("anthropic-python", ("drive_anthropic",), "python", MESSAGES, SUMMED),
    Client("langchain-openai", ("drive_langchain", "openai"), "python", CHAT, STREAMED),
    Client("langchain-anthropic", ("drive_langchain", "anthropic"), "python", MESSAGES, STREAMED),
    Client("openai-node", ("openai.mjs",), "node", CHAT),
    Client("anthropic-node", ("anthropic.mjs",), "node", MESSAGES, SUMMED),
    Client("ai-sdk-openai-compatible", ("ai.mjs", "openai"), "node", CHAT, obeys=False),
    Client("ai-sdk-anthropic", ("ai.mjs", "anthropic"), "node", MESSAGES, frozenset({"broken"}), obeys=False),
)


@dataclass(frozen=True, slots=True)
class Played:
    client: Client
    turn: Turn

    @property
    def told(self) -> dict[str, Any]:
        return self.turn.told


@pytest_asyncio.fixture(scope="package", loop_scope="package", params=CLIENTS, ids=[client.name for client in CLIENTS])
async def played(request: pytest.FixtureRequest, house: House, watcher: Watcher) -> AsyncIterator[Played]:
    client: Client = request.param
    if client.language == "python":
        yield Played(client, await take_turn(house, watcher, python(*client.words), ROOT))
    else:
        folder = await nodes.installed()
        yield Played(client, await take_turn(house, watcher, ["node", *client.words], folder))


async def test_a_stream_says_the_same_as_a_plain_answer_and_counts_the_same(played: Played) -> None:
    plain, stream = played.told["plain"], played.told["stream"]
    assert plain["text"] == stream["text"]
    assert plain["text"].startswith("[sandbox] ") and "Why is the sky blue?" in plain["text"]
    counted = [(told["usage"]["input"], told["usage"]["output"]) for told in (plain, stream)]
    assert counted[0] == counted[1] and counted[0][1] == 12


async def test_what_it_shows_of_tokens_and_charge_is_what_stands_in_the_books(played: Played, house: House) -> None:
    told, tenant = played.told, played.turn.cast.tenant
    await house.quiet(tenant)
    shown = [("plain", told["plain"]), ("stream", told["stream"]), ("tools", told["tools"]),
             ("tools", told["tools"]["then"]), ("tools_stream", told["tools_stream"])]  # fmt: skip
    booked = (await house.usage(tenant))[: len(shown)]
    for (case, one), (in_tokens, out_tokens, estimated, charged_micros) in zip(shown, booked, strict=True):
        usage = one["usage"]
        assert (usage["input"], usage["output"]) == (in_tokens, out_tokens)
        assert charged_micros == charge("sandbox", in_tokens, out_tokens) and not estimated
        if case in played.client.hides:
            assert usage["credits"] is usage["cost_usd"] is None
        else:
            assert micros(usage["credits"]) == charged_micros
            assert micros(usage["cost_usd"]) == charged_micros // 100  # a credit is a cent


async def test_tools_are_called_together_and_their_results_lead_to_an_answer(played: Played) -> None:
    tools = played.told["tools"]
    (weather, where), (clock, how) = tools["calls"]
    assert (weather, clock) == ("weather", "clock")
    assert set(where) == {"city", "unit"} and where["unit"] in ("C", "F") and how["hours"] in (12, 24)
    assert tools["then"]["text"].startswith("[sandbox] ")
    assert played.told["tools_stream"] == {
        "calls": tools["calls"],
        "usage": played.told["tools_stream"]["usage"],
    }


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refusal_arrives_with_its_code_its_sentence_and_what_would_help(played: Played, case: str) -> None:
    told, client = played.told["refusals"][case], played.client
    assert (told["status"], told["code"], told["hints"]) == (*REFUSALS[case], HINTS[case])
    assert len(told["message"]) > 20 and told["message"].endswith(".")
    assert told["request_id"] is not None
    if case in KINDS and client.obeys:
        assert told["kind"].endswith(KINDS[case])


@pytest.mark.parametrize("case", REFUSALS)
async def test_what_no_second_try_would_change_is_asked_once(played: Played, case: str) -> None:
    key, _ = played.turn.cast.refused[case]
    asked = [one for one in played.turn.asked[key] if one.path == played.client.path]
    if case == "limit" and not played.client.obeys:
        assert len(asked) == 3  # the AI SDK tries every 429 again, whatever the answer says
        return
    assert len(asked) == 1
    assert played.told["refusals"][case]["seconds"] < AT_ONCE_S


async def test_an_answer_that_breaks_off_is_an_error_after_what_came_and_that_is_charged(
    played: Played, house: House
) -> None:
    broken, tenant = played.told["broken"], played.turn.cast.tenant
    assert broken["text"].startswith("[sandbox] ")
    assert broken["failure"]["code"] == (None if "broken" in played.client.hides else "provider_broke")
    assert "what came until then is charged" in broken["failure"]["message"]
    found, usage = await house.quiet(tenant), await house.usage(tenant)
    (place,) = [place for place, (state, _) in enumerate(found[:6]) if state == "incomplete"]
    in_tokens, out_tokens, _, charged_micros = usage[place]
    assert out_tokens == BROKEN_AFTER
    assert charged_micros == charge("sandbox", in_tokens, out_tokens)


async def test_a_client_that_leaves_pays_for_the_answer_and_leaves_nothing_open(played: Played, house: House) -> None:
    tenant = played.turn.cast.leaving
    assert played.told["left"] == 3
    assert await house.quiet(tenant, 1) == [("done", True)]
    ((in_tokens, out_tokens, _, charged_micros),) = await house.usage(tenant)
    assert out_tokens == LEFT_WITH
    assert charged_micros == charge("sandbox", in_tokens, out_tokens)
    balance = await house.call("GET", "/api/credits/balance", headers=tenant.headers)
    assert (micros(balance.body["available"]), balance.body["reserved"]) == (micros("100") - charged_micros, credits(0))


async def test_all_it_asked_was_answered_or_refused_and_the_ledger_holds(played: Played, house: House) -> None:
    for tenant in (played.turn.cast.tenant, played.turn.cast.leaving):
        assert {state for state, _ in await house.quiet(tenant)} <= {"done", "incomplete"}
    await house.assert_ledger_holds()

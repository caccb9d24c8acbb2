"""What OpenAI's and Anthropic's own clients ask beside conversations: embeddings, models, the length of a prompt."""

from __future__ import annotations

import math

import pytest
import pytest_asyncio

from tests.clients.contract import ROOT, Turn, python, take_turn
from tests.clients.watcher import Watcher
from tests.house import House, micros

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.xdist_group("clients")]


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def turn(house: House, watcher: Watcher) -> Turn:
    return await take_turn(house, watcher, python("drive_lookup"), ROOT)


async def test_embeddings_are_unpacked_and_their_charge_shown(turn: Turn, house: House) -> None:
    told = turn.told["embeddings"]
    assert [len(vector) for vector in told["packed"] + told["floats"]] == [1536, 1536, 8, 8]
    assert all(math.isclose(math.hypot(*vector), 1, rel_tol=1e-5) for vector in told["packed"] + told["floats"])
    booked = [row for row in await house.usage(turn.cast.tenant) if row[1] == 0]
    assert [(usage["input"], micros(usage["credits"])) for usage in told["usage"]] == [
        (in_tokens, charged_micros) for in_tokens, _, _, charged_micros in booked
    ]
    assert all(charged_micros > 0 for *_, charged_micros in booked)


async def test_both_clients_list_the_models_to_talk_with(turn: Turn) -> None:
    """Embeddings stand in OpenAI's list alone: Anthropic has none."""
    by_openai, by_anthropic = turn.told["models"]["openai"], turn.told["models"]["anthropic"]
    assert by_openai["one"] == by_anthropic["one"] == "sandbox"
    listed = set(by_openai["listed"])
    assert listed >= {"sandbox", "gpt-4o-mini", "claude-3-5-haiku", "text-embedding-3-small"}
    assert set(by_anthropic["listed"]) == {name for name in listed if not name.startswith("text-embedding-")}
    assert len(set(by_openai["listed"])) == len(by_openai["listed"])


async def test_a_model_that_is_not_there_is_not_found_in_either_dialect(turn: Turn) -> None:
    assert turn.told["no_model"] == {"openai": "openai", "anthropic": "anthropic"}


async def test_a_prompt_is_counted_and_that_costs_nothing(turn: Turn, house: House) -> None:
    """Of the sandbox the count is an estimate, which is told as one and errs to the safe side."""
    tokens = turn.told["tokens"]
    assert tokens["used"] <= tokens["counted"] <= 4 * tokens["used"]
    assert len(await house.quiet(turn.cast.tenant)) == 3  # the two embeddings, and the message

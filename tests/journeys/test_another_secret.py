"""The installation gets another secret: what its API keys open before, in between and after."""

from __future__ import annotations

from typing import Any

import aiohttp

from tests.conftest import TEST_SECRET, Cluster, SeededTemplate
from tests.house import ask
from tests.server import servers

NEW_SECRET = "the secret that the installation has had ever since"
MESSAGE: dict[str, Any] = ask("Hello", max_tokens=10)
DOORS: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/v1/chat/completions", MESSAGE),
    ("POST", "/v1/messages", MESSAGE),
    ("POST", "/v1/messages/count_tokens", {"model": "sandbox", "messages": MESSAGE["messages"]}),
    ("GET", "/v1/models", None),
    ("GET", "/v1/key", None),
    ("GET", "/api/credits/balance", None),
    ("POST", "/api/ai/access-check", {"capability": "question_generation"}),
)
OPERATORS: tuple[tuple[str, str, Any], ...] = (("GET", "/api/operator/connections", None),)


async def statuses(url: str, key: str, doors: tuple[tuple[str, str, Any], ...]) -> dict[str, int]:
    found = {}
    async with aiohttp.ClientSession(url, headers={"authorization": f"Bearer {key}"}) as session:
        for method, path, body in doors:
            async with session.request(method, path, json=body) as response:
                found[path] = response.status
    return found


async def test_api_keys_open_every_door_until_the_former_secret_is_forgotten(
    cluster: Cluster, seeded_template: SeededTemplate
) -> None:
    keys = ((seeded_template.demo_key, DOORS), (seeded_template.operator_key, OPERATORS))
    former = {"TOLLHOUSE_PREVIOUS_SECRET_KEYS": f"{'x' * 32},{TEST_SECRET.decode()}"}
    with cluster.database(seeded_template.name) as url:
        for settings, expected in ((former, 200), ({}, 401)):
            async with servers(url, 1, TOLLHOUSE_SECRET_KEY=NEW_SECRET, **settings) as (server,):
                for key, doors in keys:
                    assert await statuses(server.url, key, doors) == {path: expected for _, path, _ in doors}
                assert await server.stop() == 0, server.said()

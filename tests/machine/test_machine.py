"""The machine of tests/machine/machine.py at work. TOLLHOUSE_TEST_MACHINE=500x60 runs so many examples of so many
steps, other ones each time; without it they are few, and the same ones each time."""

import asyncio
import os

import aiohttp
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from psycopg import AsyncConnection

from tests.api.conftest import serve
from tests.conftest import Cluster, SeededTemplate
from tests.house import fresh_house
from tests.ledger import assert_ledger_holds
from tests.machine.api_house import ApiHouse
from tests.machine.machine import Machine
from tollhouse.flows import spend


def wanted(examples: int, steps: int) -> settings:
    long = os.environ.get("TOLLHOUSE_TEST_MACHINE")
    if long is not None:
        examples, steps = (int(number) for number in long.split("x"))
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=long is None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def test_whatever_happens_the_cores_books_hold() -> None:
    run_state_machine_as_test(Machine, settings=wanted(150, 50))


async def test_a_server_and_the_core_agree_after_every_step(cluster: Cluster, seeded_template: SeededTemplate) -> None:
    """One server, and an organisation of its own for each example; at the end its ledger must prove."""
    async with fresh_house(cluster, seeded_template) as house:
        await agree(house.server.url, house.operator_key, wanted(14, 30))


async def test_they_agree_as_well_when_an_organisation_has_more_grants_than_are_read_at_once(
    database_url: str, seeded_template: SeededTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spend, "GRANTS_READ", (1, 2, None))
    async with await AsyncConnection.connect(database_url) as connection:
        await connection.execute(
            """INSERT INTO plan (id, name, rank, monthly_credits_micros, max_output_tokens, charged_channels)
               VALUES ('bare', 'Bare', 1, 0, 16384, '{api}')"""
        )
    async for api in serve(database_url, seeded_template.operator_key, "test"):
        await agree(api.url, api.operator_key, wanted(8, 30))
    await assert_ledger_holds(database_url)


async def agree(url: str, operator_key: str, run: settings) -> None:
    """The machine waits for answers, so it has a thread to itself."""
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession() as session:

        class SideBySide(Machine):
            def __init__(self) -> None:
                super().__init__(ApiHouse(url, operator_key, session, loop))

        await asyncio.to_thread(run_state_machine_as_test, SideBySide, settings=run)

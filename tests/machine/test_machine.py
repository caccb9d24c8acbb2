"""The machine of tests/machine/machine.py at work. TOLLHOUSE_TEST_MACHINE=500x60 runs so many examples of so many
steps, other ones each time; without it they are few, and the same ones each time."""

import asyncio
import os

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import Cluster, SeededTemplate
from tests.house import fresh_house
from tests.machine.api_house import ApiHouse
from tests.machine.machine import Machine


def wanted(examples: int, steps: int) -> settings:
    long = os.environ.get("TOLLHOUSE_TEST_MACHINE")
    if long is not None:
        examples, steps = (int(number) for number in long.split("x"))
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=long is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def test_whatever_happens_the_cores_books_hold() -> None:
    run_state_machine_as_test(Machine, settings=wanted(150, 50))


async def test_a_server_and_the_core_agree_after_every_step(cluster: Cluster, seeded_template: SeededTemplate) -> None:
    """One server, and an organisation of its own for each example; at the end its ledger must prove."""
    loop = asyncio.get_running_loop()
    async with fresh_house(cluster, seeded_template) as server:

        class SideBySide(Machine):
            def __init__(self) -> None:
                super().__init__(ApiHouse(server, loop))

        await asyncio.to_thread(run_state_machine_as_test, SideBySide, settings=wanted(20, 30))

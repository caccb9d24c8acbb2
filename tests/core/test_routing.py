"""Which provider answers for a model, and over which of its connections."""

from typing import Any
from uuid import UUID

import pytest

from tests.core.cast import ORGANIZATION, connection, model
from tollhouse.core.key import Mode
from tollhouse.core.routing import PLATFORM_ID, SANDBOX, Connection, Route, routes_of

GPT = model(id="gpt", provider_id="openai")
OPENAI = {"openai": (connection(),)}
SANDBOXED = (Route(SANDBOX, None),)
CONNECTED = (Route("openai", connection()),)


def own(number: int, **changes: Any) -> Connection:
    return connection(organization_id=ORGANIZATION, id=UUID(int=number), **changes)


@pytest.mark.parametrize(("key_mode", "installation"), [("test", "test"), ("live", "test"), ("test", "live")])
def test_the_sandbox_answers_for_its_own_model_in_test_mode_and_for_test_keys(
    key_mode: Mode, installation: Mode
) -> None:
    assert routes_of(model(), key_mode, installation, {}, OPENAI) == SANDBOXED


def test_a_live_key_never_pays_for_an_answer_of_the_sandbox() -> None:
    assert routes_of(model(), "live", "live", {}, OPENAI) == ()


@pytest.mark.parametrize(("key_mode", "installation"), [("live", "live"), ("live", "test"), ("test", "test")])
def test_a_connected_provider_answers_for_its_models(key_mode: Mode, installation: Mode) -> None:
    assert routes_of(GPT, key_mode, installation, {}, OPENAI) == CONNECTED


@pytest.mark.parametrize("protocol", ["openai", "anthropic", "google"])
def test_a_provider_is_asked_whatever_it_speaks(protocol: Any) -> None:
    spoken = connection(protocol=protocol)
    assert routes_of(GPT, "live", "live", {}, {"openai": (spoken,)}) == (Route("openai", spoken),)


def test_an_organisations_own_connections_are_asked_before_those_of_the_platform() -> None:
    platform = {"openai": (connection(id=UUID(int=51)), connection(id=UUID(int=52)))}
    found = routes_of(GPT, "live", "live", {"openai": (own(61), own(62))}, platform)
    assert [one.connection.id.int for one in found if one.connection] == [61, 62, 51, 52]
    assert [one.own_key for one in found] == [True, True, False, False]
    assert {one.provider_id for one in found} == {"openai"}


def test_an_own_connection_is_enough() -> None:
    assert routes_of(GPT, "live", "live", {"openai": (own(61),)}, {}) == (Route("openai", own(61)),)


def test_a_test_key_never_reaches_a_provider_that_costs_money_in_live_mode() -> None:
    assert routes_of(GPT, "test", "live", {"openai": (own(61),)}, OPENAI) == SANDBOXED


@pytest.mark.parametrize("connections", [{}, {"together": (connection(provider_id="together"),)}])
def test_who_is_not_connected_is_answered_for_by_the_sandbox_in_test_mode_and_by_nobody_in_live_mode(
    connections: Any,
) -> None:
    assert routes_of(GPT, "test", "test", connections, connections) == SANDBOXED
    assert routes_of(GPT, "live", "live", connections, connections) == ()


def test_neither_the_sandbox_nor_a_connection_of_the_platform_is_an_own_key() -> None:
    assert not Route(SANDBOX, None).own_key
    assert not Route("openai", connection(organization_id=PLATFORM_ID)).own_key

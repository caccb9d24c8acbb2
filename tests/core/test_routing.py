"""Which provider answers for a model."""

import pytest

from tests.core.cast import connection, model
from tollhouse.core.errors import NotConnected
from tollhouse.core.key import Mode
from tollhouse.core.routing import SANDBOX, Route, route_of

GPT = model(id="gpt", provider_id="openai")
OPENAI = {"openai": connection()}
ANTHROPIC = {"openai": connection(protocol="anthropic")}
SANDBOXED = Route(SANDBOX, None)
CONNECTED = Route("openai", connection())


@pytest.mark.parametrize(("key_mode", "installation"), [("test", "test"), ("live", "test"), ("test", "live")])
def test_the_sandbox_answers_for_its_own_model_in_test_mode_and_for_test_keys(
    key_mode: Mode, installation: Mode
) -> None:
    assert route_of(model(), key_mode, installation, OPENAI) == SANDBOXED


def test_a_live_key_never_pays_for_an_answer_of_the_sandbox() -> None:
    with pytest.raises(NotConnected):
        route_of(model(), "live", "live", OPENAI)


@pytest.mark.parametrize(("key_mode", "installation"), [("live", "live"), ("live", "test"), ("test", "test")])
def test_a_connected_provider_answers_for_its_models(key_mode: Mode, installation: Mode) -> None:
    assert route_of(GPT, key_mode, installation, OPENAI) == CONNECTED


def test_a_test_key_never_reaches_a_provider_that_costs_money_in_live_mode() -> None:
    assert route_of(GPT, "test", "live", OPENAI) == SANDBOXED


@pytest.mark.parametrize("connections", [{}, ANTHROPIC, {"together": connection(provider_id="together")}])
def test_in_test_mode_the_sandbox_answers_for_whoever_is_not_connected(connections: dict) -> None:  # type: ignore[type-arg]
    assert route_of(GPT, "test", "test", connections) == SANDBOXED


@pytest.mark.parametrize("connections", [{}, ANTHROPIC])
def test_in_live_mode_nobody_answers_for_a_provider_that_is_not_connected(connections: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(NotConnected) as refused:
        route_of(GPT, "live", "live", connections)
    assert (refused.value.code, refused.value.status) == ("model_not_connected", 503)
    assert refused.value.details() == {"model_id": "gpt"}
    assert "'openai'" in str(refused.value)
    assert "operator can add one" in str(refused.value)

"""The client of a connection speaks its provider's protocol, with its key, to where its owner may reach."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from tests.fake_provider import FakeProvider
from tollhouse.core.connection import Protocol
from tollhouse.core.vault import Keyring, SealBroken, association
from tollhouse.flows.connection import Policy, check, client
from tollhouse.store.connection import Endpoint

HERS, PLATFORM = UUID(int=77), UUID(int=0)
OLD, NEW = b"the former secret", b"the present secret"
NOTHING = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"data":[]}'


def endpoint(
    base_url: str, protocol: Protocol = "openai", key: str | None = "sk-1", owner: UUID = PLATFORM
) -> Endpoint:  # fmt: skip
    sealed = key and Keyring(OLD).seal(key, association(owner, protocol), bytes(12))
    return Endpoint(owner, UUID(int=5), protocol, protocol, base_url, sealed or None)


@pytest.mark.parametrize(
    ("protocol", "header", "value"),
    [
        ("openai", "authorization", "Bearer sk-1"),
        ("anthropic", "x-api-key", "sk-1"),
        ("google", "x-goog-api-key", "sk-1"),
    ],
)
async def test_the_key_is_opened_with_an_earlier_secret_and_carried_as_the_protocol_wants_it(
    protocol: Protocol, header: str, value: str
) -> None:
    async with FakeProvider() as provider:
        provider.raw_answers.append(NOTHING)
        tried = await check(endpoint(provider.url, protocol), Policy(Keyring(NEW, (OLD,)), "test"))
    assert (tried.ok, tried.message) == (True, "The provider answers and takes the key.")
    (call,) = provider.log
    assert call.headers[header] == value
    assert "sk-1" not in call.path


async def test_without_a_key_none_is_sent() -> None:
    async with FakeProvider() as provider:
        provider.raw_answers.append(NOTHING)
        tried = await check(endpoint(provider.url, key=None), Policy(Keyring(NEW), "test"))
    assert (tried.ok, tried.message) == (True, "The provider answers.")
    assert "authorization" not in provider.log[0].headers


async def test_a_private_address_is_called_for_the_platform_in_test_mode_and_else_with_the_setting_only() -> None:
    keyring = Keyring(OLD)
    async with FakeProvider() as provider:
        platform, hers = endpoint(provider.url), endpoint(provider.url, owner=HERS)
        for connection, policy in (
            (hers, Policy(keyring, "test")), (hers, Policy(keyring, "live")), (platform, Policy(keyring, "live"))
        ):  # fmt: skip
            assert not (await check(connection, policy)).ok
        assert provider.calls == 0
        for connection, policy in ((platform, Policy(keyring, "test")), (hers, Policy(keyring, "live", True))):
            provider.raw_answers.append(NOTHING)
            assert (await check(connection, policy)).ok
        assert provider.calls == 2


def test_a_key_of_another_organisation_or_secret_makes_no_client() -> None:
    hers = endpoint("https://host.example", owner=HERS)
    for connection, keyring in ((replace(hers, organization_id=PLATFORM), Keyring(OLD)), (hers, Keyring(NEW))):
        with pytest.raises(SealBroken):
            client(connection, keyring, allow_private=True)


def test_the_sandbox_is_no_server_that_one_connects_to() -> None:
    with pytest.raises(ValueError, match="sandbox"):
        client(endpoint("https://host.example", "sandbox"), Keyring(OLD), allow_private=True)


async def test_a_fault_of_a_name_that_leads_nowhere_is_a_sentence_without_the_name() -> None:
    tried = await check(endpoint("https://nowhere.invalid/v1"), Policy(Keyring(OLD), "live"))
    assert not tried.ok
    assert "nowhere" not in tried.message and tried.message

"""Models of one's own: whose they are, how many there may be, and calls of them through the teller."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from tests.chatting import Room, clock, ended, proved_room
from tests.conftest import TEST_SECRET
from tests.fake_provider import FakeProvider
from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.core.own_model import OwnModel, OwnModelGone, own_model_id
from tollhouse.core.session import Signed
from tollhouse.core.vault import Keyring
from tollhouse.flows import chat
from tollhouse.flows import own_model as flow
from tollhouse.flows.chat import Said
from tollhouse.flows.connection import Policy, Rekey
from tollhouse.flows.order import Order
from tollhouse.flows.own_model import Owner, Wanted
from tollhouse.store import member as members

POLICY = Policy(Keyring(TEST_SECRET), "test", allow_private=True)
KEY = "sk-of-ones-own-0123456789"


@pytest_asyncio.fixture
async def house(database_url: str) -> AsyncIterator[Room]:
    async with proved_room(database_url) as made:
        yield made


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(keys=[KEY]) as made:
        yield made


def wanted(base_url: str = "https://models.example.com/v1", **changes: Any) -> Wanted:
    plain = Wanted("Mine", "openai", base_url, "llama-own", "", 32_000, 500, Rekey(KEY))
    return replace(plain, **changes)


def owner(signed: Signed, *, shared: bool = False) -> Owner:
    order = Order(signed.actor, clock())
    return Owner(signed.organization_id, None if shared else signed.person_id, order)


async def add(house: Room, signed: Signed, base_url: str, *, shared: bool = False, **changes: Any) -> OwnModel:
    return await flow.create(house.db, POLICY, owner(signed, shared=shared), wanted(base_url, **changes))


@pytest.mark.parametrize("protocol", ["openai", "anthropic", "google"])
async def test_a_chat_with_a_model_of_ones_own_goes_to_its_owner_and_costs_nothing(
    house: Room, provider: FakeProvider, protocol: Any
) -> None:
    ada = await house.person()
    base_url = {"openai": provider.url, "anthropic": provider.root, "google": f"{provider.root}/v1beta"}[protocol]
    row = await add(house, ada, base_url, protocol=protocol, system_message="You answer for the mill.")
    before = await house.rows(
        "SELECT remaining_micros FROM credit_balance WHERE organization_id = %s", ada.organization_id
    )
    answer = await house.ask(ada, "Hello there", model=row.model_id)
    assert (answer.state, answer.error) == ("done", None)
    assert (answer.model_id, answer.model_name) == (row.model_id, "Mine")
    assert (answer.charged_micros, answer.cost_nanos) == (0, 0)
    [call] = provider.log
    sent = json.dumps(call.body)
    assert "You answer for the mill." in sent and "Hello there" in sent
    assert "llama-own" in call.path + sent
    [used] = await house.rows(
        """SELECT model_id, provider_id, origin, channel, charged_micros, cost_nanos, messages, input_tokens > 0
           FROM usage_event WHERE organization_id = %s""",
        ada.organization_id,
    )
    assert used == (row.model_id, row.model_id, "own_key", "chat", 0, 0, 1, True)
    after = await house.rows(
        "SELECT remaining_micros FROM credit_balance WHERE organization_id = %s", ada.organization_id
    )
    assert after == before
    tokens = await house.rows(
        "SELECT sum(used) > 0 FROM quota_window WHERE organization_id = %s AND meter = 'tokens'", ada.organization_id
    )
    assert tokens == [(True,)]  # it counts against the plan all the same


async def test_what_fails_there_is_answered_by_no_other_model(house: Room) -> None:
    ada = await house.person()
    async with FakeProvider(keys=["another"]) as provider:
        row = await add(house, ada, provider.url)
        answer = await house.ask(ada, "Hello", model=row.model_id)
    assert answer.state == "failed" and answer.error is not None
    assert KEY not in answer.error.message
    assert await house.rows("SELECT count(*) FROM usage_event") == [(0,)]


async def test_nobody_else_uses_it_and_an_organisations_own_is_everybodys_there(
    house: Room, provider: FakeProvider
) -> None:
    ada, stranger = await house.person(plan="pro"), await house.person()
    charles = await house.colleague(ada)
    mine, ours = await add(house, ada, provider.url), await add(house, ada, provider.url, shared=True)
    for other, model_id in ((charles, mine.model_id), (stranger, mine.model_id), (stranger, ours.model_id)):
        with pytest.raises(OwnModelGone):
            await chat.begin(house.parts, other, Said("Hello", model=model_id))
    with pytest.raises(NotFound):
        await flow.read(house.db, owner(charles), mine.id)
    with pytest.raises(NotFound):  # what is one person's is not the organisation's to change, nor the other way round
        await flow.delete(house.db, owner(ada, shared=True), mine.id)
    with pytest.raises(NotFound):
        await flow.change(house.db, POLICY, owner(ada), ours.id, wanted())
    assert provider.log == []
    answer = await house.ask(charles, "Hello", model=ours.model_id)
    assert answer.state == "done"


async def test_one_that_was_deleted_is_refused_and_its_key_is_gone(house: Room, provider: FakeProvider) -> None:
    ada = await house.person()
    row = await add(house, ada, provider.url)
    first = await house.ask(ada, "Hello", model=row.model_id)
    await flow.delete(house.db, owner(ada), row.id)
    assert await house.rows("SELECT count(*) FROM own_model") == [(0,)]
    with pytest.raises(OwnModelGone):
        await chat.say(house.parts, ada, first.conversation_id, Said("And now?"))
    for name in ("own/", "own/nobody", f"own/{row.id}x", f"own/{str(row.id).upper()}"):
        assert own_model_id(name) is None


async def test_a_changed_address_or_key_counts_from_the_next_call(house: Room, provider: FakeProvider) -> None:
    ada = await house.person()
    row = await add(house, ada, provider.url, rekey=Rekey("sk-wrong-wrong-wrong"))
    assert (await house.ask(ada, "Hello", model=row.model_id)).state == "failed"
    with pytest.raises(BadRequest, match="goes to no other"):
        await flow.change(house.db, POLICY, owner(ada), row.id, wanted("https://elsewhere.example.com", rekey=None))
    after = await flow.change(house.db, POLICY, owner(ada), row.id, wanted(provider.url))
    assert after.key_hint == KEY[-4:]
    kept = await flow.change(house.db, POLICY, owner(ada), row.id, wanted(provider.url, name="Renamed", rekey=None))
    assert kept.key_ciphertext == after.key_ciphertext
    started = await chat.begin(house.parts, ada, Said("Hello", model=row.model_id))
    assert (await ended(house.parts, ada, started.answer)).model_name == "Renamed"


async def test_there_are_no_more_than_the_plan_has_also_when_all_are_added_at_once(house: Room) -> None:
    ada = await house.person(plan="starter")  # three
    charles = await house.colleague(ada)
    tries = [flow.create(house.db, POLICY, owner(one, shared=shared), wanted())
             for one in (ada, charles) for shared in (False, True, False)]  # fmt: skip
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(one, OwnModel) for one in done) == 3
    assert all(isinstance(one, OwnModel | Conflict) for one in done)
    assert await house.rows("SELECT count(*) FROM own_model") == [(3,)]
    await house.change("UPDATE organization SET plan_id = 'enterprise' WHERE id = %s", ada.organization_id)
    await flow.create(house.db, POLICY, owner(ada), wanted())


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/v1", "https://10.1.2.3", "https://169.254.169.254", "ftp://a"])
async def test_an_address_of_a_private_network_is_refused(house: Room, address: str) -> None:
    ada, strict = await house.person(), replace(POLICY, allow_private=False)
    for attempt in (flow.create, flow.try_draft):
        with pytest.raises(BadRequest) as refused:
            await attempt(house.db, strict, owner(ada), wanted(address))
        assert refused.value.field == "base_url"
    row = await flow.create(house.db, POLICY, owner(ada), wanted())
    with pytest.raises(BadRequest):
        await flow.change(house.db, strict, owner(ada), row.id, wanted(address))


async def test_a_test_says_whether_it_would_work_and_changes_nothing(house: Room, provider: FakeProvider) -> None:
    ada = await house.person()
    good = await flow.try_draft(house.db, POLICY, owner(ada), wanted(provider.url))
    bad = await flow.try_draft(house.db, POLICY, owner(ada), wanted(provider.url, rekey=Rekey("sk-wrong-wrong")))
    assert (good.ok, bad.ok) == (True, False)
    assert await house.rows("SELECT count(*) FROM own_model") == [(0,)]
    row = await add(house, ada, provider.url, rekey=Rekey("sk-wrong-wrong"))
    assert not (await flow.try_changed(house.db, POLICY, owner(ada), row.id, wanted(provider.url, rekey=None))).ok
    assert (await flow.try_changed(house.db, POLICY, owner(ada), row.id, wanted(provider.url))).ok
    assert (await flow.read(house.db, owner(ada), row.id)).key_ciphertext == row.key_ciphertext


async def test_every_change_is_audited_and_no_row_holds_the_key_or_a_name(house: Room) -> None:
    ada = await house.person()
    row = await flow.create(house.db, POLICY, owner(ada), wanted(name="Secret project", system_message="Hush"))
    await flow.change(house.db, POLICY, owner(ada), row.id, wanted(name="Secret project", rekey=Rekey(None)))
    await flow.delete(house.db, owner(ada), row.id)
    trail = await house.rows(
        """SELECT action, details::text FROM audit WHERE organization_id = %s AND object_type = 'own_model'
           ORDER BY seq""",
        ada.organization_id,
    )
    assert [action for action, _ in trail] == ["own_model.created", "own_model.changed", "own_model.deleted"]
    assert not any(word in details for _, details in trail for word in (KEY, KEY[-4:], "Secret", "Hush"))


async def test_who_leaves_an_organisation_leaves_no_model_and_no_key_there(house: Room) -> None:
    ada = await house.person(plan="pro")
    charles = await house.colleague(ada)
    await flow.create(house.db, POLICY, owner(charles), wanted())
    await flow.create(house.db, POLICY, owner(ada), wanted())
    async with house.db.operator() as tx:
        await members.delete(tx, ada.organization_id, charles.person_id)
    assert await house.rows("SELECT person_id FROM own_model") == [(ada.person_id,)]

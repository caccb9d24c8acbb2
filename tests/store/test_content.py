"""What organisations choose to keep: stored requests, and answers to be given again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flows.cast import found
from tollhouse.store import content, kept_answer
from tollhouse.store.content import _document
from tollhouse.store.db import Database

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = sha256(b"a request").digest()
ANSWER = {"choices": [{"text": "two \\u0000 \U0001f9a6", "logprob": -0.125}], "tokens": 2**60}


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def hers(database_url: str) -> UUID:
    return await found(database_url, NOON)


@pytest.fixture
async def his(database_url: str) -> UUID:
    return await found(database_url, NOON)


async def test_what_was_said_is_read_again_as_it_was_and_by_nobody_else(db: Database, hers: UUID, his: UUID) -> None:
    id_ = uuid4()
    prompt = {"messages": [{"role": "user", "content": "one"}]}
    async with db.tenant(hers) as tx:
        await content.keep(tx, hers, id_, prompt, ANSWER, NOON)
        assert await content.find(tx, hers, uuid4()) is None
        stored = await content.find(tx, hers, id_)
    assert stored == content.Content(id_, prompt, ANSWER, NOON)
    async with db.tenant(his) as tx:
        assert await content.find(tx, hers, id_) is None
        assert await content.find(tx, his, id_) is None
        assert await content.forget(tx, hers) == 0
    async with db.tenant(hers) as tx:
        assert await content.find(tx, hers, id_) == stored


async def test_a_request_kept_again_has_its_later_answer(db: Database, hers: UUID) -> None:
    id_ = uuid4()
    async with db.tenant(hers) as tx:
        await content.keep(tx, hers, id_, {"n": 1}, None, NOON)
        first = await content.find(tx, hers, id_)
        await content.keep(tx, hers, id_, {"n": 1}, "done", NOON + timedelta(seconds=9))
        second = await content.find(tx, hers, id_)
    assert first is not None and first.answer is None
    assert second == content.Content(id_, {"n": 1}, "done", NOON)


async def test_a_nul_which_no_database_takes_does_not_keep_the_rest_from_being_stored(db: Database, hers: UUID) -> None:
    said: Any = {"a\0": ["\0\0b", "\\u0000", "\\\0"], "c": {"d": "e\0"}}
    async with db.tenant(hers) as tx:
        await content.keep(tx, hers, (id_ := uuid4()), said, None, NOON)
        stored = await content.find(tx, hers, id_)
    assert stored is not None
    assert stored.prompt == {"a\ufffd": ["\ufffd\ufffdb", "\\u0000", "\\\ufffd"], "c": {"d": "e\ufffd"}}


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('\0\\u0"ab\n')),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.sampled_from("\0\\u0a")), inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(documents)
def test_in_every_document_each_nul_and_nothing_else_is_replaced(document: Any) -> None:
    import json

    def replaced(value: Any) -> Any:
        match value:
            case str():
                return value.replace("\0", "\ufffd")
            case list():
                return [replaced(one) for one in value]
            case dict():
                return {replaced(name): replaced(one) for name, one in value.items()}
        return value

    wrapped = _document(document)
    assert wrapped.dumps is not None
    assert json.loads(wrapped.dumps(document)) == replaced(document)


async def test_all_that_an_organisation_stored_is_forgotten_at_once_and_nothing_of_others(
    db: Database, hers: UUID, his: UUID
) -> None:
    for owner, ids in ((hers, (uuid4(), uuid4())), (his, (uuid4(),))):
        async with db.tenant(owner) as tx:
            for id_ in ids:
                await content.keep(tx, owner, id_, {}, {}, NOON)
            await kept_answer.keep(tx, owner, KEY, "sandbox", {}, NOON, 60)
    async with db.tenant(hers) as tx:
        assert await content.forget(tx, hers) == 2
        assert await content.forget(tx, hers) == 0
        assert await kept_answer.forget(tx, hers) == 1
        assert await kept_answer.find(tx, hers, KEY, NOON) is None
    async with db.tenant(his) as tx:
        assert await kept_answer.find(tx, his, KEY, NOON) is not None
        assert await content.forget(tx, his) == 1


async def test_an_answer_is_given_again_until_the_moment_it_expires_and_only_to_its_own_organisation(
    db: Database, hers: UUID, his: UUID
) -> None:
    async with db.tenant(hers) as tx:
        assert await kept_answer.keep(tx, hers, KEY, "sandbox", ANSWER, NOON, 60)
        last, end = NOON + timedelta(seconds=60, microseconds=-1), NOON + timedelta(seconds=60)
        assert await kept_answer.find(tx, hers, KEY, last) == kept_answer.Kept("sandbox", ANSWER, NOON, end)
        assert await kept_answer.find(tx, hers, KEY, end) is None
        assert await kept_answer.find(tx, hers, sha256(b"another").digest(), NOON) is None
    async with db.tenant(his) as tx:
        assert await kept_answer.find(tx, hers, KEY, NOON) is None


async def test_a_later_answer_takes_the_place_of_the_one_before(db: Database, hers: UUID) -> None:
    async with db.tenant(hers) as tx:
        await kept_answer.keep(tx, hers, KEY, "sandbox", "old", NOON, 60)
        await kept_answer.keep(tx, hers, KEY, "gpt-4o", "new", NOON + timedelta(hours=1), 60)
        kept = await kept_answer.find(tx, hers, KEY, NOON + timedelta(hours=1))
    assert kept is not None
    assert (kept.model_id, kept.answer) == ("gpt-4o", "new")


async def test_an_answer_that_would_come_back_as_another_is_not_kept(db: Database, hers: UUID) -> None:
    async with db.tenant(hers) as tx:
        assert not await kept_answer.keep(tx, hers, KEY, "sandbox", {"text": "a\0b"}, NOON, 60)
        assert await kept_answer.find(tx, hers, KEY, NOON) is None

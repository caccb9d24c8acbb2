"""The keys of an issuer are asked for rarely, soon enough, and not at all while they can be kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.fake_idp import FakeIdp, new_key
from tollhouse.flows import jwks
from tollhouse.flows.jwks import KeySets, KeysMissing
from tollhouse.outside.fetch import Fetcher

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
async def idp() -> AsyncIterator[FakeIdp]:
    async with FakeIdp() as running:
        yield running


@pytest.fixture
async def sets() -> AsyncIterator[KeySets]:
    fetcher = Fetcher(deadline_s=0.4)
    yield KeySets(fetcher)
    await fetcher.close()


class Asking:
    def __init__(self, sets: KeySets, idp: FakeIdp) -> None:
        self.sets, self.idp = sets, idp

    async def at(self, seconds: float, kid: str | None = None) -> bool:
        """Whether the keys that are given out so long after noon have this one, else the first."""
        kid = kid or self.idp.keys[0].kid
        now = NOON + timedelta(seconds=seconds)
        return (await self.sets.get(self.idp.jwks_url, kid, now, allow_private=True)).knows(kid)

    @property
    def fetched(self) -> int:
        return self.idp.count("/keys")


@pytest.fixture
def asking(sets: KeySets, idp: FakeIdp) -> Asking:
    return Asking(sets, idp)


async def test_keys_are_kept_for_ten_minutes(asking: Asking) -> None:
    for second in (0, 1, 599):
        assert await asking.at(second)
    assert asking.fetched == 1
    assert await asking.at(600)
    assert asking.fetched == 2


async def test_a_new_key_is_known_a_minute_after_the_last_look_and_tokens_cause_no_more(asking: Asking) -> None:
    await asking.at(0)
    asking.idp.keys.insert(0, new_key())
    assert not await asking.at(59)
    assert asking.fetched == 1
    assert await asking.at(60)
    assert asking.fetched == 2
    for second in range(61, 120):
        assert not await asking.at(second, f"made-up-{second}")
    assert asking.fetched == 2
    assert not await asking.at(120, "made-up")
    assert asking.fetched == 3


async def test_a_withdrawn_key_is_gone_after_ten_minutes(asking: Asking) -> None:
    old = asking.idp.keys[0].kid
    await asking.at(0)
    asking.idp.keys[:] = [new_key()]
    assert await asking.at(1, old)
    assert not await asking.at(600, old)


async def test_an_issuer_that_is_away_locks_nobody_out_for_a_day(asking: Asking) -> None:
    await asking.at(0)
    asking.idp.jwks_status, asking.idp.jwks_raw = 500, b"{}"
    for second in (600, 601, 630, 659):
        assert await asking.at(second)
    assert asking.fetched == 2
    assert await asking.at(86_399)
    with pytest.raises(KeysMissing, match="status 500"):
        await asking.at(86_460)
    asking.idp.jwks_status, asking.idp.jwks_raw = 200, None
    assert await asking.at(86_520)


async def test_what_was_published_by_mistake_does_not_replace_good_keys(asking: Asking) -> None:
    await asking.at(0)
    asking.idp.jwks_raw = b'{"keys": []}'
    assert await asking.at(600)


async def test_an_issuer_that_never_answered_is_not_asked_with_every_token(asking: Asking) -> None:
    asking.idp.jwks_raw = b"<html>"
    for second in (0, 1, 4.9):
        with pytest.raises(KeysMissing, match="not JSON"):
            await asking.at(second)
    assert asking.fetched == 1
    asking.idp.jwks_raw = None
    assert await asking.at(5)


async def test_hundreds_who_want_the_same_keys_ask_once(asking: Asking) -> None:
    asking.idp.wait_s = 0.1
    assert all(await asyncio.gather(*(asking.at(0) for _ in range(200))))
    assert asking.fetched == 1


async def test_one_who_gives_up_does_not_take_the_keys_from_the_others(asking: Asking) -> None:
    asking.idp.wait_s = 0.1
    first = asyncio.create_task(asking.at(0))
    second = asyncio.create_task(asking.at(0))
    await asyncio.sleep(0.02)
    first.cancel()
    assert await second
    assert asking.fetched == 1


async def test_a_slow_issuer_holds_up_nobody_else(asking: Asking, sets: KeySets) -> None:
    async with FakeIdp(wait_s=30) as slow:
        waiting = asyncio.create_task(Asking(sets, slow).at(0))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(0.3):
            assert await asking.at(0)
        with pytest.raises(KeysMissing, match="no whole answer"):
            await waiting


async def test_keys_that_were_fetched_from_inside_are_given_to_nobody_who_may_not_go_there(asking: Asking) -> None:
    await asking.at(0)
    with pytest.raises(KeysMissing, match="https"):
        await asking.sets.get(asking.idp.jwks_url, None, NOON, allow_private=False)


async def test_no_more_issuers_are_kept_than_fit(sets: KeySets, idp: FakeIdp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "ISSUERS_MAX", 2)
    for query in ("a", "b", "c", "a"):
        await sets.get(f"{idp.jwks_url}?{query}", None, NOON, allow_private=True)
    assert idp.count("/keys") == 4

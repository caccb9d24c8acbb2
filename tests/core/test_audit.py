"""The hash of an audit row: it covers everything, and nothing that may differ without meaning."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.audit import START, Detail, Entry, hash_of, row_hash

ENTRY = Entry(
    UUID(int=7),
    3,
    datetime(2026, 1, 31, 12, 0, 0, 5, UTC),
    "key:1",
    "grant.given",
    "grant",
    "g1",
    {"credits": "5", "n": 1},
)
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
details = st.dictionaries(
    texts,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=5,
)


@pytest.mark.parametrize(
    "change",
    [
        {"organization_id": UUID(int=8)},
        {"seq": 4},
        {"at": ENTRY.at + timedelta(microseconds=1)},
        {"actor": "key:2"},
        {"action": "grant.taken"},
        {"object_type": "key"},
        {"object_id": "g2"},
        {"details": {"credits": "50", "n": 1}},
        {"details": {"credits": "5", "n": True}},
        {"details": {"credits": "5", "n": "1"}},
        {"details": {"credits": "5"}},
    ],
    ids=str,
)
def test_a_change_of_any_column_changes_the_hash(change: dict[str, Any]) -> None:
    assert hash_of(START, replace(ENTRY, **change)) != hash_of(START, ENTRY)


def test_the_hash_depends_on_the_row_before() -> None:
    assert hash_of(hash_of(START, ENTRY), ENTRY) != hash_of(START, ENTRY)


def test_what_moves_from_one_column_into_the_next_changes_the_hash() -> None:
    assert hash_of(START, replace(ENTRY, action="grant.", object_type="givengrant")) != hash_of(START, ENTRY)


def test_the_same_moment_in_another_time_zone_has_the_same_hash() -> None:
    elsewhere = replace(ENTRY, at=ENTRY.at.astimezone(timezone(timedelta(hours=5, minutes=30))))
    assert hash_of(START, elsewhere) == hash_of(START, ENTRY)


def test_a_fraction_is_refused_since_it_may_come_back_as_another_number() -> None:
    with pytest.raises(ValueError, match="float"):
        hash_of(START, replace(ENTRY, details={"credits": [0.5]}))  # type: ignore[list-item]


@given(details)
def test_details_that_went_through_json_in_any_order_have_the_same_hash(found: dict[str, Detail]) -> None:
    returned = json.loads(json.dumps(dict(reversed(list(found.items())))))
    assert hash_of(START, replace(ENTRY, details=returned)) == hash_of(START, replace(ENTRY, details=found))


def test_the_hash_of_a_stored_row_is_that_of_its_entry() -> None:
    columns = ("organization_id", "seq", "at", "actor", "action", "object_type", "object_id", "details", "address")
    row = {name: getattr(ENTRY, name) for name in columns} | {"previous_hash": b"before", "hash": b"whatever"}
    assert row_hash(row) == hash_of(b"before", ENTRY)


def test_the_hash_is_that_of_one_text_for_ever_so_that_a_chain_written_long_ago_still_holds() -> None:
    details: dict[str, Detail] = {"to": "Größe", "from": [1, None, True]}
    text = (
        '{"action":"grant.given","actor":"key:1","at":"2026-01-31T12:00:00.000005+00:00",'
        '"details":{"from":[1,null,true],"to":"Größe"},"object_id":"g1","object_type":"grant",'
        '"organization_id":"00000000-0000-0000-0000-000000000007","seq":3}'
    )
    assert hash_of(b"before", replace(ENTRY, details=details)) == sha256(b"before" + text.encode()).digest()

"""Codes of apps, and recovery codes."""

import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.totp import address_of, new_secret, recovery_code, recovery_digests, step_of
from tollhouse.core.vault import Keyring

# The vectors of RFC 6238, whose secret is the ASCII text of twenty digits; of their eight digits the last six.
RFC_SECRET = new_secret(b"12345678901234567890")
ADA, BOB = UUID(int=1), UUID(int=2)
KEYRING = Keyring(b"now", (b"before",))


@pytest.mark.parametrize(
    ("second", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (2000000000, "279037")],
)
def test_the_vectors_of_the_rfc(second: int, code: str) -> None:
    now = datetime.fromtimestamp(second, UTC)
    assert step_of(RFC_SECRET, code, 0, now) == second // 30
    assert step_of(RFC_SECRET, f" {code[:3]} {code[3:]} ", 0, now) == second // 30
    assert step_of(RFC_SECRET, code, second // 30, now) is None, "it was taken before"
    assert step_of(RFC_SECRET, code, 0, now + timedelta(seconds=90)) is None


@given(st.text(max_size=20))
def test_no_text_is_a_code_by_accident(text: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert step_of(RFC_SECRET, text, 2**62, now) is None


def test_the_address_names_the_person_and_the_installation() -> None:
    address = address_of(RFC_SECRET, "ada@example.com", "Toll & House")
    assert address.startswith("otpauth://totp/Toll%20%26%20House:ada%40example.com?")
    assert f"secret={RFC_SECRET}" in address


@given(st.binary(min_size=8, max_size=8))
def test_a_recovery_code_is_known_however_it_is_typed_and_for_its_person(randomness: bytes) -> None:
    code = recovery_code(randomness)
    known = recovery_digests(KEYRING, ADA, code)
    assert len(known) == 2
    assert recovery_digests(KEYRING, ADA, f" {code.upper().replace('-', ' ')} ") == known
    assert not set(recovery_digests(KEYRING, BOB, code)) & set(known)


def test_recovery_codes_differ() -> None:
    assert len({recovery_code(os.urandom(8)) for _ in range(1000)}) == 1000


@given(st.text(max_size=30))
def test_what_has_another_form_is_no_recovery_code(text: str) -> None:
    if len("".join(text.replace("-", "").split())) != 10:
        assert recovery_digests(KEYRING, ADA, text) == []

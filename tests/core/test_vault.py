"""Provider keys at rest."""

from uuid import UUID

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.vault import NONCE_BYTES, VERSION, Keyring, SealBroken, association, open_sealed, seal

SECRET = b"an installation's secret, long enough"
OWNER = association(UUID(int=0), "openai")
NONCE = bytes(range(NONCE_BYTES))


@given(
    st.binary(min_size=1, max_size=80),
    st.text(max_size=200),
    st.binary(max_size=40),
    st.binary(min_size=12, max_size=12),
)
def test_what_was_sealed_opens_again(secret: bytes, text: str, associated: bytes, nonce: bytes) -> None:
    assert open_sealed(secret, seal(secret, text, associated, nonce), associated) == text


def test_the_text_cannot_be_read_in_what_is_stored() -> None:
    assert b"sk-very-secret" not in seal(SECRET, "sk-very-secret", OWNER, NONCE)


def test_another_secret_does_not_open_it_and_the_error_names_the_remedy() -> None:
    sealed = seal(SECRET, "sk-1", OWNER, NONCE)
    with pytest.raises(SealBroken, match=r"TOLLHOUSE_SECRET_KEY.*enter the provider's key again"):
        open_sealed(SECRET + b"!", sealed, OWNER)


@pytest.mark.parametrize("other", [association(UUID(int=1), "openai"), association(UUID(int=0), "google")])
def test_a_ciphertext_copied_to_another_organisation_or_provider_does_not_open(other: bytes) -> None:
    sealed = seal(SECRET, "sk-1", OWNER, NONCE)
    with pytest.raises(SealBroken):
        open_sealed(SECRET, sealed, other)


@given(st.data())
def test_a_single_changed_bit_is_noticed_wherever_it_is(data: st.DataObject) -> None:
    sealed = bytearray(seal(SECRET, "sk-1", OWNER, NONCE))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SealBroken):
        open_sealed(SECRET, bytes(sealed), OWNER)


@given(st.binary(max_size=28).map(lambda rest: VERSION + rest) | st.binary(max_size=60))
def test_what_was_never_sealed_is_refused_and_not_misread(junk: bytes) -> None:
    with pytest.raises(SealBroken):
        open_sealed(SECRET, junk, OWNER)


def test_a_form_of_a_later_version_is_named_as_such() -> None:
    sealed = b"\x03" + seal(SECRET, "sk-1", OWNER, NONCE)[1:]
    with pytest.raises(SealBroken, match="not in a form that this version"):
        open_sealed(SECRET, sealed, OWNER)


@pytest.mark.parametrize("length", [0, 11, 13, 16])
def test_a_nonce_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="a nonce has 12 bytes"):
        seal(SECRET, "sk-1", OWNER, bytes(length))


@pytest.mark.parametrize("length", [0, 1, 13, 28])
def test_what_is_too_short_to_hold_a_seal_is_in_no_known_form_and_one_that_is_not_was_changed(length: int) -> None:
    sealed = seal(SECRET, "", OWNER, NONCE)
    assert len(sealed) == 29
    with pytest.raises(SealBroken, match="not in a form that this version"):
        open_sealed(SECRET, sealed[:length], OWNER)
    with pytest.raises(SealBroken, match="changed since"):
        open_sealed(SECRET, sealed[:-1] + bytes([sealed[-1] ^ 1]), OWNER)


def test_what_an_earlier_version_sealed_still_opens_and_is_renewed_as_this_one_does() -> None:
    sealed = bytes.fromhex("01000102030405060708090a0bf79460ff73d512011a140dca5dc25327861233b4")
    assert open_sealed(SECRET, sealed, OWNER) == "sk-1"
    renewed = Keyring(SECRET).renewed(sealed, OWNER, NONCE)
    assert renewed == seal(SECRET, "sk-1", OWNER, NONCE)
    with pytest.raises(SealBroken):  # no form passes for the other
        open_sealed(SECRET, VERSION + sealed[1:], OWNER)


def test_each_secret_has_a_data_key_of_its_own() -> None:
    """The data key of the first opens the first, and not the second."""
    other = bytes(NONCE_BYTES)
    first, second = (seal(SECRET, "the same text", OWNER, one) for one in (NONCE, other))
    kept = HKDF(algorithm=SHA256(), length=32, salt=NONCE, info=b"tollhouse: data key of a secret, version 2")
    assert AESGCM(kept.derive(SECRET)).decrypt(NONCE, first[13:], VERSION + OWNER) == b"the same text"
    with pytest.raises(InvalidTag):
        kept = HKDF(algorithm=SHA256(), length=32, salt=NONCE, info=b"tollhouse: data key of a secret, version 2")
        AESGCM(kept.derive(SECRET)).decrypt(other, second[13:], VERSION + OWNER)


# ------------------------------------------------------------------------------------------------------------- rotation

OLDER, OLD, NEW = (name * 8 for name in (b"older", b"old!", b"new!"))
secrets = st.binary(min_size=1, max_size=40)


@given(secrets, st.lists(secrets, max_size=4), st.text(max_size=60), st.data())
def test_what_was_sealed_under_any_secret_of_the_keyring_opens(
    current: bytes, previous: list[bytes], text: str, data: st.DataObject
) -> None:
    under = data.draw(st.sampled_from([current, *previous]))
    assert Keyring(current, tuple(previous)).open(seal(under, text, OWNER, NONCE), OWNER) == text


def test_a_keyring_seals_under_its_current_secret() -> None:
    sealed = Keyring(NEW, (OLD, OLDER)).seal("sk-1", OWNER, NONCE)
    assert open_sealed(NEW, sealed, OWNER) == "sk-1"


def test_what_is_renewed_opens_without_the_earlier_secrets_and_is_then_left_alone() -> None:
    keyring = Keyring(NEW, (OLD, OLDER))
    for earlier in (OLD, OLDER):
        renewed = keyring.renewed(seal(earlier, "sk-1", OWNER, NONCE), OWNER, bytes(NONCE_BYTES))
        assert renewed is not None
        assert Keyring(NEW).open(renewed, OWNER) == "sk-1"
        assert keyring.renewed(renewed, OWNER, NONCE) is None


def test_what_no_secret_of_the_keyring_fits_is_neither_opened_nor_renewed_and_the_error_names_the_setting() -> None:
    sealed = seal(OLDER, "sk-1", OWNER, NONCE)
    keyring = Keyring(NEW, (OLD,))
    with pytest.raises(SealBroken, match="TOLLHOUSE_PREVIOUS_SECRET_KEYS"):
        keyring.open(sealed, OWNER)
    with pytest.raises(SealBroken, match="TOLLHOUSE_PREVIOUS_SECRET_KEYS"):
        keyring.renewed(sealed, OWNER, NONCE)
    with pytest.raises(SealBroken):
        Keyring(OLDER).open(sealed, association(UUID(int=1), "openai"))


def test_secrets_do_not_show_when_a_keyring_is_printed() -> None:
    assert repr(Keyring(NEW, (OLD,))) == "Keyring()"

"""Passwords: which are good enough, and what is kept of them."""

import contextlib
import time

import argon2
import pytest

from tollhouse.core.errors import BadRequest
from tollhouse.core.password import LENGTH_MAX, check, fits, hashed, is_outdated

ADA = ("Ada Lovelace", "ada@lovelace.example")


@pytest.mark.parametrize(
    ("password", "because"),
    [
        ("short", "at least 10"),
        ("password123", "many people"),
        ("P@ssw0rd123!", "many people"),
        ("qwertyuiop123", "many people"),
        ("dfghjkl;'poiu", "neighbouring keys"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "repeats"),
        ("abcdefghijklmn", "sequence"),
        ("adalovelace", "your name"),
        ("ada.lovelace", "your name"),
        ("x" * (LENGTH_MAX + 1), "at most 200"),
    ],
)
def test_what_is_easy_to_guess_is_refused_and_told_why(password: str, because: str) -> None:
    with pytest.raises(BadRequest, match=because) as refusal:
        check(password, ADA)
    assert refusal.value.field == "password"
    assert password not in str(refusal.value)


@pytest.mark.parametrize(
    "password",
    ["four grey herons wait", "mfewuhtu3829x", "vier große Bücher", "ünïcödé wörds", "日本語の長い合言葉です"],
)
def test_what_is_hard_to_guess_needs_no_rules(password: str) -> None:
    check(password, ADA)


def test_a_lone_surrogate_is_no_password() -> None:
    with pytest.raises(BadRequest):
        check("four grey \ud800 herons", ADA)


@pytest.mark.parametrize("password", ["4@8({[<369&#!1/|0$5+7%2" * 8, "1a!2b@3c#4d$5e%6f^7g&8h*9i(0j)" * 6, "x" * 200])
def test_no_password_takes_long_to_judge(password: str) -> None:
    began = time.process_time()
    with contextlib.suppress(BadRequest):
        check(password, ADA)
    assert time.process_time() - began < 2


def test_digits_over_and_over_are_not_hard_to_guess() -> None:
    with pytest.raises(BadRequest):
        check("1234567890" * 7, ADA)


def test_the_hash_fits_its_password_alone() -> None:
    stored = hashed("four grey herons", b"s" * 16)
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert fits("four grey herons", stored)
    assert not fits("four grey heron", stored)
    assert not fits("", stored)
    assert stored != hashed("four grey herons", b"t" * 16)


def test_what_looks_the_same_is_the_same() -> None:
    assert fits("caf\u0065\u0301 au lait", hashed("caf\u00e9 au lait", b"s" * 16))


@pytest.mark.parametrize("stored", [None, "", "nonsense", "$argon2id$v=19$m=65536,t=3,p=4$AAAA$AAAA"])
def test_nothing_fits_where_there_is_no_hash(stored: str | None) -> None:
    assert not fits("four grey herons", stored)
    assert not fits("", stored)


def test_other_parameters_are_outdated() -> None:
    assert not is_outdated(hashed("four grey herons", b"s" * 16))
    assert is_outdated(argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash("x"))

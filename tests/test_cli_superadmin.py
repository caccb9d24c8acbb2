"""`tollhouse superadmin`: who runs an installation, decided by whoever has its database."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
import typer
from psycopg.rows import dict_row
from typer.testing import CliRunner, Result

from tollhouse.cli_superadmin import commands
from tollhouse.core.errors import BadRequest, Conflict, NotFound
from tollhouse.store.catalogue import PLATFORM_ID

PEOPLE: LiteralString = """INSERT INTO person (id, email, created_at, email_verified_at, suspended_at, superadmin)
    VALUES (gen_random_uuid(), %s, now(), %s, %s, false)"""


def run(url: str, *options: str) -> Result:
    app = typer.Typer()
    app.add_typer(commands(lambda: url), name="superadmin")
    return CliRunner().invoke(app, ["superadmin", *options])


def rows(url: str, query: LiteralString, *parameters: Any) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(query, parameters).fetchall()


def sign_up(url: str, email: str, *, verified: bool = True, suspended: bool = False) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(PEOPLE, (email, "now" if verified else None, "now" if suspended else None))


def told(url: str) -> list[tuple[str, str, dict[str, Any]]]:
    """What the platform's audit log says of superadmins."""
    found = rows(
        url,
        "SELECT actor, action, details FROM audit WHERE organization_id = %s AND action LIKE 'person.%%' ORDER BY seq",
        PLATFORM_ID,
    )
    return [(row["actor"], row["action"], row["details"]) for row in found]


def test_the_first_superadmin_is_somebody_who_has_signed_up_and_it_is_on_record(database_url: str) -> None:
    assert "There is none" in run(database_url, "list").stdout
    sign_up(database_url, "ada@example.com")
    for _ in range(2):  # once more changes nothing
        done = run(database_url, "add", "Ada@Example.com")
        assert done.exit_code == 0, done.output
    assert run(database_url, "list").stdout == "ada@example.com\n"
    assert told(database_url) == [("system", "person.superadmin_set", {"from": False, "to": True, "sessions_ended": 0})]


def test_an_address_that_nobody_has_is_refused_with_the_remedy(database_url: str) -> None:
    refused = run(database_url, "add", "nobody@example.com").exception
    assert isinstance(refused, NotFound)
    assert "sign up first" in str(refused)
    assert isinstance(run(database_url, "add", "no address").exception, BadRequest)
    assert told(database_url) == []


def test_nobody_becomes_a_superadmin_who_cannot_sign_in(database_url: str) -> None:
    sign_up(database_url, "new@example.com", verified=False)
    sign_up(database_url, "out@example.com", suspended=True)
    for email in ("new@example.com", "out@example.com"):
        assert isinstance(run(database_url, "add", email).exception, Conflict)
    assert rows(database_url, "SELECT FROM person WHERE superadmin") == []


def test_the_sessions_of_whoever_becomes_one_or_is_one_no_more_end(database_url: str) -> None:
    for email in ("ada@example.com", "grace@example.com"):
        sign_up(database_url, email)
    open_one: LiteralString = """INSERT INTO session (person_id, id, digest, organization_id, method, created_at,
            seen_at, expires_at, proved_at, second_factor, user_agent)
        SELECT id, gen_random_uuid(), sha256(gen_random_uuid()::text::bytea), %s, 'password', now(), now(),
            now() + interval '1 day', now(), false, '' FROM person WHERE email = 'ada@example.com'"""
    for command in ("add", "remove"):
        with psycopg.connect(database_url) as connection:
            connection.execute(open_one, (PLATFORM_ID,))
        assert run(database_url, "add", "grace@example.com").exit_code == 0
        assert run(database_url, command, "ada@example.com").exit_code == 0
        assert rows(database_url, "SELECT FROM session WHERE revoked_at IS NULL") == []
    assert run(database_url, "list").stdout == "grace@example.com\n"


def test_the_last_superadmin_stays_one(database_url: str) -> None:
    sign_up(database_url, "ada@example.com")
    run(database_url, "add", "ada@example.com")
    assert isinstance(run(database_url, "remove", "ada@example.com").exception, Conflict)
    assert run(database_url, "list").stdout == "ada@example.com\n"

"""The commands say what they did, or in a sentence why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

import tollhouse
from tests.conftest import TEST_SECRET
from tollhouse.core.routing import PLATFORM_ID
from tollhouse.core.vault import Keyring, association

Command = Callable[..., subprocess.CompletedProcess[str]]
DEMO = "00000000-0000-0000-0000-000000000001"
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs `tollhouse` with nothing but the given settings."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TOLLHOUSE_")},
            "PYTHONPATH": str(Path(tollhouse.__file__).parents[1]),
            "TOLLHOUSE_DATA_DIR": str(tmp_path / "data"),
            "TOLLHOUSE_SECRET_KEY": TEST_SECRET.decode(),
            **{f"TOLLHOUSE_{name}": value for name, value in settings.items()},
        }
        program = [sys.executable, "-m", "tollhouse", *arguments]
        return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return run


def key_options(organization: str, scope: str) -> list[str]:
    return ["--organization", organization, "--name", "mine", "--scope", scope]


def test_the_version_is_printed_and_nothing_else(command: Command) -> None:
    assert command("version").stdout == f"{tollhouse.__version__}\n"


def test_a_database_that_does_not_answer_is_a_sentence_and_with_debug_a_traceback(command: Command) -> None:
    refused = command("migrate", DATABASE_URL=NOWHERE)
    assert refused.returncode == 1
    assert refused.stderr.startswith("tollhouse: The database can't be reached")
    assert "Traceback" not in refused.stderr
    assert "Traceback" in command("migrate", DATABASE_URL=NOWHERE, LOG_LEVEL="debug").stderr


def test_an_unmigrated_database_is_told_to_be_migrated(command: Command, empty_database_url: str) -> None:
    refused = command("prove-ledger", DATABASE_URL=empty_database_url)
    assert refused.returncode == 1
    assert "tollhouse migrate" in refused.stderr
    assert "at revision" in command("migrate", DATABASE_URL=empty_database_url).stdout
    assert command("seed", DATABASE_URL=empty_database_url).returncode == 0
    assert "Every invariant holds." in command("prove-ledger", DATABASE_URL=empty_database_url).stdout


def test_seeding_again_shows_the_same_keys(command: Command, empty_database_url: str) -> None:
    command("migrate", DATABASE_URL=empty_database_url)
    first = command("seed", DATABASE_URL=empty_database_url).stdout
    assert first.count("th_test_") == 2
    assert command("seed", DATABASE_URL=empty_database_url).stdout == first


def test_a_key_is_made_for_an_organisation_and_only_its_digest_is_kept(command: Command, database_url: str) -> None:
    made = command(
        "key", "create", "--organization", DEMO, "--name", "mine", "--scope", "gateway", DATABASE_URL=database_url
    )
    key = made.stdout.strip()
    assert key.startswith("th_test_")
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT scopes, start FROM api_key WHERE name = 'mine'").fetchone()
    assert row is not None
    assert row[0] == ["gateway"]
    assert key.startswith(row[1])
    assert len(row[1]) < len(key) / 2


def test_a_key_for_nobody_or_with_an_unknown_scope_is_refused(command: Command, database_url: str) -> None:
    nobody = DEMO.replace("1", "9")
    refused = command(
        "key", "create", "--organization", nobody, "--name", "x", "--scope", "gateway", DATABASE_URL=database_url
    )
    assert (refused.returncode, refused.stderr) == (1, "tollhouse: There is no such organisation.\n")
    unknown = command(
        "key", "create", "--organization", DEMO, "--name", "x", "--scope", "all", DATABASE_URL=database_url
    )
    assert unknown.returncode == 2
    assert "gateway" in unknown.stderr


def test_a_ledger_that_does_not_hold_is_reported_with_status_1(command: Command, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE credit_grant SET remaining_micros = remaining_micros - 1")
    proven = command("prove-ledger", "--json", DATABASE_URL=database_url)
    assert proven.returncode == 1
    answer = json.loads(proven.stdout)
    assert answer["ok"] is False
    assert all(failure["rows"] for failure in answer["failures"])
    assert "fail" in command("prove-ledger", DATABASE_URL=database_url).stdout


def test_provider_keys_are_sealed_under_another_secret_and_what_cannot_be_opened_is_told(
    command: Command, database_url: str
) -> None:
    new, associated = "another secret, which is to be the present one", association(PLATFORM_ID, "openai")
    sealed = [Keyring(secret).seal("sk-1", associated, bytes(12)) for secret in (TEST_SECRET, b"a secret that is lost")]
    with psycopg.connect(database_url) as connection:
        for number, one in enumerate(sealed):
            connection.execute(
                """INSERT INTO connection (organization_id, id, provider_id, base_url, key_ciphertext, origin,
                       created_at)
                   VALUES (%s, %s, 'openai', 'https://host.example', %s, 'operator', now())""",
                (PLATFORM_ID, PLATFORM_ID.hex[:-1] + str(number), one),
            )
    settings = {"DATABASE_URL": database_url, "SECRET_KEY": new, "PREVIOUS_SECRET_KEYS": TEST_SECRET.decode()}
    first = command("rotate-keys", **settings)
    assert first.returncode == 1
    assert first.stdout.startswith("Sealed anew: 1. Under the present secret already: 0.\n")
    assert f"connection {DEMO} to openai of organisation {PLATFORM_ID}" in first.stdout
    assert "TOLLHOUSE_PREVIOUS_SECRET_KEYS" in first.stdout
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM connection WHERE id = %s", (DEMO,))
        row = connection.execute("SELECT key_ciphertext FROM connection").fetchone()
    assert row is not None
    assert Keyring(new.encode()).open(row[0], associated) == "sk-1"
    again = command("rotate-keys", DATABASE_URL=database_url, SECRET_KEY=new)
    assert (again.returncode, again.stdout) == (0, "Sealed anew: 0. Under the present secret already: 1.\n")


def test_without_a_place_for_the_keys_nothing_is_seeded(
    command: Command, empty_database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    command("migrate", DATABASE_URL=empty_database_url)
    refused = command("seed", DATABASE_URL=empty_database_url, DATA_DIR=str(tmp_path / "file" / "data"))
    assert refused.returncode == 1
    assert "TOLLHOUSE_DATA_DIR" in refused.stderr
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT count(*) FROM plan").fetchone() == (0,)


def test_the_doctor_names_each_problem_with_a_remedy(command: Command, empty_database_url: str) -> None:
    examined = command("doctor", DATABASE_URL=empty_database_url, PORT="0")
    assert examined.returncode == 1
    problems = [line for line in examined.stdout.splitlines() if line.startswith("PROBLEM")]
    assert len(problems) == 1
    assert problems[0].endswith("-> run `tollhouse migrate`")
    live = {"MODE": "live", "SECRET_KEY": "a secret of at least thirty-two letters"}
    examined = command("doctor", DATABASE_URL=empty_database_url, PORT="0", **live)
    problems = [line for line in examined.stdout.splitlines() if line.startswith("PROBLEM")]
    assert ["TOLLHOUSE_PUBLIC_URL" in problems[0], "TOLLHOUSE_SMTP_URL" in problems[1]] == [True, True]
    live |= {"PUBLIC_URL": "https://ai.example.com", "SMTP_URL": "smtp://mail:25", "MAIL_FROM": "ai@example.com"}
    examined = command("doctor", DATABASE_URL=empty_database_url, PORT="0", **live)
    assert sum(line.startswith("PROBLEM") for line in examined.stdout.splitlines()) == 1
    assert command("migrate", DATABASE_URL=empty_database_url).returncode == 0
    examined = command("doctor", DATABASE_URL=empty_database_url, PORT="0")
    assert "superadmins     0, 0 with a second factor -> have two" in examined.stdout
    unreachable = command("doctor", DATABASE_URL=NOWHERE, PORT="0")
    assert unreachable.returncode == 1
    assert "TOLLHOUSE_DATABASE_URL" in unreachable.stdout

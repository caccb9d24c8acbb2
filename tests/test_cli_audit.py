"""`tollhouse audit`: what it prints, and with which status it ends."""

from __future__ import annotations

import csv
import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import typer
from typer.testing import CliRunner, Result

from tollhouse.cli_audit import commands
from tollhouse.core.audit import Entry, hash_of
from tollhouse.core.errors import NotFound
from tollhouse.flows.seed import DEMO_ID
from tollhouse.store.catalogue import PLATFORM_ID

DEMO = str(DEMO_ID)


def run(url: str, *options: str) -> Result:
    app = typer.Typer()
    app.add_typer(commands(lambda: url), name="audit")
    return CliRunner().invoke(app, ["audit", *options])


def change(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        assert connection.execute(statement.encode()).rowcount > 0


def heads(printed: Result) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in printed.stdout.splitlines())


@pytest.fixture(autouse=True)
def written(database_url: str) -> None:
    """Rows in the logs of two organisations."""
    from datetime import UTC, datetime

    with psycopg.connect(database_url) as connection:
        for organization_id in (DEMO_ID, PLATFORM_ID):
            last = connection.execute(
                "SELECT seq, hash FROM audit WHERE organization_id = %s ORDER BY seq DESC LIMIT 1", (organization_id,)
            ).fetchone()
            seq, previous = last or (0, b"")
            for _ in range(3):
                seq, at = seq + 1, datetime.now(UTC)
                hash_ = hash_of(previous, Entry(organization_id, seq, at, "system", "test.made", "test", "=1+1", {}))
                connection.execute(
                    """INSERT INTO audit (organization_id, seq, at, actor, action, object_type, object_id, details,
                           previous_hash, hash)
                       VALUES (%s, %s, %s, 'system', 'test.made', 'test', '=1+1', '{}', %s, %s)""",
                    (organization_id, seq, at, previous, hash_),
                )
                previous = hash_


def test_chains_that_hold_are_told_with_their_heads_and_status_0(database_url: str, tmp_path: Path) -> None:
    done = run(database_url, "verify")
    assert (done.exit_code, done.stderr) == (0, "Every chain holds.\n")
    assert {DEMO, str(PLATFORM_ID)} <= set(heads(done))
    (noted := tmp_path / "heads").write_text(done.stdout)
    assert run(database_url, "verify", "--heads", str(noted)).exit_code == 0
    assert run(database_url, "verify", "--organization", DEMO, "--expect", heads(done)[DEMO]).exit_code == 0
    assert set(heads(run(database_url, "verify", "--organization", DEMO))) == {DEMO}


def test_a_tampered_row_is_named_with_status_1(database_url: str) -> None:
    change(database_url, f"UPDATE audit SET actor = 'person:eve' WHERE organization_id = '{DEMO}' AND seq = 2")
    done = run(database_url, "verify")
    assert done.exit_code == 1
    assert f"Broken: organisation {DEMO}, row 2: its hash is not that of what it says." in done.stderr
    assert str(PLATFORM_ID) not in done.stderr
    assert set(heads(done)) >= {DEMO, str(PLATFORM_ID)}


def test_a_cut_end_is_found_by_the_head_that_was_printed_before(database_url: str, tmp_path: Path) -> None:
    before = run(database_url, "verify")
    (noted := tmp_path / "heads").write_text(before.stdout)
    seq = int(heads(before)[DEMO].partition(":")[0])
    change(database_url, f"DELETE FROM audit WHERE organization_id = '{DEMO}' AND seq = {seq}")
    assert run(database_url, "verify").exit_code == 0
    for options in (("--heads", str(noted)), ("--organization", DEMO, "--expect", heads(before)[DEMO])):
        done = run(database_url, "verify", *options)
        assert done.exit_code == 1
        assert f"row {seq}: rows are missing at the end" in done.stderr
    change(database_url, f"DELETE FROM audit WHERE organization_id = '{DEMO}'")
    assert run(database_url, "verify", "--heads", str(noted)).exit_code == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--expect", "1:" + "0" * 64),
        ("--organization", DEMO, "--expect", "1"),
        ("--organization", "demo"),
        ("--heads", "/nowhere/heads"),
    ],
)
def test_what_cannot_be_meant_is_refused(database_url: str, options: tuple[str, ...]) -> None:
    assert run(database_url, "verify", *options).exit_code == 2


def test_a_file_with_something_else_in_it_is_refused(database_url: str, tmp_path: Path) -> None:
    for text in ("what is this\n", f"{DEMO} 1:00\n", "\n"):
        (tmp_path / "heads").write_text(text)
        assert run(database_url, "verify", "--heads", str(tmp_path / "heads")).exit_code == 2


def test_an_export_holds_the_chain_in_its_order_and_is_written_down(database_url: str) -> None:
    done = run(database_url, "export", "--organization", DEMO)
    assert done.exit_code == 0, done.output
    exported: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["seq"] for row in exported] == list(range(1, len(exported) + 1))
    assert len(exported) >= 3
    assert all(row["previous_hash"] == before["hash"] for before, row in pairwise(exported))
    with psycopg.connect(database_url) as connection:
        last = connection.execute(
            "SELECT actor, action FROM audit WHERE organization_id = %s ORDER BY seq DESC LIMIT 1", (DEMO_ID,)
        ).fetchone()
    assert last == ("system", "audit.exported")


def test_a_table_holds_no_formula(database_url: str) -> None:
    done = run(database_url, "export", "--organization", DEMO, "--format", "csv")
    table = list(csv.DictReader(io.StringIO(done.stdout)))
    assert "'=1+1" in {row["object_id"] for row in table}
    assert not any(value.startswith(("=", "+", "-", "@")) for row in table for value in row.values())


def test_no_such_organisation_and_too_long_a_time_are_refused(database_url: str) -> None:
    assert isinstance(run(database_url, "export", "--organization", str(uuid4())).exception, NotFound)
    long = ("--from", "2020-01-01", "--to", "2022-01-01")
    assert "366 days" in str(run(database_url, "export", "--organization", DEMO, *long).exception)
    assert run(database_url, "export", "--organization", DEMO, "--format", "xlsx").exit_code == 2

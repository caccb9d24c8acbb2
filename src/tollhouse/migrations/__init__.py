"""Bringing a database to the schema this program was written for, and back.

Each version is `versions/NNNN_name.py`, which runs the reviewed SQL of `NNNN_name.up.sql` or `.down.sql` beside it. An
upgrade is one transaction: it happens whole or not at all."""

from __future__ import annotations

from pathlib import Path

import psycopg

from tollhouse.trouble import Trouble

FOLDER = Path(__file__).parent
VERSIONS = FOLDER / "versions"


class MigrationError(Trouble):
    """The database is in a state from which these migrations can't go on, or the server refused one."""


def upgrade(url: str, revision: str = "head") -> None:
    """Brings the database up to `revision`, and refreshes the planner's statistics if that moved anything.

    Waits for another process that migrates the same database. Raises MigrationError, and psycopg.Error when the
    server can't be reached."""
    from tollhouse.migrations import steps  # here, since the web processes come for `head` only

    steps.upgrade(url, revision)


def downgrade(url: str, revision: str) -> None:
    """Takes the database down to `revision` ("base": nothing of ours is left). Raises like `upgrade`."""
    from tollhouse.migrations import steps

    steps.downgrade(url, revision)


def current(url: str) -> str | None:
    """The revision of the database, None when it has none. Raises psycopg.Error when the server can't be reached."""
    with psycopg.connect(url, connect_timeout=10) as connection:
        if connection.execute("SELECT to_regclass('public.alembic_version')").fetchone() == (None,):
            return None
        row = connection.execute("SELECT version_num FROM public.alembic_version").fetchone()
        return row[0] if row else None


def head() -> str:
    """The revision this program was written for: the versions form one line, numbered in order."""
    return max(path.name.split("_")[0] for path in VERSIONS.glob("[0-9]*.py"))

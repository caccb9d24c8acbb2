"""The steps themselves. Imported only where a database is changed: Alembic and SQLAlchemy take 23 MB of memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, exc, pool, text

from tollhouse.migrations import FOLDER, VERSIONS, MigrationError, head

LOCK = 0x746F6C6C  # any number that no other program of this database locks: "toll"


def upgrade(url: str, revision: str = "head") -> None:
    """Brings the database up to `revision`, and refreshes the planner's statistics if that moved anything.

    Waits for another process that migrates the same database. Raises MigrationError, and psycopg.Error when the
    server can't be reached."""
    with _connection(url) as connection:
        before = _checked_revision(connection)
        _run(connection, lambda config: command.upgrade(config, revision))
        after = _revision(connection)
        connection.commit()
        if after != before:
            connection.execute(text("ANALYZE"))
            connection.commit()


def downgrade(url: str, revision: str) -> None:
    """Takes the database down to `revision` ("base": nothing of ours is left). Raises like `upgrade`."""
    with _connection(url) as connection:
        _checked_revision(connection)
        _run(connection, lambda config: command.downgrade(config, revision))
        connection.commit()


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _connection(url: str) -> Iterator[Connection]:
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(url, connect_timeout=10), poolclass=pool.NullPool
    )
    try:
        with engine.connect() as connection:
            yield connection
    except exc.DBAPIError as error:
        raise _original(error) from error
    finally:
        engine.dispose()


def _original(error: exc.DBAPIError) -> BaseException:
    return error.orig or error


def _run(connection: Connection, step: Any) -> None:
    try:
        step(_config(connection))
    except CommandError as error:
        raise MigrationError(f"The migration could not run: {error}") from error
    except exc.DBAPIError as error:
        raise _refusal(_original(error)) from error
    except psycopg.Error as error:  # from the SQL files, which pass by SQLAlchemy
        raise _refusal(error) from error


def _refusal(error: BaseException) -> MigrationError:
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return MigrationError(
            "A migration waited 5 seconds for a table that something else is using, and was given up; the database is "
            "as before. Try again when long-running queries have ended."
        )
    return MigrationError(f"A migration failed and was undone, the database is as before: {str(error).strip()}")


def _revision(connection: Connection) -> str | None:
    if connection.scalar(text("SELECT to_regclass('public.alembic_version')")) is None:
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM public.alembic_version"))
    return revision


def _checked_revision(connection: Connection) -> str | None:
    """The revision, under the lock that lets one process migrate at a time. Raises MigrationError when the migrations
    can't know what the database holds."""
    version = connection.scalar(text("SELECT current_setting('server_version_num')::int"))
    if version < 160000:
        raise MigrationError(
            f"The database server is PostgreSQL {version // 10000}, and Tollhouse needs 16 or later. Upgrade the "
            "server, or unset TOLLHOUSE_DATABASE_URL to use the embedded one."
        )
    connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK})
    connection.execute(text("SET LOCAL lock_timeout = '5s'"))
    revision = _revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is None:
        tables = _tables_of_ours(connection)
        if tables:
            raise MigrationError(
                f"The database holds tables of Tollhouse ({', '.join(tables[:3])}, ...) but not the record of its "
                "migrations, so they were not made by a migration or only a part was restored. Restore a complete "
                "backup, or use an empty database."
            )
    elif revision not in known:
        raise MigrationError(
            f"The database is at revision {revision}, which this Tollhouse (up to {head()}) does not know: a newer one "
            "migrated it. Run that version or a later one, or restore a backup from before its migration."
        )
    return revision


def _tables_of_ours(connection: Connection) -> list[str]:
    made = re.findall(r"^CREATE TABLE (\w+)", (VERSIONS / "0001_start.up.sql").read_text(), re.MULTILINE)
    found = connection.scalars(
        text("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND tablename = ANY(:made) ORDER BY 1"),
        {"made": made},
    )
    return list(found)

"""`tollhouse doctor`: does this machine have what Tollhouse needs?"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tollhouse import config, data_directory, migrations
from tollhouse.config import Config, ConfigError
from tollhouse.listener import listen
from tollhouse.trouble import Trouble

FREE_BYTES_MIN = 1024**3
POSTGRES_MIN = 160000
ROLES = ("tollhouse_web", "tollhouse_teller", "tollhouse_worker", "tollhouse_operator")

Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw. `remedy` is for a problem, or for something worth doing that is none."""

    subject: str
    ok: bool
    text: str
    remedy: str = ""

    def line(self) -> str:
        mark = "ok     " if self.ok else "PROBLEM"
        return f"{mark}  {self.subject:<15} {self.text}" + (f" -> {self.remedy}" if self.remedy else "")


def examine() -> list[Finding]:
    """Runs every check that can be run; changes nothing."""
    return list(_examine())


def _examine() -> Iterator[Finding]:
    yield _python()
    try:
        settings = config.read()
    except ConfigError as error:
        yield from (Finding("configuration", False, problem) for problem in error.problems)
        return
    yield Finding("configuration", True, f"{settings.mode} mode, {settings.workers} web process(es)")
    if settings.mode == "live":
        yield from _going_live(settings)
    yield from _folder(settings.data_dir)
    yield _port(settings)
    yield from _database(settings)


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding(
        "Python", sys.version_info >= (3, 11), version, "" if sys.version_info >= (3, 11) else "install 3.11"
    )


def _going_live(settings: Config) -> Iterator[Finding]:
    """What an installation that others use should have (docs/operators.md, before going live)."""
    remedy = "" if settings.origin.startswith("https://") else "set TOLLHOUSE_PUBLIC_URL to the https:// address"
    yield Finding("public address", not remedy, settings.origin, remedy)
    remedy = (
        "" if settings.smtp_url else "set TOLLHOUSE_SMTP_URL and TOLLHOUSE_MAIL_FROM: nobody confirms an address else"
    )
    yield Finding("mail", not remedy, "is sent" if settings.smtp_url else "stays in the outbox", remedy)


def _folder(data_dir: Path) -> Iterator[Finding]:
    there = data_dir
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK | os.X_OK):
        yield Finding(
            "data directory", False, f"{data_dir} can't be written", "set TOLLHOUSE_DATA_DIR to a folder of yours"
        )
        return
    yield Finding("data directory", True, f"{data_dir}" + ("" if there == data_dir else " (made at the first start)"))
    free = shutil.disk_usage(there).free
    remedy = "" if free >= FREE_BYTES_MIN else "free at least 1 GiB, or move TOLLHOUSE_DATA_DIR"
    yield Finding("disk space", free >= FREE_BYTES_MIN, f"{free / 1024**3:.1f} GiB free", remedy)


def _port(settings: Config) -> Finding:
    if data_directory.is_locked(settings.data_dir):
        return Finding("port", True, f"{settings.port} (Tollhouse is running)")
    try:
        listen(settings.host, settings.port).close()
    except Trouble as error:
        return Finding("port", False, str(error))
    return Finding("port", True, f"{settings.port} is free")


def _database(settings: Config) -> Iterator[Finding]:
    url = settings.database_url
    if url is None:
        try:
            url = data_directory.read_url(settings.data_dir)
        except Trouble as error:
            yield Finding("database", False, str(error))
            return
    if url is None:
        yield Finding("database", True, "embedded, not running", "the rest is checked while `tollhouse up` runs")
        return
    try:
        with psycopg.connect(url, connect_timeout=5, autocommit=True) as connection:
            yield from _server(connection)
            at_head = migrations.current(url) == migrations.head()
            yield Finding(
                "migrations",
                at_head,
                f"at {migrations.current(url) or 'none'}, this version needs {migrations.head()}",
                "" if at_head else "run `tollhouse migrate`",
            )
            if at_head:
                for check in (_roles, _partitions, _connections, _superadmins):
                    yield check(connection)
    except psycopg.Error as error:
        remedy = "check TOLLHOUSE_DATABASE_URL" if settings.database_url else "start `tollhouse up` again"
        yield Finding("database", False, f"can't be reached: {str(error).strip().splitlines()[0]}", remedy)


def _server(connection: Connection) -> Iterator[Finding]:
    number = connection.info.server_version
    remedy = "" if number >= POSTGRES_MIN else "upgrade the server to 16 or later"
    yield Finding("database", number >= POSTGRES_MIN, f"PostgreSQL {number // 10000}.{number % 10000}", remedy)


def _roles(connection: Connection) -> Finding:
    rows = connection.execute(
        "SELECT name FROM unnest(%s::text[]) AS name LEFT JOIN pg_roles ON rolname = name "
        "WHERE rolname IS NULL OR NOT pg_has_role(name, 'SET') OR rolsuper OR rolbypassrls",
        (list(ROLES),),
    ).fetchall()
    wrong = ", ".join(str(row[0]) for row in rows)
    if wrong:
        remedy = "the owner must be a member of each, and none may be superuser or bypass row-level security"
        return Finding("roles", False, f"not as they should be: {wrong}", remedy)
    return Finding("roles", True, "there, and bound by row-level security")


def _partitions(connection: Connection) -> Finding:
    row = connection.execute(
        "SELECT to_regclass('usage_event_' || to_char(now() AT TIME ZONE 'UTC' + interval '1 month', 'YYYY_MM'))::text"
    ).fetchone()
    if row is None or row[0] is None:
        remedy = "the job worker makes it every day: see that `tollhouse worker` runs"
        return Finding("partitions", False, "usage_event has none for the next month", remedy)
    return Finding("partitions", True, "usage_event is prepared for the next month")


def _connections(connection: Connection) -> Finding:
    rows = connection.execute(
        "SELECT id FROM provider p WHERE protocol <> 'sandbox' "
        "AND NOT EXISTS (SELECT FROM connection c WHERE c.provider_id = p.id AND c.enabled) ORDER BY id"
    ).fetchall()
    missing = ", ".join(str(row[0]) for row in rows)
    if missing:
        remedy = "set <VENDOR>_API_KEY or <VENDOR>_BASE_URL at a start, or add one as an operator"
        return Finding("connections", True, f"none for {missing}", remedy)
    return Finding("connections", True, "every provider has one")


def _superadmins(connection: Connection) -> Finding:
    row = connection.execute(
        """SELECT count(*), count(*) FILTER (WHERE EXISTS (
               SELECT FROM totp t WHERE t.person_id = p.id AND t.confirmed_at IS NOT NULL))
           FROM person p WHERE superadmin AND suspended_at IS NULL AND erased_at IS NULL"""
    ).fetchone()
    assert row is not None
    count, factored = int(str(row[0])), int(str(row[1]))
    remedy = "" if factored >= 2 else "have two with a second factor each: one can be lost (`tollhouse superadmin add`)"
    return Finding("superadmins", True, f"{count}, {factored} with a second factor", remedy)

"""The embedded PostgreSQL comes up from whatever it finds, serves only its owner, and goes with its parent."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.conftest import SMALL
from tollhouse import installation
from tollhouse.embedded import SUPERUSER, EmbeddedError, EmbeddedPostgres

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")

STARTER = """
import os, sys, time
from pathlib import Path
from tollhouse import child
from tollhouse.embedded import EmbeddedPostgres
if sys.argv[2] == "unbound":
    child.PR_SET_PDEATHSIG = 0
    ordinary = child.command
    child.command = lambda program, death, uid=-1, gid=-1: [
        sys.executable, "-c",
        "import os, sys; u, g = int(sys.argv[1]), int(sys.argv[2])\\n"
        "if u >= 0: os.setgroups([]); os.setgid(g); os.setuid(u)\\n"
        "os.execv(sys.argv[3], sys.argv[3:])",
        str(uid), str(gid), *map(os.fspath, program)]
postgres = EmbeddedPostgres(Path(sys.argv[1]), {"shared_buffers": "32MB"})
postgres.start()
print(postgres.process.pid, flush=True)
time.sleep(600)
"""


@contextmanager
def running(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(data_dir, SMALL)
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()


def answer(postgres: EmbeddedPostgres, query: str, role: str = SUPERUSER) -> object:
    with psycopg.connect(postgres.url(role=role)) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def killed_elsewhere(data_dir: Path, how: str) -> psutil.Process:
    """The server of the data directory, started by another process which was killed right after."""
    program = [sys.executable, "-c", STARTER, str(data_dir), how]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        server = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
    return server


def has_ended(process: psutil.Process, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_the_owner_owns_its_database_and_is_no_superuser(data_dir: Path) -> None:
    with running(data_dir) as postgres, psycopg.connect(postgres.url()) as connection:
        row = connection.execute(
            "SELECT current_user, r.rolsuper, r.rolcreaterole, d.datdba = r.oid, "
            "pg_encoding_to_char(d.encoding), d.datlocale FROM pg_roles r, pg_database d "
            "WHERE r.rolname = current_user AND d.datname = current_database()"
        ).fetchone()
        assert row == ("tollhouse", False, True, True, "UTF8", "C.UTF-8")


def test_what_was_committed_is_there_after_a_restart_and_the_settings_are_the_durable_ones(data_dir: Path) -> None:
    with running(data_dir) as postgres, psycopg.connect(postgres.url()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    with running(data_dir) as postgres:
        assert answer(postgres, "SELECT number FROM kept") == 7
        for name, value in {
            "fsync": "on",
            "synchronous_commit": "on",
            "data_checksums": "on",
            "TimeZone": "UTC",
        }.items():
            assert answer(postgres, f"SELECT current_setting('{name}')") == value
        assert answer(postgres, "SELECT current_setting('listen_addresses')") == ""


def test_nobody_else_reaches_the_socket_or_the_files(data_dir: Path) -> None:
    with running(data_dir) as postgres:
        for folder in (postgres.cluster, data_dir / "run"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(data_dir.stat().st_mode) & 0o007 == 0


@as_root
def test_another_user_is_refused_by_name_even_when_it_reaches_the_socket(data_dir: Path) -> None:
    with running(data_dir) as postgres:
        data_dir.chmod(0o755)
        (data_dir / "run").chmod(0o755)
        socket_file = data_dir / "run" / ".s.PGSQL.5432"
        socket_file.chmod(0o777)
        assert postgres.installation is not None
        psql = postgres.installation.program("psql")
        other = next(user for user in pwd.getpwall() if user.pw_uid not in (0, (data_dir / "run").stat().st_uid))
        account = installation.Account(other.pw_name, other.pw_uid, other.pw_gid)
        refused = installation.run_as(account, [psql, postgres.url(), "-c", "SELECT 1"])
        assert refused.returncode != 0
        assert "Peer authentication failed" in refused.stderr


@as_root
def test_as_root_the_server_runs_as_an_ordinary_user(data_dir: Path) -> None:
    with running(data_dir) as postgres:
        assert postgres.process is not None
        assert psutil.Process(postgres.process.pid).uids().real != 0
        assert answer(postgres, "SELECT 1") == 1


@as_root
def test_as_root_a_closed_folder_above_is_a_clear_error_and_stays_closed(data_dir: Path) -> None:
    closed = data_dir.parent / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedError, match="TOLLHOUSE_DATA_DIR"):
        EmbeddedPostgres(closed / "data", SMALL).start()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_as_root_programs_in_a_closed_folder_are_copied_once(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = data_dir.parent / "closed"
    closed.mkdir(mode=0o700)
    found = importlib.util.find_spec(installation.PACKAGE)
    assert found is not None
    assert found.submodule_search_locations
    package = Path(found.submodule_search_locations[0])
    shutil.copytree(package / installation.TREE, closed / installation.PACKAGE / installation.TREE, symlinks=True)
    shutil.copytree(package.with_name(f"{installation.PACKAGE}.libs"), closed / f"{installation.PACKAGE}.libs")
    (closed / installation.PACKAGE / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(closed))
    with running(data_dir) as postgres:
        assert answer(postgres, "SELECT 1") == 1
        assert postgres.installation is not None
        copy = postgres.installation.root
    assert copy.is_relative_to(data_dir / "postgresql-18.4")
    made = copy.stat().st_ino
    with running(data_dir):
        assert copy.stat().st_ino == made
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@on_linux
def test_when_the_parent_is_killed_the_server_ends_in_order(data_dir: Path) -> None:
    server = killed_elsewhere(data_dir, "bound")
    assert has_ended(server, 15)
    assert not (data_dir / "database" / "postmaster.pid").exists()


def test_a_server_left_behind_is_ended_and_its_data_taken_over(data_dir: Path) -> None:
    with running(data_dir) as postgres, psycopg.connect(postgres.url()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    server = killed_elsewhere(data_dir, "unbound")
    assert server.is_running()
    with running(data_dir) as postgres:
        assert has_ended(server, 0)
        assert answer(postgres, "SELECT number FROM kept") == 7


def test_after_a_kill_of_the_server_itself_the_next_start_recovers(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir, SMALL)
    postgres.start()
    with psycopg.connect(postgres.url()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    assert postgres.process is not None
    postgres.process.kill()
    postgres.process.wait()
    assert (data_dir / "database" / "postmaster.pid").exists()
    postgres.start()
    try:
        assert answer(postgres, "SELECT number FROM kept") == 7
    finally:
        postgres.stop()


def test_a_pid_file_that_names_an_unrelated_process_is_no_obstacle(data_dir: Path) -> None:
    with running(data_dir) as postgres:
        lines = (postgres.cluster / "postmaster.pid").read_text().splitlines()
        owner = postgres.cluster.stat().st_uid
    bystander = subprocess.Popen(["sleep", "600"], user=owner if os.geteuid() == 0 else None)
    try:
        (data_dir / "database" / "postmaster.pid").write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
        with running(data_dir) as postgres:
            assert answer(postgres, "SELECT 1") == 1
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_cluster_that_was_never_finished_is_made_anew(data_dir: Path) -> None:
    draft = data_dir / "database.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")
    with running(data_dir) as postgres:
        assert answer(postgres, "SELECT 1") == 1
    assert not draft.exists()


def test_a_folder_that_is_no_cluster_is_left_alone(data_dir: Path) -> None:
    (data_dir / "database").mkdir(parents=True)
    (data_dir / "database" / "precious").write_text("do not touch")
    with pytest.raises(EmbeddedError, match="move it away"):
        EmbeddedPostgres(data_dir, SMALL).start()
    assert (data_dir / "database" / "precious").read_text() == "do not touch"


def test_a_cluster_of_another_version_is_refused_with_both_versions_named(data_dir: Path) -> None:
    with running(data_dir):
        pass
    (data_dir / "database" / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedError, match=r"PostgreSQL 17.*PostgreSQL 18.*pg_dump"):
        EmbeddedPostgres(data_dir, SMALL).start()


def test_a_long_data_directory_gets_a_short_socket_folder_that_goes_away(data_dir: Path) -> None:
    long = data_dir.parent / ("a" * 90) / "data"
    with running(long) as postgres:
        assert answer(postgres, "SELECT 1") == 1
        folder = Path(str(psycopg.conninfo.conninfo_to_dict(postgres.url())["host"]))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()


def test_a_server_that_can_not_start_says_why(data_dir: Path) -> None:
    with running(data_dir):
        pass
    with pytest.raises(EmbeddedError, match="max_connections"):
        EmbeddedPostgres(data_dir, {"max_connections": "none"}).start()


def test_stopping_does_not_wait_for_idle_clients(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir, SMALL)
    postgres.start()
    with psycopg.connect(postgres.url()) as connection:
        connection.execute("SELECT 1")
        server = postgres.process
        assert server is not None
        postgres.stop(timeout=10.0)
        assert server.returncode == 0
        connection.close()


def test_its_parents_interrupt_from_the_terminal_does_not_reach_it(data_dir: Path) -> None:
    with running(data_dir) as postgres:
        assert postgres.process is not None
        assert os.getsid(postgres.process.pid) != os.getsid(0)

"""The PostgreSQL server that Tollhouse brings along: one cluster in the data directory, one child process.

The server listens on a unix socket in a private folder and knows its callers by the kernel's word (peer): the user it
runs as, and root. It is started in the foreground as our child, so no pid file decides whether it lives.

Layout of the data directory: `database` is the cluster, `run` the folder of the socket, `database/log` what the server
says (one file per weekday), `postgresql-<version>` a copy of the programs where one is needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from tollhouse import child, installation
from tollhouse.installation import Account, Installation
from tollhouse.trouble import Trouble

SUPERUSER = "postgres"
OWNER = "tollhouse"
DATABASE = "tollhouse"
SOCKET_PATH_BYTES_MAX = 100
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "synchronous_commit": "on",
    "checkpoint_timeout": "15min",  # fewer whole pages in the log
    "jit": "off",  # our statements are short
    "update_process_title": "off",  # one system call less per statement
    "timezone": "UTC",
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
POLL_SECONDS = 0.01


class EmbeddedError(Trouble):
    """The embedded PostgreSQL can't be started."""


class EmbeddedPostgres:
    """The server of one data directory. Start it from the main thread, which must outlive it."""

    process: subprocess.Popen[bytes] | None

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        """`settings` are PostgreSQL's own, on top of SETTINGS."""
        self.data_dir = Path(os.path.abspath(data_dir))
        self.cluster = self.data_dir / "database"
        self.process = None
        self.installation: Installation | None = None
        self._settings = {**SETTINGS, **(settings or {})}
        self._socket_dir: Path | None = None

    def start(self) -> str:
        """Makes the cluster if there is none, ends what an earlier process left running, starts the server, waits until
        it takes connections, and gives the URL of the owner on its database.

        Raises EmbeddedError with the remedy. Crash recovery takes as long as it needs."""
        account = installation.server_account(self.cluster)
        _prepare_folder(self.data_dir, account)
        self.installation = installation.find(account, self.data_dir)
        if not (self.cluster / "PG_VERSION").exists():
            _make_cluster(self.installation, account, self.cluster)
        _check_version(self.installation, self.cluster)
        _stop_leftovers(self.cluster, self._socket_dir)
        _write_access_rules(self.cluster, account)
        if self._socket_dir is None:
            self._socket_dir = _socket_folder(self.data_dir, account)
        self._run(account)
        try:
            self._wait_until_ready()
            self._make_database()
        except BaseException:
            self._end_process(30.0)
            raise
        return self.url()

    def stop(self, timeout: float = 30.0) -> None:
        """Ends the server: open transactions are rolled back, data is flushed. After `timeout` seconds without the
        flush, which the next start then makes up for."""
        self._end_process(timeout)
        if self._socket_dir is not None and self._socket_dir != self.data_dir / "run":
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None

    def _end_process(self, timeout: float) -> None:
        if self.process is not None:
            _end(self.process.send_signal, partial(_is_over, self.process), timeout)
            self.process = None

    def url(self, database: str = DATABASE, role: str = OWNER) -> str:
        """The address of a database of this server, as its owner unless another role is named."""
        return f"postgresql://{quote(role)}@/{quote(database)}?host={quote(str(self._socket_dir), safe='')}"

    def _run(self, account: Account) -> None:
        assert self.installation is not None
        settings = {
            **self._settings,
            "unix_socket_directories": str(self._socket_dir),
            "hba_file": str(self.cluster / "access.conf"),
            "ident_file": str(self.cluster / "accounts.conf"),
        }
        program: list[str | os.PathLike[str]] = [self.installation.program("postgres"), "-D", self.cluster]
        for name, value in settings.items():
            program += ["-c", f"{name}={value}"]
        change = (account.uid, account.gid) if os.geteuid() != account.uid else (-1, -1)
        start_log = os.open(self.data_dir / "postgresql-start.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self.process = subprocess.Popen(
                child.command(program, signal.SIGINT, *change),
                stdin=subprocess.DEVNULL,
                stdout=start_log,
                stderr=start_log,
                cwd="/",
                start_new_session=True,  # Ctrl-C in the terminal is for us; the server stops last
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            )
        finally:
            os.close(start_log)

    def _wait_until_ready(self) -> None:
        assert self.process is not None
        while True:
            lines = _pid_file(self.cluster)
            if len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready":
                return
            if self.process.poll() is not None:
                raise EmbeddedError(
                    f"The embedded PostgreSQL did not start: {self._last_words()} "
                    f"Its log is in {self.cluster / 'log'} and {self.data_dir / 'postgresql-start.log'}."
                )
            time.sleep(POLL_SECONDS)

    def _last_words(self) -> str:
        logs = sorted((self.cluster / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
        for path in (self.data_dir / "postgresql-start.log", *logs[-1:]):
            for line in reversed(path.read_text(errors="replace").splitlines()):
                for mark in ("FATAL:", "PANIC:", "error:"):
                    if mark in line:
                        return line.split(mark, 1)[1].strip().rstrip(".") + "."
        return "it gave no reason."

    def _make_database(self) -> None:
        with psycopg.connect(self.url("postgres", SUPERUSER), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (OWNER,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE NOSUPERUSER").format(sql.Identifier(OWNER)))
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
                names = sql.Identifier(DATABASE), sql.Identifier(OWNER)
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))


def _prepare_folder(data_dir: Path, account: Account) -> None:
    """Makes the data directory, private to us and, when we are root, passable for the server's account."""
    try:
        fresh = not data_dir.exists()
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if account.uid == os.geteuid():
            if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(0, "Permission denied")
            return
        # given to us empty, or made by us before the server first ran: ours to open for that account's group, no wider
        ours = fresh or {entry.name for entry in os.scandir(data_dir)} <= {
            "secret-key",
            "lock",
            "keys.json",
            "children",
        }
        if ours and data_dir.stat().st_uid == 0 and not installation.can_enter(account, data_dir):
            os.chown(data_dir, 0, account.gid)
            os.chmod(data_dir, 0o710)  # noqa: S103 - see above
    except OSError as error:
        raise EmbeddedError(
            f"The data directory {data_dir} can't be used ({error.strerror}): set TOLLHOUSE_DATA_DIR to one of yours."
        ) from error
    if not installation.can_enter(account, data_dir):
        raise EmbeddedError(
            f"As root, the embedded PostgreSQL runs as the user {account.name}, who can't reach {data_dir} because a "
            "folder on the way to it is private. Choose another TOLLHOUSE_DATA_DIR, for example /var/lib/tollhouse, or "
            "run Tollhouse as an ordinary user."
        )


def _give(path: Path, account: Account) -> None:
    if os.geteuid() == 0:
        os.chown(path, account.uid, account.gid)


def _make_cluster(programs: Installation, account: Account, cluster: Path) -> None:
    """Under another name until it is complete: an initdb that was killed leaves nothing that looks like a cluster."""
    if cluster.exists():
        raise EmbeddedError(
            f"{cluster} exists but is not a PostgreSQL cluster (PG_VERSION is missing). Restore it from a backup, or "
            "move it away to start with an empty database."
        )
    draft = cluster.with_name(cluster.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    _give(draft, account)
    options = (
        *("--username", SUPERUSER, "--auth-local", "peer", "--auth-host", "reject"),
        *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
        *("--data-checksums", "--no-instructions"),
    )
    answer = installation.run_as(account, [programs.program("initdb"), "--pgdata", draft, *options])
    if answer.returncode != 0:
        shutil.rmtree(draft, ignore_errors=True)
        reason = (answer.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise EmbeddedError(f"The embedded PostgreSQL could not make its files in {draft}: {reason}")
    draft.rename(cluster)


def _check_version(programs: Installation, cluster: Path) -> None:
    made_by = (cluster / "PG_VERSION").read_text().strip()
    ours = programs.version.split(".")[0]
    if made_by != ours:
        raise EmbeddedError(
            f"The database in {cluster} was made by PostgreSQL {made_by}, and this Tollhouse brings PostgreSQL {ours}. "
            f"Dump it with the Tollhouse that made it (pg_dump) and load the dump here, or move {cluster} away to "
            "start with an empty database."
        )


def _write_access_rules(cluster: Path, account: Account) -> None:
    """Anew at each start: the account may have changed since, for example when root took over from a user."""
    files = {
        "access.conf": "local all all peer map=tollhouse\n",
        "accounts.conf": "".join(f"tollhouse {name} all\n" for name in sorted({"root", account.name})),
    }
    for name, text in files.items():
        path = cluster / name
        path.write_text(text)
        path.chmod(0o600)
        _give(path, account)


def _socket_folder(data_dir: Path, account: Account) -> Path:
    folder = data_dir / "run"
    if len(os.fsencode(folder / ".s.PGSQL.5432")) > SOCKET_PATH_BYTES_MAX:
        folder = Path(tempfile.mkdtemp(prefix="tollhouse-"))
        if len(os.fsencode(folder / ".s.PGSQL.5432")) > SOCKET_PATH_BYTES_MAX:
            folder.rmdir()
            folder = Path(tempfile.mkdtemp(prefix="tollhouse-", dir="/tmp"))
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    _give(folder, account)
    return folder


def _pid_file(cluster: Path) -> list[str]:
    """The lines of postmaster.pid: process, cluster, start time, port, socket folder, address, shared memory, state."""
    try:
        return (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _stop_leftovers(cluster: Path, socket_dir: Path | None) -> None:
    """Ends a server of this cluster that its starter left behind; removes a pid file that would be mistaken for one."""
    lines = _pid_file(cluster)
    leftovers = _processes_of(cluster)
    postmasters = [process for process in leftovers if lines and lines[0] == str(process.pid)]
    for process in postmasters:
        _end(process.send_signal, partial(_is_gone, [process]), timeout=15.0)
    if not _is_gone(leftovers, 5.0):  # workers of a dead postmaster notice by themselves, unless they are very busy
        for process in leftovers:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGQUIT)
        if not _is_gone(leftovers, 10.0):
            pids = ", ".join(str(process.pid) for process in leftovers if process.is_running())
            raise EmbeddedError(
                f"An earlier PostgreSQL of {cluster} does not end. End the processes {pids} and try again."
            )
    if lines and lines[0].isdigit() and psutil.pid_exists(int(lines[0])):
        # the number now belongs to some other program or to a zombie, which PostgreSQL can't tell from a server
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        for path in Path(lines[4] if len(lines) > 4 else "/nonexistent").glob(".s.PGSQL.*"):
            path.unlink(missing_ok=True)
    if len(lines) > 4 and Path(lines[4]).name.startswith("tollhouse-") and Path(lines[4]) != socket_dir:
        shutil.rmtree(lines[4], ignore_errors=True)


def _processes_of(cluster: Path) -> list[psutil.Process]:
    """Every PostgreSQL process whose working directory is the cluster; theirs always is."""
    found = []
    for process in psutil.process_iter():
        try:
            zombie = process.status() == psutil.STATUS_ZOMBIE  # ended, and only waits for whoever adopted it
            if not zombie and process.name().startswith("postgres") and Path(process.cwd()) == cluster.resolve():
                found.append(process)
        except (psutil.Error, OSError):
            continue  # ended meanwhile, or another user's
    return found


def _end(send: Callable[[int], None], over: Callable[[float], bool], timeout: float) -> None:
    """Fast, then immediate, then by force."""
    for number, seconds in ((signal.SIGINT, timeout), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(psutil.NoSuchProcess):
            send(number)
        if over(seconds):
            return


def _is_over(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        return process.wait(seconds) is not None
    except subprocess.TimeoutExpired:
        return False


def _is_gone(processes: list[psutil.Process], seconds: float) -> bool:
    """Waits until they have all ended. A zombie has: it may be long before whoever adopted it takes notice."""
    deadline = time.monotonic() + seconds
    while any(_is_alive(process) for process in processes):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False

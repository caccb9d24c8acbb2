"""The files of the data directory that are not the database's."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tollhouse.trouble import Trouble

LOCK = "lock"
URL = "url"


def prepare(data_dir: Path) -> None:
    """Makes the directory if it is missing, for us alone. Raises Trouble when we can't write there."""
    reason = "Permission denied"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        raise Trouble(f"The data directory {data_dir} can't be used ({reason}). Set TOLLHOUSE_DATA_DIR to another.")


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """One supervisor per data directory. The kernel lets go of the lock when we end, however that happens."""
    prepare(data_dir)
    with open(data_dir / LOCK, "a+", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Trouble(
                f"Tollhouse is already running on the data directory {data_dir} "
                f"(pid {file.read().strip() or 'unknown'}). Stop it first, "
                "or set TOLLHOUSE_DATA_DIR and TOLLHOUSE_PORT for a second one."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_locked(data_dir: Path) -> bool:
    """Whether a supervisor runs on the data directory, as far as this user may know."""
    try:
        with open(data_dir / LOCK) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, readable by us only."""
    draft = path.with_name(path.name + ".new")
    with suppress(FileNotFoundError):
        draft.unlink()
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.rename(path)


def write_url(data_dir: Path, url: str) -> None:
    """Tells other commands where the embedded database is, as long as it runs."""
    write_private(data_dir / URL, url + "\n")


def forget_url(data_dir: Path) -> None:
    (data_dir / URL).unlink(missing_ok=True)


def read_url(data_dir: Path) -> str | None:
    """The URL of the embedded database, None when it does not run. Raises Trouble when the file is another user's."""
    try:
        return (data_dir / URL).read_text().strip()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise Trouble(
            f"The data directory {data_dir} belongs to another user: run this as the user who runs `tollhouse up`."
        ) from error

"""The processes under the supervisor: started, started again, and ended when a supervisor left them behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tollhouse import child, data_directory

BACKOFF_SECONDS = (0.2, 1.0, 3.0, 10.0, 30.0)
STEADY_SECONDS = 60.0  # a process that lived this long failed for a new reason
NOTE = "children"


def say(text: str) -> None:
    with suppress(OSError):  # the terminal may be gone, and we still have things to put away
        print(text, flush=True)


def describe(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"


@dataclass(slots=True)
class Child:
    """A process of ours that is started again when it ends."""

    name: str
    arguments: list[str]
    environment: dict[str, str]
    fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    failures: int = 0

    def start(self) -> None:
        self.process = subprocess.Popen(
            child.command([sys.executable, "-m", "tollhouse", *self.arguments], signal.SIGTERM),
            stdin=subprocess.DEVNULL,
            env=self.environment,
            pass_fds=self.fds,
            start_new_session=True,  # Ctrl-C in the terminal is for the supervisor, who knows the order
        )
        self.started_at = time.monotonic()

    def ended(self) -> int | None:
        """The status of a process that has ended and was not seen to yet."""
        return self.process.poll() if self.process is not None else None

    def tend(self, now: float) -> float | None:
        """Sees to an end, and starts again when it is time. Gives the time at which it wants to be called next."""
        status = self.ended()
        if status is not None:
            self.process = None
            self.failures = 1 if now - self.started_at > STEADY_SECONDS else self.failures + 1
            pause = BACKOFF_SECONDS[min(self.failures, len(BACKOFF_SECONDS)) - 1]
            self.start_at = now + pause
            say(f"The {self.name} ended ({describe(status)}); starting it again in {pause:g} s.")
        if self.process is not None:
            return None
        if now < self.start_at:
            return self.start_at
        self.start()
        return None


def note(data_dir: Path, children: Iterable[Child]) -> None:
    """Writes down who runs, for the next start, should we be killed and they not notice."""
    lines = []
    for one in children:
        with suppress(psutil.NoSuchProcess):
            if one.process is not None:
                lines.append(f"{one.process.pid} {psutil.Process(one.process.pid).create_time()}\n")
    data_directory.write_private(data_dir / NOTE, "".join(lines))


def forget(data_dir: Path) -> None:
    (data_dir / NOTE).unlink(missing_ok=True)


def end_orphans(data_dir: Path, patience: float) -> None:
    """Ends processes of a supervisor that was killed. Linux has told them already; those that still finish their calls
    get `patience` seconds, which is none when the database they would book in went down with the supervisor."""
    orphans = []
    with suppress(FileNotFoundError):
        for line in (data_dir / NOTE).read_text().splitlines():
            pid, created = line.split()
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(pid))
                if process.create_time() == float(created) and process.status() != psutil.STATUS_ZOMBIE:
                    orphans.append(process)
    if not orphans:
        return
    say("Ending the processes of an earlier Tollhouse that was killed.")
    for process in orphans:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in _alive_after(orphans, patience):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _alive_after(orphans, 5.0)


def _alive_after(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while True:
        alive = []
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
        if not alive or time.monotonic() >= deadline:
            return alive
        time.sleep(0.02)

"""Starting a program that does not outlive the process that started it.

The parent runs this file as a script, which drops privileges if asked, asks the kernel for a signal at the parent's
death and then becomes the program. Doing it there and not between fork and exec keeps Python code out of a forked copy
of a process with threads. The kernel's promise exists on Linux only; elsewhere the program is merely started.

The signal comes when the *thread* that started the child ends, so children are started from the main thread."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

PR_SET_PDEATHSIG = 1


def command(
    program: Sequence[str | os.PathLike[str]], death: signal.Signals, uid: int = -1, gid: int = -1
) -> list[str]:
    """The argument list that runs `program` as `uid` and `gid` (-1: as we are) and sends it `death` when we end."""
    return [
        *(sys.executable, "-I", "-S", __file__),
        *(str(number) for number in (os.getpid(), death.value, uid, gid)),
        *(os.fspath(part) for part in program),
    ]


def become(parent: int, death: int, uid: int, gid: int, program: Sequence[str]) -> None:
    """Turns this process into `program`; returns only by an exception."""
    ask = _death_signal()  # found before the change of user, who may not reach Python's own files
    if gid >= 0:
        os.setgroups([])
        os.setgid(gid)
    if uid >= 0:
        os.setuid(uid)
    if ask is not None:
        ask(PR_SET_PDEATHSIG, death, 0, 0, 0)  # asked after the change of user, which would clear it
        if os.getppid() != parent:  # died before we asked
            sys.exit(1)
    os.execv(program[0], list(program))  # noqa: S606 - no shell is the point


def _death_signal() -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    try:
        import ctypes
    except ImportError:  # a Python without ctypes: start anyway, the next start takes over
        return None
    prctl: Callable[..., int] = ctypes.CDLL(None).prctl
    return prctl


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and an ignored signal outlives execv
    _parent, _death, _uid, _gid = (int(number) for number in sys.argv[1:5])
    become(_parent, _death, _uid, _gid, sys.argv[5:])

"""What processes cost, read from /proc (Linux)."""

import os
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(root: int) -> float:
    """User and system time so far of a process and all below it, those included that have ended and were waited for."""
    return sum(map(_own_seconds, family(root)))


def resident_bytes(root: int) -> int:
    """Resident memory now of a process and all below it; shared pages count once for each."""
    return sum(map(_resident, family(root)))


def family(root: int) -> list[int]:
    """A process and all its living descendants, the root first."""
    found = [root]
    for pid in found:
        found += _children(pid)
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += map(int, task.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return children


def _own_seconds(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # ended just now; from here on its parent has its time
    fields = text.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) * _TICK_S  # utime, stime, and both of the children waited for


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError):
        return 0

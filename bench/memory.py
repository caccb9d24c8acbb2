"""``python -m bench.memory``: what a worker holds in memory, over many plain calls and with many streams open.

Over the calls its resident memory should not grow once it is warm, after a fifth of them. A stream that is open should
take little: the provider sends a chunk so rarely that all are open at once. Both beside the bare pass-through; KB are
1,000 bytes. Takes minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.provider import CHUNKS, GAP_MS
from bench.report import PRODUCT, goal_line, judged, rounded
from bench.server import NotReady, Servers, Target, allow_open_files

MODEL = "gpt-4o-mini"
GROWTH_GOAL_PERCENT = 5.0
STREAM_GOAL_KB = 100.0
WARM_TENTHS = 2
FEWEST_CALLS = 100
OTHER_FILES = 500  # what a process has open besides two sockets for each stream


def main() -> int:
    """Gives 0 when every call was answered as it should be and the ledger is proven."""
    options = _options()
    found: dict[str, Any] = {}
    try:
        if options.calls:
            _say(f"{options.calls} plain calls at each target", options)
            with _serving(GAP_MS) as targets:
                found["calls"] = {target.name: over_calls(target, options.calls) for target in targets}
        if options.streams:
            _say(f"{options.streams} streams of {CHUNKS * options.gap_ms / 1000:g} s at each target", options)
            allow_open_files(2 * options.streams + OTHER_FILES)
            with _serving(options.gap_ms) as targets:
                found["streams"] = {target.name: with_streams(target, options.streams) for target in targets}
    except NotReady as problem:
        print(f"The benchmark could not run: {problem}", file=sys.stderr)
        return 1
    found["goals"] = goals(found)
    if not options.json:
        print(table(found))
        print("ledger after the load: proven")
    print(json.dumps(rounded(found)))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000, help="plain calls (default 100000), 0 for none")
    parser.add_argument("--streams", type=int, default=2_000, help="open at once (default 2000), 0 for none")
    parser.add_argument("--gap-ms", type=float, default=1_000.0, help="between two chunks of a stream (default 1000)")
    parser.add_argument("--json", action="store_true", help="print the line of JSON only")
    options = parser.parse_args()
    if 0 < options.calls < FEWEST_CALLS:
        parser.error(f"--calls must be {FEWEST_CALLS} or more, or 0")
    return options


def _say(text: str, options: argparse.Namespace) -> None:
    if not options.json:
        print(text, file=sys.stderr)


@contextmanager
def _serving(gap_ms: float) -> Iterator[list[Target]]:
    """The pass-through and Tollhouse, both fresh, before the same provider. Proves the ledger when all went well."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        os.chmod(name, 0o755)  # noqa: S103 - the embedded PostgreSQL of root runs as another user
        servers = Servers(Path(name))
        try:
            provider = servers.provider(gap_ms)
            yield [servers.passthrough(provider), servers.tollhouse(provider, MODEL)]
            servers.command("prove-ledger")
        finally:
            servers.stop()


def over_calls(target: Target, count: int) -> dict[str, Any]:
    """Resident memory in MB after each tenth of the calls, and by how much it grew since it was warm."""
    resident = _load(target, "--calls", count)["resident"]
    warm, last = resident[WARM_TENTHS - 1], resident[-1]
    return {"resident_mb": [size / 1e6 for size in resident], "growth_percent": 100 * (last - warm) / warm}


def with_streams(target: Target, count: int) -> dict[str, Any]:
    """Resident memory before and while so many streams are open, and what each of them takes."""
    found = _load(target, "--streams", count)
    return {
        "count": count,
        "before_mb": found["before"] / 1e6,
        "open_mb": found["open"] / 1e6,
        "each_kb": (found["open"] - found["before"]) / count / 1e3,
    }


def _load(target: Target, what: str, count: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.memory_load", "--port", str(target.port), "--key", target.key]
    command += ["--model", MODEL, "--pid", str(target.server_pid), what, str(count)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise NotReady(f"{what[2:]} at {target.name}: {done.stderr.decode(errors='replace').strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def goals(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What was found of Tollhouse beside its goals."""
    judgements = []
    if "calls" in found:
        growth = found["calls"][PRODUCT]["growth_percent"]
        judgements.append(
            judged("growth of resident memory since a fifth of the calls, %", growth, GROWTH_GOAL_PERCENT)
        )
    if "streams" in found:
        each_kb = found["streams"][PRODUCT]["each_kb"]
        judgements.append(judged("resident memory of an open stream, KB", each_kb, STREAM_GOAL_KB))
    return judgements


def table(found: dict[str, Any]) -> str:
    """What was found, for people."""
    lines = []
    if "calls" in found:
        lines.append("resident memory after each tenth of the plain calls, MB; growth since the second")
        for target, row in found["calls"].items():
            sizes = "".join(f"{size:8.1f}" for size in row["resident_mb"])
            lines.append(f"  {target:14}{sizes}{row['growth_percent']:+8.1f} %")
    if "streams" in found:
        lines.append("resident memory with streams open, MB")
        for target, row in found["streams"].items():
            lines.append(
                f"  {target:14}before {row['before_mb']:.1f}, {row['count']} open {row['open_mb']:.1f}: "
                f"{row['each_kb']:.1f} KB each"
            )
    return "\n".join(lines + [goal_line(goal) for goal in found["goals"]])


if __name__ == "__main__":
    sys.exit(main())

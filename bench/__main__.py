"""``python -m bench``: what a call through Tollhouse costs with all books kept, beside a bare pass-through."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import cost, report
from bench.report import Measurement, Rounds, Scenario
from bench.server import NotReady, Servers, Target

MODEL = "gpt-4o-mini"
QUICK_S = 0.7


def main() -> int:
    """Runs the benchmark. Gives 0 when every call was answered as it should be and the ledger is proven."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        os.chmod(name, 0o755)  # noqa: S103 - the embedded PostgreSQL of root runs as another user
        servers = Servers(Path(name))
        try:
            return _run(servers, options)
        except NotReady as problem:
            print(f"The benchmark could not run: {problem}", file=sys.stderr)
            return 1
        finally:
            servers.stop()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="whose medians are shown (default 3)")
    parser.add_argument("--only", default="", help="only scenarios whose name holds this, and what they need beside")
    parser.add_argument(
        "--quick", action="store_true", help=f"one round of {QUICK_S} s each, too short for figures to be believed"
    )
    parser.add_argument("--json", action="store_true", help="print the line of JSON only")
    parser.add_argument("--model", default=MODEL, help=f"of the catalogue, served by OpenAI (default {MODEL})")
    parser.add_argument("--without-tollhouse", action="store_true", help="measure the rig and the pass-through only")
    options = parser.parse_args()
    options.scenarios = report.chosen(options.only)
    if not options.scenarios:
        names = "; ".join(scenario.name for scenario in report.SCENARIOS)
        parser.error(f"no scenario's name holds {options.only!r}. There are: {names}")
    if options.quick:
        options.seconds, options.rounds = QUICK_S, 1
    return options


def _run(servers: Servers, options: argparse.Namespace) -> int:
    provider = servers.provider()
    targets = [provider, servers.passthrough(provider)]
    if not options.without_tollhouse:
        targets.append(servers.tollhouse(provider, options.model))
    rounds = _measure(targets, options)
    resident = {target.name: cost.resident_bytes(target.server_pid) for target in targets if target.server_pid}
    summary = report.summarize(rounds, resident)
    if not options.without_tollhouse:
        summary["ledger"] = _ledger(servers)
    if not options.json:
        print(report.table(summary))
        if "ledger" in summary:
            print(f"ledger after the load: {summary['ledger']['text']}")
    print(json.dumps(report.rounded(summary)))
    answered = not any(row["problems"] for rows in summary["scenarios"].values() for row in rows.values())
    return 0 if answered and summary.get("ledger", {"ok": True})["ok"] else 1


def _measure(targets: list[Target], options: argparse.Namespace) -> Rounds:
    """All scenarios in every round, the targets in another order each time, so that none always comes first."""
    rounds: Rounds = {}
    for number in range(options.rounds):
        turn = number % len(targets)
        for scenario in options.scenarios:
            for target in filter(scenario.is_for, targets[turn:] + targets[:turn]):
                if not options.json:
                    print(f"round {number + 1}: {scenario.name}, {target.name}", file=sys.stderr)
                runs = rounds.setdefault(scenario.name, {}).setdefault(target.name, [])
                runs.append(_load(scenario, target, options))
    return rounds


def _load(scenario: Scenario, target: Target, options: argparse.Namespace) -> Measurement:
    watched = [pid for pid in (target.server_pid, target.database_pid) if pid is not None]
    command = [sys.executable, "-m", "bench.load", "--port", str(target.port), "--key", target.key, *scenario.load]
    command += ["--model", options.model, "--seconds", str(options.seconds)]
    for pid in watched:
        command += ["--watch", str(pid)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise NotReady(f"the load client ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    cpu_us = [*found.pop("cpu_us"), 0.0, 0.0]
    return Measurement(server_cpu_us=cpu_us[0], database_cpu_us=cpu_us[1], **found)


def _ledger(servers: Servers) -> dict[str, Any]:
    try:
        return {"ok": True, "text": servers.command("prove-ledger")}
    except NotReady as failures:
        return {"ok": False, "text": str(failures)}


if __name__ == "__main__":
    sys.exit(main())

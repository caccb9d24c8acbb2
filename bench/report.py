"""From single measurements to the table and the line of JSON."""

from dataclasses import dataclass
from statistics import median
from typing import Any

PERCENTILES = ("p50", "p95", "p99")
DIRECT = "direct"
YARDSTICK = "pass-through"
PRODUCT = "tollhouse"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load. Either `concurrency` calls always run (closed loop) or `rate` start per second (open loop)."""

    name: str
    kind: str
    concurrency: int | None = None
    rate: int | None = None

    @property
    def load(self) -> list[str]:
        """The arguments of `bench.load` for it."""
        amount = ["--rate", str(self.rate)] if self.rate else ["--concurrency", str(self.concurrency)]
        return ["--kind", self.kind, *amount]


SCENARIOS = (
    Scenario("plain, 16 at once", "plain", concurrency=16),
    Scenario("plain, 64 at once", "plain", concurrency=64),
    Scenario("stream, 64 at once", "stream", concurrency=64),
    Scenario("plain, 50 a second", "plain", rate=50),
    Scenario("plain, 200 a second", "plain", rate=200),
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run of the load client found. CPU is in microseconds per call, latency in milliseconds."""

    calls: int
    per_second: float
    latency_ms: dict[str, float]
    first_byte_ms: dict[str, float]
    server_cpu_us: float
    database_cpu_us: float
    calibration_ms: float
    problems: dict[str, int]

    @property
    def cpu_us(self) -> float:
        """Our processes and PostgreSQL together."""
        return self.server_cpu_us + self.database_cpu_us


@dataclass(frozen=True, slots=True)
class Goal:
    """What Tollhouse should cost at most, on the machine with two cores that the goals were set for."""

    name: str
    scenario: str
    path: tuple[str, ...]
    most: float


GOALS = (
    Goal("CPU of a plain call, us", "plain, 64 at once", ("cpu_us",), 800),
    Goal("CPU of a stream, us", "stream, 64 at once", ("cpu_us",), 2000),
    Goal("added latency p50, ms", "plain, 50 a second", ("added_ms", "p50"), 4),
    Goal("added latency p99, ms", "plain, 50 a second", ("added_ms", "p99"), 12),
)
MEMORY_GOAL_MB = 120

# By scenario, then target, the measurement of each round.
Rounds = dict[str, dict[str, list[Measurement]]]


def summarize(rounds: Rounds, resident_bytes: dict[str, int]) -> dict[str, Any]:
    """Medians over the rounds. Added latency and ratios are taken within a round, where the machine was the same."""
    scenarios: dict[str, Any] = {}
    for name, targets in rounds.items():
        scenarios[name] = {
            target: _row(runs, targets[DIRECT], targets.get(YARDSTICK)) for target, runs in targets.items()
        }
    calibration = [run.calibration_ms for targets in rounds.values() for runs in targets.values() for run in runs]
    return {
        "scenarios": scenarios,
        "resident_mb": {target: size / 1e6 for target, size in resident_bytes.items()},
        "calibration_ms": {"least": min(calibration), "median": median(calibration), "most": max(calibration)},
    }


def _row(runs: list[Measurement], direct: list[Measurement], yardstick: list[Measurement] | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "calls": sum(run.calls for run in runs),
        "per_second": median(run.per_second for run in runs),
        "latency_ms": {p: median(run.latency_ms[p] for run in runs) for p in PERCENTILES},
        "first_byte_ms": {p: median(run.first_byte_ms[p] for run in runs) for p in PERCENTILES},
        "added_ms": {
            p: median(run.latency_ms[p] - base.latency_ms[p] for run, base in zip(runs, direct, strict=True))
            for p in PERCENTILES
        },
        "server_cpu_us": median(run.server_cpu_us for run in runs),
        "database_cpu_us": median(run.database_cpu_us for run in runs),
        "cpu_us": median(run.cpu_us for run in runs),
        "problems": _all_problems(runs),
    }
    if yardstick is not None and runs[0].cpu_us:
        pairs = [(run, base) for run, base in zip(runs, yardstick, strict=True) if base.cpu_us and base.per_second]
        if pairs:
            row["cpu_ratio"] = median(run.cpu_us / base.cpu_us for run, base in pairs)
            row["per_second_ratio"] = median(run.per_second / base.per_second for run, base in pairs)
    return row


def _all_problems(runs: list[Measurement]) -> dict[str, int]:
    problems: dict[str, int] = {}
    for run in runs:
        for text, count in run.problems.items():
            problems[text] = problems.get(text, 0) + count
    return problems


def rounded(value: Any) -> Any:
    """The same figures without the digits that mean nothing."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def table(summary: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [
        "CPU in us per call, ratio to the pass-through; latency in ms, added to the same load on the provider itself;",
        "medians of all rounds",
        "",
        f"{'':14}{'calls/s':>9}{'p50':>8}{'p95':>8}{'p99':>8}{'added':>9}{'p95':>8}{'p99':>8}"
        f"{'CPU own':>10}{'CPU db':>9}{'CPU all':>9}{'ratio':>7}",
    ]
    for scenario, targets in summary["scenarios"].items():
        lines.append(scenario)
        lines += [_line(target, row) for target, row in targets.items()]
    for target, size in summary["resident_mb"].items():
        lines.append(f"resident memory of {target} after the load: {size:.0f} MB")
    pace = summary["calibration_ms"]
    lines.append(
        f"pace of the machine: a fixed piece of work took {pace['least']:.1f} to {pace['most']:.1f} ms, "
        f"mostly {pace['median']:.1f} ms"
    )
    return "\n".join(lines + _goal_lines(summary))


def _goal_lines(summary: dict[str, Any]) -> list[str]:
    found: list[tuple[str, float, float]] = []
    for goal in GOALS:
        value = summary["scenarios"][goal.scenario].get(PRODUCT)
        if value is not None:
            for key in goal.path:
                value = value[key]
            found.append((f"{goal.name} ({goal.scenario})", value, goal.most))
    if PRODUCT in summary["resident_mb"]:
        found.append(("resident memory, MB", summary["resident_mb"][PRODUCT], MEMORY_GOAL_MB))
    return [
        f"goal {'met   ' if value <= most else 'missed'} {name}: {value:.1f}, at most {most:.0f}"
        for name, value, most in found
    ]


def _line(target: str, row: dict[str, Any]) -> str:
    latency = "".join(f"{row['latency_ms'][p]:8.2f}" for p in PERCENTILES)
    line = f"  {target:12}{row['per_second']:9.0f}{latency}"
    if target != DIRECT:
        added = f"{row['added_ms']['p50']:9.2f}{row['added_ms']['p95']:8.2f}{row['added_ms']['p99']:8.2f}"
        ratio = f"{row['cpu_ratio']:6.1f}x" if "cpu_ratio" in row else ""
        line += f"{added}{row['server_cpu_us']:10.0f}{row['database_cpu_us']:9.0f}{row['cpu_us']:9.0f}{ratio}"
    return line + "".join(f"\n    {count} calls: {text}" for text, count in row["problems"].items())

"""From single measurements to the table and the line of JSON."""

from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.server import Target

PERCENTILES = ("p50", "p95", "p99")
DIRECT = "direct"
YARDSTICK = "pass-through"
PRODUCT = "tollhouse"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load. Either `concurrency` calls always run (closed loop) or `rate` start per second (open loop).

    Only Tollhouse has an answer to some; these are compared with what the others take for the scenario `beside`."""

    name: str
    kind: str
    concurrency: int | None = None
    rate: int | None = None
    beside: str | None = None

    @property
    def load(self) -> list[str]:
        """The arguments of `bench.load` for it."""
        amount = ["--rate", str(self.rate)] if self.rate else ["--concurrency", str(self.concurrency)]
        return ["--kind", self.kind, *amount]

    def is_for(self, target: Target) -> bool:
        return self.beside is None or target.name == PRODUCT


SCENARIOS = (
    Scenario("plain, 16 at once", "plain", concurrency=16),
    Scenario("plain, 64 at once", "plain", concurrency=64),
    Scenario("stream, 64 at once", "stream", concurrency=64),
    Scenario("plain, 50 a second", "plain", rate=50),
    Scenario("plain, 200 a second", "plain", rate=200),
    Scenario("stream, 50 a second", "stream", rate=50),
    Scenario("translated plain, 64 at once", "translated-plain", concurrency=64, beside="plain, 64 at once"),
    Scenario("translated stream, 64 at once", "translated-stream", concurrency=64, beside="stream, 64 at once"),
)


def chosen(part: str) -> list[Scenario]:
    """The scenarios whose name holds `part`, and those they are compared with."""
    names = {name for one in SCENARIOS if part in one.name for name in (one.name, one.beside)}
    return [one for one in SCENARIOS if one.name in names]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run of the load client found. CPU is in microseconds per call, latency in milliseconds; the first token
    of a plain call comes with the rest."""

    calls: int
    per_second: float
    latency_ms: dict[str, float]
    first_token_ms: dict[str, float]
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
    """What Tollhouse should cost at most, or do at least, on the machine with two cores that the goals were set for.
    `shares` of the pass-through's figure in the same run come on top of the `limit`."""

    name: str
    scenario: str
    path: tuple[str, ...]
    limit: float
    at_least: bool = False
    shares: float = 0.0


GOALS = (
    Goal("CPU of a call, us", "plain, 64 at once", ("cpu_us",), 300),
    Goal("calls a second", "plain, 64 at once", ("per_second",), 3_000, at_least=True),
    Goal("CPU of a stream (1.5 x pass-through + 300), us", "stream, 64 at once", ("cpu_us",), 300, shares=1.5),
    Goal("added latency p50, ms", "plain, 50 a second", ("added_ms", "p50"), 4),
    Goal("added latency p99, ms", "plain, 50 a second", ("added_ms", "p99"), 12),
    Goal("added latency p50, ms", "plain, 200 a second", ("added_ms", "p50"), 3),
    Goal("added latency p99, ms", "plain, 200 a second", ("added_ms", "p99"), 10),
    Goal("first token after the pass-through's p50, ms", "stream, 50 a second", ("first_token_later_ms", "p50"), 3),
)
MEMORY_GOAL_MB = 120

# By scenario, then target, the measurement of each round.
Rounds = dict[str, dict[str, list[Measurement]]]


def summarize(rounds: Rounds, resident_bytes: dict[str, int]) -> dict[str, Any]:
    """Medians over the rounds. What is added, and ratios, are taken within a round, where the machine was the same."""
    scenarios: dict[str, Any] = {}
    for scenario in SCENARIOS:
        if scenario.name in rounds:
            base = rounds[scenario.beside or scenario.name]
            scenarios[scenario.name] = {
                target: _row(runs, base[DIRECT], base.get(YARDSTICK)) for target, runs in rounds[scenario.name].items()
            }
    calibration = [run.calibration_ms for targets in rounds.values() for runs in targets.values() for run in runs]
    resident_mb = {target: size / 1e6 for target, size in resident_bytes.items()}
    return {
        "scenarios": scenarios,
        "resident_mb": resident_mb,
        "calibration_ms": {"least": min(calibration), "median": median(calibration), "most": max(calibration)},
        "goals": _goals(scenarios, resident_mb),
    }


def judged(name: str, value: float, limit: float, *, at_least: bool = False) -> dict[str, Any]:
    """A goal with what was found; both are of the unit in its name."""
    met = value >= limit if at_least else value <= limit
    return {"name": name, "value": value, "limit": limit, "at_least": at_least, "met": met}


def goal_line(goal: dict[str, Any]) -> str:
    """A judged goal for people."""
    bound = "at least" if goal["at_least"] else "at most"
    return (
        f"goal {'met   ' if goal['met'] else 'missed'} {goal['name']}: {goal['value']:.1f}, {bound} {goal['limit']:g}"
    )


def _goals(scenarios: dict[str, Any], resident_mb: dict[str, float]) -> list[dict[str, Any]]:
    found = []
    for goal in GOALS:
        rows = scenarios.get(goal.scenario, {})
        if PRODUCT in rows:
            base = _figure(rows[YARDSTICK], goal.path) if goal.shares else 0.0
            limit = round(goal.limit + goal.shares * base, 1)
            value = _figure(rows[PRODUCT], goal.path)
            found.append(judged(f"{goal.name} ({goal.scenario})", value, limit, at_least=goal.at_least))
    if PRODUCT in resident_mb:
        found.append(judged("resident memory, MB", resident_mb[PRODUCT], MEMORY_GOAL_MB))
    return found


def _figure(row: dict[str, Any], path: tuple[str, ...]) -> float:
    value: Any = row
    for key in path:
        value = value[key]
    figure: float = value
    return figure


def _row(runs: list[Measurement], direct: list[Measurement], yardstick: list[Measurement] | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "calls": sum(run.calls for run in runs),
        "per_second": median(run.per_second for run in runs),
        "latency_ms": {p: median(run.latency_ms[p] for run in runs) for p in PERCENTILES},
        "first_token_ms": {p: median(run.first_token_ms[p] for run in runs) for p in PERCENTILES},
        "added_ms": {
            p: median(run.latency_ms[p] - base.latency_ms[p] for run, base in zip(runs, direct, strict=True))
            for p in PERCENTILES
        },
        "server_cpu_us": median(run.server_cpu_us for run in runs),
        "database_cpu_us": median(run.database_cpu_us for run in runs),
        "cpu_us": median(run.cpu_us for run in runs),
        "problems": _all_problems(runs),
    }
    if yardstick is not None:
        row["first_token_later_ms"] = {
            p: median(run.first_token_ms[p] - base.first_token_ms[p] for run, base in zip(runs, yardstick, strict=True))
            for p in PERCENTILES
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
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 3) if isinstance(value, float) else value


def table(summary: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [
        "CPU in us per call, ratio to the pass-through; latency in ms, added to the same load on the provider itself;",
        "medians of all rounds. Translated: asked in Anthropic's dialect, answered in OpenAI's, beside the same load",
        "untranslated",
        "",
        f"{'':14}{'calls/s':>9}{'p50':>8}{'p95':>8}{'p99':>8}{'added':>9}{'p95':>8}{'p99':>8}"
        f"{'CPU own':>10}{'CPU db':>9}{'CPU all':>9}{'ratio':>7}",
    ]
    for scenario, targets in summary["scenarios"].items():
        lines.append(scenario)
        for target, row in targets.items():
            lines.append(_line(target, row))
            if "stream" in scenario:
                lines.append(_first_token_line(target, row))
            lines += [f"    {count} calls: {text}" for text, count in row["problems"].items()]
    for target, size in summary["resident_mb"].items():
        lines.append(f"resident memory of {target} after the load: {size:.0f} MB")
    pace = summary["calibration_ms"]
    lines.append(
        f"pace of the machine: a fixed piece of work took {pace['least']:.1f} to {pace['most']:.1f} ms, "
        f"mostly {pace['median']:.1f} ms"
    )
    return "\n".join(lines + [goal_line(goal) for goal in summary["goals"]])


def _line(target: str, row: dict[str, Any]) -> str:
    latency = "".join(f"{row['latency_ms'][p]:8.2f}" for p in PERCENTILES)
    line = f"  {target:12}{row['per_second']:9.0f}{latency}"
    if target != DIRECT:
        added = f"{row['added_ms']['p50']:9.2f}{row['added_ms']['p95']:8.2f}{row['added_ms']['p99']:8.2f}"
        ratio = f"{row['cpu_ratio']:6.1f}x" if "cpu_ratio" in row else ""
        line += f"{added}{row['server_cpu_us']:10.0f}{row['database_cpu_us']:9.0f}{row['cpu_us']:9.0f}{ratio}"
    return line


def _first_token_line(target: str, row: dict[str, Any]) -> str:
    line = f"    {'first token':19}" + "".join(f"{row['first_token_ms'][p]:8.2f}" for p in PERCENTILES)
    if target == PRODUCT:
        later = ", ".join(f"{p} {row['first_token_later_ms'][p]:.2f}" for p in PERCENTILES)
        line += f"   after the pass-through's: {later}"
    return line

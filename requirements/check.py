"""Is anything that we install known to be vulnerable, and does anything in the environment run that nobody called?

Asks OSV through pip-audit about every package of the locks, and keeps the answers beside the environment: where OSV
cannot be reached, they are what is judged, and it is said which packages could not be checked: no failure by itself.
Exit status 1 for a vulnerability that `accepted.toml` does not name, for one whose time there has ended, and for files
that Python would run at its start."""

import argparse
import json
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import lock

OSV = "https://api.osv.dev/v1/query"
WAIT_S = 180
# Files that run whenever Python starts, in whatever environment: each is one of ours or of a tool that we know.
AT_START = {
    "_editable_impl_tollhouse.pth": "names the folder of our own source",
    "distutils-precedence.pth": "setuptools, where an environment has it",
    "_virtualenv.pth": "virtualenv, where it made the environment",
    "_virtualenv.py": "virtualenv, where it made the environment",
}
# Package with version, to the vulnerabilities that are known of it: each with its ids and with versions that lack it.
Known = Mapping[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Accepted:
    id: str
    package: str
    reason: str
    until: date


def main() -> int:
    options = _options().parse_args()
    pinned = {one.pinned for path in (lock.RUN, lock.DEV) for one in lock.read(path)}
    known = ask(options.osv_url)
    if known is not None:
        keep(options.cache, known, datetime.now(UTC))
    else:
        known, at = kept(options.cache)
        missing = sorted(pinned - known.keys())
        print(f"dependencies: {options.osv_url} could not be asked. " + _told(at, len(pinned), missing))
    wrong = judge({name: known.get(name, []) for name in pinned}, accepted(options.accepted), datetime.now(UTC).date())
    wrong += strangers(Path(sysconfig.get_path("purelib")))
    for sentence in wrong:
        print(f"dependencies: {sentence}")
    return 1 if wrong else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--osv-url", default=OSV, help="another server that speaks as OSV does")
    parser.add_argument("--cache", type=Path, default=Path(sys.prefix) / "vulnerabilities.json")
    parser.add_argument("--accepted", type=Path, default=lock.HERE / "accepted.toml")
    return parser


def _told(at: str | None, count: int, missing: list[str]) -> str:
    if at is None:
        return f"Nothing was checked: {count} packages. Run make check again with a network."
    if missing:
        return f"Judged by what it said at {at}; not checked at all: {', '.join(missing)}."
    return f"Judged by what it said at {at}."


def ask(osv_url: str) -> Known | None:
    """What is known of each package of the locks, by the present answers of the server; None when it does not give
    them. The lock of the tests holds what Tollhouse runs on, too."""
    words = ("--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json", "--desc", "off")
    where = ("--vulnerability-service", "osv", "--osv-url", osv_url, "--timeout", "10")
    command = [sys.executable, "-m", "pip_audit", *words, *where, "--requirement", str(lock.DEV)]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False)
        found = json.loads(answer.stdout)["dependencies"]
        return {f"{one['name']}=={one['version']}": one["vulns"] for one in found if "skip_reason" not in one}
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None


def keep(path: Path, known: Known, now: datetime) -> None:
    path.write_text(json.dumps({"at": now.isoformat(timespec="minutes"), "known": known}))


def kept(path: Path) -> tuple[Known, str | None]:
    """What was known at an earlier time, and when; nothing when it was never asked."""
    try:
        found = json.loads(path.read_text())
        return found["known"], found["at"]
    except (OSError, ValueError, KeyError):
        return {}, None


def accepted(path: Path) -> list[Accepted]:
    """What we live with for now. Every field is needed: without a reason and an end nothing is accepted."""
    return [Accepted(**entry) for entry in tomllib.loads(path.read_text()).get("accepted", [])]


def judge(known: Known, tolerated: Iterable[Accepted], today: date) -> list[str]:
    """A sentence for each vulnerability that is not accepted today, and for what is accepted in vain."""
    wrong, used = [], set()
    for pinned, found in sorted(known.items()):
        for one in found:
            ids = {one["id"], *one.get("aliases", ())}
            entry = next((a for a in tolerated if a.id in ids and a.package == pinned.partition("==")[0]), None)
            if entry is not None:
                used.add(entry)
            if entry is None or entry.until < today:
                ended = "" if entry is None else f" It was accepted until {entry.until}."
                wrong.append(f"{pinned} has {' = '.join(sorted(ids))}. {_remedy(one['fix_versions'])}{ended}")
    names = {pinned.partition("==")[0] for pinned in known}
    vain = [one for one in tolerated if one.package not in names]
    return wrong + [f"accepted.toml names {one.id} of {one.package}, which is in no lock. Take it out." for one in vain]


def _remedy(fixed: list[str]) -> str:
    if fixed:
        return f"Renew the lock to {' or '.join(fixed)} or later."
    return "No version without it is known: replace the package, or accept it in accepted.toml with a reason."


def strangers(packages: Path) -> list[str]:
    """Files that Python runs at its start and nobody here put there: a favourite place to hide in."""
    found = [path.name for path in packages.glob("*.pth")]
    found += [path.name for stem in ("sitecustomize", "usercustomize") for path in packages.glob(f"{stem}*")]
    return [
        f"{packages / name} runs whenever Python starts, and is none that we know. Find out which package brought it."
        for name in sorted(found)
        if name not in AT_START
    ]


if __name__ == "__main__":
    sys.exit(main())

"""The locks, as they are read by what checks and lists them."""

import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
RUN, DEV = HERE / "run.txt", HERE / "dev.txt"
_PACKAGE = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^ ;\\]+)", re.ASCII)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})\b")


@dataclass(frozen=True, slots=True)
class Locked:
    """One package: the SHA-256 of each file that may be installed for it, and the packages that need it."""

    name: str
    version: str
    hashes: tuple[str, ...]
    needed_by: tuple[str, ...]

    @property
    def pinned(self) -> str:
        return f"{self.name}=={self.version}"


def read(path: Path) -> list[Locked]:
    """The packages of a lock, in its order. ValueError for a package that is not pinned with its files' hashes: such as
    one that comes from an address."""
    found = []
    for entry in re.split(r"\n(?=[^\s#])", "\n" + path.read_text())[1:]:
        head = _PACKAGE.match(entry)
        hashes = tuple(_HASH.findall(entry))
        if head is None or not hashes:
            raise ValueError(f"{path.name}: {entry.splitlines()[0][:80]!r} is not pinned by version and hashes")
        found.append(Locked(head[1], head[2], hashes, tuple(_needed_by(entry))))
    return found


def _needed_by(entry: str) -> list[str]:
    """What stands in the comments below a package, such as `# via fastapi`."""
    _, _, comments = entry.partition("# via")
    words = (line.strip("# ").split(" (")[0] for line in comments.splitlines())
    return [word for word in words if re.fullmatch(r"[a-z0-9][a-z0-9._-]*", word)]

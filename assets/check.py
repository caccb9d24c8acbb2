"""Are the built assets what their sources give? Builds them again beside and compares. Where they cannot be built, says
so, and compares what the manifest notes of the sources and of the files. Exit status 1 when they differ."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
DIST = HERE.parent / "src" / "tollhouse" / "web" / "static" / "dist"
INSTALL = "npm ci --ignore-scripts"


def main() -> int:
    node = shutil.which("node")
    if node is None or not (HERE / "node_modules").is_dir():
        print(f"assets: not built again, which needs Node.js and, in {HERE}: {INSTALL}. Only digests were compared.")
        wrong = differing_sources() + differing_files()
    else:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([node, str(HERE / "build.js"), folder], check=True)
            wrong = differing(Path(folder), DIST)
    for name in wrong:
        print(f"assets: {name} is not what the sources give. Run make assets, and commit what it changes.")
    return 1 if wrong else 0


def differing(built: Path, kept: Path) -> list[str]:
    """Names of files that are not in both folders, or not the same."""
    names = {path.name for folder in (built, kept) for path in folder.iterdir()}
    return sorted(name for name in names if content(built / name) != content(kept / name))


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def differing_sources() -> list[str]:
    """Sources whose SHA-256 is not the one that was noted when the assets were built."""
    noted = json.loads((DIST / "manifest.json").read_text())["sources"]
    found = {name: hashlib.sha256(content(HERE / name) or b"").hexdigest() for name in noted}
    return [name for name, digest in noted.items() if found[name] != digest]


def differing_files() -> list[str]:
    """Built files whose content is not the one that the manifest notes."""
    files = json.loads((DIST / "manifest.json").read_text())["files"].values()
    return [one["file"] for one in files if one["integrity"] != integrity(content(DIST / one["file"]) or b"")]


def integrity(data: bytes) -> str:
    return "sha384-" + base64.b64encode(hashlib.sha384(data).digest()).decode()


if __name__ == "__main__":
    sys.exit(main())

"""The JavaScript clients of `package-lock.json`, installed outside the checkout and kept for the next time.

They are the newest that Node 20 runs. To renew the lock: `npm update --package-lock-only` in this folder.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PACKAGES = ("package.json", "package-lock.json")
INSTALL_S = 180.0
OLDEST = 20  # of Node, that the locked packages run on


async def installed() -> Path:
    """The folder with `node_modules`, and with the drivers as they are now. Skips the test where there is no Node, or
    where the packages are neither kept nor to be had."""
    await _check_node()
    folder = _cache() / hashlib.sha256(b"".join((HERE / name).read_bytes() for name in PACKAGES)).hexdigest()[:16]
    if not folder.exists():
        await _install(folder)
    for driver in HERE.glob("*.mjs"):
        _put(driver, folder / driver.name)
    return folder


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "tollhouse-tests" / "clients"


async def _check_node() -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not installed: the JavaScript clients are left out")
    process = await asyncio.create_subprocess_exec("node", "--version", stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    version = said.decode().strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST:
        pytest.skip(f"node is {version}, and the JavaScript clients need {OLDEST} or later")


async def _install(folder: Path) -> None:
    """Beside its place, then moved there at once: several test processes may do so at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="new-") as name:
        made = Path(name) / "clients"
        made.mkdir()
        for package in PACKAGES:
            shutil.copy(HERE / package, made)
        process = await asyncio.create_subprocess_exec(
            *("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=0"),
            cwd=made,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(INSTALL_S):
                said, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            said, _ = await process.communicate()
        if process.returncode != 0:
            reason = " ".join(said.decode().split())[:200]
            pytest.skip(f"npm ci could not install the JavaScript clients: {reason}")
        try:
            made.rename(folder)
        except OSError:
            assert folder.exists()  # another process was first


def _put(driver: Path, place: Path) -> None:
    """Replaced in one step, since another process may be about to run it."""
    with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as copy:
        copy.write(driver.read_bytes())
    Path(copy.name).replace(place)

"""What browsers load is what the sources give, is served as it was built, and travels in the wheel."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.web.serving import Place, serving
from tollhouse.web.asset import FOLDER, Assets

ROOT = Path(__file__).parents[2]
LICENCES = {"BSD-0-Clause", "ISC", "MIT", "OFL-1.1"}
BESIDE = {"manifest.json", "licences.txt"}


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with serving(database_url) as made:
        yield made


def integrity(data: bytes) -> str:
    return "sha384-" + base64.b64encode(hashlib.sha384(data).digest()).decode()


def test_the_built_files_are_what_the_sources_give() -> None:
    """Built again where Node.js and the packages are, else compared by the digests that were noted."""
    done = subprocess.run([sys.executable, str(ROOT / "assets" / "check.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_change_of_the_sources_is_noticed_without_node(tmp_path: Path) -> None:
    """A copy in which one source, then one built file, is another than the manifest notes."""
    copy = tmp_path / "copy"
    names = [name for name in Assets().manifest.sources]
    for name in [*(f"assets/{name}" for name in names), "assets/check.py"]:
        put(copy / name, (ROOT / name).read_bytes())
    dist = copy / FOLDER.relative_to(ROOT)
    for path in FOLDER.iterdir():
        put(dist / path.name, path.read_bytes())

    def check() -> tuple[int, str]:
        command = [sys.executable, str(copy / "assets" / "check.py")]
        done = subprocess.run(command, capture_output=True, text=True, env={"PATH": ""})
        return done.returncode, done.stdout

    assert check()[0] == 0 and "not built again" in check()[1]
    put(copy / "assets" / "js" / "app.js", b"changed")
    assert check()[0] == 1 and "js/app.js is not what" in check()[1]
    put(copy / "assets" / "js" / "app.js", (ROOT / "assets" / "js" / "app.js").read_bytes())
    file = Assets()["app.js"].file
    put(dist / file, b"changed")
    assert check()[0] == 1 and file in check()[1]


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_the_manifest_names_every_file_with_its_digest_and_its_origin() -> None:
    files = Assets().manifest.files
    assert {path.name for path in FOLDER.iterdir()} - BESIDE == {asset.file for asset in files.values()}
    notices = (FOLDER / "licences.txt").read_text()
    for name, asset in files.items():
        assert asset.integrity == integrity((FOLDER / asset.file).read_bytes()), name
        if asset.package != "tollhouse":
            assert f"{asset.package} {asset.version}\n" in notices and asset.licence in LICENCES


def test_no_built_file_asks_for_anything_from_elsewhere() -> None:
    for path in FOLDER.glob("*.css"):
        text = path.read_text()
        assert "url(http" not in text and "url(//" not in text and "@import" not in text
        for url in ("sans.woff2", "sans-ext.woff2"):
            assert Assets()[url].url in text


async def test_every_file_is_served_for_ever_packed_or_plain(place: Place) -> None:
    for name, asset in Assets().manifest.files.items():
        for encoding in ("gzip, br", "identity"):
            async with place.client.get(place.url + asset.url, headers={"accept-encoding": encoding}) as answer:
                assert answer.status == 200 and integrity(await answer.read()) == asset.integrity
                assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
                packed = encoding != "identity" and not name.endswith(".woff2")
                assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
    visitor = place.visitor()
    types = {name: (await visitor.get(Assets()[name].url)).headers["content-type"] for name in ("app.css", "app.js")}
    assert types == {"app.css": "text/css; charset=utf-8", "app.js": "text/javascript; charset=utf-8"}


async def test_nothing_else_of_the_folder_or_around_it_is_served(place: Place) -> None:
    visitor, good = place.visitor(), Assets()["app.css"].url
    for path in (
        "/static/manifest.json", "/static/", "/static", "/static/../page.py", "/static/%2e%2e/%2e%2e/page.py",
        "/static//etc/passwd", good + "%00", good + "/", good.replace("app.", "app.0"), good.upper(),
    ):  # fmt: skip
        assert (await visitor.get(path)).status == 404, path
    assert (await visitor.ask("POST", good)).status == 404


def test_the_wheel_has_the_built_files_and_the_templates(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    here = ROOT / "src"
    folders = (FOLDER, ROOT / "src" / "tollhouse" / "web" / "templates")
    wanted = {str(path.relative_to(here)) for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert wanted and wanted <= inside

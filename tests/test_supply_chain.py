"""What is installed is what was locked, what is known about it is looked at, and it can be listed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "requirements"
NOBODY = "http://127.0.0.1:9/v1/query"  # nothing listens there
TODAY = datetime.now(UTC).date()


def run(script: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / script), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def check(tmp_path: Path, url: str, accepted: str = "") -> subprocess.CompletedProcess[str]:
    (tmp_path / "accepted.toml").write_text(accepted)
    return run(
        "check.py", "--osv-url", url, "--cache", tmp_path / "known.json", "--accepted", tmp_path / "accepted.toml"
    )  # fmt: skip


@contextmanager
def osv(vulnerable: str | None = None) -> Iterator[str]:
    """A server that speaks as OSV does, and knows of a hole in one package."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            name = asked["package"]["name"]
            found: dict[str, Any] = {"vulns": [hole(name)]} if name == vulnerable else {}
            body = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query"
        finally:
            server.shutdown()
            thread.join()


def hole(name: str) -> dict[str, Any]:
    fixed = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999.1"}]}
    return {
        "id": "GHSA-aaaa-bbbb-cccc", "aliases": ["CVE-2026-1"], "summary": "a hole", "schema_version": "1.7.0",
        "affected": [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [fixed]}],
    }  # fmt: skip


def accepted(package: str, id_: str = "CVE-2026-1", days: int = 1) -> str:
    return (
        f'[[accepted]]\nid = "{id_}"\npackage = "{package}"\nreason = "not reached"\nuntil = {TODAY + timedelta(days)}'
    )


def test_nothing_known_is_well(tmp_path: Path) -> None:
    with osv() as url:
        done = check(tmp_path, url)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_known_vulnerability_fails_with_the_remedy_also_later_without_a_network(tmp_path: Path) -> None:
    with osv("starlette") as url:
        done = check(tmp_path, url)
    assert done.returncode == 1
    assert "starlette==" in done.stdout and "CVE-2026-1 = GHSA-aaaa-bbbb-cccc" in done.stdout
    assert "Renew the lock to 999.1" in done.stdout
    offline = check(tmp_path, NOBODY)
    assert offline.returncode == 1
    assert "could not be asked. Judged by what it said at 20" in offline.stdout and "CVE-2026-1" in offline.stdout


def test_what_is_accepted_with_a_reason_passes_until_its_day(tmp_path: Path) -> None:
    with osv("starlette") as url:
        for id_ in ("CVE-2026-1", "GHSA-aaaa-bbbb-cccc"):
            assert check(tmp_path, url, accepted("starlette", id_, days=0)).returncode == 0
        ended = check(tmp_path, url, accepted("starlette", days=-1))
        assert ended.returncode == 1 and "It was accepted until" in ended.stdout
        assert check(tmp_path, url, accepted("starlette", "CVE-2026-2")).returncode == 1
        assert check(tmp_path, url, accepted("aiohttp")).returncode == 1
        without = accepted("starlette").replace('reason = "not reached"\n', "")
        assert check(tmp_path, url, without).returncode == 1
        vain = check(tmp_path, url, accepted("starlette") + "\n" + accepted("nowhere"))
        assert vain.returncode == 1 and "Take it out" in vain.stdout


@pytest.mark.parametrize("cache", [None, "no JSON", "{}"])
def test_without_a_network_and_without_answers_it_says_so_and_does_not_fail(tmp_path: Path, cache: str | None) -> None:
    if cache is not None:
        (tmp_path / "known.json").write_text(cache)
    done = check(tmp_path, NOBODY)
    assert done.returncode == 0
    assert "could not be asked. Nothing was checked" in done.stdout


def test_answers_for_other_versions_are_not_taken_for_these(tmp_path: Path) -> None:
    (tmp_path / "known.json").write_text('{"at": "2026-01-01T00:00", "known": {"starlette==0.1": []}}')
    done = check(tmp_path, NOBODY)
    assert done.returncode == 0 and "not checked at all:" in done.stdout and "starlette==" in done.stdout


def test_files_that_python_runs_at_its_start_are_found(tmp_path: Path) -> None:
    program = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import check
print(check.strangers(pathlib.Path(sys.argv[2])))
"""
    for name in ("evil.pth", "sitecustomize.py", "usercustomize", "distutils-precedence.pth", "good.py"):
        (tmp_path / name).write_text("import os")
    done = subprocess.run(
        [sys.executable, "-c", program, str(SCRIPTS), str(tmp_path)], capture_output=True, text=True, check=True
    )
    found = done.stdout
    assert all(name in found for name in ("evil.pth", "sitecustomize.py", "usercustomize"))
    assert "distutils" not in found and "good.py" not in found


@pytest.mark.parametrize("name", ["run.txt", "dev.txt"])
def test_everything_in_a_lock_has_a_version_and_hashes(name: str) -> None:
    text = (SCRIPTS / name).read_text()
    entries = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    parsed = [Requirement(entry.rstrip("\\ ")) for entry in entries]
    assert len(parsed) > 60
    for one in parsed:
        assert one.url is None and [part.operator for part in one.specifier] == ["=="], one
    assert text.count("--hash=sha256:") >= len(parsed)
    assert not any(word in text for word in ("--index-url", "--find-links", "--extra-index-url", "git+"))


def test_the_list_of_parts_is_valid_whole_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        assert run("sbom.py", tmp_path / name).returncode == 0
    text = (tmp_path / "one.json").read_text()
    assert text == (tmp_path / "two.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    made = json.loads(text)
    listed = {one["name"] for one in made["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {Requirement(one).name for one in project["dependencies"]} <= listed
    assert {"htmx.org", "basecoat-css"} <= listed and "pytest" not in listed
    assert made["metadata"]["component"]["version"] == project["version"]
    needs = {one["ref"].split("@")[0]: one["dependsOn"] for one in made["dependencies"]}
    assert any(one.startswith("pkg:pypi/starlette@") for one in needs["pkg:pypi/fastapi"])
    assert any(one.startswith("pkg:pypi/fastapi@") for one in needs["pkg:pypi/tollhouse"])


def test_what_browsers_load_is_in_the_list_of_parts(tmp_path: Path) -> None:
    run("sbom.py", tmp_path / "one.json")
    listed = {one["name"] for one in json.loads((tmp_path / "one.json").read_text())["components"]}
    manifest = json.loads((ROOT / "src/tollhouse/web/static/dist/manifest.json").read_text())
    brought = {one["package"] for one in manifest["files"].values() if "package" in one}
    assert {name for name in brought if name != "tollhouse"} <= listed

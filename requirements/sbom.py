"""Writes what Tollhouse is made of as a CycloneDX document: the lock of what it runs on, and what its pages bring to
browsers. The same locks give the same bytes."""

import argparse
import base64
import json
import tomllib
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

import lock

ROOT = lock.HERE.parent
# Packages of npm of which something is built into the pages; the others in assets/ only build and test them.
SHIPPED = (
    "@fontsource-variable/instrument-sans", "basecoat-css", "chart.js", "htmx.org", "lucide-static", "tailwindcss",
)  # fmt: skip


def document() -> dict[str, Any]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = lock.read(lock.RUN)
    root = f"pkg:pypi/{project['name']}@{project['version']}"
    components = [*map(_python, locked), *_browser()]
    made: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application", "bom-ref": root, "name": project["name"], "version": project["version"],
                "description": project["description"], "licenses": [{"license": {"id": project["license"]}}],
                "purl": root,
            }
        },
        "components": components,
        "dependencies": _dependencies(root, project["name"], locked),
    }  # fmt: skip
    made["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(made, sort_keys=True)).urn
    return made


def _python(one: lock.Locked) -> dict[str, Any]:
    files = [{"alg": "SHA-256", "content": digest} for digest in one.hashes]
    where = {"type": "distribution", "url": _purl(one), "hashes": files}
    return _component(_purl(one), one.name, one.version) | {"externalReferences": [where]}


def _browser() -> list[dict[str, Any]]:
    packages = json.loads((ROOT / "assets" / "package-lock.json").read_text())["packages"]
    found = []
    for name in SHIPPED:
        package = packages[f"node_modules/{name}"]
        scope, _, bare = name.rpartition("/")
        path = f"{quote(scope, safe='')}/{bare}" if scope else bare
        algorithm, _, digest = package["integrity"].partition("-")
        hashes = [{"alg": algorithm.replace("sha", "SHA-"), "content": base64.b64decode(digest).hex()}]
        made = _component(f"pkg:npm/{path}@{package['version']}", name, package["version"])
        found.append(made | {"hashes": hashes})
    return found


def _component(purl: str, name: str, version: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _dependencies(root: str, name: str, locked: list[lock.Locked]) -> list[dict[str, Any]]:
    """What each package needs. What browsers load, the project itself does."""
    direct = [one for one in locked if {name, "pyproject.toml"} & set(one.needed_by) or not one.needed_by]
    browser = [one["bom-ref"] for one in _browser()]
    needs = [{"ref": root, "dependsOn": sorted([*map(_purl, direct), *browser])}]
    for one in locked:
        needed = sorted(_purl(other) for other in locked if one.name in other.needed_by)
        needs.append({"ref": _purl(one), "dependsOn": needed})
    return [*needs, *({"ref": ref, "dependsOn": []} for ref in browser)]


def _purl(one: lock.Locked) -> str:
    return f"pkg:pypi/{one.name}@{one.version}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    path = parser.parse_args().file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

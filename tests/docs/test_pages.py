"""The pages name only what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tollhouse.cli import app
from tollhouse.config import Config
from tollhouse.core import errors, refusals
from tollhouse.gateway.routes import LOOKED_UP, SURFACES
from tollhouse.store.proof import INVARIANTS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
OF_THE_API = {"invalid_answer", "proof_required"}  # codes that no call of the gateway meets
AUDIT_CHAIN = 16  # proved by a program, not by a query
HELD_BY_THE_PROOF = {one.number for one in INVARIANTS} | {AUDIT_CHAIN}


@pytest.fixture(params=PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    assert isinstance(request.param, Path)
    return request.param


def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_anchor_is_a_heading_of_its_page(page: Path) -> None:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", page.read_text())) <= anchors


def test_every_file_of_the_repository_that_is_named_is_there(page: Path) -> None:
    for name in re.findall(r"`((?:src|tests|docs)/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"(?<![\w/])((?:core|store|flows|gateway|api|outside|seed)/\w+\.py)\b", page.read_text()):
        assert (ROOT / "src" / "tollhouse" / name).exists(), name


def test_the_page_of_invariants_has_those_of_the_proof() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\|([^|]*)\|$", (ROOT / "docs" / "invariants.md").read_text(), re.MULTILINE)
    assert {int(number) for number, held_by in rows if "proof" in held_by} == HELD_BY_THE_PROOF


def test_the_guarantees_are_checked_by_invariants_that_there_are() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    numbers = {
        int(number) for found in re.findall(r"; ([\d, ]+) \|$", text, re.MULTILINE) for number in found.split(",")
    }
    assert numbers and numbers <= HELD_BY_THE_PROOF


def test_the_page_for_operators_has_every_setting_and_every_command() -> None:
    text = (ROOT / "docs" / "operators.md").read_text()
    table = re.search(r"^\| name \|.*?\n\n", text, re.MULTILINE | re.DOTALL)
    assert table is not None
    assert set(re.findall(r"`([A-Z_]+)`", table[0])) >= {name.upper() for name in Config.model_fields}
    commands = [one.name or getattr(one.callback, "__name__", "") for one in app.registered_commands]
    for name in (*commands, *(str(one.name) for one in app.registered_groups)):
        assert f"`tollhouse {name}" in text, name


def test_the_page_of_the_gateway_has_every_path_and_every_code_with_its_status() -> None:
    text = (ROOT / "docs" / "gateway.md").read_text()
    for path in (*LOOKED_UP, *(surface.path for surface in SURFACES)):
        assert f"`{path}`" in text or f"`GET {path}`" in text or f"`POST {path}`" in text, path
    rows = re.findall(r"^\| ([\d, ]+) \| ([^|]*) \|", text, re.MULTILINE)
    told = {(int(status), code) for statuses, codes in rows for status in statuses.split(",")
            for code in re.findall(r"`(\w+)`", codes)}  # fmt: skip
    named = (*vars(errors).values(), *vars(refusals).values())
    kinds = [one for one in named if isinstance(one, type) and issubclass(one, errors.TollhouseError)]
    codes = {(one.status, one.code) for one in kinds if one.code != errors.TollhouseError.code}
    assert {(status, code) for status, code in codes if code not in OF_THE_API} <= told
    assert {code for _, code in told} <= {code for _, code in codes}

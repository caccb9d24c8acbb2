"""The guides as a reader follows them: each block in its order, against a server that runs, and what it prints."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.conftest import Cluster, SeededTemplate
from tests.docs.guide import Block, Reader, Terminal, blocks
from tests.house import fresh_house

ROOT = Path(__file__).parents[2]
START = "make up\n"  # what the test does in its own way
OURS = ("TOLLHOUSE_", "OPENAI_", "ANTHROPIC_")
EXPORTED = (
    "TOLLHOUSE_URL", "TOLLHOUSE_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_BASE_URL",
    "ANTHROPIC_API_KEY",
)  # fmt: skip


def follow(
    page: Path, environment: dict[str, str], placeholders: dict[str, str], kinds: tuple[str, ...]
) -> list[Block]:
    """What was done."""
    todo = [block for block in blocks(page.read_text()) if block.kind in kinds and block.text != START]
    with Terminal(environment) as terminal:
        reader = Reader(page, terminal, placeholders)
        try:
            for block in todo:
                reader.follow(block)
        finally:
            reader.close()
    return todo


@pytest.mark.parametrize(
    ("page", "kinds"),
    [
        ("docs/credits.md", ("sh", "python", "text", "")),  # every block there is
        ("docs/gateway.md", ("sh", "python", "text", "")),
        ("docs/keys.md", ("sh", "python", "text", "")),
        ("docs/operators.md", ("sh", "python", "text", "")),
        ("docs/organisations.md", ("sh", "python", "text", "")),
        ("docs/prices.md", ("sh", "python", "text", "")),
        ("docs/providers.md", ("sh", "python", "text", "")),
        ("README.md", ("python",)),
    ],
)
async def test_a_guide_does_what_it_says(
    cluster: Cluster,
    seeded_template: SeededTemplate,
    monkeypatch: pytest.MonkeyPatch,
    page: str,
    kinds: tuple[str, ...],
) -> None:
    kept = {name: text for name, text in os.environ.items() if not name.startswith(OURS)}
    for name in EXPORTED:
        monkeypatch.setenv(name, "")  # so that what the page sets is taken back
    async with fresh_house(cluster, seeded_template) as house:
        holes = {
            "http://127.0.0.1:8400": house.server.url,
            "OPERATOR_KEY=th_test_...": f"OPERATOR_KEY={house.operator_key}",
            "th_test_...": seeded_template.demo_key,
        }
        assert await asyncio.to_thread(follow, ROOT / page, kept, holes, kinds)

"""The llm command line, set up by its own files: an OpenAI-compatible model in `extra-openai-models.yaml`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
import pytest_asyncio

from tests.clients.contract import (
    BROKEN_AFTER,
    LEFT_WITH,
    REFUSALS,
    ROOT,
    TEXTS,
    Cast,
    attempt,
    cast,
    environment,
)
from tests.clients.watcher import Watcher
from tests.house import House, charge

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.xdist_group("clients")]

LLM = [sys.executable, "-m", "llm"]
MODELS = """\
- model_id: tollhouse
  model_name: sandbox
  api_base: {url}/v1
  api_key_name: tollhouse
  supports_tools: true
"""
FUNCTIONS = """\
def weather(city: str) -> str:
    return "sunny in " + city[:9]

def clock(hours: int) -> str:
    return "noon"
"""


class Shell:
    """Somebody's command line, with a key in llm's own store of keys."""

    def __init__(self, folder: Path, who: Cast, watcher: Watcher) -> None:
        self.who = who
        self.watcher = watcher
        self._folder = folder
        self._models = MODELS.format(url=watcher.url)

    def settings(self, key: str) -> dict[str, str]:
        home = self._folder / key[-8:]
        home.mkdir(exist_ok=True)
        (home / "extra-openai-models.yaml").write_text(self._models)
        (home / "keys.json").write_text(json.dumps({"tollhouse": key}))
        return {"LLM_USER_PATH": str(home)}

    async def said(self, *words: str) -> tuple[str, str]:
        """The answer, and what was told beside it."""
        key = self.who.tenant.key
        status, answer, beside = await attempt([*LLM, *words], ROOT, settings=self.settings(key))
        assert status == 0, beside.decode()
        return answer.decode(), beside.decode()

    async def failed(self, key: str, *words: str) -> str:
        """What it complained of."""
        status, _, complaint = await attempt([*LLM, *words], ROOT, settings=self.settings(key))
        assert status == 1
        return complaint.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def shell(house: House, watcher: Watcher, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("llm"), await cast(house), watcher)


async def test_a_stream_and_a_plain_answer_are_printed_and_charged(shell: Shell, house: House) -> None:
    words = ("-m", "tollhouse", "-u", "-n", TEXTS["plain"])
    streamed, counted = await shell.said(*words)
    assert (streamed, counted) == await shell.said(*words, "--no-stream")
    assert streamed.startswith("[sandbox] ") and "17 input, 12 output" in counted
    assert await house.quiet(shell.who.tenant, 2) == [("done", False)] * 2
    assert await house.usage(shell.who.tenant) == [(17, 12, False, charge("sandbox", 17, 12))] * 2


async def test_it_runs_the_tools_that_are_called_and_gets_an_answer(shell: Shell) -> None:
    said, _ = await shell.said("-m", "tollhouse", "-n", "--functions", FUNCTIONS, TEXTS["tools"])
    assert said.startswith("[sandbox] ") and "How is the weather" in said


SHOWN = ("wrong_key", "no_credits", "limit")  # to llm the others are no different


async def test_refusals_are_printed_and_nothing_is_tried_again(shell: Shell) -> None:
    async def refused(case: str) -> tuple[str, int]:
        key, _ = shell.who.refused[case]
        complaint = await shell.failed(key, "-m", "tollhouse", "-n", "Why?")
        return complaint, len(shell.watcher.by(key))

    told = await asyncio.gather(*map(refused, SHOWN))
    for case, (complaint, tries) in zip(SHOWN, told, strict=True):
        assert complaint.startswith(f"Error: Error code: {REFUSALS[case][0]} - ") and complaint.endswith(".\n")
        assert tries == 1


async def test_an_answer_that_breaks_off_is_an_error_and_charged_as_far_as_it_came(shell: Shell, house: House) -> None:
    complaint = await shell.failed(shell.who.tenant.key, "-m", "tollhouse", "-n", TEXTS["broken"])
    assert "what came until then is charged" in complaint
    assert (await house.quiet(shell.who.tenant))[-1] == ("incomplete", False)
    assert (await house.usage(shell.who.tenant))[-1][1] == BROKEN_AFTER


async def test_whoever_kills_it_in_the_middle_pays_for_the_answer(shell: Shell, house: House) -> None:
    tenant = shell.who.leaving
    process = await asyncio.create_subprocess_exec(
        *(*LLM, "-m", "tollhouse", "-n", TEXTS["left"]),
        env=environment() | shell.settings(tenant.key),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.read(10)
    process.kill()
    await process.wait()
    assert await house.quiet(tenant, 1) == [("done", True)]
    ((_, out_tokens, estimated, _),) = await house.usage(tenant)
    assert (out_tokens, estimated) == (LEFT_WITH, False)

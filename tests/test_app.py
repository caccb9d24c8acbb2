"""The web process as an ASGI server sees it."""

import asyncio
from pathlib import Path

from pydantic import SecretStr

from tests.conftest import TEST_SECRET
from tollhouse.app import App
from tollhouse.config import Config


class Stumbling(App):
    """Fails when everything has been opened."""

    async def _start(self) -> None:
        await super()._start()
        raise RuntimeError("stumbled")


async def test_a_start_that_fails_leaves_nothing_running(database_url: str, data_dir: Path) -> None:
    config = Config(database_url=None, data_dir=data_dir, secret_key=SecretStr(TEST_SECRET.decode().ljust(32, ".")))
    said: list[str] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, str]) -> None:
        said.append(message["type"])

    before = asyncio.all_tasks()
    app = Stumbling(config.model_copy(update={"database_url": database_url}))
    await app({"type": "lifespan"}, receive, send)  # type: ignore[arg-type]  # ASGI's messages are looser
    assert said == ["lifespan.startup.failed"]
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before

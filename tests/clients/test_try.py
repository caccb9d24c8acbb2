import json, shutil
from pathlib import Path
import pytest
from tests.clients.contract import *
pytestmark = pytest.mark.asyncio(loop_scope="package")
ALL = {
 "openai": python("drive_openai"), "anthropic": python("drive_anthropic"),
 "lc-openai": python("drive_langchain","openai"), "lc-anthropic": python("drive_langchain","anthropic"),
 "njs-openai": ["node","openai.mjs"], "njs-anthropic": ["node","anthropic.mjs"], "ai-openai": ["node","ai.mjs","openai"], "ai-anthropic": ["node","ai.mjs","anthropic"],
}
@pytest.mark.parametrize("name", ALL)
async def test_it(name, house, watcher):
    folder = ROOT
    if ALL[name][0]=="node":
        folder = Path("/tmp/w2b/npm")
        for f in Path(__file__).parent.glob("*.mjs"): shutil.copy(f, folder)
    t = await take_turn(house, watcher, ALL[name], folder)
    print(json.dumps(t.told, indent=1))
    print({k[-4:]: [(a.path, a.headers.get("x-stainless-retry-count")) for a in v] for k, v in t.asked.items()})
    print(await house.quiet(t.cast.tenant), await house.usage(t.cast.tenant))
    print(await house.quiet(t.cast.leaving), await house.usage(t.cast.leaving))

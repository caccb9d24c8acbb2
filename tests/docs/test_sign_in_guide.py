"""The page about signing in as a reader follows it, with an identity provider that runs."""

from __future__ import annotations

import asyncio
import os

from tests.conftest import Cluster, SeededTemplate
from tests.docs.test_credits_guide import OURS, ROOT, follow
from tests.fake_idp import FakeIdp
from tests.house import fresh_house


async def test_the_page_does_what_it_says(cluster: Cluster, seeded_template: SeededTemplate) -> None:
    kept = {name: text for name, text in os.environ.items() if not name.startswith(OURS)}
    async with (
        FakeIdp() as idp,
        fresh_house(cluster, seeded_template, TOLLHOUSE_ALLOW_PRIVATE_PROVIDERS="true") as house,
    ):
        hers = await house.organization(scopes=("manage",))
        holes = {
            "http://127.0.0.1:8400": house.server.url,
            "https://login.example.com": idp.issuer,
            "OPERATOR_KEY=th_test_...": f"OPERATOR_KEY={house.operator_key}",
            "ADMIN_KEY=th_test_...": f"ADMIN_KEY={hers.key}",
            "TOKEN=eyJ...": f"TOKEN={idp.token(aud=f'tollhouse:{hers.id}')}",
        }
        page = ROOT / "docs" / "sign-in.md"
        assert await asyncio.to_thread(follow, page, kept, holes, ("sh", "python", "text", ""))
        users = await house.rows("SELECT external_id FROM end_user WHERE organization_id = %s", hers.id)
        assert users == [("u-1",)]
        assert await house.quiet(hers, 1) == [("done", False)]

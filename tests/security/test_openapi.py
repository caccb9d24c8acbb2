"""Whatever the document of the API lets one send, and much that it does not: no mistake of ours, answers as documented,
nothing held for a call that was refused. TOLLHOUSE_FUZZ is how many examples of each operation are made up beside the
edges that are always tried (unless set: 2)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.carriers import Carriers, Headers, bearer, carriers, cookie, x_api_key
from tests.conftest import Cluster, SeededTemplate
from tests.house import House, Tenant, fresh_house

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXAMPLES = int(os.environ.get("TOLLHOUSE_FUZZ", "2"))
LONGEST_S = 120 * max(1, EXAMPLES // 2)
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
)  # fmt: skip
OPERATOR = "^/api/operator/"
OF_AN_ORGANISATION = "^/api/(?!operator/)"
OF_END_USERS = "^/api/(credits|ai|capabilities)/"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, seeded_template: SeededTemplate) -> AsyncIterator[House]:
    async with fresh_house(cluster, seeded_template, TOLLHOUSE_ALLOW_PRIVATE_PROVIDERS="true") as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cast(house: House) -> AsyncIterator[Carriers]:
    async with carriers(house.database_url, house.server.url) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(house: House) -> Tenant:
    return await house.organization("1000")


async def fuzz(house: House, headers: Headers, paths: str, *more: str) -> list[dict[str, Any]]:
    """Every request that was made to these paths, and its answer, as a HAR file has them. Fails with what the tool
    says when an answer is not as it should be."""
    with tempfile.TemporaryDirectory() as folder:
        har = Path(folder) / "calls.har"
        sent = [word for name, value in headers.items() for word in ("--header", f"{name}: {value}")]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", house.server.url + "/openapi.json"),
            *("--include-path-regex", paths, *sent, *more),
            *("--seed", "1", "--generation-deterministic", "--max-examples", str(EXAMPLES)),
            *("--checks", ",".join(CHECKS), "--suppress-health-check", "all", "--request-timeout", "20"),
            *("--phases", "examples,coverage,fuzzing", "--no-color", "--warnings", "off"),
            *("--report", "har", "--report-har-path", str(har), "--output-sanitize", "false"),
            cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            said, _ = await asyncio.wait_for(process.communicate(), LONGEST_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, said.decode()
        found: list[dict[str, Any]] = json.loads(har.read_text())["log"]["entries"]
    return found


def statuses(calls: list[dict[str, Any]]) -> set[int]:
    return {call["response"]["status"] for call in calls}


async def assert_nothing_is_held_for_a_refusal(house: House, calls: list[dict[str, Any]]) -> None:
    """Whatever is held was told to somebody as theirs."""
    told = "".join(call["response"]["content"]["text"] for call in calls if call["response"]["status"] < 300)
    held = await house.rows("SELECT id FROM reservation WHERE state = 'pending'")
    assert [str(row[0]) for row in held if str(row[0]) not in told] == []


async def test_a_key_of_an_organisation(house: House, tenant: Tenant) -> None:
    made = await house.key(tenant.id, ("gateway", "credits", "act_as", "manage"))
    calls = await fuzz(house, x_api_key(made["key"]), OF_AN_ORGANISATION)
    assert {200, 400, 403, 404} <= statuses(calls)
    await assert_nothing_is_held_for_a_refusal(house, calls)
    await house.assert_ledger_holds()


async def test_an_operators_key(house: House) -> None:
    calls = await fuzz(house, bearer(house.operator_key), OPERATOR)
    assert {200, 201, 400, 404} <= statuses(calls)
    await house.assert_ledger_holds()


async def test_the_session_of_an_owner(house: House, cast: Carriers, tenant: Tenant) -> None:
    session = await cast.session(await cast.member(tenant.id, "owner"), tenant.id)
    calls = await fuzz(house, cookie(session), OF_AN_ORGANISATION)
    assert {200, 201, 400, 404} <= statuses(calls)
    await assert_nothing_is_held_for_a_refusal(house, calls)
    await house.assert_ledger_holds()


async def test_the_token_of_an_end_user(house: House, cast: Carriers, tenant: Tenant) -> None:
    issuer = await cast.issuer(tenant.id)
    calls = await fuzz(house, bearer(issuer.token("ada")), OF_END_USERS)
    assert {200, 400, 403, 404} <= statuses(calls)
    await assert_nothing_is_held_for_a_refusal(house, calls)
    await house.assert_ledger_holds()

"""How the teller's statements find their rows: by key, also where PostgreSQL knows nothing of the tables' sizes. They
are planned once per connection, so a plan that suits an empty table would stay while it grows."""

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.conftest import Cluster, SeededTemplate
from tollhouse.store import account, call, idempotency, notice, quota
from tollhouse.store.db import role_conninfo
from tollhouse.store.exchange import _TELLER_PLANS, Rows, Write

STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}{name}": one
    for module in (account, call, idempotency, notice, quota)
    for name, one in vars(module).items()
    if isinstance(one, Rows | Write)
}
BY_KEY = ("Index Cond", "TID Cond")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


@pytest.fixture(scope="module")
def teller(cluster: Cluster, seeded_template: SeededTemplate) -> Iterator[psycopg.Connection]:
    with (
        cluster.database(seeded_template.name) as url,
        psycopg.connect(role_conninfo(url, "tollhouse_teller", _TELLER_PLANS)) as connection,
    ):
        yield connection


@pytest.mark.parametrize("name", STATEMENTS)
def test_each_statement_finds_its_rows_by_their_key(teller: psycopg.Connection, name: str) -> None:
    sql = STATEMENTS[name]._sql
    count = max(int(number) for number in re.findall(r"\$(\d+)", sql))
    teller.execute(f"PREPARE checked AS {sql}".encode())
    try:
        arguments = ", ".join(["NULL"] * count)
        row = teller.execute(f"EXPLAIN (FORMAT JSON, COSTS OFF) EXECUTE checked ({arguments})".encode()).fetchone()
        assert row is not None
        scanned = [
            (node["Node Type"], node["Relation Name"])
            for node in nodes(row[0][0]["Plan"])
            if "Relation Name" in node
            and "Scan" in node["Node Type"]
            and not any(condition in node for condition in BY_KEY)
            and node["Relation Name"] != "catalogue_version"  # one row
        ]
        assert scanned == []
    finally:
        teller.execute("DEALLOCATE checked")

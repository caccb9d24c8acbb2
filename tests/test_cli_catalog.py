"""`tollhouse catalog import` compares, asks, and records new versions of prices."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
import typer
from genai_prices import data_snapshot
from genai_prices.types import (
    ClauseEquals,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from typer.testing import CliRunner, Result

import tollhouse
from tests.conftest import TEST_SECRET
from tollhouse.cli_catalog import NOT_RECORDED, commands, find
from tollhouse.core.errors import Conflict
from tollhouse.core.pricebook import Change, Figures
from tollhouse.flows.order import Order
from tollhouse.flows.price import import_prices
from tollhouse.store.db import Database
from tollhouse.store.price import ListedModel

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
MINI = ListedModel("gpt-4o-mini", "openai", "https://api.openai.com/v1", "gpt-4o-mini", None)


def listed(id_: str, prices: ModelPrice | list[ConditionalPrice]) -> ModelInfo:
    """Known by every name that begins with its id."""
    return ModelInfo(id=id_, match=ClauseStartsWith(starts_with=id_), prices=prices)


def sheet(given: str, made: str, cached: str | None = None) -> ModelPrice:
    more = {} if cached is None else {"cache_read_mtok": Decimal(cached)}
    return ModelPrice(input_mtok=Decimal(given), output_mtok=Decimal(made), **more)


def book(*models: ModelInfo, provider: str = "openai", api: str = r"https://api\.openai\.com") -> None:
    """From now on this is what genai-prices knows."""
    sold = Provider(id=provider, name=provider, api_pattern=api, models=list(models))
    data_snapshot.set_custom_snapshot(data_snapshot.DataSnapshot(providers=[sold], from_auto_update=False))


@pytest.fixture(autouse=True)
def own_book() -> Iterator[None]:
    """One model at another price of output than ours, one as we have it."""
    book(listed("gpt-4o-mini", sheet("0.15", "0.75", "0.075")), listed("gpt-4o", sheet("2.5", "10", "1.25")))
    yield
    data_snapshot.set_custom_snapshot(None)


def run(url: str, *options: str, answer: str = "") -> Result:
    app = typer.Typer()
    app.add_typer(commands(lambda: url), name="catalog")
    return CliRunner().invoke(app, ["catalog", "import", *options], input=answer)


def rows(url: str, query: LiteralString) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def imported(url: str) -> list[tuple[Any, ...]]:
    return rows(
        url,
        """SELECT model_id, version, input_nanos_per_million, cached_input_nanos_per_million, output_nanos_per_million,
                  reasoning_nanos_per_million, cache_write_nanos_per_million, free
           FROM model_price WHERE source = 'import' ORDER BY model_id, version""",
    )


# -------------------------------------------------------------------------------------------------------- the command


def test_what_differs_is_shown_and_recorded_as_a_new_version_with_where_it_is_from(database_url: str) -> None:
    done = run(database_url, "--yes", "--model", "gpt-4o-mini", "--model", "gpt-4o")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].split() == ["model", "price", "old", "new", "change"]
    assert lines[1].split() == ["gpt-4o-mini", "output", "0.6", "0.75", "+25.0", "%"]
    assert lines[2] == "In US dollars per million tokens, and per request."
    assert imported(database_url) == [
        ("gpt-4o-mini", 2, 150_000_000, 75_000_000, 750_000_000, None, None, False),
    ]
    ((note, lag),) = rows(database_url, "SELECT note, now() - effective_from FROM model_price WHERE source = 'import'")
    assert note.startswith("genai-prices ")
    assert timedelta() <= lag < timedelta(minutes=1)
    assert rows(
        database_url,
        """SELECT actor, object_id, details->>'version', details->>'source', details->>'output_nanos_per_million'
           FROM audit WHERE action = 'price.added'""",
    ) == [("system", "gpt-4o-mini", "2", "import", "750000000")]


def test_a_model_without_a_price_and_one_that_was_free_are_told_without_a_percentage(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM model_price WHERE model_id = 'gpt-4o-mini'")
        connection.execute(
            """UPDATE model_price SET free = true, input_nanos_per_million = 0, cached_input_nanos_per_million = 0,
                   output_nanos_per_million = 0 WHERE model_id = 'gpt-4o'"""
        )
    lines = [line.split() for line in run(database_url, "--yes").output.splitlines()]
    assert ["gpt-4o-mini", "input", "-", "0.15", "new"] in lines
    assert ["gpt-4o", "input", "0", "2.5", "-"] in lines
    assert [(row[0], row[1]) for row in imported(database_url)] == [("gpt-4o", 2), ("gpt-4o-mini", 1)]


def test_a_second_import_finds_nothing_and_writes_nothing(database_url: str) -> None:
    assert run(database_url, "--yes").exit_code == 0
    before = rows(database_url, "SELECT version FROM catalogue_version"), imported(database_url)
    again = run(database_url, "--yes")
    assert again.exit_code == 0
    assert "No price differs" in again.output
    assert (rows(database_url, "SELECT version FROM catalogue_version"), imported(database_url)) == before


@pytest.mark.parametrize(("options", "answer"), [(["--dry-run"], ""), (["--dry-run", "--yes"], ""), ([], "n\n")])
def test_nothing_is_recorded_without_a_yes_and_the_status_says_so(
    database_url: str, options: list[str], answer: str
) -> None:
    done = run(database_url, *options, answer=answer)
    assert done.exit_code == NOT_RECORDED
    assert "gpt-4o-mini" in done.output and "Nothing was recorded." in done.output
    assert imported(database_url) == []


def test_without_an_answer_nothing_is_recorded(database_url: str) -> None:
    assert run(database_url, answer="").exit_code == 1
    assert imported(database_url) == []


def test_a_yes_records(database_url: str) -> None:
    assert run(database_url, answer="y\n").exit_code == 0
    assert [row[0] for row in imported(database_url)] == ["gpt-4o-mini"]


def test_models_that_are_not_in_the_book_are_listed_and_the_sandbox_is_not(database_url: str) -> None:
    told = run(database_url, "--dry-run").output
    (missing,) = (line for line in told.splitlines() if line.startswith("Not in genai-prices"))
    assert "claude-3-opus" in missing and "llama-3.1-8b" in missing
    assert "sandbox" not in missing and "gpt-4o" not in missing


def test_only_the_models_that_are_named_are_compared(database_url: str) -> None:
    done = run(database_url, "--yes", "--model", "gpt-4o")
    assert (done.exit_code, imported(database_url)) == (0, [])
    assert "gpt-4o-mini" not in done.output and "Not in" not in done.output


@pytest.mark.parametrize("unknown", ["no-such-model", "sandbox"])
def test_a_model_that_no_provider_sells_here_is_refused(database_url: str, unknown: str) -> None:
    refused = run(database_url, "--model", unknown)
    assert refused.exit_code == 2
    assert unknown in refused.output


def test_a_price_that_was_changed_meanwhile_is_not_written_over(database_url: str) -> None:
    figures = Figures(1, 1, 1, 1, 1, 0)
    fresh = Change("gpt-4o", 1, figures, (), ())
    stale = Change("gpt-4o-mini", 7, figures, (), ())

    async def record() -> None:
        database = Database(database_url)
        await database.open()
        try:
            await import_prices(database, Order("system", datetime.now(UTC)), [fresh, stale], "a book")
        finally:
            await database.close()

    with pytest.raises(Conflict, match="gpt-4o-mini"):
        asyncio.run(record())
    assert imported(database_url) == []


def test_the_command_works_offline_on_the_data_that_is_installed(database_url: str) -> None:
    """Through the real command line, on whatever prices genai-prices has by now."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TOLLHOUSE_")},
        "PYTHONPATH": str(Path(tollhouse.__file__).parents[1]),
        "TOLLHOUSE_DATABASE_URL": database_url,
        "TOLLHOUSE_SECRET_KEY": TEST_SECRET.decode(),
        "HTTPS_PROXY": "http://127.0.0.1:1",
    }
    program = [sys.executable, "-m", "tollhouse", "catalog", "import", "--yes"]
    first, second = (
        subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120, check=False)
        for _ in range(2)
    )
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout.startswith("model "), first.stdout
    assert "No price differs" in second.stdout
    assert len(imported(database_url)) > 0


# ----------------------------------------------------------------------------------------------------------- the book


def test_a_name_with_a_date_is_found_as_the_library_matches_names() -> None:
    dated = ListedModel("mine", "openai", None, "gpt-4o-mini-2024-07-18", None)
    entry = find(dated, NOW)
    assert entry is not None
    assert (entry.name, entry.prices["output_mtok"]) == ("gpt-4o-mini", [Decimal("0.75")])


def test_a_provider_of_another_name_is_found_by_its_address() -> None:
    assert find(ListedModel("mine", "proxy", "https://api.openai.com/v1", "gpt-4o", None), NOW) is not None
    assert find(ListedModel("mine", "proxy", "https://elsewhere.example/v1", "gpt-4o", None), NOW) is None
    assert find(ListedModel("mine", "vllm", None, "gpt-4o", None), NOW) is None
    assert find(ListedModel("mine", "openai", None, "gpt-9", None), NOW) is None


def test_tiers_are_all_told() -> None:
    tiers = TieredPrices(base=Decimal("1.25"), tiers=[Tier(start=200_000, price=Decimal("2.5"))])
    book(listed("gpt-4o-mini", ModelPrice(input_mtok=tiers, output_mtok=Decimal("10"))))
    entry = find(MINI, NOW)
    assert entry is not None
    assert entry.tiered and not entry.timed
    assert entry.prices["input_mtok"] == [Decimal("1.25"), Decimal("2.5")]


@pytest.mark.parametrize("hour", [0, 6, 12, 20, 23])
@pytest.mark.parametrize(("start", "end"), [(time(16, 30), time(0, 30)), (time(8), time(18))])
def test_prices_by_the_hour_are_all_told_whatever_the_hour_is(hour: int, start: time, end: time) -> None:
    cheap = ConditionalPrice(TimeOfDateConstraint(start_time=start, end_time=end), prices=sheet("0.1", "0.2"))
    book(listed("gpt-4o-mini", [ConditionalPrice(prices=sheet("0.3", "0.6")), cheap]))
    entry = find(MINI, NOW.replace(hour=hour))
    assert entry is not None
    assert entry.timed and not entry.tiered
    assert entry.prices["output_mtok"] == [Decimal("0.2"), Decimal("0.6")]


@pytest.mark.parametrize(
    ("now", "price", "coming"),
    [
        (datetime(2026, 2, 28, tzinfo=UTC), "10", date(2026, 3, 1)),
        (NOW, "2", date(2026, 4, 1)),
        (datetime(2026, 5, 1, tzinfo=UTC), "1", None),
    ],
)
def test_a_price_that_changes_on_a_day_is_the_one_of_today_and_the_next_day_is_told(
    now: datetime, price: str, coming: date | None
) -> None:
    def since(day: date, prices: ModelPrice) -> ConditionalPrice:
        return ConditionalPrice(StartDateConstraint(start_date=day), prices=prices)

    changing = [
        ConditionalPrice(prices=sheet("10", "40")),
        since(date(2026, 3, 1), sheet("2", "8")),
        since(date(2026, 4, 1), sheet("1", "4")),
    ]
    book(ModelInfo(id="gpt-4o-mini", match=ClauseEquals(equals="gpt-4o-mini"), prices=changing))
    entry = find(MINI, now)
    assert entry is not None
    assert (entry.prices["input_mtok"], entry.next_change) == ([Decimal(price)], coming)
    assert not entry.timed

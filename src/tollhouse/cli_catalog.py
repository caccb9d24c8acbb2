"""`tollhouse catalog`: the catalogue against what others publish about models."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tollhouse.core.money import format_usd
from tollhouse.core.pricebook import Change, Comparison, Difference, Entry, Ours, compare

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo

    from tollhouse.store.db import Database
    from tollhouse.store.price import ListedModel

T = TypeVar("T")
NOT_RECORDED = 3  # the status when prices differ and nothing was recorded


def commands(database_url: Callable[[], str]) -> typer.Typer:
    """The group of commands; `database_url` is asked when one of them runs."""
    group = typer.Typer(help="Models and their prices.", no_args_is_help=True)

    @group.command("import")
    def import_(
        model: Annotated[
            list[str] | None, typer.Option(help="Only this model, by its id here. May be given several times.")
        ] = None,
        yes: Annotated[bool, typer.Option("--yes", help="Record without asking.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the differences and record nothing.")] = False,
    ) -> None:
        """Compare the prices in force with those of the installed genai-prices, and record what differs as new
        versions, from now on. Needs no network. Status 0: nothing differs, or it was recorded; 3: something differs
        and was not recorded."""
        _import(database_url(), model or [], yes=yes, dry_run=dry_run)

    return group


def _import(url: str, only: Sequence[str], *, yes: bool, dry_run: bool) -> None:
    from genai_prices import __version__ as version

    from tollhouse.flows import price as flow
    from tollhouse.flows.order import Order

    origin = f"genai-prices {version}"
    now = datetime.now(UTC)
    listed = _chosen(_run(url, lambda db: flow.read_listed(db, now)), only)
    found = compare([(Ours(one.model_id, one.provider_model_id, one.price), find(one, now)) for one in listed])
    for line in report(found, origin):
        print(line)
    if not found.changes:
        return
    if dry_run or not (yes or typer.confirm("Record the new prices, from now on?")):
        print("Nothing was recorded.")
        raise typer.Exit(NOT_RECORDED)
    order = Order("system", datetime.now(UTC))
    _run(url, lambda db: flow.import_prices(db, order, found.changes, origin))
    print(f"New prices of {_count(len(found.changes), 'model')} hold from now on.")


def _chosen(listed: list[ListedModel], only: Sequence[str]) -> list[ListedModel]:
    """All of them, when none are named."""
    unknown = set(only) - {one.model_id for one in listed}
    if unknown:
        raise typer.BadParameter(
            f"the catalogue has no model {', '.join(sorted(unknown))} of a provider", param_hint="--model"
        )
    return [one for one in listed if not only or one.model_id in only]


def _run(url: str, work: Callable[[Database], Awaitable[T]]) -> T:
    from tollhouse.store.db import Database

    async def run() -> T:
        database = Database(url)
        await database.open()
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


# ---------------------------------------------------------------------------------------------------------- the book


def find(model: ListedModel, now: datetime) -> Entry | None:
    """The model's entry in the data that genai-prices brings with it, None when it has none. The provider is the one of
    the same id, else the one whose API stands at our provider's address; which names mean the same model, such as those
    with a date, genai-prices knows."""
    from genai_prices.data_snapshot import get_snapshot

    book = get_snapshot()
    try:
        provider = next((one for one in book.providers if one.id == model.provider_id), None)
        if provider is None:
            if model.base_url is None:
                return None
            provider = book.find_provider(None, None, model.base_url)
        _, found = book.find_provider_model(model.provider_model_id, provider, None, None)
    except LookupError:
        return None
    return _entry(found, now)


def _entry(found: ModelInfo, now: datetime) -> Entry:
    from genai_prices.types import TieredPrices

    values: dict[str, set[Decimal]] = {}
    tiered = False
    sheets = [found.get_prices(moment) for moment in _moments(found, now)]
    for sheet in sheets:
        for name, value in vars(sheet).items():
            if isinstance(value, TieredPrices):
                tiered = True
                values.setdefault(name, set()).update([value.base, *(tier.price for tier in value.tiers)])
            elif value is not None:
                values.setdefault(name, set()).add(value)
    return Entry(
        found.id,
        {name: sorted(possible) for name, possible in values.items()},
        tiered=tiered,
        timed=any(sheet != sheets[0] for sheet in sheets),
        next_change=min((day for day in _starts(found) if day > now.date()), default=None),
    )


def _moments(found: ModelInfo, now: datetime) -> Iterator[datetime]:
    """Times of this day, in UTC, so chosen that each price that the day knows is in force at one of them."""
    from genai_prices.types import ModelPrice, TimeOfDateConstraint

    yield now
    if not isinstance(found.prices, ModelPrice):
        for one in found.prices:
            if isinstance(one.constraint, TimeOfDateConstraint):
                for edge in (one.constraint.start_time, one.constraint.end_time):
                    moment = datetime.combine(now.date(), edge, edge.tzinfo or UTC).astimezone(UTC)
                    yield datetime.combine(now.date(), moment.timetz())


def _starts(found: ModelInfo) -> Iterator[date]:
    """The days from which a price is listed."""
    from genai_prices.types import ModelPrice, StartDateConstraint

    if not isinstance(found.prices, ModelPrice):
        for one in found.prices:
            if isinstance(one.constraint, StartDateConstraint):
                yield one.constraint.start_date


# -------------------------------------------------------------------------------------------------------- what is told


def report(found: Comparison, origin: str) -> Iterator[str]:
    """The lines to show: what differs, what to know about it, and what could not be compared."""
    if found.changes:
        yield from _table(found.changes)
        yield "In US dollars per million tokens, and per request."
        remarks = [f"  {change.model_id}: {remark}" for change in found.changes for remark in change.remarks]
        if remarks:
            yield from ("", "To know:", *remarks)
        yield ""
    if found.unusable:
        yield from ("Listed, but not to be taken:", *(f"  {name}: {reason}" for name, reason in found.unusable), "")
    if found.missing:
        yield from (f"Not in {origin}: {', '.join(found.missing)}.", "")
    differing = sum(len(change.differences) for change in found.changes)
    if differing:
        yield f"{_count(differing, 'price')} of {_count(len(found.changes), 'model')} differ from {origin}."
    else:
        yield f"No price differs from {origin}."


def _table(changes: Sequence[Change]) -> Iterator[str]:
    rows = [("model", "price", "old", "new", "change")]
    rows += [(change.model_id, *_cells(one)) for change in changes for one in change.differences]
    model, what, old, new, percent = (max(map(len, column)) for column in zip(*rows, strict=True))
    for row in rows:
        line = f"{row[0]:<{model}}  {row[1]:<{what}}  {row[2]:>{old}}  {row[3]:>{new}}  {row[4]:>{percent}}"
        yield line.rstrip()


def _cells(one: Difference) -> tuple[str, str, str, str]:
    """What is priced, old and new price, change; what cost nothing before changes by no percentage."""
    if one.old is None:
        return one.what, "-", format_usd(one.new), "new"
    return one.what, format_usd(one.old), format_usd(one.new), "-" if one.percent is None else f"{one.percent:+} %"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

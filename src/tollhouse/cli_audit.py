"""`tollhouse audit`: the audit log checked and written out, by whoever has the database."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from tollhouse.core.audit import Chain, Head

if TYPE_CHECKING:
    from tollhouse.flows.audit import Format


class Form(StrEnum):
    """What an export is made of: lines of JSON, or a table."""

    jsonl = "jsonl"
    csv = "csv"


Only = Annotated[UUID | None, typer.Option("--organization", help="Only the chain of this organisation.")]


def commands(database_url: Callable[[], str]) -> typer.Typer:
    """The group of commands; `database_url` is asked when one of them runs."""
    group = typer.Typer(help="The audit log.", no_args_is_help=True)

    @group.command()
    def verify(
        organization: Only = None,
        expect: Annotated[
            str | None, typer.Option(metavar="SEQ:HASH", help="A head that this organisation's chain had.")
        ] = None,
        heads: Annotated[
            Path | None, typer.Option(help="A file with what this command printed earlier: heads that chains had.")
        ] = None,
    ) -> None:
        """Recompute the chain of every organisation and print where each ends, to be kept elsewhere. Changes nothing;
        status 1 when a row was changed, taken out or moved, or when a chain has lost what was expected of it."""
        known = _expected(organization, expect, heads)
        broken = asyncio.run(_verify(database_url(), organization, known))
        if broken:
            raise typer.Exit(1)

    @group.command("export")
    def export_(
        organization: Annotated[UUID, typer.Option("--organization", help="Whose log.")],
        format_: Annotated[Form, typer.Option("--format")] = Form.jsonl,
        since: Annotated[datetime | None, typer.Option("--from", help="From this time on, in UTC.")] = None,
        until: Annotated[datetime | None, typer.Option("--to", help="Before this time, in UTC; left out: now.")] = None,
    ) -> None:
        """Print an organisation's audit log, oldest row first; without times, the last 31 days. It writes down in the
        log that it did."""
        asyncio.run(_export(database_url(), organization, format_.value, since, until))

    return group


def _expected(organization: UUID | None, expect: str | None, heads: Path | None) -> dict[UUID, Head]:
    """The heads that were noted, by organisation."""
    if expect is not None and organization is None:
        raise typer.BadParameter("name the organisation as well", param_hint="--expect")
    known: dict[UUID, Head] = {}
    for line in [] if heads is None else _read(heads).splitlines():
        id_, _, head = line.partition(" ")
        try:
            if organization in (None, UUID(id_)):
                known[UUID(id_)] = Head.read(head)
        except ValueError as error:
            remedy = f"{line!r} is no line that `tollhouse audit verify` printed"
            raise typer.BadParameter(remedy, param_hint="--heads") from error
    if expect is not None and organization is not None:
        try:
            known[organization] = Head.read(expect)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--expect") from error
    return known


def _read(heads: Path) -> str:
    try:
        return heads.read_text()
    except OSError as error:
        raise typer.BadParameter(f"can't be read: {error.strerror}", param_hint="--heads") from error


async def _verify(url: str, organization_id: UUID | None, known: dict[UUID, Head]) -> int:
    """Prints a line for each chain, faults to stderr. How many chains are broken."""
    from psycopg import AsyncConnection

    from tollhouse.flows.audit import verify

    broken = 0
    async with await AsyncConnection.connect(url, autocommit=True) as connection:
        async for chain in verify(connection, organization_id, known):
            print(f"{chain.organization_id} {chain.head}")
            if chain.fault is not None:
                broken += 1
                print(_sentence(chain), file=sys.stderr)
    print(f"{broken} chains are broken." if broken else "Every chain holds.", file=sys.stderr)
    return broken


def _sentence(chain: Chain) -> str:
    assert chain.fault is not None
    return f"Broken: organisation {chain.organization_id}, row {chain.fault.seq}: {chain.fault.what}."


async def _export(
    url: str, organization_id: UUID, format_: Format, since: datetime | None, until: datetime | None
) -> None:
    from tollhouse.flows.audit import Range, export
    from tollhouse.flows.order import Order
    from tollhouse.store.db import Database

    now = datetime.now(UTC)
    over = Range.of(_in_utc(since), _in_utc(until), now)
    db = Database(url)
    await db.open()
    try:
        lines: AsyncIterator[str] = await export(db, Order("system", now), organization_id, over, format_)
        async for part in lines:
            sys.stdout.write(part)
    finally:
        await db.close()


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment

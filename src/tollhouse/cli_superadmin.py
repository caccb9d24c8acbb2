"""`tollhouse superadmin`: who runs this installation, by whoever has its database: the first has nobody to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from tollhouse.store.db import Database

T = TypeVar("T")
Email = Annotated[str, typer.Argument(help="The e-mail address that the person signs in with.")]


def commands(database_url: Callable[[], str]) -> typer.Typer:
    """The group of commands; `database_url` is asked when one of them runs."""
    group = typer.Typer(help="Who runs this installation, in the browser at /operator.", no_args_is_help=True)

    @group.command()
    def add(email: Email) -> None:
        """Make somebody who has signed up a superadmin; safe to repeat. They sign in again; in live mode they need a
        second factor."""
        _set(database_url(), email, True)
        print(f"{email} is a superadmin. They sign in again and open /operator.")

    @group.command()
    def remove(email: Email) -> None:
        """Take it from somebody; safe to repeat. The last superadmin stays one."""
        _set(database_url(), email, False)
        print(f"{email} is no superadmin. Their sessions have ended.")

    @group.command("list")
    def list_() -> None:
        """Print the superadmins, one a line."""
        from tollhouse.flows.people import superadmins

        found = _with_database(database_url(), superadmins)
        for person in found:
            print(f"{person.email}{' (suspended)' if person.suspended_at else ''}")
        if not found:
            print("There is none. Sign up in the browser, then run: tollhouse superadmin add EMAIL")

    return group


def _set(url: str, email: str, wanted: bool) -> None:
    from tollhouse.core.mailbox import normalised
    from tollhouse.flows.order import Order
    from tollhouse.flows.people import find_by_address, set_superadmin

    async def change(db: Database) -> None:
        person_id = await find_by_address(db, normalised(email))
        await set_superadmin(db, Order("system", datetime.now(UTC)), person_id, wanted)

    _with_database(url, change)


def _with_database(url: str, work: Callable[[Database], Awaitable[T]]) -> T:
    from tollhouse.store.db import Database

    async def run() -> T:
        db = Database(url)
        await db.open()
        try:
            return await work(db)
        finally:
            await db.close()

    return asyncio.run(run())

"""The command `tollhouse`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import psycopg
import typer

from tollhouse import __version__, cli_audit, cli_catalog, cli_superadmin, config, data_directory, logs, migrations
from tollhouse.config import Config, ConfigError
from tollhouse.core.errors import TollhouseError
from tollhouse.core.key import SCOPES
from tollhouse.trouble import Trouble

T = TypeVar("T")

app = typer.Typer(
    help="Decides, meters, charges and routes calls to AI models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Settings are environment variables with the prefix TOLLHOUSE_; `tollhouse doctor` checks them.",
)
keys = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(keys, name="key")
app.add_typer(cli_catalog.commands(lambda: _database_url(config.read())), name="catalog")
app.add_typer(cli_audit.commands(lambda: _database_url(config.read())), name="audit")
app.add_typer(cli_superadmin.commands(lambda: _database_url(config.read())), name="superadmin")


@app.command()
def up() -> None:
    """Start everything: database, migrations, seed data, server and job worker, until Ctrl-C."""
    from tollhouse import supervisor

    settings = config.load()
    logs.configure(settings.log_level)
    supervisor.up(settings)


@app.command()
def serve(
    fd: Annotated[int | None, typer.Option(help="A listening socket to inherit, instead of host and port.")] = None,
) -> None:
    """Run one web process, until SIGTERM."""
    from tollhouse import server

    settings = _with_database(config.load())
    logs.configure(settings.log_level)
    server.serve(settings, fd)


@app.command()
def worker() -> None:
    """Run one job worker, until SIGTERM."""
    from tollhouse import jobs

    settings = _with_database(config.load())
    logs.configure(settings.log_level)
    _run(jobs.run(settings, lambda: datetime.now(UTC)))


@app.command()
def migrate() -> None:
    """Bring the database to the schema of this version."""
    url = _database_url(config.read())
    before = migrations.current(url)
    migrations.upgrade(url)
    after = migrations.current(url)
    print(f"The database is at revision {after}" + ("." if after == before else f" (was {before or 'empty'})."))


@app.command()
def seed() -> None:
    """Put the plans, the catalogue and, in test mode, the demo organisation into the database; safe to repeat."""
    from tollhouse import seeding

    settings = config.load()
    made = seeding.seed_and_keep(settings, _database_url(settings), datetime.now(UTC))
    print("The database holds the seed data of this version.")
    for name, key in (("operator key", made.operator), ("demo key", made.demo)):
        if key is not None:
            print(f"  {name:<12}  {key}")


@app.command("prove-ledger")
def prove_ledger(
    as_json: Annotated[bool, typer.Option("--json", help="Print the failures as JSON.")] = False,
) -> None:
    """Recompute every balance from the ledger and check every invariant. Changes nothing; status 1 when one fails."""
    from tollhouse.store.proof import prove

    url = _database_url(config.read())

    async def run() -> list[Any]:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            return list(await prove(connection))

    failures = _run(run())
    if as_json:
        print(json.dumps({"ok": not failures, "failures": [asdict(one) for one in failures]}, default=str, indent=2))
    else:
        for one in failures:
            print(f"Invariant {one.number} fails: {one.statement}")
            for row in one.rows:
                print(f"  {row}")
        print(f"{len(failures)} invariants fail." if failures else "Every invariant holds.")
    if failures:
        raise typer.Exit(1)


@app.command("rotate-keys")
def rotate_keys() -> None:
    """Seal the stored secrets under the present TOLLHOUSE_SECRET_KEY; safe to repeat. Status 1 when one of them
    can't be opened with it, nor with any of TOLLHOUSE_PREVIOUS_SECRET_KEYS."""
    from tollhouse.flows.rotation import Rotated, rotate
    from tollhouse.store.db import Database

    settings = _with_database(config.load())

    async def run() -> Rotated:
        database = Database(settings.database_url or "")
        await database.open()
        try:
            return await rotate(database, settings.keyring(), datetime.now(UTC))
        finally:
            await database.close()

    done = _run(run())
    print(f"Sealed anew: {done.renewed}. Under the present secret already: {done.current}.")
    for row in done.broken:
        print(f"Can't be opened: {row.what}.")
    if done.broken:
        print("Name the secret they were sealed under in TOLLHOUSE_PREVIOUS_SECRET_KEYS, or enter them again.")
        raise typer.Exit(1)


@app.command()
def outbox(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest last.")] = 20,
) -> None:
    """Print the mail that was written: links to sign in, for example, where no mail server is configured."""
    from tollhouse.store import mail
    from tollhouse.store.db import Database

    settings = _with_database(config.load())

    async def run() -> list[mail.Posted]:
        database = Database(settings.database_url or "")
        await database.open()
        try:
            async with database.operator() as tx:
                return await mail.latest(tx, limit)
        finally:
            await database.close()

    found = _run(run())
    for one in reversed(found):
        state = "sent" if one.sent_at else "given up" if one.given_up else "not sent"
        why = f" ({one.error})" if one.error else ""
        print(f"{one.created_at:%Y-%m-%d %H:%M:%S} UTC, to {one.recipient}, {state}{why}\nSubject: {one.subject}\n")
        print(one.body)
    if not found:
        print("No mail was written.")


@app.command()
def doctor() -> None:
    """Check what Tollhouse needs, one line each; status 1 when something is wrong."""
    from tollhouse import doctor

    findings = doctor.examine()
    for finding in findings:
        print(finding.line())
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@keys.command("create")
def key_create(
    organization: Annotated[UUID, typer.Option(help="The organisation's id.")],
    name: Annotated[str, typer.Option(help="What people call the key.")],
    scope: Annotated[list[str], typer.Option(help=f"May be given several times: {', '.join(SCOPES)}.")],
    mode: Annotated[str | None, typer.Option(help="test or live; as TOLLHOUSE_MODE when left out.")] = None,
) -> None:
    """Create an API key and print it, once. A key with the scope operator belongs to the platform's organisation."""
    from tollhouse.flows.connection import Policy
    from tollhouse.flows.key import Manager, create
    from tollhouse.flows.order import NewKey, Order
    from tollhouse.store.db import Database

    settings = _with_database(config.load())
    unknown = [one for one in scope if one not in SCOPES]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(SCOPES)}", param_hint="--scope")
    if mode not in (None, settings.mode):
        raise typer.BadParameter(f"this installation runs in {settings.mode} mode", param_hint="--mode")
    wanted = NewKey(name, tuple(one for one in SCOPES if one in scope), settings.mode)

    async def run() -> str:
        database = Database(settings.database_url or "")
        await database.open()
        try:
            manager = Manager(organization, Order("system", datetime.now(UTC)), None)
            policy = Policy(settings.keyring(), settings.mode)
            return (await create(database, policy, manager, wanted)).key
        finally:
            await database.close()

    print(_run(run()))


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def _run(work: Coroutine[Any, Any, T]) -> T:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _with_database(settings: Config) -> Config:
    return settings.model_copy(update={"database_url": _database_url(settings)})


def _database_url(settings: Config) -> str:
    """The database that was configured, else the embedded one if it runs. Raises Trouble when there is neither."""
    url = settings.database_url or data_directory.read_url(settings.data_dir)
    if url is None:
        raise Trouble(
            f"No database: start `tollhouse up`, which runs one in {settings.data_dir}, or set TOLLHOUSE_DATABASE_URL."
        )
    return url


def main() -> None:
    """Runs the command; a trouble becomes a sentence on stderr and status 1, or 2 when it is the configuration."""
    debug = os.environ.get("TOLLHOUSE_LOG_LEVEL", "").lower() == "debug"
    try:
        app()
    except (Trouble, TollhouseError, psycopg.Error) as error:
        if debug:
            raise
        print(f"tollhouse: {_sentence(error)}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def _sentence(error: Exception) -> str:
    reason = str(error).strip()
    if isinstance(error, psycopg.OperationalError):
        return (
            f"The database can't be reached: {reason}\nCheck TOLLHOUSE_DATABASE_URL and that the server runs; without "
            "TOLLHOUSE_DATABASE_URL, that `tollhouse up` runs."
        )
    if isinstance(error, psycopg.errors.UndefinedTable):
        return f"The database is not migrated ({reason.splitlines()[0]}). Run `tollhouse migrate`."
    return reason

"""Running the SQL file of a migration."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from alembic import op
from psycopg import Connection


def run(version: str, direction: str) -> None:
    """Runs the .up.sql or .down.sql beside `version`, a version's __file__, in the transaction of the migration."""
    execute(Path(version).with_suffix(f".{direction}.sql").read_text(encoding="utf-8"))


def execute(statements: str) -> None:
    """Sends the statements as they are: no parameters, so colons and per cent signs mean nothing special."""
    connection = cast("Connection[tuple[object, ...]]", op.get_bind().connection.driver_connection)
    connection.execute(statements.encode())  # reviewed files of this package or of a locked one

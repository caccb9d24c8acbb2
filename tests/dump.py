"""Everything that a database holds, as text: where a test looks for what should be nowhere."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
from psycopg import sql


def tables_with(url: str, words: Iterable[str]) -> dict[str, list[str]]:
    """Of each word the tables in which it stands, in whatever case, as text or as bytes. `url` is the owner's."""
    found: dict[str, list[str]] = {}
    with psycopg.connect(url) as connection:
        names = connection.execute(
            """SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind = 'r' AND n.nspname IN ('public', 'procrastinate') ORDER BY 1, 2"""
        ).fetchall()
        for schema, name in names:
            rows = connection.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, name)))
            text = "\n".join(row[0] for row in rows).lower()
            for word in words:
                if word.lower() in text or word.encode().hex() in text:
                    found.setdefault(word, []).append(name)
    return found

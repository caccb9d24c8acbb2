"""Everything that is stored about one organisation and its people, to tell whether somebody changed it."""

from __future__ import annotations

from uuid import UUID

from psycopg import AsyncConnection, sql

# What looking alone writes down: when a key or a session was seen last.
_SEEN = ["last_used_at", "seen_at"]
_COLUMNS = """SELECT c.table_name, c.column_name FROM information_schema.columns c
              JOIN information_schema.tables t USING (table_schema, table_name)
              WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.column_name = %s
                AND c.table_name !~ '^usage_event_'"""


async def books_of(url: str, organization_id: UUID) -> dict[str, str | None]:
    """A digest of each table's rows of the organisation and of its members; None: it has none."""
    found = {}
    async with await AsyncConnection.connect(url) as connection:
        cursor = await connection.execute("SELECT person_id FROM member WHERE organization_id = %s", (organization_id,))
        people = [row[0] for row in await cursor.fetchall()]
        for column, wanted in (("organization_id", [organization_id]), ("person_id", people)):
            cursor = await connection.execute(_COLUMNS.encode(), (column,))
            tables = [(row[0], column, wanted) for row in await cursor.fetchall()]
            for table, key, ids in [*tables, ("organization", "id", [organization_id]), ("person", "id", people)]:
                query = sql.SQL(
                    "SELECT md5(string_agg((to_jsonb(t) - %s::text[])::text, '|' ORDER BY to_jsonb(t)::text)) "
                    "FROM {} t WHERE {} = ANY(%s)"
                ).format(sql.Identifier(table), sql.Identifier(key))
                row = await (await connection.execute(query, (_SEEN, ids))).fetchone()
                assert row is not None
                found[table if key != "person_id" else f"{table} of people"] = row[0]
    return found | {"session": found["session of people"]}

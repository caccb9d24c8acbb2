"""A row of two organisations and of two people in every table there is, written past all rules but the checks."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg import Connection, sql

A, B = UUID("aaaaaaaa-0000-7000-8000-000000000001"), UUID("bbbbbbbb-0000-7000-8000-000000000002")
PERSON_A, PERSON_B = UUID("aaaaaaaa-0000-7000-8000-00000000000a"), UUID("bbbbbbbb-0000-7000-8000-00000000000b")
_BY_TYPE: dict[str, Any] = {
    "text": "x", "bigint": 1, "integer": 1, "smallint": 1, "boolean": False, "jsonb": "{}", "bytea": b"x",
    "timestamp with time zone": "2026-01-01T00:00:00Z", "date": "2026-01-01", "ARRAY": "{}",
}  # fmt: skip
# What checks want, by table and column or by column alone.
_BY_NAME: dict[str, Any] = {
    "role": "member", "mode": "test", "origin": "organization", "meter": "messages", "period": "day", "channel": "api",
    "method": "password", "purpose": "sign_in", "period_end": "2027-01-01T00:00:00Z", "plan_id": "free",
    "provider_id": "openai", "model_id": "sandbox", "organization.kind": "team", "notice.kind": "depleted",
    "privacy_task.kind": "export", "subject_kind": "person", "privacy_task.state": "done",
    "entitlement.source": "trial", "credit_grant.source": "promo", "credit_transaction.type": "promo_bonus",
    "reservation.state": "released",
    "reservation.closed_at": "2026-01-01T00:00:00Z", "request.state": "done",
    "request.finished_at": "2026-01-01T00:00:00Z",
    "usage_limit.scope": "organization",
    "usage_event.origin": "provider", "idempotency.status": 200, "idempotency.response": "{}",
    "assistant.kind": "persona", "assistant.person_id": None,
    "own_model.person_id": None, "own_model.protocol": "openai",
    "message.author": "person", "message.state": "done",
    "connection.priority": 0, "remaining_micros": 1,
    "reserved_micros": 0, "usage_event.cached_input_tokens": 0, "usage_event.cache_write_tokens": 0,
}  # fmt: skip


def tables_with(connection: Connection[Any], column: str) -> set[str]:
    """Partitions are reached through what they are part of."""
    found = connection.execute(
        """SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
           WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
             AND a.attname = %s AND a.attnum > 0 AND NOT a.attisdropped""",
        (column,),
    )
    return {row[0] for row in found}


def fill(connection: Connection[Any]) -> None:
    """By a superuser. Person B is a member of A as well; neither has anything of the other's else."""
    connection.execute("SET session_replication_role = replica")
    for organization, person, letter in ((A, PERSON_A, "a"), (B, PERSON_B, "b")):
        known = {"organization_id": organization, "person_id": person, "email": f"{letter}@example.com"}
        for table, key in (("organization", organization), ("person", person)):
            _insert(connection, table, known | {"id": key}, letter)
        of_people = tables_with(connection, "person_id")
        for table in sorted(of_people | tables_with(connection, "organization_id")):
            _insert(connection, table, known, letter)
    connection.execute(
        "INSERT INTO member (organization_id, person_id, role, created_at) VALUES (%s, %s, 'member', now())",
        (A, PERSON_B),
    )


def _insert(connection: Connection[Any], table: str, known: dict[str, Any], letter: str) -> None:
    columns = connection.execute(
        """SELECT column_name, data_type FROM information_schema.columns
           WHERE table_schema = 'public' AND table_name = %s AND is_generated = 'NEVER'
             AND (is_nullable = 'NO' AND column_default IS NULL OR column_name = ANY(%s))""",
        (table, [name.rpartition(".")[2] for name in _BY_NAME if name.startswith(f"{table}.")]),
    ).fetchall()
    values = {name: _value(table, name, type_, known, letter) for name, type_ in columns}
    names = sql.SQL(", ").join(sql.Identifier(name) for name in values)
    places = sql.SQL(", ").join(sql.Placeholder() for _ in values)
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(table), names, places)
    connection.execute(statement, list(values.values()))


def _value(table: str, name: str, type_: str, known: dict[str, Any], letter: str) -> Any:
    if name in known:
        return known[name]
    for place in (f"{table}.{name}", name):
        if place in _BY_NAME and type_ != "uuid":
            return _BY_NAME[place]
    if type_ == "uuid":
        return UUID(letter * 32)
    return f"x{letter}".encode() if type_ == "bytea" else f"x-{letter}" if type_ == "text" else _BY_TYPE[type_]

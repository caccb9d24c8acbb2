"""What each transaction changed, noted by triggers that only a test's database has, beside what it wrote down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psycopg

# The roles of calls and of jobs, and why they need no row: what they do is told elsewhere, or was told before.
BY_THEMSELVES = {
    "tollhouse_teller": "calls have the ledger, their usage events and attempts",
    "tollhouse_worker": "jobs do what was decided and told before: they send, forget what has run out, note last use",
    "none": "the test itself",
}
# What no audit row tells of, and why.
UNTOLD_TABLES = {
    "throttle": "counts tries of whoever it is",
    "mail": "is written with what it tells about, and is no change by itself",
    "idempotency": "the answer that is given again",
    "connection_health": "what a check found",
    "catalogue_version": "goes up with each change of the catalogue",
    "privacy_task": "is ordered with an audit row; its steps are progress",
    "credit_balance": "the sum of the grants, whose changes are told",
    "request_rate": "a counter",
    "quota_window": "a counter",
    "conversation": "what somebody says in their own chats",
    "message": "what somebody says in their own chats",
    "assistant_use": "counts for figures what the chats have",
    "preference": "what somebody prefers for themself",
    "persona_override": "what somebody prefers for themself",
    "notice_read": "what somebody has put away for themself",
}
# Of tables that are told of, what is not: (table, verb, the columns alone).
UNTOLD_CHANGES = {
    ("session", "update", frozenset({"seen_at"})): "to the minute, with every request",
    ("person", "update", frozenset({"language"})): "how pages look to themselves",
    ("password", "update", frozenset({"hash"})): "the same password under stronger parameters",
    ("totp", "insert", frozenset[str]()): "nothing asks for it until it is confirmed, which is told",
    ("totp", "update", frozenset({"last_step"})): "a code counts once; what it was for is told",
    ("one_time_token", "insert", frozenset[str]()): "a link changes nothing until somebody opens it",
    ("one_time_token", "update", frozenset({"used_at"})): "the sign-in or the change that follows is told",
}

_INSTALL = """
    CREATE TABLE noted_change (
        seq            bigint GENERATED ALWAYS AS IDENTITY,
        transaction_id xid8   NOT NULL DEFAULT pg_current_xact_id(),
        role           text   NOT NULL DEFAULT current_setting('role'),
        table_name     text   NOT NULL,
        verb           text   NOT NULL,
        columns        text[] NOT NULL
    );
    GRANT INSERT ON noted_change TO PUBLIC;
    CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        changed text[] := '{}';
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            SELECT coalesce(array_agg(key ORDER BY key), '{}') INTO changed FROM jsonb_each(to_jsonb(NEW)) AS after
            WHERE after.value IS DISTINCT FROM to_jsonb(OLD) -> after.key;
            IF changed = '{}' THEN
                RETURN NULL;
            END IF;
        END IF;
        INSERT INTO public.noted_change (table_name, verb, columns) VALUES (TG_TABLE_NAME, lower(TG_OP), changed);
        RETURN NULL;
    END $$;
    DO $$
    DECLARE
        name text;
    BEGIN
        FOR name IN SELECT relname FROM pg_class
                    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
                      AND relname NOT IN ('noted_change', 'audit') AND relname NOT LIKE 'procrastinate%'
        LOOP
            EXECUTE format('CREATE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON %I '
                           'FOR EACH ROW EXECUTE FUNCTION note_change()', name);
        END LOOP;
    END $$;
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One row of a table. `columns`: which of them an update changed. `by_role`: the database's; 'none' is the test
    itself, as the owner. `told`: whether the same transaction has written an audit row."""

    seq: int
    transaction_id: str
    by_role: str
    table: str
    verb: str
    columns: frozenset[str]
    told: bool


def install(database_url: str) -> None:
    """From here on every change is noted."""
    with psycopg.connect(database_url) as connection:
        connection.execute(_INSTALL)


def changes(database_url: str, after: int = 0) -> list[Change]:
    """Those noted after this one, in order."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            """SELECT n.seq, n.transaction_id::text, n.role, n.table_name, n.verb, n.columns,
                      EXISTS (SELECT FROM audit a WHERE a.transaction_id = n.transaction_id)
               FROM noted_change n WHERE n.seq > %s ORDER BY n.seq""",
            (after,),
        ).fetchall()
    return [
        Change(seq, transaction, role, table, verb, frozenset(columns), told)
        for seq, transaction, role, table, verb, columns, told in rows
    ]


def untold(found: Iterable[Change]) -> list[Change]:
    """Those that somebody made and that no audit row of their transaction tells of."""
    return [
        one for one in found
        if one.by_role not in BY_THEMSELVES and not one.told and one.table not in UNTOLD_TABLES
        and (one.table, one.verb, one.columns) not in UNTOLD_CHANGES
    ]  # fmt: skip

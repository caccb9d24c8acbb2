"""Row-level security, attacked in SQL with each of the roles that the processes run as."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest
from psycopg import Connection, sql
from psycopg.errors import InsufficientPrivilege

from tests.conftest import Cluster, SeededTemplate
from tests.security.rows import PERSON_A, PERSON_B, A, B, fill, tables_with
from tollhouse.embedded import SUPERUSER
from tollhouse.store.db import role_conninfo

WEB, TELLER, WORKER, OPERATOR = "tollhouse_web", "tollhouse_teller", "tollhouse_worker", "tollhouse_operator"
ROLES = (WEB, TELLER, WORKER, OPERATOR)
_CATALOGUE = """alembic_version capability catalogue_version experiment experiment_arm model model_price plan
    plan_capability plan_capability_model plan_capability_quality provider quality_level rate_card
    rate_card_multiplier topup_package"""
# What each role may do with whole tables: S select, I insert, U update, D delete. Nobody truncates, refers or triggers.
PRIVILEGES = {
    WEB: {
        "S": f"""{_CATALOGUE} api_key attempt connection_health credit_balance credit_grant credit_transaction end_user
            entitlement idempotency identity_provider invitation jwt_issuer member notice organization person
            quota_window request request_rate reservation usage_day usage_day_done usage_event usage_limit""",
        "I": "mail",
        "SI": "assistant_use audit notice_read privacy_task",
        "SID": "document passage",
        "SIU": "assistant one_time_token preference",
        "SIUD": """assistant_setting connection conversation kept_answer linked_identity message own_model password
            persona_override recovery_code request_content session throttle totp""",
    },
    TELLER: {
        "S": f"{_CATALOGUE} api_key connection entitlement jwt_issuer member organization usage_limit",
        "SI": "credit_transaction end_user notice usage_event",
        "SIU": "attempt credit_balance credit_grant quota_window request request_rate reservation",
        "SIUD": "idempotency",
    },
    WORKER: {
        "S": f"{_CATALOGUE} connection credit_balance member notice organization preference reservation usage_event",
        "SD": "conversation idempotency invitation kept_answer one_time_token request_content session throttle",
        "SID": "usage_day",
        "SIU": "connection_health usage_day_done",
        "SIUD": "mail",
        "SU": "privacy_task",
        "SUD": "message",
    },
    OPERATOR: {
        "IUD": "password recovery_code totp",
        "S": "alembic_version catalogue_version connection_health usage_day usage_day_done",
        "SD": "conversation kept_answer message notice_read request_content",
        "SUD": "own_model",
        "SI": "audit credit_transaction notice usage_event",
        "SID": "idempotency mail",
        "SIU": """api_key assistant_use attempt capability credit_balance credit_grant end_user entitlement model
            model_price organization person plan privacy_task provider quality_level quota_window rate_card request
            request_rate reservation topup_package usage_limit""",
        "SIUD": """assistant assistant_setting connection document experiment experiment_arm identity_provider
            invitation jwt_issuer linked_identity member one_time_token passage persona_override plan_capability
            plan_capability_model plan_capability_quality preference rate_card_multiplier session""",
    },
}
# Where the right is to some columns alone.
COLUMNS = {
    (OPERATOR, "password", "SELECT"): "changed_at person_id",
    (OPERATOR, "recovery_code", "SELECT"): "person_id used_at",
    (OPERATOR, "totp", "SELECT"): "confirmed_at created_at person_id",
    (TELLER, "organization", "UPDATE"): "pending_plan_id plan_id",
    (TELLER, "person", "SELECT"): "erased_at id suspended_at",
    (WEB, "assistant_use", "UPDATE"): "rating",
    (WEB, "organization", "UPDATE"): "cache_ttl_s chat_retention_days retention_days stores_content",
    (WEB, "person", "UPDATE"): "email email_verified_at language name",
    (WORKER, "api_key", "SELECT"): "expires_at id last_used_at organization_id revoked_at",
    (WORKER, "api_key", "UPDATE"): "last_used_at",
    (WORKER, "notice", "UPDATE"): "mailed_at",
    (WORKER, "person", "SELECT"): "email email_verified_at erased_at id suspended_at",
}
# Tables of nobody in particular: the catalogue, who may sign people in, what throttles, mail (which no page reads).
OF_NOBODY = {*_CATALOGUE.split(), "identity_provider", "mail", "throttle", "usage_day_done"}
# One person's in one organisation, and nobody else's there.
OF_MEMBERS = {"conversation", "message", "notice_read"}
# The platform's rows of these are everybody's to read.
OF_PLATFORM = {"assistant", "document", "passage"}
OF_PEOPLE = {"password", "totp", "recovery_code", "linked_identity", "session", "one_time_token"}
TENANT = "(organization_id = ( SELECT app_organization() AS app_organization))"
SELF = "(person_id = ( SELECT app_person() AS app_person))"
BOTH = f"({TENANT} AND {SELF})"
PLATFORM = "00000000-0000-0000-0000-000000000000"
# Unique beyond one organisation or person: digests that nobody can guess, one person's subject at a provider, and the
# pair that has to lead to one organisation.
UNIQUE_OVERALL = {
    "api_key_digest", "invitation_digest", "session_digest", "one_time_token_pkey", "linked_identity_pkey",
    "jwt_issuer_tokens", "person_email", "organization_pkey", "person_pkey", "organization_one_platform",
}  # fmt: skip
LOOK_UPS = {
    "find_api_key", "find_session", "find_person", "find_linked_identity", "use_one_time_token", "find_one_time_token",
    "find_invitation", "find_jwt_issuer", "own_organizations",
}  # fmt: skip


@pytest.fixture(scope="module")
def url(cluster: Cluster, seeded_template: SeededTemplate) -> Iterator[str]:
    """A database in which organisations A and B, and a person of each, have a row in every table."""
    with cluster.database(seeded_template.name) as made:
        with psycopg.connect(cluster.postgres.url(urlsplit(made).path[1:], SUPERUSER)) as connection:
            fill(connection)
        yield made


@contextmanager
def acting(
    url: str, role: LiteralString, organization: UUID | None = None, person: UUID | None = None
) -> Iterator[Connection[Any]]:
    """A transaction of the role with this context; nothing of it stays."""
    with psycopg.connect(role_conninfo(url, role)) as connection:
        for name, value in (("organization_id", organization), ("person_id", person)):
            if value is not None:
                connection.execute("SELECT set_config(%s, %s, true)", (f"tollhouse.{name}", str(value)))
        yield connection
        connection.rollback()


def rows(url: str, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode(), parameters or None).fetchall()


def seen(connection: Connection[Any], table: str) -> list[dict[str, Any]]:
    return [row[0] for row in connection.execute(sql.SQL("SELECT to_jsonb(t) FROM {} t").format(sql.Identifier(table)))]


def refused(connection: Connection[Any], statement: sql.Composed, *parameters: Any) -> str | None:
    """What the database says to it; None when it lets it happen to at least one row."""
    try:
        with connection.transaction(force_rollback=True):
            done = connection.execute(statement, parameters or None)
            return None if done.rowcount else "no row"
    except InsufficientPrivilege as error:
        return str(error)


def keys_of(table: str) -> set[str]:
    """The columns that say whose a row is."""
    if table in OF_MEMBERS:
        return {"organization_id", "person_id"}
    return {"person_id"} if table in OF_PEOPLE else {"organization_id"}


def readable(role: str) -> list[str]:
    return [name for verbs, names in PRIVILEGES[role].items() if "S" in verbs for name in names.split()]


# ---------------------------------------------------------------------------------------------------- what is declared


def test_every_role_has_the_privileges_that_stand_here_and_no_other(url: str) -> None:
    found = rows(
        url,
        """SELECT r.rolname, t.relname, v.verb FROM pg_roles r CROSS JOIN pg_class t
           CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) v(verb)
           WHERE r.rolname = ANY(%s) AND t.relnamespace = 'public'::regnamespace
             AND t.relkind IN ('r', 'p', 'v', 'm', 'S')
             AND has_table_privilege(r.oid, t.oid, v.verb)""",
        list(ROLES),
    )
    declared = {
        (role, name, {"S": "SELECT", "I": "INSERT", "U": "UPDATE", "D": "DELETE"}[letter])
        for role, verbs in PRIVILEGES.items()
        for letters, names in verbs.items()
        for name in names.split()
        for letter in letters
    }
    assert set(found) == declared


def test_rights_to_some_columns_are_those_that_stand_here(url: str) -> None:
    found = rows(
        url,
        """SELECT grantee, table_name, privilege_type, string_agg(column_name, ' ' ORDER BY column_name)
           FROM information_schema.column_privileges
           WHERE grantee = ANY(%s) AND table_schema = 'public'
             AND NOT has_table_privilege(grantee, format('%%I.%%I', table_schema, table_name), privilege_type)
           GROUP BY 1, 2, 3""",
        list(ROLES),
    )
    assert {(row[0], row[1], row[2]): row[3] for row in found} == COLUMNS


def test_what_is_written_in_the_ledger_and_in_the_audit_log_nobody_changes(url: str) -> None:
    for role in ROLES:
        for table in ("credit_transaction", "usage_event", "audit"):
            for verb in ("UPDATE", "DELETE", "TRUNCATE"):
                assert rows(url, "SELECT has_table_privilege(%s, %s, %s)", role, table, verb) == [(False,)]
                assert rows(url, "SELECT has_any_column_privilege(%s, %s, 'UPDATE')", role, table) == [(False,)]


def test_no_role_of_the_processes_owns_bypasses_or_makes_anything(url: str) -> None:
    names = list(ROLES)
    found = rows(
        url,
        """SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)
           AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication OR rolinherit
                OR rolcanlogin)""",
        names,
    )
    assert found == []
    assert rows(url, "SELECT relname FROM pg_class WHERE relowner::regrole::text = ANY(%s)", names) == []
    assert rows(url, "SELECT proname FROM pg_proc WHERE proowner::regrole::text = ANY(%s)", names) == []
    assert rows(url, "SELECT 1 FROM pg_auth_members WHERE member::regrole::text = ANY(%s)", names) == []
    made = "SELECT nspname FROM pg_namespace, unnest(%s::text[]) role WHERE has_schema_privilege(role, oid, 'CREATE')"
    assert [row for row in rows(url, made, names) if not row[0].startswith("pg_")] == []


def test_every_table_is_somebodys_or_stands_among_those_of_nobody(url: str) -> None:
    """Row-level security enabled and forced: what owns the table is held to it too."""
    found = rows(
        url,
        """SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class
           WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')""",
    )
    assert {name for name, secured in found if not secured} == OF_NOBODY
    with psycopg.connect(url) as connection:
        columns = tables_with(connection, "organization_id") | tables_with(connection, "person_id")
    assert not columns & OF_NOBODY


def test_each_role_that_may_touch_a_table_has_one_policy_for_it(url: str) -> None:
    """Two permissive ones would be joined by OR; none would make the right an empty one."""
    policies = rows(url, "SELECT tablename, roles::text[], permissive, cmd, qual, with_check FROM pg_policies")
    assert all(permissive == "PERMISSIVE" and len(roles) == 1 for _, roles, permissive, *_ in policies)
    per_role = [(table, roles[0]) for table, roles, _, cmd, *_ in policies if (table in OF_PLATFORM) <= (cmd == "ALL")]
    assert len(per_role) == len(set(per_role))
    granted = {
        (name, role)
        for role, verbs in PRIVILEGES.items()
        for names in verbs.values()
        for name in names.split()
        if name not in OF_NOBODY
    } | {(table, role) for role, table, _ in COLUMNS}
    assert granted - set(per_role) == set()


def test_what_pages_see_is_bound_to_the_context_and_asked_once_per_statement(url: str) -> None:
    policies = rows(
        url, "SELECT tablename, cmd, qual, with_check FROM pg_policies WHERE 'tollhouse_web' = ANY(roles::text[])"
    )
    for table, command, using, check in policies:
        if table in OF_PLATFORM and command == "SELECT":  # beside one's own, which alone may be changed
            assert (using, check) == (f"(organization_id = '{PLATFORM}'::uuid)", None), table
            continue
        assert command == "ALL", table
        if table == "organization":
            assert (using, check) == (TENANT.replace("organization_id", "id"),) * 2
        elif table == "person":
            assert using.count("( SELECT app_") == 2 and check == SELF.replace("person_id", "id")
        else:
            whose = BOTH if table in OF_MEMBERS else SELF if table in OF_PEOPLE else TENANT
            assert (using, check) == (whose, whose), table


def test_policies_that_let_everything_through_are_of_roles_without_a_tenant(url: str) -> None:
    found = rows(url, "SELECT DISTINCT r FROM pg_policies, unnest(roles::text[]) r WHERE qual = 'true'")
    assert {row[0] for row in found} == {TELLER, WORKER, OPERATOR, "tollhouse"}


def test_unique_keys_tell_nothing_across_organisations(url: str) -> None:
    found = rows(
        url,
        """SELECT x.relname FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
           JOIN pg_class x ON x.oid = i.indexrelid
           JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]
           WHERE i.indisunique AND t.relrowsecurity AND t.relnamespace = 'public'::regnamespace
             AND a.attname NOT IN ('organization_id', 'person_id')""",
    )
    assert {row[0] for row in found} == UNIQUE_OVERALL


def test_a_row_refers_to_no_row_of_another_organisation(url: str) -> None:
    """Checks of foreign keys pass by row-level security: between tenants' tables they hold the organisation."""
    found = rows(
        url, "SELECT conrelid::regclass::text, confrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE contype = 'f' AND connamespace = 'public'::regnamespace",
    )  # fmt: skip
    with psycopg.connect(url) as connection:
        tenants = tables_with(connection, "organization_id")
    links = [text for table, other, text in found if table in tenants and other in tenants]
    assert links
    assert all(text.startswith("FOREIGN KEY (organization_id, ") for text in links), links
    assert all(re.search(r"REFERENCES \w+\(organization_id, ", text) for text in links), links


def test_there_is_no_view_that_would_look_with_its_owners_eyes(url: str) -> None:
    found = rows(
        url,
        """SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND (relkind = 'm' OR (relkind = 'v'
           AND NOT coalesce(reloptions, '{}') && ARRAY['security_invoker=true', 'security_invoker=on']))""",
    )
    assert found == []


def test_functions_that_run_as_their_owner_are_few_and_bound(url: str) -> None:
    """Each has its search path; those that plan anew with every call look for nothing among temporary tables."""
    found = rows(
        url,
        """SELECT p.proname, p.prosqlbody IS NOT NULL, array_to_string(p.proconfig, ';'),
                  p.prorettype = 'trigger'::regtype,
                  has_function_privilege('public', p.oid, 'EXECUTE'), n.nspname, r.rolsuper
           FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles r ON r.oid = p.proowner
           WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')""",
    )
    assert {row[0] for row in found} == LOOK_UPS | {"raise_catalogue_version", "create_usage_partitions"}
    for name, parsed, config, is_trigger, for_all, schema, superuser in found:
        assert (schema, superuser) == ("public", False), name
        assert not for_all or is_trigger, f"everybody may call {name}"
        assert parsed or "search_path=pg_catalog, public, pg_temp" in (config or ""), f"{name}: {config}"
        assert config and "search_path=" in config, name


# ------------------------------------------------------------------------------------------------------------- attacked


def test_every_table_holds_rows_of_both(url: str) -> None:
    """Else what follows would prove nothing."""
    with psycopg.connect(url) as connection:
        for column, ids in (("organization_id", {str(A), str(B)}), ("person_id", {str(PERSON_A), str(PERSON_B)})):
            for table in tables_with(connection, column):
                assert ids <= {row[column] for row in seen(connection, table)}, table


def test_without_a_context_nothing_of_anybody_is_seen(url: str) -> None:
    with acting(url, WEB) as connection:
        for table in readable(WEB):
            if table in OF_PLATFORM:
                assert {row["organization_id"] for row in seen(connection, table)} <= {PLATFORM}, table
            elif table not in OF_NOBODY:
                assert seen(connection, table) == [], table


def test_in_the_context_of_one_nothing_of_another_is_seen(url: str) -> None:
    with acting(url, WEB, organization=B, person=PERSON_B) as connection:
        for table in readable(WEB):
            if table in OF_NOBODY:
                continue
            found = seen(connection, table)
            assert found, table
            said = str(found)
            assert str(A) not in said and str(PERSON_A) not in said, table


def test_a_person_sees_how_nobody_else_signs_in(url: str) -> None:
    """Not even that of somebody in the same organisation."""
    with acting(url, WEB, organization=A, person=PERSON_B) as connection:
        for table in OF_PEOPLE:
            assert {row["person_id"] for row in seen(connection, table)} == {str(PERSON_B)}, table
    with acting(url, WEB, organization=A) as connection:
        for table in OF_PEOPLE:
            assert seen(connection, table) == [], table


def test_what_is_one_members_alone_no_other_member_sees(url: str) -> None:
    """Person B belongs to organisation A too; neither that, nor A's own context, nor A's person elsewhere is enough."""
    contexts = ((A, PERSON_B), (A, None), (None, PERSON_A), (B, PERSON_A))
    for organization, person in contexts:
        with acting(url, WEB, organization=organization, person=person) as connection:
            for table in OF_MEMBERS:
                assert seen(connection, table) == [], (table, organization, person)
                if table in ("conversation", "message"):
                    for verb in ("DELETE FROM {}", "UPDATE {} SET person_id = person_id"):
                        change = sql.SQL(verb).format(sql.Identifier(table))
                        assert refused(connection, change) is not None, (table, verb)
    with acting(url, WEB, organization=A, person=PERSON_A) as connection:
        assert all(seen(connection, table) for table in OF_MEMBERS)


def test_a_context_that_is_no_id_opens_nothing(url: str) -> None:
    for said in ("", "*", "%", "null", f"{A} or true", "{}"):
        with acting(url, WEB) as connection:
            connection.execute("SELECT set_config('tollhouse.organization_id', %s, true)", (said,))
            try:
                assert seen(connection, "api_key") == []
            except psycopg.DataError:
                continue


def test_no_row_is_moved_to_another_organisation_or_person(url: str) -> None:
    with acting(url, WEB, organization=A, person=PERSON_A) as connection:
        for column, other in (("organization_id", B), ("person_id", PERSON_B)):
            for table in sorted(tables_with(connection, column)):
                if column not in keys_of(table):
                    continue
                move = sql.SQL("UPDATE {} SET {} = %s").format(sql.Identifier(table), sql.Identifier(column))
                assert refused(connection, move, other) is not None, table


def test_no_row_is_written_for_another_organisation_or_person(url: str) -> None:
    """A copy of one's own row with the other's id in it."""
    with acting(url, WEB, organization=A, person=PERSON_A) as connection:
        for column, other in (("organization_id", B), ("person_id", PERSON_B)):
            for table in sorted(tables_with(connection, column)):
                if column not in keys_of(table):
                    continue
                names = [
                    row[0]
                    for row in connection.execute(
                        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
                        "AND NOT attisdropped AND attgenerated = '' AND attname <> %s",
                        (table, column),
                    )
                ]
                listed = sql.SQL(", ").join(sql.Identifier(name) for name in names)
                copy = sql.SQL("INSERT INTO {0} ({1}, {2}) SELECT %s, {2} FROM {0}").format(
                    sql.Identifier(table), sql.Identifier(column), listed
                )
                assert refused(connection, copy, other) is not None, table


def test_no_row_of_another_is_changed_or_deleted(url: str) -> None:
    with acting(url, WEB, organization=A, person=PERSON_A) as connection:
        for column, other in (("organization_id", B), ("person_id", PERSON_B)):
            for table in sorted(tables_with(connection, column)):
                names = sql.Identifier(table), sql.Identifier(column)
                delete = sql.SQL("DELETE FROM {} WHERE {} = %s").format(*names)
                assert refused(connection, delete, other) is not None, table
        for column in ("name", "email"):
            change = sql.SQL("UPDATE person SET {} = 'x' WHERE id = %s").format(sql.Identifier(column))
            assert refused(connection, change, PERSON_B) is not None
    with acting(url, WEB, organization=A, person=PERSON_B) as connection:  # who share an organisation
        change = sql.SQL("UPDATE person SET {} = 'x' WHERE id = %s").format(sql.Identifier("name"))
        assert refused(connection, change, PERSON_A) is not None


def test_nobody_at_run_time_empties_a_table(url: str) -> None:
    for role in ROLES:
        tables = rows(
            url, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        )
        with acting(url, role) as connection:
            for (table,) in tables:
                assert refused(connection, sql.SQL("TRUNCATE {} CASCADE").format(sql.Identifier(table))), table


def test_nobody_at_run_time_makes_policies_tables_or_functions_or_turns_security_off(url: str) -> None:
    attempts = (
        "ALTER TABLE api_key DISABLE ROW LEVEL SECURITY", "ALTER TABLE api_key NO FORCE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON api_key USING (true)", "CREATE TABLE public.mine (id int)",
        "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql RETURN 1", "ALTER ROLE tollhouse_web BYPASSRLS",
        "GRANT tollhouse_operator TO tollhouse_web", "SET session_replication_role = replica",
        "CREATE TRIGGER mine BEFORE UPDATE ON api_key EXECUTE FUNCTION touch_updated_at()",
    )  # fmt: skip
    for role in ROLES:
        for attempt in attempts:
            with acting(url, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(attempt)


def test_operators_read_no_password_hash_no_seed_and_no_recovery_code(url: str) -> None:
    for table, column in (("password", "hash"), ("totp", "secret"), ("recovery_code", "digest")):
        with acting(url, OPERATOR) as connection, pytest.raises(InsufficientPrivilege):
            connection.execute(sql.SQL("SELECT {} FROM {}").format(sql.Identifier(column), sql.Identifier(table)))
        with acting(url, OPERATOR) as connection, pytest.raises(InsufficientPrivilege):
            connection.execute(
                sql.SQL("UPDATE {0} SET {1} = {1} RETURNING {1}").format(sql.Identifier(table), sql.Identifier(column))
            )


def test_the_look_ups_before_anybody_is_known_are_for_pages_and_operators_alone(url: str) -> None:
    for role in (TELLER, WORKER):
        with acting(url, role) as connection, pytest.raises(InsufficientPrivilege):
            connection.execute("SELECT * FROM find_person('x@example.com')")
    with acting(url, WEB) as connection, pytest.raises(InsufficientPrivilege):
        connection.execute("SELECT create_usage_partitions(now(), now())")


def test_own_organisations_are_those_of_the_person_of_the_transaction(url: str) -> None:
    with acting(url, WEB) as connection:
        assert connection.execute("SELECT id FROM own_organizations()").fetchall() == []
    with acting(url, WEB, organization=A, person=PERSON_B) as connection:
        found = {row[0] for row in connection.execute("SELECT id FROM own_organizations()")}
        assert found == {A, B}


def test_what_an_organisation_has_cannot_be_reckoned_by_another(url: str) -> None:
    with acting(url, WEB, organization=B) as connection:
        for name in ("get_used_this_period", "get_available_credits", "get_spendable_credits"):
            call = sql.SQL("SELECT {}(%s)").format(sql.Identifier(name))
            assert connection.execute(call, (A,)).fetchone() == (0,), name


def test_a_temporary_table_in_the_way_does_not_make_one_the_owner(url: str) -> None:
    """A function that runs as the owner must not meet a table, and its trigger, that somebody else made."""
    with acting(url, WEB, organization=A) as connection:
        try:
            connection.execute(
                """CREATE TEMP TABLE catalogue_version (version bigint);
                   CREATE TEMP TABLE met (name text);
                   INSERT INTO catalogue_version VALUES (1);
                   CREATE FUNCTION pg_temp.meet() RETURNS trigger LANGUAGE plpgsql AS
                   'BEGIN INSERT INTO pg_temp.met VALUES (current_user); RETURN NULL; END';
                   CREATE TRIGGER meets AFTER UPDATE ON pg_temp.catalogue_version EXECUTE FUNCTION pg_temp.meet();
                   GRANT ALL ON pg_temp.met, pg_temp.catalogue_version TO PUBLIC"""
            )
        except InsufficientPrivilege:
            return  # no temporary tables at all
        connection.execute("UPDATE public.connection SET priority = priority")
        assert connection.execute("SELECT name FROM pg_temp.met").fetchall() == []

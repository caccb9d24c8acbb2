"""A database comes whole to the schema of `schema.sql`, and back, or stays as it was."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from importlib import resources

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from tests.conftest import Cluster
from tollhouse import migrations
from tollhouse.migrations import MigrationError

SCHEMA = resources.files("tollhouse").joinpath("schema.sql").read_text(encoding="utf-8")


def dump(cluster: Cluster, url: str, schema: str = "public") -> str:
    """The schema as text, without the record of the migrations and without what differs from dump to dump."""
    assert cluster.postgres.installation is not None
    program = cluster.postgres.installation.program("pg_dump")
    options = ("--schema-only", f"--schema={schema}", "--exclude-table=public.alembic_version")
    text = subprocess.run([program, *options, url], check=True, capture_output=True, text=True).stdout
    return "\n".join(line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def execute(url: str, statements: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statements.encode())


def test_the_migrations_arrive_at_the_schema_file(cluster: Cluster, make_database: Callable[[], str]) -> None:
    written, migrated = make_database(), make_database()
    execute(written, SCHEMA)
    migrations.upgrade(migrated)
    assert "CREATE TABLE public.organization" in dump(cluster, written)
    assert dump(cluster, migrated) == dump(cluster, written)


def test_going_down_leaves_nothing_and_going_up_again_arrives_at_the_same(
    cluster: Cluster, empty_database_url: str
) -> None:
    url = empty_database_url
    nothing = dump(cluster, url)
    migrations.upgrade(url)
    first, jobs = dump(cluster, url), dump(cluster, url, "procrastinate")
    migrations.downgrade(url, "base")
    assert dump(cluster, url) == nothing
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regnamespace('procrastinate')").fetchone() == (None,)
        left = connection.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace").fetchall()
    assert left == []
    assert migrations.current(url) is None
    migrations.upgrade(url)
    assert dump(cluster, url) == first
    assert dump(cluster, url, "procrastinate") == jobs


def test_partitions_made_since_do_not_stop_the_way_down(empty_database_url: str) -> None:
    migrations.upgrade(empty_database_url)
    execute(empty_database_url, "SELECT create_usage_partitions('2030-01-01', '2030-03-01')")
    migrations.downgrade(empty_database_url, "base")
    assert migrations.current(empty_database_url) is None


def test_an_upgraded_database_is_at_the_head_and_upgrading_again_changes_nothing(
    cluster: Cluster, empty_database_url: str
) -> None:
    migrations.upgrade(empty_database_url)
    before = dump(cluster, empty_database_url)
    migrations.upgrade(empty_database_url)
    assert migrations.current(empty_database_url) == migrations.head()
    assert dump(cluster, empty_database_url) == before


def test_the_head_is_the_end_of_one_line_of_revisions() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.head()]


def test_one_step_up_and_one_step_down_are_possible(empty_database_url: str) -> None:
    migrations.upgrade(empty_database_url, "0001")
    assert migrations.current(empty_database_url) == "0001"
    migrations.upgrade(empty_database_url)
    migrations.downgrade(empty_database_url, "0001")
    assert migrations.current(empty_database_url) == "0001"


def test_a_newer_revision_is_named_and_refused(empty_database_url: str) -> None:
    migrations.upgrade(empty_database_url)
    execute(empty_database_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(MigrationError, match=r"revision 9999.*newer"):
        migrations.upgrade(empty_database_url)
    with pytest.raises(MigrationError, match="9999"):
        migrations.downgrade(empty_database_url, "base")


def test_our_tables_without_a_record_of_migrations_are_refused(cluster: Cluster, empty_database_url: str) -> None:
    execute(empty_database_url, "CREATE TABLE organization (id uuid)")
    before = dump(cluster, empty_database_url)
    with pytest.raises(MigrationError, match="organization"):
        migrations.upgrade(empty_database_url)
    assert dump(cluster, empty_database_url) == before


def test_a_migration_that_fails_half_way_leaves_the_database_as_it_was(
    cluster: Cluster, empty_database_url: str
) -> None:
    execute(empty_database_url, "CREATE FUNCTION find_api_key(wanted bytea) RETURNS int LANGUAGE sql RETURN 1")
    before = dump(cluster, empty_database_url)
    with pytest.raises(MigrationError, match="find_api_key"):
        migrations.upgrade(empty_database_url)
    assert dump(cluster, empty_database_url) == before
    assert migrations.current(empty_database_url) is None


def test_two_that_migrate_at_once_both_succeed(empty_database_url: str) -> None:
    failures: list[BaseException] = []

    def migrate() -> None:
        try:
            migrations.upgrade(empty_database_url)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert migrations.current(empty_database_url) == migrations.head()


def test_the_planner_knows_the_tables_after_an_upgrade(empty_database_url: str) -> None:
    migrations.upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        row = connection.execute("SELECT reltuples FROM pg_class WHERE relname = 'catalogue_version'").fetchone()
    assert row == (1.0,)


def test_the_worker_can_queue_a_job_without_knowing_the_queues_schema(empty_database_url: str) -> None:
    migrations.upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("SET LOCAL ROLE tollhouse_worker")
        connection.execute(
            "SELECT procrastinate.procrastinate_defer_jobs_v1(ARRAY["
            "ROW('default', 'a_task', 0, NULL, NULL, '{}', NULL)]::procrastinate.procrastinate_job_to_defer_v1[])"
        )
        row = connection.execute("SELECT task_name, status::text FROM procrastinate.procrastinate_jobs").fetchone()
    assert row == ("a_task", "todo")

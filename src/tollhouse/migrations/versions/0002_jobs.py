"""The job queue: the tables and functions that procrastinate ships, in a PostgreSQL schema of their own."""

from procrastinate.schema import SchemaManager

from tollhouse.migrations import file

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    file.execute("CREATE SCHEMA procrastinate; SET LOCAL search_path = procrastinate, pg_temp;")
    file.execute(SchemaManager.get_schema())
    file.run(__file__, "up")
    file.execute("SET LOCAL search_path = DEFAULT;")


def downgrade() -> None:
    file.run(__file__, "down")

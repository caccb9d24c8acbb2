"""The whole schema as of version 0.1: roles, catalogue, tenants, credits, calls, usage, row-level security."""

from tollhouse.migrations import file

revision = "0001"
down_revision = None


def upgrade() -> None:
    file.run(__file__, "up")
    file.execute("GRANT SELECT ON public.alembic_version TO PUBLIC")  # every process asks whether it fits the database
    file.execute("GRANT SELECT ON alembic_version TO tollhouse_web;")  # Alembic's own table: /readyz asks for it


def downgrade() -> None:
    file.execute("REVOKE ALL ON public.alembic_version FROM PUBLIC")
    file.run(__file__, "down")

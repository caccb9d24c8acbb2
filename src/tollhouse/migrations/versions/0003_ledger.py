"""Limits per minute and per capability, runnable capabilities, notices, rollups, kept answers, reports in SQL."""

from tollhouse.migrations import file

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    file.run(__file__, "up")


def downgrade() -> None:
    file.run(__file__, "down")

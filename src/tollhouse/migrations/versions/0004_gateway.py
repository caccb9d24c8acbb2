"""Prices of every kind of token, connections of organisations, experiments, kept answers, what a request asked for."""

from tollhouse.migrations import file

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    file.run(__file__, "up")


def downgrade() -> None:
    file.run(__file__, "down")

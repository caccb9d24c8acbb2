"""Assistants with their knowledge, conversations, preferences, models of one's own, notices that were read."""

from tollhouse.migrations import file

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    file.run(__file__, "up")


def downgrade() -> None:
    file.run(__file__, "down")

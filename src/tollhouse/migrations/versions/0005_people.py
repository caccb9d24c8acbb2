"""Sign-in, sessions, invitations, trusted issuers, throttles, mail, privacy; keys and the audit log say more."""

from tollhouse.migrations import file

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    file.run(__file__, "up")


def downgrade() -> None:
    file.run(__file__, "down")

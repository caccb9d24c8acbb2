"""What is kept of people for a while after it has ended: sessions, links in mail, invitations."""

from datetime import datetime

from tollhouse.store.db import WorkerTx


async def forget_ended(tx: WorkerTx, before: datetime) -> None:
    """All that had ended before this moment: it says where somebody was, or how they can be reached."""
    await tx.execute("DELETE FROM session WHERE expires_at < %s OR revoked_at < %s", (before, before))
    await tx.execute("DELETE FROM one_time_token WHERE expires_at < %s", (before,))
    await tx.execute(
        "DELETE FROM invitation WHERE expires_at < %(at)s OR accepted_at < %(at)s OR revoked_at < %(at)s",
        {"at": before},
    )

"""What was used, call by call; kept in monthly partitions."""

from datetime import datetime

from tollhouse.store.db import WorkerTx


async def create_partitions(tx: WorkerTx, since: datetime, until: datetime) -> None:
    """The partitions of these months, those that exist already excepted."""
    await tx.execute("SELECT create_usage_partitions(%s, %s)", (since, until))

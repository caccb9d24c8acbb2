"""Making an export: every part of what is known of somebody as JSON, as it stood at one moment, in a zip with an index.

A file is made whole or not at all. Cut short, the next turn begins again; while one worker makes it, no other does."""

import asyncio
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import IO, Any
from uuid import UUID

import msgspec

from tollhouse.core.audit import Detail
from tollhouse.core.privacy import GIVES_UP_AFTER, RESULT_KEPT, Subject, explained
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.flows.privacy import subject_of
from tollhouse.store import export as exports
from tollhouse.store import privacy
from tollhouse.store.db import Database, OperatorTx
from tollhouse.store.privacy import Task

FILE_MAX_BYTES = 256 * 1024 * 1024
IN_MEMORY_BYTES = 8 * 1024 * 1024


async def export(db: Database, clock: Callable[[], datetime], organization_id: UUID, task_id: UUID) -> None:
    """Makes the file of the task, unless it is finished or another worker makes it."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as file:
        async with db.operator() as tx:
            await exports.freeze(tx)
            if not await privacy.hold(tx, task_id):
                return
            task = await privacy.one(tx, organization_id, task_id)
            if task is None or task.state not in ("waiting", "running"):
                return
            error: str | None
            if clock() > task.requested_at + GIVES_UP_AFTER:
                error = "It could not be made within a day. Tell the operator, and order it again."
            else:
                error = await _write(db, tx, task, await subject_of(tx, task), file, clock())
        await _finish(db, task, clock(), file, error)


async def _write(
    db: Database, tx: OperatorTx, task: Task, subject: Subject, file: IO[bytes], now: datetime
) -> str | None:
    """Writes the zip, and how far it has come where others can see it. What is wrong when it cannot be made."""
    files: list[tuple[str, str, int]] = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, part in enumerate(exports.parts_of(subject), start=1):
            count = 0
            with archive.open(f"{part.name}.json", "w", force_zip64=True) as written:
                async with aclosing(exports.rows(tx, part, subject)) as found:
                    async for rows in found:
                        await asyncio.to_thread(written.write, _lines(rows, first=count == 0))
                        count += len(rows)
                        if file.tell() > FILE_MAX_BYTES:
                            break
                written.write(b"[]\n" if count == 0 else b"\n]\n")
            if file.tell() > FILE_MAX_BYTES:
                return f"It is larger than {FILE_MAX_BYTES // 1024**2} MiB. Ask the operator for it."
            files.append((f"{part.name}.json", part.holds, count))
            async with db.worker() as progress:
                await privacy.advance(progress, task.organization_id, task.id, number)
        index = msgspec.json.encode(explained(subject, now, files))
        archive.writestr("index.json", msgspec.json.format(index, indent=2))
    return None


def _lines(rows: Sequence[Mapping[str, Any]], *, first: bool) -> bytes:
    """Rows of a JSON array, one on a line."""
    return b"".join(
        (b"[\n" if first and number == 0 else b",\n") + msgspec.json.encode(row) for number, row in enumerate(rows)
    )


async def _finish(db: Database, task: Task, now: datetime, file: IO[bytes], error: str | None) -> None:
    file.seek(0)
    result = file.read() if error is None else None
    until = now + RESULT_KEPT if error is None else None
    async with db.operator() as tx:
        if await privacy.finish(tx, task, now, error=error, result=result, result_until=until):
            about = (task.subject_kind, str(task.subject_id))
            details: dict[str, Detail] = {"task": str(task.id), "account": task.account}
            action = "export.made" if error is None else "export.failed"
            await record(tx, task.organization_id, Order(task.requested_by, now), action, about, details)

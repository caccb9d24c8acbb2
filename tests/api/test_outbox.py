"""The outbox over HTTP: for operators of a test installation, and for nobody else."""

from tests.api.conftest import Api
from tests.core.cast import NOON
from tollhouse.flows import mail
from tollhouse.store.db import Database


async def test_an_operator_sees_what_would_have_been_sent(client: Api) -> None:
    db = Database(client.database_url)
    await db.open()
    async with db.operator() as tx:
        await mail.write(tx, "ada@example.com", "sign_in", "Sign in", "https://ai.example.com/in?token=1", NOON)
    await db.close()
    seen = await client.order("GET", "/outbox?limit=1")
    assert seen.status == 200, seen.text
    [item] = seen.body["items"]
    assert item["body"] == "https://ai.example.com/in?token=1\n"
    assert (item["recipient"], item["kind"], item["sent_at"], item["attempts"]) == (
        "ada@example.com", "sign_in", None, 0
    )  # fmt: skip


async def test_nobody_else_does(client: Api) -> None:
    key = await client.key(await client.organization(), "manage", "credits")
    assert (await client.call("GET", "/api/operator/outbox", key=key)).status == 403
    assert (await client.call("GET", "/api/operator/outbox")).status == 401

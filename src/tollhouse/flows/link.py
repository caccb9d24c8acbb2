"""Links in mail that show whose mailbox it is. Looking at one takes nothing, so that a program that reads mail first
does not use it up; what it is for is done with a second step, once."""

import os
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tollhouse.core.errors import NotFound
from tollhouse.core.letter import Letter
from tollhouse.core.link import RANDOM_BYTES, looks_like_a_token, new_token, token_digest, token_digests
from tollhouse.core.vault import Keyring
from tollhouse.flows import mail
from tollhouse.flows.site import Site
from tollhouse.store import one_time_token as store
from tollhouse.store.db import Database, OperatorTx, PersonTx
from tollhouse.store.one_time_token import Purpose, Sent

_LASTS: Final[dict[Purpose, timedelta]] = {
    "verify_email": timedelta(hours=24),
    "sign_in": timedelta(minutes=15),
    "reset_password": timedelta(hours=1),
    "change_email": timedelta(hours=1),
}
# Where the page is that a link opens; the token follows after a slash.
PATHS: Final[dict[Purpose, str]] = {
    "verify_email": "/verify-email",
    "sign_in": "/sign-in/link",
    "reset_password": "/reset-password",
    "change_email": "/change-email",
}
SIGN_IN_PATH = "/sign-in"
FORGOTTEN_PATH = "/forgot-password"


async def issue(
    tx: PersonTx | OperatorTx, site: Site, purpose: Purpose, person_id: UUID, email: str, now: datetime
) -> str:
    """A link for the mailbox. Whoever opens it has that mailbox, as long as nobody else was told of it."""
    token = new_token(os.urandom(RANDOM_BYTES))
    sent = Sent(person_id, email)
    await store.insert(tx, token_digest(site.keyring, token), purpose, sent, now, now + _LASTS[purpose])
    return site.url(f"{PATHS[purpose]}/{token}")


async def look(db: Database, keyring: Keyring, purpose: Purpose, token: str, now: datetime) -> Sent:
    """To whom the link was sent. NotFound when it works no more, or never did."""
    found = None
    if looks_like_a_token(token):
        async with db.nobody() as tx:
            found = await store.find(tx, token_digests(keyring, token), purpose, now)
    if found is None:
        raise _spent()
    return found


async def take(tx: PersonTx, keyring: Keyring, purpose: Purpose, token: str, sent: Sent, now: datetime) -> None:
    """Uses up the link that was looked at. NotFound for who comes second. A transaction that fails leaves it as it
    was."""
    if await store.use(tx, token_digests(keyring, token), purpose, now) != sent:
        raise _spent()


async def post(tx: PersonTx | OperatorTx, recipient: str, letter: Letter, now: datetime) -> None:
    await mail.write(tx, recipient, letter.kind, letter.subject, letter.body, now)


def _spent() -> NotFound:
    return NotFound("This link works no more: it has expired or was used. Ask for another one, and open the latest.")

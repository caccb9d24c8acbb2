"""Throttles that all processes share. Each try is taken in a transaction of its own, so that it stays taken when what
was tried fails. Without the database nothing passes: `Overloaded`."""

import hmac
from datetime import datetime

from tollhouse.core.throttle import Rule, refusal, subject
from tollhouse.core.vault import Keyring
from tollhouse.store import throttle
from tollhouse.store.db import Database


async def check(db: Database, keyring: Keyring, rule: Rule, *parts: str, now: datetime) -> None:
    """Takes one try of the rule for the subject that `parts` name together: an address, an account, both. TooManyTries
    when none is left. Check the address first: what one address can ask for bounds how many accounts it can name."""
    async with db.nobody() as tx:
        whole_at = await throttle.take(tx, _id(keyring, rule, parts), now, rule.interval, rule.slack)
    if whole_at is not None:
        raise refusal(rule, whole_at, now)


async def forget(db: Database, keyring: Keyring, rule: Rule, *parts: str) -> None:
    """Gives the subject all its tries back, when one has succeeded."""
    async with db.nobody() as tx:
        await throttle.give_back(tx, _id(keyring, rule, parts))


def _id(keyring: Keyring, rule: Rule, parts: tuple[str, ...]) -> bytes:
    """Stored in place of addresses and accounts; whoever has only the database learns neither."""
    said = [b"throttle", *(part.encode("utf-8", "backslashreplace") for part in (rule.name, *map(subject, parts)))]
    return hmac.digest(keyring.current, b"".join(len(one).to_bytes(4, "big") + one for one in said), "sha256")

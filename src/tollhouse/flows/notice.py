"""Notices as mail: written to those who see to the credits of an organisation, each once."""

from datetime import datetime, timedelta

from tollhouse.core import letter
from tollhouse.core.money import format_credits
from tollhouse.flows import mail
from tollhouse.flows.site import Site
from tollhouse.store import notice
from tollhouse.store.db import Database
from tollhouse.store.notice import Addressed

AT_ONCE = 100
# What is older has long been seen, or is true no more: such as what waited while the jobs stood still.
WORTH_A_MAIL = timedelta(days=1)
_LETTERS = {"low_balance": letter.credits_low, "depleted": letter.credits_depleted}


async def write_mail(db: Database, site: Site, now: datetime) -> None:
    """Writes what is due, in the transaction that notes it: however often this runs, and wherever it is cut."""
    while True:
        async with db.worker() as tx:
            taken, addressed = await notice.take_unmailed(tx, now, now - WORTH_A_MAIL, AT_ONCE)
            for one in addressed:
                written = _letter(site, one)
                await mail.write(tx, one.email, written.kind, written.subject, written.body, now)
        if taken < AT_ONCE:
            return


def _letter(site: Site, one: Addressed) -> letter.Letter:
    left = format_credits(max(0, one.available_micros) // 10_000 * 10_000)
    write = _LETTERS[one.kind]
    return write(
        site.name, one.organization_name, left, site.url("/settings/credits"), site.url("/settings/notifications")
    )

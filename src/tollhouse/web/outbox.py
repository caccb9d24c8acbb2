"""The mail of an installation in test mode that sends none: how whoever tries it out gets in."""

import re
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Address, ip_address

from starlette.responses import Response

from tollhouse.core.errors import Forbidden, NotFound
from tollhouse.flows import mail
from tollhouse.flows.site import Site
from tollhouse.web.language import _
from tollhouse.web.refusal import NOWHERE
from tollhouse.web.route import ANYONE, SUPERADMIN, page
from tollhouse.web.visit import Visit

_SHOWN = 50
_PASSED_ON = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_LINK = re.compile(r"https?://\S+")


@dataclass(frozen=True, slots=True)
class Letter:
    """`parts`: the text in pieces, each with the path of a page here when it is a link to one."""

    recipient: str
    subject: str
    created_at: datetime
    parts: tuple[tuple[str, str | None], ...]


async def index(visit: Visit) -> Response:
    """For who sits at this machine, and for superadmins: whoever reads it gets into every account. NotFound wherever
    mail is sent: then it is nobody's but its recipient's."""
    site = visit.state.site
    if site.mode != "test" or site.sends_mail:
        raise NotFound(_(NOWHERE))
    if not visit.may(SUPERADMIN) and not _is_here(visit):
        raise Forbidden(
            _(
                "The outbox is shown only to superadmins, and in a browser on the machine that this runs on. There "
                "you can also run: tollhouse outbox"
            )
        )
    found = await mail.outbox(visit.state.db, visit.stranger, site.mode, _SHOWN)
    letters = [Letter(one.recipient, one.subject, one.created_at, _parts(site, one.body)) for one in found]
    return visit.page("outbox/index.html", letters=letters)


def _is_here(visit: Visit) -> bool:
    """Whether the browser runs on this machine, and not behind a proxy that does and that nobody has named as one."""
    if any(name in visit.request.headers for name in _PASSED_ON):
        return False
    try:
        address = ip_address(visit.address or "")
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _parts(site: Site, body: str) -> tuple[tuple[str, str | None], ...]:
    """Only links to pages of this installation can be followed."""
    parts: list[tuple[str, str | None]] = []
    at = 0
    for found in _LINK.finditer(body):
        if not found.group().startswith(site.origin + "/"):
            continue
        parts += [(body[at : found.start()], None), (found.group(), found.group().removeprefix(site.origin))]
        at = found.end()
    return (*parts, (body[at:], None))


PAGES = (page("/outbox", index, needs=ANYONE),)

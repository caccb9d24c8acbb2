"""The mail that was written, in test mode."""

from starlette.responses import Response

from tollhouse.flows import mail
from tollhouse.web.operator.frame import PER_PAGE, show
from tollhouse.web.route import SUPERADMIN, page
from tollhouse.web.visit import Visit


async def index(visit: Visit) -> Response:
    found = await mail.outbox(visit.state.db, visit.order, visit.state.site.mode, PER_PAGE)
    return show(visit, "operator/outbox.html", items=found)


PAGES = (page("/operator/outbox", index, needs=SUPERADMIN),)

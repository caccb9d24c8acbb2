"""The first page of the operators' area: how much there is of what, and whether the ledger holds."""

from starlette.responses import Response

from tollhouse.flows import govern, platform
from tollhouse.web.language import _
from tollhouse.web.operator.frame import show
from tollhouse.web.route import SUPERADMIN, page
from tollhouse.web.visit import Visit


async def index(visit: Visit) -> Response:
    found = await platform.overview(visit.state.db)
    return show(visit, "operator/overview.html", numbers=found.numbers, proved=found.proved)


async def prove(visit: Visit) -> Response:
    """Checks every invariant now."""
    visit.form()
    failures = await govern.prove_ledger(visit.state.db, visit.order)
    if not failures:
        return visit.go("/operator", told=_("The ledger holds: every invariant was checked."))
    found = await platform.overview(visit.state.db)
    return show(visit, "operator/overview.html", numbers=found.numbers, proved=found.proved, failures=failures)


PAGES = (
    page("/operator", index, needs=SUPERADMIN),
    page("/operator/proof", prove, ("POST",), needs=SUPERADMIN),
)

"""The web application for people: server-rendered pages."""

from collections.abc import Iterable
from itertools import groupby

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from tollhouse.web import (
    account,
    assistant,
    audit,
    brand,
    chat,
    confirm,
    connection,
    contact,
    conversation,
    credits,
    dashboard,
    design,
    invitation,
    issuer,
    key,
    landing,
    language_choice,
    live,
    member,
    model,
    notice,
    oidc,
    operator,
    organization,
    outbox,
    overview,
    own_assistant,
    own_model,
    own_privacy,
    password,
    playground,
    privacy,
    security,
    settings,
    sign_in,
    sign_up,
)
from tollhouse.web.asset import Assets
from tollhouse.web.door import Door
from tollhouse.web.page import Guarded, Pages
from tollhouse.web.route import Page
from tollhouse.web.state import State

# Every page there is. Who adds one adds its row to the PAGES of its module.
PAGES: tuple[Page, ...] = (
    *landing.PAGES,
    *language_choice.PAGES,
    *live.PAGES,
    *notice.PAGES,
    *chat.PAGES,
    *conversation.PAGES,
    *playground.PAGES,
    *contact.PAGES,
    *design.PAGES,
    *sign_in.PAGES,
    *oidc.PAGES,
    *sign_up.PAGES,
    *password.PAGES,
    *confirm.PAGES,
    *account.PAGES,
    *credits.PAGES,
    *dashboard.PAGES,
    *model.PAGES,
    *security.PAGES,
    *own_privacy.PAGES,
    *outbox.PAGES,
    *operator.PAGES,
    *organization.PAGES,
    *invitation.PAGES,
    *overview.PAGES,
    *own_model.PAGES,
    *own_assistant.PAGES,
    *assistant.PAGES,
    *settings.PAGES,
    *member.PAGES,
    *key.PAGES,
    *connection.PAGES,
    *issuer.PAGES,
    *audit.PAGES,
    *privacy.PAGES,
)


def build(state: State) -> ASGIApp:
    """The pages and their static files as an ASGI application."""
    return application(state, PAGES)


def application(state: State, table: Iterable[Page]) -> ASGIApp:
    """The same for a table of pages. Rows of one path stand beside each other."""
    assets = Assets(own=brand.files(state.site))
    pages = Pages(state.site, assets)
    routes = [
        Route(path, Door(state, pages, {method: row for row in rows for method in row.methods}))
        for path, rows in groupby(table, key=lambda row: row.path)
    ]
    nowhere = Door(state, pages, {})
    router = Router(routes, redirect_slashes=False, default=nowhere)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        known = assets if scope["method"] in ("GET", "HEAD") and assets.knows(scope["path"]) else router
        await known(scope, receive, send)

    return Guarded(app, state.site)

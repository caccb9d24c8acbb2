"""/api: management JSON, documented by OpenAPI."""

from typing import Any

from fastapi import FastAPI

from tollhouse import __version__
from tollhouse.api import (
    access,
    ai,
    audit,
    capability,
    connection,
    credits,
    experiment,
    identity_provider,
    invitation,
    issuer,
    key,
    limit,
    member,
    model,
    operator,
    organization,
    outbox,
    people,
    price,
    privacy,
    problem,
    reservation,
    settings,
    user,
)
from tollhouse.api.state import State
from tollhouse.api.view import ProblemView

CARRIERS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "session": {"type": "apiKey", "in": "cookie"},
}


def build(state: State) -> FastAPI:
    """The app for /api and /openapi.json. Its documentation pages are off: they would load scripts from elsewhere."""
    refusals = {"default": {"model": ProblemView, "description": "A refusal, as application/problem+json."}}
    app = FastAPI(
        title="Tollhouse",
        version=__version__,
        summary="Credits, plans and limits of organisations that call AI models.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=refusals,  # type: ignore[arg-type]  # FastAPI's type says int for what OpenAPI calls "default"
    )
    app.state.tollhouse = state
    problem.install(app, state.clock)
    app.include_router(credits.router)
    app.include_router(reservation.router)
    app.include_router(access.router)
    app.include_router(operator.router)
    app.include_router(outbox.router)
    app.include_router(limit.router)
    app.include_router(model.router)
    app.include_router(key.router)
    app.include_router(user.router)
    app.include_router(connection.operator_router)
    app.include_router(connection.organization_router)
    app.include_router(settings.router)
    app.include_router(price.router)
    app.include_router(experiment.router)
    app.include_router(capability.router)
    app.include_router(ai.router)
    app.include_router(audit.router)
    app.include_router(audit.operator_router)
    app.include_router(privacy.router)
    app.include_router(privacy.operator_router)
    app.include_router(issuer.router)
    app.include_router(identity_provider.router)
    app.include_router(organization.router)
    app.include_router(member.router)
    app.include_router(invitation.router)
    app.include_router(people.router)
    document = app.openapi
    carriers = CARRIERS | {"session": CARRIERS["session"] | {"name": state.site.cookie}}

    def openapi() -> dict[str, Any]:
        """Refusals have a media type of their own, and FastAPI knows nothing of our keys: as dependencies, there only
        to be documented, they would cost every call."""
        if app.openapi_schema is None:
            made = document()
            made["components"]["securitySchemes"] = carriers
            for operation in (one for path in made["paths"].values() for one in path.values()):
                refusal = operation["responses"]["default"]
                refusal["content"] = {problem.MEDIA_TYPE: refusal["content"]["application/json"]}
                operation["security"] = [{carrier: []} for carrier in CARRIERS]
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI names for it
    return app

"""Every way in declares who may come: the whole table, so that a change of it is seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute

from tests.conftest import TEST_SECRET
from tollhouse import api, web
from tollhouse.api.caller import Allowed, Holding, InPerson
from tollhouse.api.organization import AllowedOrInPerson
from tollhouse.api.state import State as ApiState
from tollhouse.app import App
from tollhouse.core.access import ROLES, SCOPES
from tollhouse.core.vault import Keyring
from tollhouse.flows.site import Site
from tollhouse.gateway.count import CountTokens
from tollhouse.gateway.endpoint import Endpoint
from tollhouse.gateway.lookup import Lookup
from tollhouse.gateway.routes import Gateway
from tollhouse.gateway.state import State as GatewayState
from tollhouse.web.route import Access

NOTHING: Any = None  # what no request reaches

API = {
    "POST /api/ai/access-check": "the teller: credits",
    "POST /api/ai/assemble-testimonial": "the teller: credits",
    "POST /api/ai/polish-testimonial": "the teller: credits",
    "POST /api/ai/suggest-questions": "the teller: credits",
    "GET /api/audit": "audit.read",
    "GET /api/audit/export": "audit.read",
    "POST /api/capabilities/{name}/run": "the teller: credits",
    "GET /api/connections": "connections.manage",
    "POST /api/connections": "connections.manage",
    "POST /api/connections/test": "connections.manage",
    "DELETE /api/connections/{connection_id}": "connections.manage",
    "PATCH /api/connections/{connection_id}": "connections.manage",
    "POST /api/connections/{connection_id}/test": "connections.manage",
    "GET /api/credits/balance": "credits.use or models.use",
    "GET /api/credits/notices": "credits.use",
    "POST /api/credits/reservations": "the teller: credits",
    "GET /api/credits/reservations/{reservation_id}": "the teller: credits",
    "POST /api/credits/reservations/{reservation_id}/release": "the teller: credits",
    "POST /api/credits/reservations/{reservation_id}/renew": "the teller: credits",
    "POST /api/credits/reservations/{reservation_id}/settle": "the teller: credits",
    "GET /api/credits/transactions": "credits.use",
    "GET /api/invitations": "members.manage",
    "POST /api/invitations": "members.manage",
    "POST /api/invitations/accept": "in person",
    "DELETE /api/invitations/{invitation_id}": "members.manage",
    "GET /api/issuers": "issuers.manage",
    "POST /api/issuers": "issuers.manage",
    "POST /api/issuers/test": "issuers.manage",
    "DELETE /api/issuers/{issuer_id}": "issuers.manage",
    "PATCH /api/issuers/{issuer_id}": "issuers.manage",
    "POST /api/issuers/{issuer_id}/test": "issuers.manage",
    "GET /api/keys": "keys.manage",
    "POST /api/keys": "keys.manage",
    "DELETE /api/keys/{key_id}": "keys.manage",
    "GET /api/keys/{key_id}": "keys.manage",
    "PATCH /api/keys/{key_id}": "keys.manage",
    "POST /api/keys/{key_id}/rotate": "keys.manage",
    "GET /api/members": "organization.read",
    "DELETE /api/members/{person_id}": "members.manage",
    "GET /api/members/{person_id}": "organization.read",
    "PATCH /api/members/{person_id}": "members.manage",
    "GET /api/models": "models.use",
    "GET /api/models/{model_id}/trial-status": "models.use",
    "GET /api/models/{model_id}/usage": "models.use",
    "PATCH /api/profile/model-preferences": "models.use",
    "GET /api/operator/audit": "platform",
    "GET /api/operator/audit/export": "platform",
    "GET /api/operator/capabilities": "platform",
    "GET /api/operator/capabilities/{name}": "platform",
    "PUT /api/operator/capabilities/{name}": "platform",
    "GET /api/operator/connections": "platform",
    "POST /api/operator/connections": "platform",
    "POST /api/operator/connections/test": "platform",
    "DELETE /api/operator/connections/{connection_id}": "platform",
    "PATCH /api/operator/connections/{connection_id}": "platform",
    "POST /api/operator/connections/{connection_id}/test": "platform",
    "POST /api/operator/entitlements": "platform",
    "GET /api/operator/experiments": "platform",
    "POST /api/operator/experiments": "platform",
    "DELETE /api/operator/experiments/{id_}": "platform",
    "GET /api/operator/experiments/{id_}": "platform",
    "PATCH /api/operator/experiments/{id_}": "platform",
    "GET /api/operator/experiments/{id_}/outcomes": "platform",
    "GET /api/operator/identity-providers": "platform",
    "POST /api/operator/identity-providers": "platform",
    "POST /api/operator/identity-providers/test": "platform",
    "DELETE /api/operator/identity-providers/{provider_id}": "platform",
    "PATCH /api/operator/identity-providers/{provider_id}": "platform",
    "POST /api/operator/identity-providers/{provider_id}/test": "platform",
    "GET /api/operator/ledger/proof": "platform",
    "GET /api/operator/models/{model_id}/prices": "platform",
    "POST /api/operator/models/{model_id}/prices": "platform",
    "GET /api/operator/organizations": "platform",
    "POST /api/operator/organizations": "platform",
    "GET /api/operator/organizations/{organization_id}": "platform",
    "POST /api/operator/organizations/{organization_id}/clock": "platform",
    "POST /api/operator/organizations/{organization_id}/grants": "platform",
    "GET /api/operator/organizations/{organization_id}/keys": "platform",
    "POST /api/operator/organizations/{organization_id}/keys": "platform",
    "DELETE /api/operator/organizations/{organization_id}/keys/{key_id}": "platform",
    "GET /api/operator/organizations/{organization_id}/limits": "platform",
    "POST /api/operator/organizations/{organization_id}/limits": "platform",
    "DELETE /api/operator/organizations/{organization_id}/limits/{limit_id}": "platform",
    "PATCH /api/operator/organizations/{organization_id}/limits/{limit_id}": "platform",
    "PUT /api/operator/organizations/{organization_id}/overdraft": "platform",
    "POST /api/operator/organizations/{organization_id}/plan": "platform",
    "POST /api/operator/organizations/{organization_id}/suspend": "platform",
    "POST /api/operator/organizations/{organization_id}/unsuspend": "platform",
    "GET /api/operator/outbox": "platform",
    "GET /api/operator/people": "platform",
    "GET /api/operator/people/{person_id}": "platform",
    "POST /api/operator/people/{person_id}/remove-second-factor": "platform",
    "POST /api/operator/people/{person_id}/suspend": "platform",
    "POST /api/operator/people/{person_id}/unsuspend": "platform",
    "DELETE /api/operator/plans/{plan}/capabilities/{name}": "platform",
    "PUT /api/operator/plans/{plan}/capabilities/{name}": "platform",
    "GET /api/operator/privacy/organizations/{organization_id}/tasks/{task_id}/file": "platform",
    "GET /api/operator/privacy/tasks": "platform",
    "POST /api/operator/privacy/tasks": "platform",
    "GET /api/operator/rate-cards": "platform",
    "POST /api/operator/rate-cards": "platform",
    "DELETE /api/organization": "in person: organization.own",
    "GET /api/organization": "organization.read",
    "PATCH /api/organization": "organization.manage",
    "POST /api/organization/leave": "in person: organization.read",
    "POST /api/organization/transfer": "in person: organization.own",
    "GET /api/organizations": "in person, or organization.read",
    "POST /api/organizations": "in person",
    "POST /api/privacy/erase": "in person",
    "POST /api/privacy/export": "in person",
    "GET /api/privacy/own": "in person",
    "GET /api/privacy/own/{task_id}/file": "in person",
    "GET /api/privacy/tasks": "privacy.manage",
    "POST /api/privacy/tasks": "privacy.manage",
    "GET /api/privacy/tasks/{task_id}": "privacy.manage",
    "GET /api/privacy/tasks/{task_id}/file": "privacy.manage",
    "DELETE /api/requests/content": "organization.manage",
    "GET /api/requests/{request_id}/content": "organization.manage",
    "GET /api/settings": "organization.manage",
    "PATCH /api/settings": "organization.manage",
    "DELETE /api/settings/cache": "organization.manage",
    "GET /api/users": "act_as or organization.manage",
}
GATEWAY = {
    "POST /v1/chat/completions": "the teller: gateway",
    "POST /v1/responses": "the teller: gateway",
    "POST /v1/messages": "the teller: gateway",
    "POST /v1/embeddings": "the teller: gateway",
    "POST /v1/messages/count_tokens": "models.use",
    "GET /v1/models": "models.use",
    "GET /v1/models/{model_id:path}": "models.use",
    "GET /v1/key": "models.use",
    "GET /v1/usage": "models.use",
}
PAGES = {
    "GET /": "anyone",
    "GET /events": "signed in",
    "GET /playground": "models.use",
    "POST /playground/run": "models.use",
    "GET /chat": "signed in",
    "POST /chat": "signed in",
    "GET /chat/{conversation_id:uuid}": "signed in",
    "POST /chat/{conversation_id:uuid}": "signed in",
    "POST /chat/{conversation_id:uuid}/messages/{message_id:uuid}/regenerate": "signed in",
    "POST /chat/{conversation_id:uuid}/messages/{message_id:uuid}/edit": "signed in",
    "GET /chat/{conversation_id:uuid}/messages/{message_id:uuid}/events": "signed in",
    "POST /chat/{conversation_id:uuid}/messages/{message_id:uuid}/stop": "signed in",
    "POST /chat/{conversation_id:uuid}/messages/{message_id:uuid}/rate": "signed in",
    "GET /chat/list": "signed in",
    "GET /chat/{conversation_id:uuid}/row": "signed in",
    "POST /chat/{conversation_id:uuid}/rename": "signed in",
    "POST /chat/{conversation_id:uuid}/pin": "signed in",
    "POST /chat/{conversation_id:uuid}/delete": "signed in",
    "GET /chat/{conversation_id:uuid}/export": "signed in",
    "GET /notices": "signed in",
    "POST /notices": "signed in",
    "GET /notices/count": "signed in",
    "GET /settings/notifications": "signed in",
    "POST /settings/notifications": "signed in",
    "GET /.well-known/security.txt": "anyone",
    "POST /language": "anyone",
    "GET /design": "anyone",
    "POST /design": "anyone",
    "GET /design/bare": "anyone",
    "GET /sign-in": "anyone",
    "POST /sign-in": "anyone",
    "GET /sign-in/code": "held",
    "POST /sign-in/code": "held",
    "GET /sign-in/link": "anyone",
    "POST /sign-in/link": "anyone",
    "GET /sign-in/link/{token}": "anyone",
    "POST /sign-in/link/{token}": "anyone",
    "POST /sign-out": "anyone",
    "GET /sign-in/oidc/{provider_id:uuid}": "anyone",
    "POST /sign-in/oidc/{provider_id:uuid}": "anyone",
    "GET /sign-in/oidc/{provider_id:uuid}/callback": "anyone",
    "POST /settings/security/identities/{provider_id:uuid}": "signed in",
    "GET /sign-up": "anyone",
    "POST /sign-up": "anyone",
    "GET /verify-email/{token}": "anyone",
    "POST /verify-email/{token}": "anyone",
    "GET /forgot-password": "anyone",
    "POST /forgot-password": "anyone",
    "GET /reset-password/{token}": "anyone",
    "POST /reset-password/{token}": "anyone",
    "GET /confirm": "signed in",
    "POST /confirm": "signed in",
    "GET /settings": "signed in",
    "GET /settings/ai-models": "signed in",
    "POST /settings/ai-models/default": "signed in",
    "POST /settings/ai-models/about": "signed in",
    "POST /settings/ai-models/assistants/{slug}": "signed in",
    "GET /settings/ai-models/{model_id}/unlock": "signed in",
    "GET /settings/credits": "credits.use",
    "GET /settings/credits/left": "credits.use",
    "GET /settings/credits/export": "organization.manage",
    "GET /dashboard": "signed in",
    "GET /dashboard/today": "signed in",
    "POST /settings": "signed in",
    "GET /settings/email": "signed in",
    "POST /settings/email": "signed in",
    "GET /change-email/{token}": "signed in",
    "POST /change-email/{token}": "signed in",
    "POST /organizations/switch": "signed in",
    "GET /settings/security": "signed in",
    "GET /settings/security/password": "signed in",
    "POST /settings/security/password": "signed in",
    "GET /settings/security/code": "signed in",
    "POST /settings/security/code": "signed in",
    "GET /settings/security/code/confirm": "signed in",
    "POST /settings/security/code/confirm": "signed in",
    "GET /settings/security/code/remove": "signed in",
    "POST /settings/security/code/remove": "signed in",
    "GET /settings/security/recovery-codes": "signed in",
    "POST /settings/security/recovery-codes": "signed in",
    "POST /settings/security/sessions/end-others": "signed in",
    "POST /settings/security/sessions/{session_id:uuid}/end": "signed in",
    "POST /settings/security/identities/{provider_id:uuid}/remove": "signed in",
    "GET /settings/privacy": "signed in",
    "POST /settings/privacy/export": "signed in",
    "GET /settings/privacy/erase": "signed in",
    "POST /settings/privacy/erase": "signed in",
    "GET /settings/privacy/{task_id:uuid}/file": "signed in",
    "GET /outbox": "anyone",
    "GET /operator": "platform",
    "POST /operator/proof": "platform",
    "GET /operator/organizations": "platform",
    "GET /operator/organizations/{organization_id:uuid}": "platform",
    "GET /operator/organizations/{organization_id:uuid}/members": "platform",
    "GET /operator/organizations/{organization_id:uuid}/keys": "platform",
    "GET /operator/organizations/{organization_id:uuid}/audit": "platform",
    "GET /operator/organizations/{organization_id:uuid}/keys/{key_id:uuid}/revoke": "platform",
    "POST /operator/organizations/{organization_id:uuid}/keys/{key_id:uuid}/revoke": "platform",
    "GET /operator/organizations/{organization_id:uuid}/suspend": "platform",
    "POST /operator/organizations/{organization_id:uuid}/suspend": "platform",
    "GET /operator/organizations/{organization_id:uuid}/unsuspend": "platform",
    "POST /operator/organizations/{organization_id:uuid}/unsuspend": "platform",
    "GET /operator/organizations/{organization_id:uuid}/grant": "platform",
    "POST /operator/organizations/{organization_id:uuid}/grant": "platform",
    "GET /operator/organizations/{organization_id:uuid}/plan": "platform",
    "POST /operator/organizations/{organization_id:uuid}/plan": "platform",
    "GET /operator/organizations/{organization_id:uuid}/overdraft": "platform",
    "POST /operator/organizations/{organization_id:uuid}/overdraft": "platform",
    "GET /operator/people": "platform",
    "GET /operator/people/{person_id:uuid}": "platform",
    "GET /operator/people/{person_id:uuid}/suspend": "platform",
    "POST /operator/people/{person_id:uuid}/suspend": "platform",
    "GET /operator/people/{person_id:uuid}/unsuspend": "platform",
    "POST /operator/people/{person_id:uuid}/unsuspend": "platform",
    "GET /operator/people/{person_id:uuid}/remove-second-factor": "platform",
    "POST /operator/people/{person_id:uuid}/remove-second-factor": "platform",
    "GET /operator/people/{person_id:uuid}/sign-out": "platform",
    "POST /operator/people/{person_id:uuid}/sign-out": "platform",
    "GET /operator/people/{person_id:uuid}/promote": "platform",
    "POST /operator/people/{person_id:uuid}/promote": "platform",
    "GET /operator/people/{person_id:uuid}/demote": "platform",
    "POST /operator/people/{person_id:uuid}/demote": "platform",
    "GET /operator/people/{person_id:uuid}/export": "platform",
    "POST /operator/people/{person_id:uuid}/export": "platform",
    "GET /operator/people/{person_id:uuid}/erase": "platform",
    "POST /operator/people/{person_id:uuid}/erase": "platform",
    "GET /operator/people/{person_id:uuid}/impersonate": "platform",
    "POST /operator/people/{person_id:uuid}/impersonate": "platform",
    "POST /impersonation/end": "signed in",
    "GET /operator/identity-providers": "platform",
    "GET /operator/identity-providers/new": "platform",
    "POST /operator/identity-providers/new": "platform",
    "GET /operator/identity-providers/{provider_id:uuid}": "platform",
    "POST /operator/identity-providers/{provider_id:uuid}": "platform",
    "POST /operator/identity-providers/{provider_id:uuid}/test": "platform",
    "GET /operator/identity-providers/{provider_id:uuid}/delete": "platform",
    "POST /operator/identity-providers/{provider_id:uuid}/delete": "platform",
    "GET /operator/audit": "platform",
    "GET /operator/audit/export": "platform",
    "GET /operator/outbox": "platform",
    "GET /operator/privacy": "platform",
    "GET /operator/privacy/{organization_id:uuid}/{task_id:uuid}": "platform",
    "GET /organizations": "signed in",
    "GET /organizations/new": "signed in",
    "POST /organizations/new": "signed in",
    "POST /organizations/{organization_id:uuid}/leave": "signed in",
    "GET /invitations/{token}": "anyone",
    "POST /invitations/{token}": "signed in",
    "GET /admin": "organization.manage",
    "GET /admin/settings": "organization.manage",
    "POST /admin/settings": "organization.manage",
    "POST /admin/settings/calls": "organization.manage",
    "POST /admin/settings/chats": "organization.manage",
    "POST /admin/settings/cache": "organization.manage",
    "POST /admin/settings/content": "organization.manage",
    "GET /admin/settings/transfer": "organization.own",
    "POST /admin/settings/transfer": "organization.own",
    "GET /admin/settings/delete": "organization.own",
    "POST /admin/settings/delete": "organization.own",
    "GET /admin/members": "organization.read",
    "GET /admin/members/invite": "members.manage",
    "POST /admin/members/invite": "members.manage",
    "GET /admin/members/{person_id:uuid}": "members.manage",
    "POST /admin/members/{person_id:uuid}/role": "members.manage",
    "POST /admin/members/{person_id:uuid}/remove": "members.manage",
    "POST /admin/invitations/{invitation_id:uuid}/resend": "members.manage",
    "POST /admin/invitations/{invitation_id:uuid}/revoke": "members.manage",
    "GET /admin/keys": "keys.manage",
    "GET /admin/keys/new": "keys.manage",
    "POST /admin/keys/new": "keys.manage",
    "GET /admin/keys/{key_id:uuid}": "keys.manage",
    "POST /admin/keys/{key_id:uuid}": "keys.manage",
    "POST /admin/keys/{key_id:uuid}/rotate": "keys.manage",
    "POST /admin/keys/{key_id:uuid}/revoke": "keys.manage",
    "GET /account/ai": "signed in",
    "GET /account/ai/new": "models.use",
    "POST /account/ai/new": "models.use",
    "GET /account/ai/models/{own_model_id:uuid}": "models.use",
    "POST /account/ai/models/{own_model_id:uuid}": "models.use",
    "POST /account/ai/models/{own_model_id:uuid}/delete": "models.use",
    "GET /account/ai/templates": "signed in",
    "GET /account/ai/{slug}": "signed in",
    "GET /admin/ai": "organization.manage",
    "GET /admin/ai/models/new": "connections.manage",
    "POST /admin/ai/models/new": "connections.manage",
    "GET /admin/ai/models/{own_model_id:uuid}": "connections.manage",
    "POST /admin/ai/models/{own_model_id:uuid}": "connections.manage",
    "POST /admin/ai/models/{own_model_id:uuid}/delete": "connections.manage",
    "GET /admin/ai/new": "organization.manage",
    "POST /admin/ai/new": "organization.manage",
    "GET /admin/ai/{assistant_id:uuid}": "organization.manage",
    "POST /admin/ai/{assistant_id:uuid}": "organization.manage",
    "POST /admin/ai/{assistant_id:uuid}/enable": "organization.manage",
    "POST /admin/ai/{assistant_id:uuid}/disable": "organization.manage",
    "POST /admin/ai/{assistant_id:uuid}/limit": "organization.manage",
    "POST /admin/ai/{assistant_id:uuid}/delete": "organization.manage",
    "POST /admin/ai/{assistant_id:uuid}/documents": "organization.manage",
    "POST /admin/ai/{assistant_id:uuid}/documents/{document_id:uuid}/delete": "organization.manage",
    "GET /admin/connections": "connections.manage",
    "GET /admin/connections/new": "connections.manage",
    "POST /admin/connections/new": "connections.manage",
    "GET /admin/connections/{connection_id:uuid}": "connections.manage",
    "POST /admin/connections/{connection_id:uuid}": "connections.manage",
    "POST /admin/connections/{connection_id:uuid}/test": "connections.manage",
    "POST /admin/connections/{connection_id:uuid}/delete": "connections.manage",
    "GET /admin/issuers": "issuers.manage",
    "GET /admin/issuers/new": "issuers.manage",
    "POST /admin/issuers/new": "issuers.manage",
    "GET /admin/issuers/{issuer_id:uuid}": "issuers.manage",
    "POST /admin/issuers/{issuer_id:uuid}": "issuers.manage",
    "POST /admin/issuers/{issuer_id:uuid}/test": "issuers.manage",
    "POST /admin/issuers/{issuer_id:uuid}/delete": "issuers.manage",
    "GET /admin/audit": "audit.read",
    "GET /admin/audit/export": "audit.read",
    "GET /admin/privacy": "privacy.manage",
    "GET /admin/privacy/export": "privacy.manage",
    "POST /admin/privacy/export": "privacy.manage",
    "GET /admin/privacy/erasure": "privacy.manage",
    "POST /admin/privacy/erasure": "privacy.manage",
    "GET /admin/privacy/{task_id:uuid}/file": "privacy.manage",
}


def said(policy: object) -> str | None:
    """A policy in words; None for what is none. A new kind of policy is to be put into words here."""
    match policy:
        case AllowedOrInPerson(any_of=permissions):
            return f"in person, or {' or '.join(permissions)}"
        case InPerson(any_of=permissions):
            return f"in person: {' or '.join(permissions)}" if permissions else "in person"
        case Allowed(any_of=permissions):
            assert type(policy) is Allowed, policy
            return " or ".join(permissions)
        case Holding(scope=scope):
            return f"the teller: {scope}"
        case Endpoint(scope=scope):
            return f"the teller: {scope}"
        case Lookup(policy=permission) | CountTokens(policy=permission):
            return permission
        case _:
            return None


def of_api(routes: Iterable[BaseRoute]) -> dict[str, str]:
    """Each method and path, with the one policy that it must have."""
    found = {}
    for context in iter_route_contexts(list(routes)):
        assert isinstance(context.original_route, APIRoute), f"{context.path} is served without a dependency"
        policies = [words for one in dependencies(context.dependant) if (words := said(one)) is not None]
        for method in context.methods or ():
            assert len(set(policies)) == 1, f"{method} {context.path} declares {policies or 'no policy'}"
            assert f"{method} {context.path}" not in found, f"{method} {context.path} stands there twice"
            found[f"{method} {context.path}"] = policies[0]
    return found


def dependencies(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for one in dependant.dependencies:
        yield from dependencies(one)


def served() -> FastAPI:
    parts = dict.fromkeys(ApiState.__dataclass_fields__, NOTHING)
    return api.build(ApiState(**parts | {"site": Site("http://127.0.0.1", "test", Keyring(TEST_SECRET))}))


def test_every_route_of_the_api_has_the_policy_that_stands_here() -> None:
    app = served()
    documents = [one for one in app.routes if getattr(one, "path", None) == app.openapi_url]
    assert len(documents) == 1  # whoever calls may know what there is
    assert of_api(one for one in app.routes if one not in documents) == API


def test_every_path_of_the_gateway_has_the_policy_that_stands_here() -> None:
    gateway = Gateway(GatewayState(*[NOTHING] * len(GatewayState.__dataclass_fields__)))
    found = {f"POST {path}": said(application) for path, application in gateway.posts.items()}
    for route in gateway.routes:
        if route.app is not gateway.unknown:
            found |= {f"{method} {route.path}": said(route.app) for method in route.methods or () if method != "HEAD"}
    assert found == GATEWAY


def test_every_page_has_the_policy_that_stands_here() -> None:
    found = {}
    for row in web.PAGES:
        for method in row.methods:
            assert f"{method} {row.path}" not in found, f"{method} {row.path} stands there twice"
            found[f"{method} {row.path}"] = row.needs.value if isinstance(row.needs, Access) else row.needs
    assert found == PAGES


def test_what_is_open_to_everybody_tells_nothing_of_anybody() -> None:
    assert set(App._operations) == {"/healthz", "/readyz", "/version"}


def test_a_route_without_a_policy_is_found() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/api/open")
    async def open_to_all() -> None: ...

    with pytest.raises(AssertionError, match="GET /api/open declares no policy"):
        of_api(app.routes)


def test_a_route_with_two_policies_is_found() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/api/both")
    async def both(
        one: Annotated[object, Depends(Allowed("keys.manage"))], other: Annotated[object, Depends(Holding("credits"))]
    ) -> None: ...

    with pytest.raises(AssertionError, match=r"keys\.manage"):
        of_api(app.routes)


def test_what_each_role_and_each_scope_may_do_is_what_stands_here() -> None:
    member = {"models.use", "credits.use", "organization.read"}
    of_admins = {
        "organization.manage", "members.manage", "keys.manage", "connections.manage", "issuers.manage", "audit.read",
        "privacy.manage",
    }  # fmt: skip
    assert dict(ROLES) == {
        "member": member,
        "admin": member | of_admins,
        "owner": member | of_admins | {"organization.own"},
    }
    assert dict(SCOPES) == {
        "gateway": {"models.use"},
        "credits": {"credits.use"},
        "act_as": {"act_as"},
        "manage": of_admins | {"organization.read"},
        "operator": {"platform"},
    }

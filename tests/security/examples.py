"""An example for each route of the API and of the gateway (see tests/security/example.py)."""

from __future__ import annotations

from tests.security.example import Example

ARMS = [{"model": "gpt-4o-mini", "weight": 1}, {"model": "sandbox", "weight": 1}]
_MESSAGES = [{"role": "user", "content": "<text>"}]
_CHAT = {"model": "sandbox", "messages": _MESSAGES, "max_tokens": 16}
_PRODUCT = {"name": "Mill", "description": "<text>"}
_NEW_KEY = {"name": "<text>", "scopes": ["gateway"], "mode": "test"}
_CONNECTION = {
    "provider": "openai", "name": "<text>", "base_url": "http://127.0.0.1:9/v1", "key": "sk-of-somebody",
    "enabled": False,
}  # fmt: skip
_ISSUER = {"name": "<text>", "issuer": "<idp>", "audience": "<text>", "jwks_url": "<jwks_url>"}
_PROVIDER = {"name": "<text>", "issuer": "<idp>", "client_id": "<text>"}
_LIMIT = {"scope": "organization", "meter": "messages", "period": "day", "maximum": 100000}
_EXPERIMENT = {
    "name": "<text>", "model": "gpt-4o", "arms": ARMS,
    "starts_at": "<from>", "ends_at": "<to>",
}  # fmt: skip
_CAPABILITY = {"name": "<text>", "estimated_credits": "1"}
_OFFER = {"quality_levels": {"fast": ["sandbox"]}}
_OF_PLATFORM = {"connection_id": "platform_connection"}
_SPARE = {"name": "spare_capability"}

# What a key reserved is closed with a key: people and end users see what they reserved themselves.
_OF_KEYS = {"owner": 404, "admin": 404, "member": 404, "end user of A": 404}
# Who names somebody whom they may not speak for is refused, whatever else they may do.
_NAMING = {"end user of B naming A's user": 403, "owner of B naming A's user": 403}

GATEWAY: dict[str, Example] = {
    "POST /v1/chat/completions": Example(_CHAT),
    "POST /v1/responses": Example({"model": "sandbox", "input": "<text>", "max_output_tokens": 16}),
    "POST /v1/messages": Example(_CHAT),
    "POST /v1/embeddings": Example({"model": "text-embedding-3-small", "input": "<text>"}),
    "POST /v1/messages/count_tokens": Example({"model": "sandbox", "messages": _MESSAGES}),
    "GET /v1/models": Example(),
    "GET /v1/models/{model_id:path}": Example(),
    "GET /v1/key": Example(),
    "GET /v1/usage": Example(),
}
API: dict[str, Example] = {
    "POST /api/ai/access-check": Example({"model": "sandbox"}),
    "POST /api/ai/assemble-testimonial": Example(
        {"product": _PRODUCT, "answers": [{"question": "What has changed?", "answer": "<text>"}]}
    ),
    "POST /api/ai/polish-testimonial": Example({"text": "<text>"}),
    "POST /api/ai/suggest-questions": Example({"product": _PRODUCT}),
    "GET /api/audit": Example(),
    "GET /api/audit/export": Example(),
    "POST /api/capabilities/{name}/run": Example({"input": {"product": _PRODUCT}}),
    "GET /api/connections": Example(),
    "POST /api/connections": Example(_CONNECTION, status=201),
    "POST /api/connections/test": Example(_CONNECTION),
    "DELETE /api/connections/{connection_id}": Example(status=204),
    "PATCH /api/connections/{connection_id}": Example({"name": "<text>"}),
    "POST /api/connections/{connection_id}/test": Example(),
    "GET /api/credits/balance": Example(),
    "GET /api/credits/notices": Example(),
    "POST /api/credits/reservations": Example(
        {"model": "sandbox", "input_tokens": 10, "max_output_tokens": 16, "metadata": {"about": "<text>"}}, status=201
    ),
    "GET /api/credits/reservations/{reservation_id}": Example(differs=_OF_KEYS),
    "POST /api/credits/reservations/{reservation_id}/release": Example({"reason": "<text>"}, differs=_OF_KEYS),
    "POST /api/credits/reservations/{reservation_id}/renew": Example({"ttl_seconds": 900}, differs=_OF_KEYS),
    "POST /api/credits/reservations/{reservation_id}/settle": Example(
        {"usage": {"input_tokens": 1, "output_tokens": 1}}, differs=_OF_KEYS
    ),
    "GET /api/credits/transactions": Example(),
    "GET /api/invitations": Example(),
    "POST /api/invitations": Example({"email": "<text>@example.com"}, status=201),
    "POST /api/invitations/accept": Example({"token": "<token>"}, status=403),
    "DELETE /api/invitations/{invitation_id}": Example(status=204),
    "GET /api/issuers": Example(),
    "POST /api/issuers": Example(_ISSUER, status=201),
    "POST /api/issuers/test": Example(_ISSUER),
    "DELETE /api/issuers/{issuer_id}": Example(status=204),
    "PATCH /api/issuers/{issuer_id}": Example({"name": "<text>"}),
    "POST /api/issuers/{issuer_id}/test": Example(),
    "GET /api/keys": Example(),
    "POST /api/keys": Example(_NEW_KEY, status=201),
    "DELETE /api/keys/{key_id}": Example(),
    "GET /api/keys/{key_id}": Example(),
    "PATCH /api/keys/{key_id}": Example({"name": "<text>"}),
    "POST /api/keys/{key_id}/rotate": Example({}, status=201),
    "GET /api/members": Example(),
    "DELETE /api/members/{person_id}": Example(status=204),
    "GET /api/members/{person_id}": Example(),
    "PATCH /api/members/{person_id}": Example({"role": "admin"}),
    "GET /api/models": Example(differs=_NAMING),
    "GET /api/models/{model_id}/trial-status": Example(differs=_NAMING),
    "GET /api/models/{model_id}/usage": Example(differs=_NAMING),
    "PATCH /api/profile/model-preferences": Example(
        {"default_model_id": "sandbox", "persona_overrides": {"marcus": "sandbox"}},
        differs=_NAMING | {"key with gateway": 400},
    ),
    "GET /api/operator/audit": Example(query="organization_id=<organization>"),
    "GET /api/operator/audit/export": Example(query="organization_id=<organization>"),
    "GET /api/operator/capabilities": Example(),
    "GET /api/operator/capabilities/{name}": Example(),
    "PUT /api/operator/capabilities/{name}": Example(_CAPABILITY, objects=_SPARE),
    "GET /api/operator/connections": Example(),
    "POST /api/operator/connections": Example(_CONNECTION, status=201),
    "POST /api/operator/connections/test": Example(_CONNECTION),
    "DELETE /api/operator/connections/{connection_id}": Example(status=204, objects=_OF_PLATFORM),
    "PATCH /api/operator/connections/{connection_id}": Example({"name": "<text>"}, objects=_OF_PLATFORM),
    "POST /api/operator/connections/{connection_id}/test": Example(objects=_OF_PLATFORM),
    "POST /api/operator/entitlements": Example(
        {"organization_id": "<organization>", "model_id": "gpt-4o", "source": "admin_grant", "note": "<text>"},
        status=201,
    ),
    "GET /api/operator/experiments": Example(),
    "POST /api/operator/experiments": Example(_EXPERIMENT, status=201),
    "DELETE /api/operator/experiments/{id_}": Example(),
    "GET /api/operator/experiments/{id_}": Example(),
    "PATCH /api/operator/experiments/{id_}": Example({}, objects={"id_": "begun_experiment"}),
    "GET /api/operator/experiments/{id_}/outcomes": Example(),
    "GET /api/operator/identity-providers": Example(),
    "POST /api/operator/identity-providers": Example(_PROVIDER, status=201),
    "POST /api/operator/identity-providers/test": Example(_PROVIDER),
    "DELETE /api/operator/identity-providers/{provider_id}": Example(status=204),
    "PATCH /api/operator/identity-providers/{provider_id}": Example({"name": "<text>"}),
    "POST /api/operator/identity-providers/{provider_id}/test": Example(),
    "GET /api/operator/ledger/proof": Example(),
    "GET /api/operator/models/{model_id}/prices": Example(),
    "POST /api/operator/models/{model_id}/prices": Example(
        {"input_per_million": "0.5", "output_per_million": "1.5", "note": "<text>"}, status=201
    ),
    "GET /api/operator/organizations": Example(),
    "POST /api/operator/organizations": Example({"name": "<text>", "plan": "free"}, status=201),
    "GET /api/operator/organizations/{organization_id}": Example(),
    "POST /api/operator/organizations/{organization_id}/clock": Example({"now": "<soon>"}, ends=True),
    "POST /api/operator/organizations/{organization_id}/grants": Example(
        {"source": "promo", "credits": "5", "note": "<text>"}, status=201
    ),
    "GET /api/operator/organizations/{organization_id}/keys": Example(),
    "POST /api/operator/organizations/{organization_id}/keys": Example(_NEW_KEY, status=201),
    "DELETE /api/operator/organizations/{organization_id}/keys/{key_id}": Example(),
    "GET /api/operator/organizations/{organization_id}/limits": Example(),
    "POST /api/operator/organizations/{organization_id}/limits": Example(_LIMIT, status=201, ends=True),
    "DELETE /api/operator/organizations/{organization_id}/limits/{limit_id}": Example(ends=True),
    "PATCH /api/operator/organizations/{organization_id}/limits/{limit_id}": Example({"maximum": 100001}, ends=True),
    "PUT /api/operator/organizations/{organization_id}/overdraft": Example({"credits": "1"}),
    "POST /api/operator/organizations/{organization_id}/plan": Example({"plan": "pro"}),
    "POST /api/operator/organizations/{organization_id}/suspend": Example({"reason": "<text>"}, ends=True),
    "POST /api/operator/organizations/{organization_id}/unsuspend": Example({"reason": "<text>"}, ends=True),
    "GET /api/operator/outbox": Example(),
    "GET /api/operator/people": Example(),
    "GET /api/operator/people/{person_id}": Example(),
    # whoever it is has none: what may not call it is refused before that is looked at
    "POST /api/operator/people/{person_id}/remove-second-factor": Example({"reason": "<text>"}, status=409),
    "POST /api/operator/people/{person_id}/suspend": Example({"reason": "<text>"}),
    "POST /api/operator/people/{person_id}/unsuspend": Example({"reason": "<text>"}),
    "DELETE /api/operator/plans/{plan}/capabilities/{name}": Example(objects=_SPARE),
    "PUT /api/operator/plans/{plan}/capabilities/{name}": Example(_OFFER, objects=_SPARE),
    "GET /api/operator/privacy/organizations/{organization_id}/tasks/{task_id}/file": Example(),
    "GET /api/operator/privacy/tasks": Example(query="organization_id=<organization>"),
    "POST /api/operator/privacy/tasks": Example(
        {"kind": "export", "organization_id": "<organization>", "person": "<member>"}, status=202
    ),
    "GET /api/operator/rate-cards": Example(),
    "POST /api/operator/rate-cards": Example({"credits_per_usd": "100", "note": "<text>"}, status=201),
    "DELETE /api/organization": Example({"name": "<name>"}, status=204, ends=True),
    "GET /api/organization": Example(),
    "PATCH /api/organization": Example({"business_type": "legal"}),
    "POST /api/organization/leave": Example(status=409, differs={"member": 204, "admin": 204}, ends=True),
    "POST /api/organization/transfer": Example({"person_id": "<member>"}, ends=True),
    "GET /api/organizations": Example(),
    "POST /api/organizations": Example({"name": "<text>"}, status=201),
    "POST /api/privacy/erase": Example(
        {"email": "<own_email>"}, status=409, differs={"admin": 202, "member": 202}, ends=True
    ),
    "POST /api/privacy/export": Example(status=202),
    "GET /api/privacy/own": Example(),
    "GET /api/privacy/own/{task_id}/file": Example(
        objects={"task_id": "own_task"}, differs={"admin": 404, "member": 404}
    ),
    "GET /api/privacy/tasks": Example(),
    "POST /api/privacy/tasks": Example({"kind": "export", "member": "<member>"}, status=202),
    "GET /api/privacy/tasks/{task_id}": Example(),
    "GET /api/privacy/tasks/{task_id}/file": Example(),
    "DELETE /api/requests/content": Example(),
    "GET /api/requests/{request_id}/content": Example(),
    "GET /api/settings": Example(),
    "PATCH /api/settings": Example({"retention_days": 30}),
    "DELETE /api/settings/cache": Example(),
    "GET /api/users": Example(),
}

from __future__ import annotations
from uuid import UUID
import pytest_asyncio
from collections.abc import AsyncIterator
from tests.web.browser import AXE, RULES, DESK, PHONE, Window, assert_accessible
from tests.web.serving import Place, serving, clock
from tests.web.test_operator import DEMO, superadmin, send, rows
from tollhouse.flows.order import Order
from tollhouse.flows import mail

async def test_shots(database_url: str, window: Window) -> None:
    async with serving(database_url) as place:
        root, ada = await superadmin(place), await place.in_a_team("ada@example.com", "owner")
        eve = await place.person("eve@example.com")
        await send(root, f"{DEMO}/grant", credits="12500.5", source="topup", note="Invoice 2026-117", expires_on="2027-02-01")
        await send(root, f"{DEMO}/plan", plan="free")
        for act in ("export", "erase"):
            await send(root, f"/operator/people/{eve.person_id}/{act}")
        await place.change("UPDATE privacy_task SET state='done', steps_done=steps, finished_at=now(), result='zip', result_until=now() + interval '6 days' WHERE kind='export'")
        await place.change("UPDATE privacy_task SET state='running', steps_done=2 WHERE kind='erasure'")
        await send(root, f"/operator/people/{eve.person_id}/suspend", reason="Abuse of trials")
        await send(root, "/operator", "/operator/proof")
        await place.change("INSERT INTO identity_provider (id, name, issuer, client_id, enabled, created_at) VALUES ('00000000-0000-0000-0000-00000000000a', 'Example Mills', 'https://login.example.com/realms/mill', 'tollhouse', true, now())")
        async with place.db.operator() as tx:
            await mail.write(tx, "ada@example.com", "sign_in_link", "Sign in to Tollhouse", "Open this link to sign in:\n\nhttps://x.example/sign-in/link/abcdefghijk\n\nIt works once, for 15 minutes.", clock())
        key = (await rows(place, "SELECT id FROM api_key WHERE organization_id = %s", UUID(int=1)))[0]["id"]
        pages = {
            "overview": "/operator", "orgs": "/operator/organizations", "org": DEMO, "members": f"{DEMO}/members", "keys": f"{DEMO}/keys", "orgaudit": f"{DEMO}/audit",
            "grant": f"{DEMO}/grant", "plan": f"{DEMO}/plan", "overdraft": f"{DEMO}/overdraft", "suspend": f"{DEMO}/suspend", "revoke": f"{DEMO}/keys/{key}/revoke",
            "people": "/operator/people", "person": f"/operator/people/{eve.person_id}", "person2": f"/operator/people/{ada.person_id}", "act": f"/operator/people/{ada.person_id}/erase",
            "impersonate": f"/operator/people/{ada.person_id}/impersonate", "idps": "/operator/identity-providers", "idpnew": "/operator/identity-providers/new",
            "idp": "/operator/identity-providers/00000000-0000-0000-0000-00000000000a", "idpdelete": "/operator/identity-providers/00000000-0000-0000-0000-00000000000a/delete",
            "audit": "/operator/audit", "outbox": "/operator/outbox", "privacy": "/operator/privacy", "orgsnone": "/operator/organizations?search=zzz",
        }
        for scheme in ("light", "dark"):
            for size in (DESK, PHONE):
                page = await window(place.url + "/operator", size, scheme, cookies=root.cookies)
                for name, path in pages.items():
                    await page.goto(place.url + path)
                    await page.evaluate(AXE.read_text())
                    found = await page.evaluate("rules => axe.run(document, {runOnly: rules})", list(RULES))
                    bad = [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in found["violations"]]
                    wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
                    if bad or wide > 0:
                        print(name, scheme, size, bad, wide, flush=True)
                    await page.screenshot(path=f"/tmp/w/shots/operator-{name}-{scheme}-{size[0]}.png", full_page=True)
        own = (await rows(place, "SELECT organization_id FROM member WHERE person_id = %s", ada.person_id))[0]
        await send(root, pages["impersonate"], organization=str(own["organization_id"]), reason="They asked about a bill")
        page = await window(place.url + "/organizations", DESK, cookies=root.cookies)
        await page.screenshot(path="/tmp/w/shots/operator-acting.png", full_page=True)
        page = await window(place.url + "/operator", PHONE, cookies=root.cookies)
        await page.screenshot(path="/tmp/w/shots/operator-acting404.png", full_page=True)

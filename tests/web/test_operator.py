"""The operators' area over a socket: nobody else gets in, money needs a proof, and everything is on record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from tests.fake_idp import FakeIdp
from tests.web.serving import Answer, Place, Visitor, serving
from tollhouse.core.key import Mode
from tollhouse.flows import people as people_flow
from tollhouse.flows.order import Order
from tollhouse.flows.seed import DEMO_ID
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.proof import prove
from tollhouse.web.operator import PAGES
from tollhouse.web.operator.people import ACTS

DEMO = f"/operator/organizations/{DEMO_ID}"


@pytest_asyncio.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    async with serving(database_url) as made:
        yield made


async def superadmin(place: Place, email: str = "root@example.com") -> Visitor:
    visitor = await place.person(email)
    await place.change("UPDATE person SET superadmin = true WHERE id = %s", visitor.person_id)
    return visitor


async def rows(place: Place, query: LiteralString, *parameters: Any) -> list[dict[str, Any]]:
    async with await AsyncConnection.connect(place.database_url, row_factory=dict_row) as connection:
        return await (await connection.execute(query, parameters)).fetchall()


async def last_row(place: Place, organization_id: UUID, action: str) -> dict[str, Any]:
    found = await rows(
        place,
        "SELECT actor, address, details, object_id FROM audit WHERE organization_id = %s AND action = %s "
        "ORDER BY seq DESC LIMIT 1",
        organization_id,
        action,
    )
    return found[0]


async def count(place: Place, action: str) -> int:
    return len(await rows(place, "SELECT FROM audit WHERE action = %s", action))


async def send(visitor: Visitor, path: str, action: str | None = None, **fields: str) -> Answer:
    """Opens the page and sends its form, to `action` when that is another address."""
    opened = await visitor.get(path)
    assert opened.status == 200, opened.text
    hidden = {str(one["name"]): str(one["value"]) for one in opened.soup.select('main input[type="hidden"][name]')}
    return await visitor.post(action or path, {**hidden, "csrf": opened.token, **fields})


async def without_proof(place: Place, visitor: Visitor) -> None:
    """The last proof of who they are was too long ago."""
    await place.change(
        "UPDATE session SET proved_at = now() - interval '11 minutes' WHERE person_id = %s", visitor.person_id
    )


def filled(path: str, person_id: object) -> str:
    return (
        path.replace("{organization_id:uuid}", str(DEMO_ID))
        .replace("{person_id:uuid}", str(person_id))
        .replace("{key_id:uuid}", str(uuid4()))
        .replace("{provider_id:uuid}", str(uuid4()))
        .replace("{task_id:uuid}", str(uuid4()))
    )


OPERATORS = [(method, row.path) for row in PAGES for method in row.methods if row.path.startswith("/operator")]


# ------------------------------------------------------------------------------------------------------- who gets in


async def test_for_everybody_but_superadmins_no_page_of_the_area_is_there(place: Place) -> None:
    owner, nobody = await place.in_a_team("owner@example.com", "owner"), place.visitor()
    token = (await owner.get("/settings")).token
    before = await count(place, "organization.read")
    for method, path in OPERATORS:
        at = filled(path, owner.person_id)
        seen = await owner.ask(method, at, data={"csrf": token} if method == "POST" else None)
        assert seen.status == 404, (method, path)
        unknown = await owner.ask(method, "/operator/no-such-page", data={"csrf": token} if method == "POST" else None)
        assert (await title(seen), seen.status) == (await title(unknown), 404)
        came = await nobody.ask(method, at)
        assert came.status == 303, (method, path)
        assert came.headers["location"].startswith("/sign-in")
    assert await count(place, "organization.read") == before


async def title(answer: Answer) -> str:
    found = answer.soup.select_one("h1")
    assert found is not None
    return found.text


async def test_the_link_to_the_area_is_seen_by_superadmins_alone(place: Place) -> None:
    root, owner = await superadmin(place), await place.person("ada@example.com")
    assert (await root.get("/settings")).soup.select_one('a[href="/operator"]') is not None
    assert (await owner.get("/settings")).soup.select_one('a[href="/operator"]') is None


@pytest.mark.parametrize(("mode", "status"), [("test", 200), ("live", 403)])
async def test_in_live_mode_a_superadmin_adds_a_second_factor_first(database_url: str, mode: Mode, status: int) -> None:
    async with serving(database_url, mode=mode) as place:
        root = await superadmin(place)
        answer = await root.get("/operator")
        assert answer.status == status
        assert ("second factor" in answer.text) == (status == 403)
        posted = await root.post("/operator/proof", {"csrf": (await root.get("/settings")).token})
        assert posted.status == (303 if mode == "test" else 403)


async def test_every_page_opens_and_says_who_looked(place: Place) -> None:
    root, ada = await superadmin(place), await place.person("ada@example.com")
    for method, path in OPERATORS:
        skipped = ("{key_id", "{provider_id", "{task_id", "/export")
        if method == "POST" or any(part in path for part in skipped):
            continue
        answer = await root.get(filled(path, ada.person_id))
        assert answer.status == 200, (path, answer.text)
        assert "Operators' area" in answer.soup.text
    seen = await last_row(place, DEMO_ID, "organization.read")
    assert (seen["actor"], seen["address"]) == (f"person:{root.person_id}", "127.0.0.1")
    assert (await last_row(place, PLATFORM_ID, "person.read"))["object_id"] == str(ada.person_id)


async def test_what_is_not_there_is_not_found(place: Place) -> None:
    root = await superadmin(place)
    for path in (
        f"/operator/organizations/{uuid4()}", f"/operator/organizations/{uuid4()}/members",
        f"/operator/organizations/{uuid4()}/grant", f"/operator/people/{uuid4()}",
        f"/operator/people/{uuid4()}/suspend",
        f"/operator/identity-providers/{uuid4()}", f"/operator/audit?organization={uuid4()}",
        f"/operator/privacy/{DEMO_ID}/{uuid4()}",
    ):  # fmt: skip
        assert (await root.get(path)).status == 404, path


async def test_what_nobody_types_is_refused_and_breaks_nothing(place: Place) -> None:
    root = await superadmin(place)
    for path in (
        "/operator/organizations?search=%00", "/operator/people?cursor=nonsense", "/operator/audit?cursor=1",
        "/operator/audit?from=yesterday", "/operator/audit?organization=demo", f"/operator/people?search={'a' * 201}",
        "/operator/audit/export?from=2020-01-01&to=2022-01-01",
    ):  # fmt: skip
        assert (await root.get(path)).status == 400, path


# ------------------------------------------------------------------------------------------------------- the proof


async def test_a_form_that_changes_something_asks_for_a_proof_first_and_comes_back(place: Place) -> None:
    root, ada = await superadmin(place), await place.person("ada@example.com")
    pages = [
        *(f"{DEMO}/{act}" for act in ("grant", "plan", "overdraft", "suspend", "unsuspend")),
        *(f"/operator/people/{ada.person_id}/{act.name}" for act in ACTS),
        f"/operator/people/{ada.person_id}/impersonate", "/operator/identity-providers/new",
    ]  # fmt: skip
    await without_proof(place, root)
    for path in pages:
        answer = await root.get(path)
        assert (answer.status, answer.headers["location"]) == (303, f"/confirm?next={path.replace('/', '%2F')}"), path


async def test_nothing_is_changed_without_a_proof_whatever_is_sent(place: Place) -> None:
    root, ada = await superadmin(place), await place.person("ada@example.com")
    token = (await root.get(f"{DEMO}/grant")).token
    await without_proof(place, root)
    before = await rows(place, "SELECT count(*) FROM credit_grant")
    for method, path in OPERATORS:
        if method == "POST":
            at = filled(path, ada.person_id)
            fields = {
                "csrf": token,
                "credits": "5",
                "source": "promo",
                "note": "n",
                "once": "x",
                "reason": "because of",
            }
            answer = await root.post(at, fields, {"referer": f"{place.url}{DEMO}/grant"})
            assert answer.status == 303, at
            assert answer.headers["location"] == f"/confirm?next={DEMO.replace('/', '%2F')}%2Fgrant", at
    assert await rows(place, "SELECT count(*) FROM credit_grant") == before
    assert await rows(place, "SELECT FROM session WHERE impersonator_id IS NOT NULL OR revoked_at IS NOT NULL") == []


async def test_a_form_of_another_site_or_without_its_token_changes_nothing(place: Place) -> None:
    root = await superadmin(place)
    opened = await root.get(f"{DEMO}/overdraft")
    for fields, headers in (
        ({"credits": "5", "csrf": opened.token}, {"sec-fetch-site": "cross-site"}),
        ({"credits": "5", "csrf": "x"}, {}),
        ({"credits": "5"}, {}),
    ):
        assert (await root.post(f"{DEMO}/overdraft", fields, headers)).status == 403
    assert await count(place, "overdraft.set") == 0


# --------------------------------------------------------------------------------------------------- organisations


async def test_organisations_are_found_by_name_plan_and_state(place: Place) -> None:
    root = await superadmin(place)
    await place.in_a_team("owner@example.com", "owner")
    await place.change("UPDATE organization SET suspended_at = now() WHERE name = 'Mill'")

    async def found(query: str) -> set[str]:
        soup = (await root.get(f"/operator/organizations{query}")).soup
        return {one.text for one in soup.select("tbody a")}

    assert "Mill" in await found("")
    assert await found("?search=mIL") == {"Mill"}
    assert await found("?state=suspended") == {"Mill"}
    assert "Mill" not in await found("?state=open")
    assert "Mill" not in await found("?plan=pro")
    assert await found("?state=deleted") == set()
    assert "Mill" in await found("?plan=%27%20OR%201&state=made-up")  # what is no choice narrows nothing


async def test_long_lists_go_on_by_a_link_and_keep_what_was_searched(place: Place) -> None:
    root = await superadmin(place)
    await place.change(
        """INSERT INTO person (id, email, created_at)
           SELECT gen_random_uuid(), 'p' || n || '@mill.example', now() FROM generate_series(1, 70) n"""
    )
    seen: list[str] = []
    path = "/operator/people?search=mill.example"
    while path:
        soup = (await root.get(path)).soup
        seen += [one.text for one in soup.select("tbody a")]
        following = [str(one["href"]) for one in soup.select("nav.pagination a") if "Next" in one.text]
        path = following[0] if following else ""
    assert len(seen) == len(set(seen)) == 70


async def test_credits_are_given_once_however_often_the_form_is_sent(place: Place) -> None:
    root = await superadmin(place)
    opened = await root.get(f"{DEMO}/grant")
    once = opened.soup.select_one('input[name="once"]')
    assert once is not None
    fields = {
        "csrf": opened.token, "once": str(once["value"]), "credits": "12.5", "source": "promo",
        "note": "For the outage", "expires_on": "",
    }  # fmt: skip
    answers = await asyncio.gather(*(root.post(f"{DEMO}/grant", fields) for _ in range(3)))
    assert [one.status for one in answers] == [303, 303, 303]
    given = await rows(
        place, "SELECT amount_micros, source, paid, expires_at FROM credit_grant WHERE note = 'For the outage'"
    )
    assert given == [{"amount_micros": 12_500_000, "source": "promo", "paid": False, "expires_at": None}]
    row = await last_row(place, DEMO_ID, "grant.given")
    assert (row["actor"], row["address"]) == (f"person:{root.person_id}", "127.0.0.1")
    assert row["details"]["credits"] == "12.5"
    assert "12.5 credits were given." in (await root.get(DEMO)).soup.text
    changed = await root.post(f"{DEMO}/grant", {**fields, "credits": "13"})
    assert changed.status == 422
    assert await count(place, "grant.given") == 1
    async with await AsyncConnection.connect(place.database_url, autocommit=True) as connection:
        assert await prove(connection) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"credits": "0"}, {"credits": "-5"}, {"credits": "1e3"}, {"credits": "1.0000001"}, {"credits": ""},
        {"credits": "99999999999"}, {"source": "plan"}, {"source": "gift"}, {"note": ""},
        {"expires_on": "2020-01-01"}, {"expires_on": "soon"},
    ],
)  # fmt: skip
async def test_a_grant_that_cannot_be_is_refused_and_what_was_typed_stays(place: Place, wrong: dict[str, str]) -> None:
    root = await superadmin(place)
    fields = {"credits": "12.5", "source": "promo", "note": "For the outage", "expires_on": ""} | wrong
    answer = await send(root, f"{DEMO}/grant", **fields)
    assert answer.status in (400, 422), answer.text
    assert answer.soup.select_one('main [role="alert"]') is not None
    note = answer.soup.select_one("textarea")
    assert note is not None
    assert note.text == fields["note"]
    assert await count(place, "grant.given") == 0
    if wrong.get("source") is None:  # a second try counts: it is another one
        right = {"credits": "12.5", "source": "promo", "note": "For the outage", "expires_on": ""}
        assert (await send(root, f"{DEMO}/grant", **right)).status == 303


async def test_the_plan_and_the_overdraft_change_and_are_on_record(place: Place) -> None:
    root = await superadmin(place)
    assert (await send(root, f"{DEMO}/overdraft", credits="25")).status == 303
    row = await last_row(place, DEMO_ID, "overdraft.set")
    assert (row["actor"], row["details"]) == (f"person:{root.person_id}", {"from": "0", "to": "25"})
    assert (await send(root, f"{DEMO}/overdraft", credits="-1")).status == 400
    assert (await send(root, f"{DEMO}/plan", plan="free")).status == 303
    row = await last_row(place, DEMO_ID, "plan.changed")
    assert (row["details"]["from"], row["details"]["to"], row["details"]["at_once"]) == ("pro", "free", False)
    assert (await send(root, f"{DEMO}/plan", plan="unlimited")).status == 400
    assert "then free" in (await root.get(DEMO)).soup.text


async def test_an_organisation_is_suspended_with_a_reason_and_let_in_again(place: Place) -> None:
    root = await superadmin(place)
    assert (await send(root, f"{DEMO}/suspend", reason="")).status == 422
    assert (await send(root, f"{DEMO}/suspend", reason="Unpaid bills")).status == 303
    assert (await last_row(place, DEMO_ID, "organization.suspended"))["details"] == {"reason": "Unpaid bills"}
    assert "Suspended" in (await root.get(DEMO)).soup.text
    assert (await send(root, f"{DEMO}/unsuspend", reason="They paid")).status == 303
    assert await rows(place, "SELECT FROM organization WHERE suspended_at IS NOT NULL") == []
    platform = f"/operator/organizations/{PLATFORM_ID}"
    assert (await root.get(platform)).status == 200
    assert (await send(root, f"{platform}/suspend", reason="By mistake")).status == 409


async def test_a_key_is_revoked_and_those_of_others_stay(place: Place) -> None:
    root = await superadmin(place)
    keys = await rows(place, "SELECT id, organization_id FROM api_key WHERE revoked_at IS NULL")
    ours = next(one["id"] for one in keys if one["organization_id"] == DEMO_ID)
    others = next(one["id"] for one in keys if one["organization_id"] != DEMO_ID)
    assert (await send(root, f"{DEMO}/keys/{ours}/revoke")).status == 303
    assert (await last_row(place, DEMO_ID, "key.revoked"))["object_id"] == str(ours)
    token = (await root.get(DEMO)).token
    assert (await root.post(f"{DEMO}/keys/{others}/revoke", {"csrf": token})).status == 404
    still = await rows(place, "SELECT id FROM api_key WHERE revoked_at IS NULL")
    assert {one["id"] for one in still} == {one["id"] for one in keys} - {ours}


# ---------------------------------------------------------------------------------------------------------- people


async def test_a_suspended_person_is_shut_out_and_let_in_again(place: Place) -> None:
    root, ada = await superadmin(place), await place.person("ada@example.com")
    at = f"/operator/people/{ada.person_id}"
    assert (await send(root, f"{at}/suspend", reason="Abuse")).status == 303
    assert (await ada.get("/settings")).status != 200
    assert (await send(root, f"{at}/unsuspend", reason="Sorted out")).status == 303
    assert (await ada.get("/settings")).status == 200
    row = await last_row(place, PLATFORM_ID, "person.unsuspended")
    assert (row["actor"], row["details"]) == (f"person:{root.person_id}", {"reason": "Sorted out"})
    assert (await send(root, f"/operator/people/{root.person_id}/suspend", reason="Myself")).status == 409


async def test_signing_out_everywhere_ends_every_session(place: Place) -> None:
    root, ada = await superadmin(place), await place.person("ada@example.com")
    assert (await send(root, f"/operator/people/{ada.person_id}/sign-out", reason="A lost phone")).status == 303
    assert (await ada.get("/settings")).status == 303
    row = await last_row(place, PLATFORM_ID, "sessions.revoked")
    assert row["details"] == {"sessions": 1, "reason": "A lost phone"}


async def test_who_becomes_a_superadmin_signs_in_anew_and_who_is_none_any_more_is_out(place: Place) -> None:
    root, ada = await superadmin(place), await place.person("ada@example.com")
    at = f"/operator/people/{ada.person_id}"
    assert (await send(root, f"{at}/promote")).status == 303
    assert (await ada.get("/operator")).status == 303
    assert (await send(root, f"{at}/promote")).status == 303  # once more changes nothing
    assert await count(place, "person.superadmin_set") == 1
    assert (await send(root, f"{at}/demote")).status == 303
    row = await last_row(place, PLATFORM_ID, "person.superadmin_set")
    assert row["details"] == {"from": True, "to": False, "sessions_ended": 0}
    assert (await send(root, f"/operator/people/{root.person_id}/demote")).status == 409


async def test_of_two_superadmins_who_demote_each_other_one_remains(place: Place) -> None:
    first, second = await superadmin(place), await superadmin(place, "other@example.com")
    assert first.person_id is not None
    assert second.person_id is not None

    async def demote(by: UUID, whom: UUID) -> None:
        order = Order(f"person:{by}", (await rows(place, "SELECT now() AS now"))[0]["now"])
        await people_flow.set_superadmin(place.db, order, whom, False)

    done = await asyncio.gather(
        demote(first.person_id, second.person_id), demote(second.person_id, first.person_id), return_exceptions=True
    )
    assert sorted(one is None for one in done) == [False, True]
    assert len(await rows(place, "SELECT FROM person WHERE superadmin")) == 1


async def test_an_export_and_an_erasure_are_ordered_and_seen_under_way(place: Place) -> None:
    root, ada = await superadmin(place), await place.person("ada@example.com")
    at = f"/operator/people/{ada.person_id}"
    assert (await send(root, f"{at}/export")).status == 303
    assert (await send(root, f"{at}/erase", email="eve@example.com")).status == 400
    assert (await send(root, f"{at}/erase", email="ada@example.com")).status == 303
    for path in (at, "/operator/privacy"):
        text = (await root.get(path)).soup.text
        assert "Export" in text
        assert "Erasure" in text
    ordered = await rows(place, "SELECT kind, account, requested_by FROM privacy_task ORDER BY kind")
    assert [(one["kind"], one["account"], one["requested_by"]) for one in ordered] == [
        ("erasure", True, f"person:{root.person_id}"), ("export", True, f"person:{root.person_id}")
    ]  # fmt: skip
    assert (await root.get("/operator")).status == 200


# --------------------------------------------------------------------------------------------------- impersonation


async def test_acting_as_somebody_says_so_on_every_page_and_ends_with_a_button(place: Place) -> None:
    root, ada = await superadmin(place), await place.person("ada@example.com")
    at = f"/operator/people/{ada.person_id}"
    organization_id = (await rows(place, "SELECT organization_id FROM member WHERE person_id = %s", ada.person_id))[0]
    fields = {"organization": str(organization_id["organization_id"])}
    assert (await send(root, f"{at}/impersonate", reason="why", **fields)).status == 400
    former = dict(root.cookies)
    begun = await send(root, f"{at}/impersonate", reason="They asked about a bill", **fields)
    assert begun.status == 303, begun.text
    assert root.cookies != former
    for path, status in (("/organizations", 200), ("/dashboard", 200), ("/settings", 403), ("/operator", 404)):
        opened = await root.get(path)
        assert opened.status == status
        banner = opened.soup.select_one(".banner")
        assert banner is not None, (path, opened.status)
        assert "ada@example.com" in banner.text
        assert "root@example.com" in banner.text
        assert "until" in banner.text
        assert banner.select_one('form[action="/impersonation/end"] button') is not None
    row = await last_row(place, organization_id["organization_id"], "impersonation.begun")
    assert (row["actor"], row["details"]["reason"]) == (f"person:{root.person_id}", "They asked about a bill")
    acting = dict(root.cookies)
    ended = await root.post("/impersonation/end", {"csrf": (await root.get("/organizations")).token})
    assert (ended.status, ended.headers["location"]) == (303, at)
    assert (await root.get("/operator")).status == 200
    assert (await last_row(place, PLATFORM_ID, "impersonation.ended"))["actor"] == f"person:{root.person_id}"
    root.cookies.update(acting)
    assert (await root.get("/settings")).status == 303  # the cookie of the impersonation is nobody's


async def test_nobody_acts_as_a_superadmin_or_in_an_organisation_that_is_not_the_persons(place: Place) -> None:
    root, other = await superadmin(place), await superadmin(place, "other@example.com")
    ada = await place.person("ada@example.com")
    reason = {"reason": "They asked about a bill"}
    at = f"/operator/people/{other.person_id}/impersonate"
    assert (await send(root, at, organization=str(DEMO_ID), **reason)).status == 403
    at = f"/operator/people/{ada.person_id}/impersonate"
    assert (await send(root, at, organization=str(DEMO_ID), **reason)).status == 404
    assert await rows(place, "SELECT FROM session WHERE impersonator_id IS NOT NULL") == []


async def test_who_acts_as_themselves_cannot_end_an_impersonation(place: Place) -> None:
    ada = await place.person("ada@example.com")
    assert (await ada.post("/impersonation/end", {"csrf": (await ada.get("/settings")).token})).status == 403
    assert (await ada.get("/settings")).status == 200


async def test_an_impersonation_ends_at_the_sign_in_when_ones_own_session_has_ended(place: Place) -> None:
    root, ada = await superadmin(place), await place.person("ada@example.com")
    own = (await rows(place, "SELECT organization_id FROM member WHERE person_id = %s", ada.person_id))[0]
    fields = {"organization": str(own["organization_id"]), "reason": "They asked about a bill"}
    await send(root, f"/operator/people/{ada.person_id}/impersonate", **fields)
    token = (await root.get("/organizations")).token
    await place.change("UPDATE session SET revoked_at = now() WHERE person_id = %s", root.person_id)
    ended = await root.post("/impersonation/end", {"csrf": token})
    assert (ended.status, ended.headers["location"][:8]) == (303, "/sign-in")
    assert (await root.get("/organizations")).status == 303


# ------------------------------------------------------------------------------------------------ identity providers


async def test_an_identity_provider_is_tried_made_changed_and_deleted(place: Place) -> None:
    root, path = await superadmin(place), "/operator/identity-providers"
    async with FakeIdp() as idp:
        fields = {
            "name": "Example", "issuer": idp.issuer, "client_id": "tollhouse", "client_secret": "a secret of theirs",
            "enabled": "yes",
        }  # fmt: skip
        wrong = await send(root, f"{path}/new", **fields, act="create")
        assert wrong.status == 400  # a secret has no spaces
        fields["client_secret"] = "a-secret-of-theirs"
        tried = await send(root, f"{path}/new", **fields, act="test")
        assert tried.status == 200
        assert "describes itself" in tried.text
        assert await rows(place, "SELECT FROM identity_provider") == []
        made = await send(root, f"{path}/new", **fields, act="create")
        assert made.status == 303, made.text
        at = made.headers["location"]
        opened = await root.get(at)
        assert f"/sign-in/oidc/{at.rpartition('/')[2]}/callback" in opened.text
        assert "a-secret-of-theirs" not in opened.text + tried.text
        tested = await send(root, at, f"{at}/test")
        assert tested.status == 303
        assert "describes itself" in (await root.get(at)).text
    changed = await send(root, at, name="Mill", client_id="tollhouse", public="yes")
    assert changed.status == 303
    row = await last_row(place, PLATFORM_ID, "identity_provider.changed")
    assert row["details"]["name"] == {"from": "Example", "to": "Mill"}
    assert row["details"]["enabled"] == {"from": True, "to": False}
    assert row["details"]["has_secret"] == {"from": True, "to": False}
    assert "Mill" in (await root.get(path)).soup.text
    assert (await send(root, f"{at}/delete")).status == 303
    assert await rows(place, "SELECT FROM identity_provider") == []


async def test_an_issuer_that_does_not_answer_is_not_saved(place: Place) -> None:
    root, path = await superadmin(place), "/operator/identity-providers"
    fields = {"name": "Example", "issuer": "http://127.0.0.1:9", "client_id": "tollhouse", "client_secret": ""}
    refused = await send(root, f"{path}/new", **fields, act="create")
    assert refused.status == 400
    assert "127.0.0.1:9" in refused.text  # what was typed stays
    assert await rows(place, "SELECT FROM identity_provider") == []


# ------------------------------------------------------------------------------------------------------- the platform


async def test_the_ledger_is_proved_from_the_overview_and_the_result_stays_to_be_seen(place: Place) -> None:
    root = await superadmin(place)
    assert "Not proved yet" in (await root.get("/operator")).text
    assert (await send(root, "/operator", "/operator/proof")).status == 303
    assert "Every invariant was checked" in (await root.get("/operator")).text
    await place.change(
        "UPDATE credit_balance SET remaining_micros = remaining_micros + 1 WHERE organization_id = %s", DEMO_ID
    )
    broken = await send(root, "/operator", "/operator/proof")
    assert "The ledger does not hold" in broken.text
    assert "Does not hold" in (await root.get("/operator")).text


async def test_the_audit_log_is_narrowed_and_exported(place: Place) -> None:
    root, ada = await superadmin(place), await place.person("ada@example.com")
    await send(root, f"/operator/people/{ada.person_id}/suspend", reason="<script>alert(1)</script>")
    shown = await root.get(f"/operator/audit?action=person.suspended&object_id={ada.person_id}")
    assert len(shown.soup.select("tbody tr")) == 1
    assert "<script>alert(1)</script>" not in shown.text
    assert "<script>alert(1)</script>" in shown.soup.text
    assert shown.soup.select_one("tbody tr") is not None
    assert "None was" not in shown.text
    assert (await root.get("/operator/audit?action=no.such")).soup.select("tbody tr") == []
    exported = await root.get("/operator/audit/export?format=jsonl")
    assert exported.headers["content-disposition"].endswith('.jsonl"')
    assert '"person.suspended"' in exported.text
    await root.get(f"/operator/audit?organization={DEMO_ID}")
    assert (await last_row(place, DEMO_ID, "audit.read"))["actor"] == f"person:{root.person_id}"


async def test_the_outbox_is_for_test_mode(place: Place, database_url: str) -> None:
    root = await superadmin(place)
    assert (await root.get("/operator/outbox")).status == 200
    async with serving(database_url, mode="live") as live:
        await live.change(
            """INSERT INTO totp (person_id, secret, created_at, confirmed_at)
               VALUES (%s, '\\x00', now(), now())""",
            root.person_id,
        )
        await live.change("UPDATE session SET second_factor = true WHERE person_id = %s", root.person_id)
        visitor = Visitor(live.url, live.client, {live.site.cookie: root.cookies[place.site.cookie]}, root.person_id)
        assert (await visitor.get("/operator")).status == 200
        assert (await visitor.get("/operator/outbox")).status == 403

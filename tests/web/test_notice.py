"""What people are told of the credits of their organisation, how they put it away, and the mail of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from bs4 import BeautifulSoup

from tests.web.serving import Visitor, clock
from tests.web.team import Team, at, seen, send, sent_on, team
from tollhouse.flows.notice import AT_ONCE, write_mail


async def told(of: Team, kind: str = "low_balance", days_ago: int = 0) -> str:
    """The day of a notice that the organisation gets."""
    at_ = clock() - timedelta(days=days_ago)
    await of.place.change(
        """INSERT INTO notice (organization_id, kind, day, available_micros, threshold_micros, created_at)
           VALUES (%s, %s, %s, 99567890, 100000000, %s)""",
        of.id, kind, at_.date(), at_,
    )  # fmt: skip
    return at_.date().isoformat()


async def unread(visitor: Visitor) -> str:
    answer = await visitor.get("/notices/count", hx_request="true")
    assert answer.status == 200, answer.text
    assert BeautifulSoup(answer.text, "html.parser").find("html") is None, "a part, not a page"
    return seen(answer)


async def mails(of: Team) -> list[dict[str, Any]]:
    return await of.rows("SELECT recipient, kind, subject, body FROM mail ORDER BY recipient, kind")


async def test_a_notice_is_counted_listed_and_put_away_by_each_for_themself(database_url: str) -> None:
    async with team(database_url) as mill:
        ada, bob = mill.owner, await mill.join("bob@example.com", "member")
        assert "Nothing to tell" in seen(await ada.get("/notices"))
        assert await unread(ada) == ""
        await told(mill, "low_balance", 1)
        today = await told(mill, "depleted")
        await told(mill, "low_balance", 100)
        assert [await unread(one) for one in (ada, bob)] == ["2 2 new", "2 2 new"]
        page = await ada.get("/notices")
        assert [one["data-kind"] for one in page.soup.select("[data-kind]")] == ["depleted", "low_balance"]
        assert "99.56 are left, less than a fifth of the 500 of a month." in seen(page)
        page = await sent_on(ada, "/notices", {"kind": "depleted", "day": today})
        assert [one["data-kind"] for one in page.soup.select("[data-read]")] == ["depleted"]
        assert [await unread(one) for one in (ada, bob)] == ["1 1 new", "2 2 new"]
        for _ in range(2):  # and once more, which changes nothing
            page = await sent_on(ada, "/notices")
            assert len(page.soup.select("[data-read]")) == 2
        assert [await unread(one) for one in (ada, bob)] == ["", "2 2 new"]


async def test_nobody_sees_or_puts_away_what_is_another_organisations(database_url: str) -> None:
    async with team(database_url) as mill:
        outsider = await mill.place.person("eve@example.com")
        day = await told(mill)
        assert "Nothing to tell" in seen(await outsider.get("/notices"))
        assert (await send(outsider, "/notices", {"kind": "low_balance", "day": day})).status == 303
        assert await unread(outsider) == ""
        assert await unread(mill.owner) == "1 1 new"
        assert await mill.rows("SELECT FROM notice_read") == []


async def test_in_an_organisation_that_is_suspended_nothing_is_told(database_url: str) -> None:
    async with team(database_url) as mill:
        await told(mill)
        await mill.place.change("UPDATE organization SET suspended_at = now() WHERE id = %s", mill.id)
        assert await unread(mill.owner) == ""
        assert "Nothing to tell" in seen(await mill.owner.get("/notices"))
        assert (await send(mill.owner, "/notices")).status == 303
        assert await mill.rows("SELECT FROM notice_read") == []


async def test_what_is_no_notice_is_refused_or_changes_nothing(database_url: str) -> None:
    async with team(database_url) as mill:
        await told(mill)
        assert (await send(mill.owner, "/notices", {"kind": "low_balance", "day": "soon"})).status == 400
        assert (await send(mill.owner, "/notices", {"kind": "gift", "day": "2026-01-01"})).status == 303
        assert await unread(mill.owner) == "1 1 new"


async def test_mail_goes_once_to_owners_and_admins_who_want_it(database_url: str) -> None:
    async with team(database_url) as mill:
        for email, role in (("a@example.com", "admin"), ("b@example.com", "admin"), ("c@example.com", "member")):
            person = await mill.join(email, role)  # type: ignore[arg-type]
            if email == "b@example.com":
                page = await sent_on(person, "/settings/notifications", {})
                assert at(page, "#field-mail").get("checked") is None
        unconfirmed = await mill.join("d@example.com", "owner")
        await mill.place.change("UPDATE person SET email_verified_at = NULL WHERE id = %s", unconfirmed.person_id)
        await told(mill, "depleted")
        await told(mill, "low_balance", 2)  # nobody is told so late
        before = await mails(mill)
        for _ in range(2):
            await write_mail(mill.place.db, mill.place.site, clock())
        new = [one for one in await mails(mill) if one not in before]
        assert [(one["recipient"], one["kind"]) for one in new] == [
            ("a@example.com", "credits_depleted"), ("owner@example.com", "credits_depleted"),
        ]  # fmt: skip
        assert new[0]["subject"] == "Mill: no credits left"
        for part in ("99.56 are left", mill.place.site.url("/settings/credits"), "/settings/notifications"):
            assert part in new[0]["body"]


async def test_more_notices_than_are_taken_at_once_are_all_mailed(database_url: str) -> None:
    async with team(database_url) as mill:
        await mill.place.change(
            """INSERT INTO notice (organization_id, kind, day, available_micros, threshold_micros, created_at)
               SELECT %s, 'depleted', current_date + n, 0, 1000000, now() FROM generate_series(1, %s) n""",
            mill.id, AT_ONCE * 2,
        )  # fmt: skip
        await write_mail(mill.place.db, mill.place.site, clock())
        assert len([one for one in await mails(mill) if one["kind"] == "credits_depleted"]) == AT_ONCE * 2


async def test_who_turns_mail_off_and_on_finds_it_so_and_keeps_what_else_they_prefer(database_url: str) -> None:
    async with team(database_url) as mill:
        bob = await mill.join("bob@example.com", "member")
        page = await bob.get("/settings/notifications")
        assert "Owners and admins get the mail" in seen(page)
        assert at(page, "#field-mail").get("checked") is not None, "on, unless somebody turned it off"
        await send(bob, "/settings/notifications", {})
        await mill.place.change("UPDATE preference SET about = 'Baker' WHERE subject_id = %s", bob.person_id)
        page = await sent_on(bob, "/settings/notifications", {"mail": "yes"})
        assert at(page, "#field-mail").get("checked") is not None
        assert await mill.rows("SELECT about, mail_notices FROM preference") == [
            {"about": "Baker", "mail_notices": True}
        ]

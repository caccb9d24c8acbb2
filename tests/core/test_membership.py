"""The rules of organisations and who belongs to them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core import membership
from tollhouse.core.errors import BadRequest, Conflict, Forbidden
from tollhouse.core.membership import BUSINESS_TYPES, INVITATION_LASTS, INVITATIONS_OPEN_MAX, OWNED_MAX, Invitation

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
SENT = Invitation(
    UUID(int=1), UUID(int=2), "bob@example.com", "admin", "person:1", NOON, NOON + INVITATION_LASTS, None, None
)
People = st.frozensets(st.uuids(), max_size=4)


@given(People, st.uuids())
def test_an_owner_goes_only_when_another_stays(owners: frozenset[UUID], leaving: UUID) -> None:
    if any(owner != leaving for owner in owners):
        membership.check_owner_remains(owners, leaving)
    else:
        with pytest.raises(Conflict, match="Make somebody else an owner first"):
            membership.check_owner_remains(owners, leaving)


@given(People, st.uuids())
def test_who_is_no_superadmin_is_never_the_last_one(superadmins: frozenset[UUID], person: UUID) -> None:
    membership.check_superadmin_remains(superadmins - {person}, person)
    if superadmins - {person}:
        membership.check_superadmin_remains(superadmins | {person}, person)
    else:
        with pytest.raises(Conflict):
            membership.check_superadmin_remains({person}, person)


@given(st.timedeltas(timedelta(), timedelta(days=30)))
def test_an_invitation_is_open_for_exactly_seven_days(age: timedelta) -> None:
    if age < timedelta(days=7):
        membership.check_open(SENT, NOON + age)
    else:
        with pytest.raises(Conflict, match="expired"):
            membership.check_open(SENT, NOON + age)


def test_an_invitation_that_was_answered_or_withdrawn_is_open_no_more() -> None:
    for closed in (replace(SENT, accepted_at=NOON), replace(SENT, revoked_at=NOON)):
        with pytest.raises(Conflict):
            membership.check_open(closed, NOON)


@pytest.mark.parametrize(
    ("email", "verified", "may"),
    [
        ("bob@example.com", True, True),
        ("bob@example.com", False, False),
        ("eve@example.com", True, False),
        ("bob@example.com.evil.example", True, False),
        ("", True, False),
    ],
)
def test_an_invitation_is_for_one_address_that_was_proved(email: str, verified: bool, may: bool) -> None:
    if may:
        membership.check_invited(SENT, email, verified=verified)
    else:
        with pytest.raises(Forbidden):
            membership.check_invited(SENT, email, verified=verified)


def test_how_many_one_may_own_and_invite() -> None:
    membership.check_may_own_more(OWNED_MAX - 1)
    membership.check_room_for_invitation(INVITATIONS_OPEN_MAX - 1)
    with pytest.raises(Conflict):
        membership.check_may_own_more(OWNED_MAX)
    with pytest.raises(Conflict):
        membership.check_room_for_invitation(INVITATIONS_OPEN_MAX)


def test_every_business_type_of_the_list_may_be_chosen() -> None:
    for one in BUSINESS_TYPES:
        membership.check_business_type(one)
    membership.check_business_type("school", before="school")
    with pytest.raises(BadRequest, match="There are: general"):
        membership.check_business_type("school", before="general")


def test_who_is_no_member_may_nothing() -> None:
    with pytest.raises(Forbidden, match="not a member"):
        membership.check_role_may(None, "organization.read")
    with pytest.raises(Forbidden, match="admin or owner"):
        membership.check_role_may("member", "members.manage")
    membership.check_role_may("admin", "members.manage")
    for permission in ("organization.own", "platform"):
        with pytest.raises(Forbidden):
            membership.check_role_may("admin", permission)

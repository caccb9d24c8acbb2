"""Whoever comes near organisation A, and what is expected of each: the table of tests/security/test_outsider.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from tollhouse.core.access import ROLES, SCOPES, Permission

ALL_SCOPES = ("gateway", "credits", "act_as", "manage")
NONE: frozenset[Permission] = frozenset()
_OF_KEYS = frozenset[Permission]().union(*(SCOPES[scope] for scope in ALL_SCOPES))  # type: ignore[index]
_OF_END_USERS = SCOPES["gateway"] | SCOPES["credits"]
EVERYTHING = frozenset({"any"})  # canaries of every kind


@dataclass(frozen=True, slots=True)
class Caller:
    """`home` A: of organisation A, where what is allowed is done to A. `refused`: what every route of the API and the
    gateway answers, whatever it needs. `sees`: the kinds of canaries that may come out to this one, where it is let
    in. `page`: None for those who come with no cookie that a page could know."""

    name: str
    permissions: frozenset[Permission] = NONE
    home: Literal["A", "elsewhere"] = "elsewhere"
    is_person: bool = False
    refused: int | None = None
    refused_by_teller: int | None = None
    sees: frozenset[str] = frozenset()
    page: Literal["nobody", "held", "suspended", "signed in"] | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def with_headers(self, headers: Mapping[str, str]) -> Caller:
        return replace(self, headers=headers)


def _person(name: str, permissions: frozenset[Permission], **more: object) -> Caller:
    return Caller(name, permissions, is_person=True, page="signed in", **more)  # type: ignore[arg-type]


# Names and addresses of the people in it.
_MEMBERS_SEE = frozenset({"organization", "owner", "admin", "member", "suspended", "half", "former", "own_model"})
_SHARED = frozenset({"shared_user"})  # an end user whom A and B both call by this name
_ROWS = (
    # of organisation A
    _person("owner", ROLES["owner"], home="A", sees=EVERYTHING),
    _person("admin", ROLES["admin"], home="A", sees=EVERYTHING),
    _person("member", ROLES["member"], home="A", sees=_MEMBERS_SEE),
    Caller("key with gateway", SCOPES["gateway"], "A"),
    Caller("key with credits", SCOPES["credits"], "A", sees=frozenset({"reservation", "end_user", "grant"})),
    Caller("key with act_as", SCOPES["act_as"], "A", sees=frozenset({"end_user", "shared_user"})),
    Caller("key with manage", SCOPES["manage"], "A", sees=EVERYTHING),
    Caller("end user of A", _OF_END_USERS, "A"),
    # those who were, or are not yet
    Caller("key that is revoked", refused=401),
    Caller("key that is expired", refused=401),
    Caller("suspended admin", refused=403, page="suspended"),
    Caller("half signed admin", refused=401, page="held"),
    _person("former admin", ROLES["owner"], sees=frozenset({"former"})),  # now in their personal organisation
    # others
    Caller("nobody", refused=401, page="nobody"),
    Caller("garbage", refused=401),
    _person("owner of B", ROLES["owner"], sees=_SHARED),
    Caller("key of B", _OF_KEYS, sees=_SHARED),
    Caller("end user of B", _OF_END_USERS),
    _person("owner of a shut one", NONE, sees=frozenset({"stranger"})),
    Caller("key of a shut one", refused=403),
    _person("superadmin", ROLES["owner"] | {"platform"}, sees=EVERYTHING),  # in their personal organisation
    Caller("operator", SCOPES["operator"], sees=EVERYTHING),
    # who name whom they may not speak for: the end user of A in B's organisation is another, without a trace of A's
    Caller("key of B naming A's user", _OF_KEYS, sees=_SHARED),
    Caller("key of B naming A", _OF_KEYS, sees=_SHARED),
    Caller("end user of B naming A's user", _OF_END_USERS, refused_by_teller=403),
    _person("owner of B naming A's user", ROLES["owner"], refused_by_teller=403, sees=_SHARED),
)  # fmt: skip
CALLERS: dict[str, Caller] = {row.name: row for row in _ROWS}
OPERATORS = ("superadmin", "operator")


def may(policy: str, caller: Caller) -> bool:
    """What a policy of tests/test_policies.py says of somebody who is let in at all."""
    if policy.startswith("the teller: "):
        return bool(SCOPES[policy.removeprefix("the teller: ")] & caller.permissions)  # type: ignore[index]
    if policy.startswith("in person, or "):
        return caller.is_person or policy.removeprefix("in person, or ") in caller.permissions
    if policy.startswith("in person"):
        needed = policy.removeprefix("in person").removeprefix(": ")
        return caller.is_person and (not needed or _has(needed, caller))
    return _has(policy, caller)


def _has(any_of: str, caller: Caller) -> bool:
    return not caller.permissions.isdisjoint(any_of.split(" or "))

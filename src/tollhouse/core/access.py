"""Who may do what: one table for the roles of members and the scopes of keys. Every route names a permission of it."""

from collections.abc import Iterable, Mapping
from typing import Literal

from tollhouse.core.errors import Forbidden
from tollhouse.core.key import Scope

Role = Literal["owner", "admin", "member"]
Permission = Literal[
    "models.use",  # call models, run capabilities, read what there is of both
    "credits.use",  # read the balance and the ledger, reserve and settle
    "act_as",  # ... on behalf of an end user of the host application
    "organization.read",  # its name, its members and what it has set
    "organization.manage",  # its name, settings, limits
    "organization.own",  # hand it on, delete it
    "members.manage",  # invite, change roles, remove
    "keys.manage",
    "connections.manage",  # connections to providers
    "issuers.manage",  # whose tokens are trusted
    "audit.read",
    "privacy.manage",  # export and erase what is known of others
    "platform",  # everything that operators do
]

_MEMBER: frozenset[Permission] = frozenset({"models.use", "credits.use", "organization.read"})
_ADMIN: frozenset[Permission] = _MEMBER | {
    "organization.manage", "members.manage", "keys.manage", "connections.manage", "issuers.manage", "audit.read",
    "privacy.manage",
}  # fmt: skip

ROLES: Mapping[Role, frozenset[Permission]] = {
    "member": _MEMBER,
    "admin": _ADMIN,
    "owner": _ADMIN | {"organization.own"},
}

# A key with `manage` does what an admin does, but uses nothing: for that it needs the scopes of use. What is the
# owner's own is no key's.
SCOPES: Mapping[Scope, frozenset[Permission]] = {
    "gateway": frozenset({"models.use"}),
    "credits": frozenset({"credits.use"}),
    "act_as": frozenset({"act_as"}),
    "manage": _ADMIN - {"models.use", "credits.use"},
    "operator": frozenset({"platform"}),
}

# The scopes that a signed-in person, or the holder of a trusted issuer's token, has where a key's are asked for.
OF_PEOPLE: frozenset[Scope] = frozenset({"gateway", "credits"})


def of_scopes(scopes: Iterable[Scope], *, platform: bool) -> frozenset[Permission]:
    """What a key may do. The scope `operator` counts on keys of the platform only."""
    held = [SCOPES[scope] for scope in scopes if platform or scope != "operator"]
    return frozenset[Permission]().union(*held)


def of_role(role: Role, *, superadmin: bool) -> frozenset[Permission]:
    """What a member may do in an organisation. A superadmin's rights over the platform come on top."""
    return ROLES[role] | {"platform"} if superadmin else ROLES[role]


def scopes_with(permission: Permission) -> list[Scope]:
    """Which scopes bring the permission, for the refusal that says what is missing."""
    return [scope for scope, permissions in SCOPES.items() if permission in permissions]


def roles_with(permission: Permission) -> list[Role]:
    return [role for role, permissions in ROLES.items() if permission in permissions]


def check_may_give(giver: Role, role: Role) -> None:
    """Forbidden unless a member of the role `giver` may give (or take) the role: owners every one, admins all but
    owner."""
    if giver == "owner" or (giver == "admin" and role != "owner"):
        return
    raise Forbidden(
        f"Your role here is {giver}: it cannot give or take the role {role}. Ask an owner of the organisation."
    )

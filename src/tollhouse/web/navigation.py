"""What the sidebar leads to. A row is shown to those who may open its page."""

from collections.abc import Callable
from dataclasses import dataclass

from tollhouse.core.access import Permission


@dataclass(frozen=True, slots=True)
class Entry:
    """`needs` None: for everybody who is signed in. `exact`: it is not lit on the pages below its path."""

    path: str
    label: str
    icon: str
    needs: Permission | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """`label` empty: the first group, which needs none."""

    label: str
    entries: tuple[Entry, ...]


GROUPS: tuple[Group, ...] = (
    Group(
        "",
        (
            Entry("/chat", N_("Chat"), "message-square"),
            Entry("/dashboard", "Dashboard", "chart-column"),
        ),
    ),
    Group(
        "Organisation",
        (
            Entry("/admin", "Overview", "layout-dashboard", "organization.manage", exact=True),
            Entry("/admin/members", "Members", "users", "organization.read"),
            Entry("/admin/keys", "API keys", "key-round", "keys.manage"),
            Entry("/admin/connections", "Connections", "plug", "connections.manage"),
            Entry("/admin/issuers", "Trusted issuers", "badge-check", "issuers.manage"),
            Entry("/admin/audit", "Audit log", "history", "audit.read"),
            Entry("/admin/privacy", "Privacy", "shield", "privacy.manage"),
            Entry("/admin/settings", "Settings", "settings", "organization.manage"),
        ),
    ),
    Group("Platform", (Entry("/operator", "Operators' area", "shield", "platform"),)),
)


def shown(may: Callable[[Permission], bool]) -> list[Group]:
    """The groups with what this person may open; empty ones are left out."""
    groups = [
        Group(group.label, tuple(one for one in group.entries if one.needs is None or may(one.needs)))
        for group in GROUPS
    ]
    return [group for group in groups if group.entries]

"""What the sidebar leads to. A row is shown to those who may open its page."""

from collections.abc import Callable
from dataclasses import dataclass

from tollhouse.core.access import Permission
from tollhouse.web.language import N_


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
            Entry("/chat", "Chat", "message-square"),
            Entry("/dashboard", N_("Dashboard"), "chart-column"),
            Entry("/playground", N_("Playground"), "columns-3", "models.use"),
            Entry("/account/ai", N_("Models"), "bot"),
        ),
    ),
    Group(
        N_("Organisation"),
        (
            Entry("/admin", N_("Overview"), "layout-dashboard", "organization.manage", exact=True),
            Entry("/admin/members", N_("Members"), "users", "organization.read"),
            Entry("/admin/ai", N_("Assistants"), "bot", "organization.manage"),
            Entry("/admin/keys", N_("API keys"), "key-round", "keys.manage"),
            Entry("/admin/connections", N_("Connections"), "plug", "connections.manage"),
            Entry("/admin/issuers", N_("Trusted issuers"), "badge-check", "issuers.manage"),
            Entry("/admin/audit", N_("Audit log"), "history", "audit.read"),
            Entry("/admin/privacy", N_("Privacy"), "shield", "privacy.manage"),
            Entry("/admin/settings", N_("Settings"), "settings", "organization.manage"),
        ),
    ),
    Group(N_("Platform"), (Entry("/operator", N_("Operators' area"), "shield", "platform"),)),
)


def shown(may: Callable[[Permission], bool]) -> list[Group]:
    """The groups with what this person may open; empty ones are left out."""
    groups = [
        Group(group.label, tuple(one for one in group.entries if one.needs is None or may(one.needs)))
        for group in GROUPS
    ]
    return [group for group in groups if group.entries]

"""The table of pages: every row says who may come in."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from starlette.responses import Response

from tollhouse.core.access import Permission
from tollhouse.web.forms import BODY_MAX
from tollhouse.web.visit import Visit


class Access(Enum):
    """Who may open a page that no permission guards."""

    ANYONE = "anyone"
    SIGNED_IN = "signed in"  # whoever it is; the handler shows what is theirs
    HELD = "held"  # a session that waits for its second factor, or is suspended


ANYONE, SIGNED_IN, HELD = Access.ANYONE, Access.SIGNED_IN, Access.HELD
SUPERADMIN: Permission = "platform"
Handler = Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Page:
    path: str
    handler: Handler
    methods: tuple[str, ...]
    needs: Access | Permission
    form_max: int = BODY_MAX


def page(
    path: str, handler: Handler, methods: Iterable[str] = ("GET",), *, needs: Access | Permission,
    form_max: int = BODY_MAX,
) -> Page:  # fmt: skip
    """One row of the table. `path` as Starlette writes them, such as /keys/{key_id:uuid}. GET answers HEAD too.
    `form_max`: the largest form that is read, in bytes."""
    return Page(path, handler, tuple(methods), needs, form_max)

"""Where a page of a list ended, as text for who asks for the next one."""

import base64
from uuid import UUID

from tollhouse.core.errors import BadRequest


def cursor_of(kind: str, place: str) -> str:
    """`kind` names the list, so that the cursor of one is none of another."""
    return base64.urlsafe_b64encode(f"{kind}:{place}".encode()).rstrip(b"=").decode()


def place_in(kind: str, cursor: str) -> str:
    """The place again. BadRequest for a cursor that no page of this list gave."""
    try:
        found, _, place = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(":")
    except ValueError:
        found, place = "", ""
    if found != kind or not place:
        raise _refusal()
    return place


def id_in(kind: str, cursor: str | None) -> UUID | None:
    """The id at which the page before ended; None for the first page."""
    if cursor is None:
        return None
    try:
        return UUID(place_in(kind, cursor))
    except ValueError:
        raise _refusal() from None


def number_in(kind: str, cursor: str | None) -> int | None:
    """The number of the row at which the page before ended; None for the first page."""
    if cursor is None:
        return None
    place = place_in(kind, cursor)
    if not (place.isascii() and place.isdigit() and len(place) < 19):
        raise _refusal()
    return int(place)


def _refusal() -> BadRequest:
    return BadRequest("This cursor is none that a page gave. Begin again without one.", "cursor")

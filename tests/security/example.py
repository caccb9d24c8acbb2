"""One valid request for a route, as organisation A would send it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_PLACE = re.compile(r"<(\w+)>")
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")

# What stands at a place of a path that has this name: an object of organisation A, made by tests/security/world.py.
OBJECTS = {
    "assistant_id": "assistant",
    "connection_id": "connection",
    "document_id": "document",
    "id_": "experiment",
    "invitation_id": "invitation",
    "issuer_id": "issuer",
    "key_id": "key",
    "limit_id": "limit",
    "organization_id": "organization",
    "own_model_id": "own_model",
    "person_id": "member",
    "provider_id": "identity_provider",
    "request_id": "request",
    "reservation_id": "reservation",
    "task_id": "task",
    "token": "token",
}
# What stands in paths and is the same for every organisation.
WORDS = {"model_id": "sandbox", "name": "question_generation", "plan": "bare", "slug": "marcus"}


@dataclass(frozen=True, slots=True)
class Example:
    """`body`: JSON of the API and the gateway, fields of a page's form. `<text>` in it, in `query` and in `headers`
    becomes a text, `<member>`, `<key>` ... the id of such an object of organisation A.

    `status` is what its rightful sender gets; `differs` what others get who may send it too, by name of the caller
    (tests/security/callers.py). `objects`: which object a place of the path is, where OBJECTS says another. `ends`: the
    organisation, or somebody's place in it, is gone afterwards. `tells`: the kinds of canaries that it shows to whoever
    may ask, because what they ask with says that they may know (the link of an invitation)."""

    body: Any = None
    status: int = 200
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    objects: Mapping[str, str] = field(default_factory=dict)
    differs: Mapping[str, int] = field(default_factory=dict)
    ends: bool = False
    tells: tuple[str, ...] = ()

    def kinds(self, path: str) -> dict[str, str]:
        """The objects that it names, by their places in the path and in the rest."""
        places = [name for name in _PARAMETER.findall(path) if name not in WORDS or name in self.objects]
        named = {name: self.objects.get(name) or OBJECTS[name] for name in places}
        text = f"{self.body!r} {self.query} {self.headers!r}"
        return named | {f"<{kind}>": kind for kind in _PLACE.findall(text) if kind != "text"}

    def in_path(self, path: str) -> dict[str, str]:
        """Those in the path alone."""
        return {place: kind for place, kind in self.kinds(path).items() if not place.startswith("<")}


def at(path: str, found: Mapping[str, str]) -> str:
    """The path with the ids at its places."""
    return _PARAMETER.sub(lambda match: found.get(match[1]) or WORDS[match[1]], path)


def filled(value: Any, found: Mapping[str, str], text: str) -> Any:
    """A body, a query or headers with the ids and the text at their places."""
    match value:
        case str():
            return _PLACE.sub(lambda place: text if place[1] == "text" else found[place[0]], value)
        case dict():
            return {name: filled(one, found, text) for name, one in value.items()}
        case list():
            return [filled(one, found, text) for one in value]
        case _:
            return value

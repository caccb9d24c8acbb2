"""A JSON document that satisfies a JSON schema: what the sandbox answers when it is asked for JSON.

Understands what providers understand of schemas: type, enum, const, properties, required, items, minItems, maxItems,
minLength, maxLength, minimum, maximum, their exclusive forms, anyOf and oneOf (the first that can be made), and `$ref`
within the document. Other keywords are passed over. Strings are readable, and labelled like all that the sandbox says.
"""

import math
from collections.abc import Callable
from typing import Any, Final

from tollhouse.outside.story import LABEL, sentence

_DEPTH_FULL: Final = 6  # deeper than this, only what must be there
_DEPTH_MAX: Final = 60
_COST_MAX: Final = 100_000  # a character costs one, and a value this:
_VALUE_COST: Final = 10
_ROOM_FOR_LABEL: Final = 40
_FORMATS: Final = {
    "date-time": "2025-01-01T00:00:00Z",
    "date": "2025-01-01",
    "time": "00:00:00Z",
    "email": "sandbox@example.com",
    "uri": "https://example.com/sandbox",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class Unsatisfiable(ValueError):
    """No document can be made for the schema, or only one that is far too large. The message says why."""


def sample(schema: object, seed: bytes) -> Any:
    """A document for the schema, a pure function of the two; `seed` is at least 5 bytes. Raises `Unsatisfiable`."""
    try:
        return _Maker(schema, seed).make(schema, 0)
    except (OverflowError, RecursionError):
        raise Unsatisfiable("its numbers are too large, or it is nested too deeply") from None


class _Maker:
    """One document. The numbers that choose among possibilities follow one another and begin with the seed's."""

    def __init__(self, root: object, seed: bytes) -> None:
        self._root = root
        self._number = int.from_bytes(seed[:5])
        self._cost = 0

    def make(self, schema: object, depth: int) -> Any:
        self._spend(_VALUE_COST)
        if schema is True:
            schema = {}
        if not isinstance(schema, dict) or depth > _DEPTH_MAX:
            raise Unsatisfiable("nothing satisfies it, or it never ends")
        if "$ref" in schema:
            return self.make(_both(schema, "$ref", self._resolve(schema["$ref"])), depth + 1)
        if "const" in schema:
            return schema["const"]
        if isinstance(choices := schema.get("enum"), list) and choices:
            return choices[self._next() % len(choices)]
        for name in ("anyOf", "oneOf"):
            if isinstance(options := schema.get(name), list) and options:
                return self._first(schema, name, options, depth)
        return self._by_type(_type_of(schema))(schema, depth)

    def _by_type(self, name: object) -> Callable[[dict[str, Any], int], Any]:
        match name:
            case "object":
                return self._object
            case "array":
                return self._array
            case "string":
                return self._string
            case "integer":
                return self._integer
            case "number":
                return self._float
            case "boolean":
                return lambda schema, depth: self._next() % 2 == 0
            case "null":
                return lambda schema, depth: None
        raise Unsatisfiable(f"there is no type {str(name)[:40]!r}")

    def _first(self, schema: dict[str, Any], name: str, options: list[Any], depth: int) -> Any:
        """The first that can be made. Deep inside, where a schema may contain itself, the last: by custom it ends."""
        reason = Unsatisfiable("it offers no choice")
        for option in options if depth <= _DEPTH_FULL else reversed(options):
            try:
                return self.make(_both(schema, name, option), depth + 1)
            except Unsatisfiable as problem:
                reason = problem
        raise reason

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        known = schema.get("properties")
        properties: dict[str, Any] = known if isinstance(known, dict) else {}
        listed = schema.get("required")
        required: list[Any] = listed if isinstance(listed, list) else []
        names = properties if depth < _DEPTH_FULL else [name for name in properties if name in required]
        more = schema.get("additionalProperties", True)
        wanted = {name: properties[name] for name in names}
        wanted |= {name: more for name in required if isinstance(name, str) and name not in properties}
        return {name: self.make(inner, depth + 1) for name, inner in wanted.items()}

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        least, most = _sizes(schema, "minItems", "maxItems")
        natural = 2 + self._next() % 3 if depth <= 2 else int(depth < _DEPTH_FULL)
        length = _within(natural, least, most)
        return [self.make(schema.get("items", True), depth + 1) for _ in range(length)]

    def _string(self, schema: dict[str, Any], depth: int) -> str:
        least, most = _sizes(schema, "minLength", "maxLength")
        ready = _FORMATS.get(str(schema.get("format")))
        if ready is not None and len(ready) == _within(len(ready), least, most):
            return ready
        self._spend(least)
        text = sentence(self._next())
        if most is None or most >= _ROOM_FOR_LABEL:
            text = f"{LABEL} {text}"
        while len(text) < least:
            text += " " + sentence(self._next())
        self._spend(len(text))
        return text[: _within(len(text), least, most)]

    def _integer(self, schema: dict[str, Any], depth: int) -> int:
        low, high = _number(schema, "minimum"), _number(schema, "maximum")
        above, below = _number(schema, "exclusiveMinimum"), _number(schema, "exclusiveMaximum")
        lows = [math.ceil(low)] if low is not None else []
        lows += [math.floor(above) + 1] if above is not None else []
        highs = [math.floor(high)] if high is not None else []
        highs += [math.ceil(below) - 1] if below is not None else []
        least = max(lows) if lows else min([1, *highs])
        most = min(highs) if highs else least + 9
        if least > most:
            raise Unsatisfiable("no whole number lies between its bounds")
        return least + self._next() % (most - least + 1)

    def _float(self, schema: dict[str, Any], depth: int) -> float:
        low, high = _number(schema, "minimum"), _number(schema, "maximum")
        above, below = _number(schema, "exclusiveMinimum"), _number(schema, "exclusiveMaximum")
        lows = [bound for bound in (low, above) if bound is not None]
        highs = [bound for bound in (high, below) if bound is not None]
        least = max(lows) if lows else min([0, *(bound - 10 for bound in highs)])
        most = min(highs) if highs else least + 10
        shares = (
            1 + self._next() % 15,
            8,
        )  # of 16 parts between the bounds; the middle, when rounding spoils the first
        for found in (*(least + (most - least) * share / 16 for share in shares), least, most):
            if _holds(found, low, high, above, below):
                return found
        raise Unsatisfiable("no number lies between its bounds")

    def _resolve(self, reference: object) -> object:
        """What a reference such as `#/$defs/answer` names."""
        found = self._root
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise Unsatisfiable("it refers to another document")
        for part in reference.removeprefix("#").split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                raise Unsatisfiable(f"it has nothing at {reference[:80]!r}")
            found = found[name]
        return found

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _spend(self, cost: int) -> None:
        self._cost += cost
        if self._cost > _COST_MAX:
            raise Unsatisfiable("its documents are too large")


def _both(schema: dict[str, Any], name: str, other: object) -> object:
    """What satisfies the other schema and all that stands in this one beside `name`."""
    if not isinstance(other, dict):
        return other
    beside = {key: value for key, value in schema.items() if key != name}
    found = {**beside, **other}
    mine, its = beside.get("properties"), other.get("properties")
    if isinstance(mine, dict) and isinstance(its, dict):
        found["properties"] = {**mine, **its}
    here, there = beside.get("required"), other.get("required")
    if isinstance(here, list) and isinstance(there, list):
        found["required"] = [*here, *there]
    return found


def _type_of(schema: dict[str, Any]) -> object:
    """The first type that is allowed; where none is named, that which the other keywords are about."""
    match schema.get("type"):
        case [first, *_]:
            return first
        case str(name):
            return name
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema or "minItems" in schema else "string"


def _number(schema: dict[str, Any], name: str) -> int | float | None:
    value = schema.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _sizes(schema: dict[str, Any], least: str, most: str) -> tuple[int, int | None]:
    """The smallest and the largest number of items or characters; None: no largest."""
    low, high = _number(schema, least), _number(schema, most)
    found = math.ceil(low or 0), None if high is None else math.floor(high)
    if found[1] is not None and found[0] > found[1]:
        raise Unsatisfiable(f"its {least} is above its {most}")
    return found


def _within(natural: int, least: int, most: int | None) -> int:
    return max(least, natural if most is None else min(natural, most))


def _holds(value: float, low: float | None, high: float | None, above: float | None, below: float | None) -> bool:
    return (
        (low is None or low <= value)
        and (high is None or value <= high)
        and (above is None or above < value)
        and (below is None or value < below)
    )

"""JSON schemas (Draft 2020-12) that operators define: which are taken, and what of a document does not fit one.

A schema refers to nothing outside itself, so that reading one never reaches for the network.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import SchemaError
from referencing import Registry

from tollhouse.core.errors import BadRequest

DIALECT = "https://json-schema.org/draft/2020-12/schema"
BYTES_MAX = 64 * 1024
DEPTH_MAX = 40
FAULTS_MAX = 50
# Keywords whose value is a schema, a list of schemas, or schemas by name.
_ONE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames",
        "unevaluatedItems", "unevaluatedProperties")  # fmt: skip
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "dependentSchemas", "$defs")
# Those that look at the same value again: a circle of these never ends.
_SAME_VALUE = frozenset({"not", "if", "then", "else", "allOf", "anyOf", "oneOf", "dependentSchemas"})
# They change what a reference means, and nobody needs them within one document.
_REFUSED = ("$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$vocabulary")

META = Draft202012Validator.META_SCHEMA

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """What does not fit: `path` is the way to it (empty: the document itself), `message` what it must be."""

    path: tuple[str, ...]
    message: str


def check(schema: Schema, field: str) -> None:
    """BadRequest, naming the part, unless this is a schema of an object that can be worked with; `field` is where the
    schema stands in the request."""
    if len(msgspec.json.encode(schema)) > BYTES_MAX:
        raise BadRequest(f"{field} is larger than {BYTES_MAX} bytes. Send a plainer schema.", field)
    try:
        Draft202012Validator.check_schema(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    except SchemaError as error:
        where = ".".join((field, *_path(error)))
        raise BadRequest(f"{where} is no JSON schema (Draft 2020-12): it {_message(error)}.", where) from None
    except RecursionError:
        raise BadRequest(f"{field} is nested too deeply. Send a plainer schema.", field) from None
    if schema.get("$schema", DIALECT).rstrip("#") != DIALECT:
        raise BadRequest(f"{field} is read as Draft 2020-12: leave $schema out, or make it {DIALECT!r}.", field)
    if schema.get("type") != "object":
        raise BadRequest(f'{field} must be the schema of an object: give it "type": "object".', field)
    _check_references(schema, field)


def faults(schema: Schema, document: object) -> list[Fault]:
    """What of the document does not fit the schema, each once; at most FAULTS_MAX."""
    found: dict[Fault, None] = {}
    try:
        for error in Draft202012Validator(schema, registry=Registry()).iter_errors(document):
            found |= dict.fromkeys(_faults(error))
            if len(found) >= FAULTS_MAX:
                break
    except RecursionError:
        return [Fault((), "must not be nested so deeply")]
    return list(found)[:FAULTS_MAX]


def _check_references(root: Schema, field: str) -> None:
    """Every reference leads to a place in the same document, and none of them in a circle on the same value."""
    again: dict[int, list[Schema]] = {}  # by identity: which schemas look at the value that this one looks at
    waiting: list[tuple[Schema, int]] = [(root, 0)]
    while waiting:
        schema, depth = waiting.pop()
        if id(schema) in again:
            continue
        if depth > DEPTH_MAX:
            raise BadRequest(f"{field} is nested too deeply. Send a plainer schema.", field)
        for name in _REFUSED:
            if name in schema:
                raise BadRequest(f"{field} uses {name}, which is not supported. Use $ref and $defs.", field)
        inner = list(_inner(schema))
        again[id(schema)] = [one for name, one in inner if name in _SAME_VALUE]
        if "$ref" in schema:
            again[id(schema)].append(_resolve(root, schema["$ref"], field))
            inner.append(("$ref", again[id(schema)][-1]))
        waiting += [(one, depth + (name != "$ref")) for name, one in inner]
    if _circular(root, again):
        raise BadRequest(f"{field} refers to itself without end. Let a $ref lead to a part of the value.", field)


def _inner(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The schemas right inside this one, each with the keyword that it stands under."""
    for name in _ONE:
        if isinstance(schema.get(name), dict):
            yield name, schema[name]
    for name in _LISTS:
        yield from ((name, one) for one in schema.get(name, ()) if isinstance(one, dict))
    for name in _NAMED:
        yield from ((name, one) for one in schema.get(name, {}).values() if isinstance(one, dict))


def _resolve(root: Schema, reference: str, field: str) -> Schema:
    found: object = root
    if "%" in reference or (reference != "#" and not reference.startswith("#/")):
        raise BadRequest(f"{field} refers to {reference[:80]!r}. Only references such as #/$defs/name work.", field)
    for part in reference.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not Draft202012Validator(META).is_valid(found):
        raise BadRequest(f"{field} refers to {reference[:80]!r}, and has no schema there. Add it.", field)
    return found


def _circular(root: Schema, again: dict[int, list[Schema]]) -> bool:
    """Whether following what looks at the same value comes back to where it was."""
    done: set[int] = set()
    for start in list(again):
        way: list[tuple[int, Iterator[Schema]]] = [(start, iter(again[start]))] if start not in done else []
        on_way = {start}
        while way:
            here, rest = way[-1]
            following = next(rest, None)
            if following is None:
                way.pop()
                on_way.discard(here)
                done.add(here)
            elif id(following) in on_way:
                return True
            elif id(following) not in done:
                on_way.add(id(following))
                way.append((id(following), iter(again[id(following)])))
    return False


def _faults(error: ValidationError) -> Iterator[Fault]:
    """One fault, or one for each field that is missing or unknown."""
    match error.validator:
        case "required" if isinstance(error.instance, dict):
            wanted: Any = error.validator_value
            for name in wanted:
                if name not in error.instance:
                    yield Fault((*_path(error), name), "is required")
        case "additionalProperties" if error.validator_value is False and isinstance(error.instance, dict):
            for name in _unknown(error.instance, error.schema if isinstance(error.schema, dict) else {}):
                yield Fault((*_path(error), name), "is not known here; remove it, or look for a typing mistake")
        case _:
            yield Fault(_path(error), _message(error))


def _unknown(document: dict[str, Any], schema: Schema) -> list[str]:
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    return [name for name in document if name not in known and not any(re.search(one, name) for one in patterns)]


def _message(error: ValidationError | SchemaError) -> str:
    """What the value must be. It never quotes the value, which may be long and is somebody's own."""
    wanted: Any = error.validator_value
    match error.validator:
        case "type":
            return f"must be of type {wanted if isinstance(wanted, str) else ' or '.join(wanted)}"
        case "enum":
            return f"must be one of {', '.join(msgspec.json.encode(one).decode() for one in wanted)}"[:300]
        case "const":
            return f"must be {msgspec.json.encode(wanted).decode()}"[:300]
        case "minLength":
            return "must not be empty" if wanted == 1 else f"must have at least {wanted} characters"
        case "maxLength":
            return f"must have at most {wanted} characters"
        case "minItems":
            return f"must have at least {wanted} items"
        case "maxItems":
            return f"must have at most {wanted} items"
        case "minimum":
            return f"must be at least {wanted}"
        case "maximum":
            return f"must be at most {wanted}"
        case "exclusiveMinimum":
            return f"must be more than {wanted}"
        case "exclusiveMaximum":
            return f"must be less than {wanted}"
        case "pattern":
            return f"must match {wanted}"
        case "format":
            return f"must be a valid {wanted}"
    return f"does not fit {error.validator!r} of its schema"


def _path(error: ValidationError | SchemaError) -> tuple[str, ...]:
    return tuple(map(str, error.absolute_path))

"""JSON of the sandbox: it satisfies the schema that was asked for, whatever the schema is."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tollhouse.core.token import count_tokens
from tollhouse.outside.sample import Unsatisfiable, sample
from tollhouse.outside.sandbox import Sandbox

SEED = b"a seed"
Schema = dict[str, Any]


def bounds(low: str, high: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    """A lower and an upper bound, either of which may be missing."""
    return st.tuples(values, values).flatmap(
        lambda pair: st.sampled_from(({}, {low: min(pair)}, {high: max(pair)}, {low: min(pair), high: max(pair)}))
    )


NAMES = st.text("abcdef", min_size=1, max_size=3)
STRINGS = bounds("minLength", "maxLength", st.integers(0, 300)).map(lambda sizes: {"type": "string", **sizes})
INTEGERS = bounds("minimum", "maximum", st.integers(-1000, 1000)).map(lambda sizes: {"type": "integer", **sizes})
NUMBERS = bounds("minimum", "maximum", st.floats(-1000, 1000)).map(lambda sizes: {"type": "number", **sizes})
FORMATS = st.sampled_from(("date-time", "email", "uuid", "no such format")).map(
    lambda name: {"type": "string", "format": name}
)
PLAIN: st.SearchStrategy[Schema] = st.one_of(
    STRINGS,
    INTEGERS,
    NUMBERS,
    FORMATS,
    st.sampled_from(({"type": "boolean"}, {"type": "null"}, {"type": ["integer", "null"]}, {})),
    st.recursive(st.none() | st.booleans() | st.integers() | NAMES, st.lists).map(lambda value: {"const": value}),
    st.lists(NAMES | st.integers(), min_size=1, max_size=3).map(lambda values: {"enum": values}),
)


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Schema]) -> Schema:
    properties = draw(st.dictionaries(NAMES, inner, max_size=4))
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": draw(st.booleans()),
    }


def arrays(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    sizes = bounds("minItems", "maxItems", st.integers(0, 6))
    return st.tuples(inner, sizes).map(lambda pair: {"type": "array", "items": pair[0], **pair[1]})


def choices(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options})


SCHEMAS = st.recursive(PLAIN, lambda inner: objects(inner) | arrays(inner) | choices(inner), max_leaves=12)


async def answered(text: str, form: Any, **options: Any) -> tuple[int, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "response_format": form, **options}
    reply = await Sandbox(token_delay_ms=0).send("chat", "m", json.dumps(body).encode(), stream=False)
    return reply.status, json.loads(await reply.read(1 << 20))


def form_of(schema: Schema) -> Schema:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


@settings(max_examples=300)
@given(schema=SCHEMAS, seed=st.binary(min_size=5, max_size=8))
def test_what_is_made_satisfies_its_schema(schema: Schema, seed: bytes) -> None:
    Draft202012Validator(schema).validate(sample(schema, seed))


@given(schema=SCHEMAS, seed=st.binary(min_size=5, max_size=8))
def test_the_same_schema_and_seed_always_give_the_same(schema: Schema, seed: bytes) -> None:
    assert sample(schema, seed) == sample(json.loads(json.dumps(schema)), seed)


@given(schema=SCHEMAS)
def test_a_definition_stands_for_what_it_defines(schema: Schema) -> None:
    whole = {
        "$defs": {"one/of them": schema},
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/one~1of them"}},
        "required": ["a"],
    }
    Draft202012Validator(whole).validate(sample(whole, SEED))


def test_strings_are_labelled_readable_and_differ_from_one_another() -> None:
    found = sample({"type": "array", "items": {"type": "string"}, "minItems": 12}, SEED)
    assert len(set(found)) == 12
    assert all(text.startswith("[sandbox] ") and text.endswith(".") for text in found)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]},
        {"type": "object", "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}, "required": ["next"]},
        {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}},
        {"type": "object", "properties": {"parent": {"$ref": "#"}}},
    ],
)
def test_a_schema_that_contains_itself_comes_to_an_end(schema: Schema) -> None:
    Draft202012Validator(schema).validate(sample(schema, SEED))


def test_what_stands_beside_a_choice_or_a_reference_holds_too() -> None:
    named = {"properties": {"name": {"type": "string"}}, "required": ["name"]}
    aged = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    for schema in ({"anyOf": [aged], **named}, {"$ref": "#/$defs/aged", "$defs": {"aged": aged}, **named}):
        assert set(sample(schema, SEED)) == {"name", "age"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#/$defs/nothing"},
        {"type": "array", "minItems": 10**12},
        {"type": "string", "minLength": 10**12},
        {"type": "string", "minLength": 5, "maxLength": 4},
        {"type": "integer", "minimum": 0.2, "maximum": 0.8},
        {"type": "number", "minimum": 1, "exclusiveMaximum": 1},
        {"type": "number", "minimum": -(10**400), "maximum": 10**400},
        {"type": "colour"},
        {"not": {}, "type": "object", "required": ["a"], "additionalProperties": False},
    ],
)
async def test_what_cannot_be_made_is_refused_at_once_with_the_reason(schema: Schema) -> None:
    with pytest.raises(Unsatisfiable):
        sample(schema, SEED)
    status, answer = await answered("hi", form_of(schema))
    assert status == 400
    assert "has no sample" in answer["error"]["message"]


@pytest.mark.parametrize(
    "bound", [{"exclusiveMinimum": 0, "exclusiveMaximum": 1}, {"minimum": 7, "maximum": 7}, {"exclusiveMaximum": -3}]
)
@pytest.mark.parametrize("kind", ["number", "integer"])
def test_bounds_hold_also_where_there_is_little_room(kind: str, bound: Schema) -> None:
    schema = {"type": kind, **bound}
    if kind == "integer" and "exclusiveMinimum" in bound:
        with pytest.raises(Unsatisfiable):
            sample(schema, SEED)
    else:
        Draft202012Validator(schema).validate(sample(schema, SEED))


POINT = {"type": "object", "properties": {"x": {"type": "integer"}, "label": {"type": "string"}}, "required": ["x"]}


async def test_the_sandbox_answers_json_when_it_is_asked_for_json() -> None:
    status, answer = await answered("Where?", form_of(POINT))
    said = answer["choices"][0]["message"]["content"]
    assert status == 200
    Draft202012Validator(POINT).validate(json.loads(said))
    assert answer["usage"]["completion_tokens"] == count_tokens(said)
    assert await answered("Where?", form_of(POINT)) == (status, answer)
    assert (await answered("Where then?", form_of(POINT)))[1]["choices"] != answer["choices"]


async def test_any_object_will_do_when_there_is_no_schema() -> None:
    _, answer = await answered("Where?", {"type": "json_object"})
    assert json.loads(answer["choices"][0]["message"]["content"])["text"].startswith("[sandbox] ")
    _, text = await answered("Where?", {"type": "text"})
    assert text["choices"][0]["message"]["content"].startswith("[sandbox] ")


async def test_a_maximum_and_a_directive_cut_json_like_any_answer() -> None:
    for reason, options in (("length", {"max_tokens": 5}), ("stop", {})):
        text = "Where? sandbox:tokens=5" if reason == "stop" else "Where?"
        _, answer = await answered(text, form_of(POINT), **options)
        assert (answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]) == (5, reason)


async def test_a_stream_says_the_same_json() -> None:
    _, answer = await answered("Where?", form_of(POINT))
    body = {"model": "m", "messages": [{"role": "user", "content": "Where?"}], "response_format": form_of(POINT)}
    reply = await Sandbox(token_delay_ms=0).send("chat", "m", json.dumps(body | {"stream": True}).encode(), stream=True)
    *parts, _ = (b"".join([segment async for segment in reply.segments()])).removesuffix(b"\n\n").split(b"\n\n")
    chunks = [json.loads(part.removeprefix(b"data: ")) for part in parts]
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert said == answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    "form",
    [{"type": "yaml"}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {"schema": {}}}, "json", []],
)
async def test_a_form_that_does_not_exist_is_refused(form: Any) -> None:
    status, answer = await answered("hi", form)
    assert status == 400
    assert "response_format" in answer["error"]["message"]

"""OpenAI's embeddings: what is read, what is sent on, and what an answer says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.errors import BadRequest
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect import NotAnAnswer, embeddings
from tollhouse.gateway.dialect.embeddings import EmbeddingRequest

SETTLED = Settled(1_234_567, 1_500_000, 0, 10, late=False, replayed=False)


def read(**fields: Any) -> EmbeddingRequest:
    return embeddings.read(msgspec.json.encode({"model": "m", "input": "Hello"} | fields))


@pytest.mark.parametrize("given", ["Hello", ["Hello", "you"], [1, 2, 3], [[1, 2], [3]]])
def test_a_request_goes_to_its_provider_as_it_came_under_the_providers_name_of_the_model(given: object) -> None:
    fields = {"model": "m", "input": given, "encoding_format": "base64", "dimensions": 256, "user": "u"}
    request = embeddings.read(msgspec.json.encode(fields))

    assert msgspec.json.decode(request.native("theirs")) == fields | {"model": "theirs"}
    assert msgspec.json.decode(read(input=given).native("theirs")) == {"model": "theirs", "input": given}


@pytest.mark.parametrize(
    ("given", "least", "estimate"),
    [("€" * 10, 30, None), (["€" * 10, "abc"], 33, None), ([7] * 50, 50, 50), ([[7] * 50, [7] * 9], 59, 59)],
)
def test_texts_are_bounded_by_their_bytes_and_tokens_are_counted(
    given: object, least: int, estimate: int | None
) -> None:
    size = read(input=given).size

    assert least <= size.input_tokens <= least + 20
    assert size.output_tokens == 0
    assert estimate is None or size.input_estimate == estimate


@pytest.mark.parametrize(
    ("fields", "field", "remedy"),
    [
        ({"input": ""}, "input", "at least one"),
        ({"input": []}, "input", "at least one"),
        ({"input": ["a", ""]}, "input", "at least one"),
        ({"input": [[1], []]}, "input", "at least one"),
        ({"input": ["a", 1]}, "input", "texts only"),
        ({"input": [1, [1]]}, "input", "texts only"),
        ({"input": ["a"] * 2049}, "input", "several requests"),
        ({"input": [[1]] * 2049}, "input", "several requests"),
        ({"input": [-1]}, "input[0]", "Correct it"),
        ({"input": [1.5]}, "input[0]", "Correct it"),
        ({"input": None}, "input", "Correct it"),
        ({"encoding_format": "int8"}, "encoding_format", "Correct it"),
        ({"dimensions": 0}, "dimensions", "Correct it"),
        ({"stream": True}, "stream", "Take it out"),
    ],
)
def test_what_cannot_be_embedded_is_refused_by_name_with_a_remedy(
    fields: dict[str, Any], field: str, remedy: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**fields)

    assert caught.value.field == field
    assert remedy in str(caught.value)


def test_the_most_inputs_and_more_tokens_than_that_are_taken() -> None:
    assert read(input=["a"] * 2048).size.input_tokens >= 2048
    assert read(input=[1] * 8000).size.input_estimate == 8000


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6
)


@given(st.binary() | anything.map(msgspec.json.encode))
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        embeddings.read(body)


@given(anything)
def test_whatever_the_input_is_it_is_read_or_refused(given: object) -> None:
    try:
        request = read(input=given)
    except BadRequest:
        return
    assert request.size.input_tokens > 0
    assert msgspec.json.decode(request.native("m"))["input"] == given


ANSWER = (
    b'{"object":"list","model":"text-embedding-3-small","data":[{"object":"embedding","index":0,'
    b'"embedding":[0.10,-2e-3]},{"object":"embedding","index":1,"embedding":"AACAPw=="}],'
    b'"usage":{"prompt_tokens":7,"total_tokens":7}}'
)


def test_an_answer_is_passed_on_as_it_came_to_the_last_digit_with_the_charge_in_it() -> None:
    answer, usage = embeddings.read_answer(ANSWER)
    assert usage == Usage(7, 0)
    embeddings.charge(answer, usage, SETTLED)
    told = msgspec.json.encode(answer)

    assert b"[0.10,-2e-3]" in told
    assert msgspec.json.decode(told) == msgspec.json.decode(ANSWER) | {
        "usage": {"prompt_tokens": 7, "total_tokens": 7, "credits": "1.234567", "cost_usd": "0.0015"}
    }


def test_an_estimate_is_marked_and_an_unknown_charge_left_out() -> None:
    answer: dict[str, Any] = {}
    embeddings.charge(answer, Usage(7, 0, estimated=True), None)

    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7, "estimated": True}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (b'{"prompt_tokens":0,"total_tokens":0}', Usage(0, 0)),
        (b'{"prompt_tokens":-1}', None),
        (b'{"prompt_tokens":1000000000000}', None),
        (b'{"prompt_tokens":"7"}', None),
        (b"null", None),
        (b"[]", None),
    ],
)
def test_a_count_that_cannot_be_true_counts_as_missing(usage: bytes, expected: Usage | None) -> None:
    body = b'{"data":[{"index":0,"embedding":[1]}],"usage":' + usage + b"}"

    assert embeddings.read_answer(body)[1] == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"data":[]}',
        b'{"data":{}}',
        b'{"data":[1]}',
        b'{"data":[{"index":0}]}',
        b'{"data":[{"embedding":7}]}',
        b'{"error":{"message":"no"}}',
        b"<html>",
        ANSWER[:-5],
    ],
)
def test_what_is_no_answer_is_not_taken_for_one(body: bytes) -> None:
    with pytest.raises(NotAnAnswer):
        embeddings.read_answer(body)


vectors = st.fixed_dictionaries({"data": st.lists(st.dictionaries(st.sampled_from(["embedding", "index"]), anything))})


@given(st.binary() | anything.map(msgspec.json.encode) | vectors.map(msgspec.json.encode))
def test_nothing_that_a_provider_sends_raises_anything_else(body: bytes) -> None:
    try:
        answer, _ = embeddings.read_answer(body)
    except NotAnAnswer:
        return
    assert msgspec.json.decode(msgspec.json.encode(answer)) == msgspec.json.decode(body)

"""The sandbox's embeddings: honest vectors of length 1, the same in both notations, near where texts are alike."""

from __future__ import annotations

import json
import math
import struct
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.token import count_tokens
from tollhouse.outside import Deadlines, ProviderLacks, ProviderTimeout, ProviderUnreachable, ReplyBroken
from tollhouse.outside.sandbox import Sandbox

MEGABYTES = 1 << 26
SHORT = Deadlines(connect=0.05, first_byte=0.05, idle=0.05, total=0.2)
SMALL, LARGE = "text-embedding-3-small", "text-embedding-3-large"


async def asked(given: object, model: str = SMALL, **options: Any) -> tuple[int, Any]:
    body = json.dumps({"model": model, "input": given, **options}).encode()
    reply = await Sandbox(deadlines=SHORT).send("embeddings", model, body, stream=False)
    return reply.status, json.loads(await reply.read(MEGABYTES))


async def vectors(given: object, model: str = SMALL, **options: Any) -> list[list[float]]:
    status, body = await asked(given, model, **options)
    assert status == 200, body
    assert [one["index"] for one in body["data"]] == list(range(len(body["data"])))
    return [one["embedding"] for one in body["data"]]


def likeness(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_an_answer_has_openais_form_and_counts_the_input_only() -> None:
    text = "Why is the sky blue?"
    status, body = await asked([text, "And the sea?"])
    assert status == 200
    tokens = count_tokens(text) + count_tokens("And the sea?")
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert (body["object"], body["model"]) == ("list", SMALL)
    assert [set(one) for one in body["data"]] == [{"object", "index", "embedding"}] * 2


@pytest.mark.parametrize("given", ["one text", ["one text"], [5, 6, 7], [[5, 6, 7]]])
async def test_texts_and_tokens_may_come_alone_or_in_lists(given: Any) -> None:
    [vector] = await vectors(given)
    assert len(vector) == 1536


@given(
    given=st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=4)
    | st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9), min_size=1, max_size=3),
    dimensions=st.integers(1, 40),
)
async def test_every_vector_has_length_1_and_as_many_dimensions_as_asked(given: Any, dimensions: int) -> None:
    found = await vectors(given, dimensions=dimensions)
    assert found == await vectors(given, dimensions=dimensions)
    assert [len(one) for one in found] == [dimensions] * len(given)
    assert all(abs(math.hypot(*one) - 1) < 1e-5 for one in found)


async def test_base64_holds_the_same_numbers_as_floats_of_four_bytes() -> None:
    [numbers] = await vectors("the same", LARGE)
    _, body = await asked("the same", LARGE, encoding_format="base64")
    packed = b64decode(body["data"][0]["embedding"])
    assert len(numbers) == 3072
    assert list(struct.unpack("<3072f", packed)) == numbers


async def test_texts_that_share_words_are_nearer_than_texts_that_do_not() -> None:
    question, near, far = await vectors(
        ["How do I roast coffee at home?", "To roast coffee at home, take a pan.", "Bicycles need new tyres now."]
    )
    assert likeness(question, near) > likeness(question, far) + 0.2
    [otherwise] = await vectors("How do I roast coffee at home?", "another-model")
    assert otherwise != question


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        ("", {}, "none of them empty"),
        ([], {}, "none of them empty"),
        (["a", ""], {}, "none of them empty"),
        (None, {}, "must be a text"),
        ([[]], {}, "texts only, or tokens only"),
        (["a", [1]], {}, "texts only, or tokens only"),
        ([1, "a"], {}, "texts only, or tokens only"),
        (["a"] * 2049, {}, "2048"),
        (["a " * 8193], {}, "8192"),
        ([[1] * 8000] * 38, {}, "300000"),
        ("a", {"dimensions": 1537}, "1 to 1536"),
        ("a", {"dimensions": "9"}, "1 to 1536"),
        ("a", {"encoding_format": "hex"}, "float or base64"),
        ("sandbox:wings=2", {}, "sandbox:wings does not exist"),
    ],
)
async def test_what_it_cannot_embed_it_refuses_with_the_remedy(given: Any, options: Any, said: str) -> None:
    status, body = await asked(given, **options)
    assert status == 400
    assert body["error"]["type"] == "invalid_request_error"
    assert said in body["error"]["message"]


async def test_directives_in_the_last_text_give_faults() -> None:
    assert (await asked(["fine", "sandbox:fault=status:503"]))[0] == 503
    assert (await asked(["sandbox:fault=status:503", "fine"]))[0] == 200
    assert "usage" not in (await asked("sandbox:fault=nousage"))[1]
    assert (await asked("sandbox:fault=error:0"))[1]["error"]["code"] == "sandbox_fault"
    for directive, fault in (
        ("refuse", ProviderUnreachable), ("hang", ProviderTimeout), ("cut:1", ReplyBroken), ("stall:1", ProviderTimeout)
    ):  # fmt: skip
        with pytest.raises(fault):
            await asked(f"sandbox:fault={directive}")


async def test_it_does_not_count_tokens_for_others() -> None:
    with pytest.raises(ProviderLacks):
        await Sandbox().send("count_tokens", "m", b"{}", stream=False)

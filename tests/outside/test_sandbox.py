"""The sandbox: deterministic answers, honest counts, faults on demand."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.token import count_messages, count_tokens
from tollhouse.outside import Deadlines, Provider, ProviderTimeout, ProviderUnreachable, ReplyBroken, ReplyTooLarge
from tollhouse.outside.sandbox import Sandbox
from tollhouse.outside.script import Fault, Script, UnknownDirective, read_script

MEGABYTE = 1 << 20
SHORT = Deadlines(connect=0.05, first_byte=0.05, idle=0.05, total=0.2)


def ask(text: str, **options: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], **options}


async def plain(request: dict[str, Any]) -> tuple[int, Any]:
    reply = await Sandbox().send("chat", "m", json.dumps(request).encode(), stream=False)
    return reply.status, json.loads(await reply.read(MEGABYTE))


async def raw_stream(request: dict[str, Any]) -> bytes:
    body = json.dumps(request | {"stream": True}).encode()
    reply = await Sandbox(token_delay_ms=0).send("chat", "m", body, stream=True)
    return b"".join([segment async for segment in reply.segments()])


async def events(request: dict[str, Any]) -> list[Any]:
    """The JSON of each event; the test fails when the stream does not end with [DONE]."""
    *parts, done, nothing = (await raw_stream(request)).split(b"\n\n")
    assert (done, nothing) == (b"data: [DONE]", b"")
    return [json.loads(part.removeprefix(b"data: ")) for part in parts]


async def streamed_until_fault(text: str, **options: Any) -> tuple[list[str], BaseException | None]:
    body = json.dumps(ask(text, stream=True, **options)).encode()
    reply = await Sandbox(token_delay_ms=0, deadlines=SHORT).send("chat", "m", body, stream=True)
    received: list[str] = []
    try:
        async for segment in reply.segments():
            received.append(segment.decode())
    except (ReplyBroken, ProviderTimeout) as fault:
        return received, fault
    return received, None


def said(chunks: list[Any]) -> str:
    return "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])


async def test_the_same_question_always_gets_the_same_bytes() -> None:
    assert await plain(ask("Why is the sky blue?")) == await plain(ask("Why is the sky blue?"))
    assert await raw_stream(ask("Why?")) == await raw_stream(ask("Why?"))


async def test_another_model_or_question_gets_another_answer() -> None:
    answers = [
        await plain(ask("Why?")),
        await plain(ask("Why not?")),
        await plain(ask("Why?", model="gpt-4o")),
    ]
    assert len({answer["choices"][0]["message"]["content"] for _, answer in answers}) == 3


async def test_an_answer_is_labelled_and_quotes_the_question() -> None:
    _, answer = await plain(ask("Why  is the sky\nblue? " + "x" * 100))
    text = answer["choices"][0]["message"]["content"]
    assert text.startswith("[sandbox] ")
    assert '"Why is the sky blue? ' + "x" * 39 + '"' in text
    assert answer["system_fingerprint"] == "sandbox"


@given(text=st.text(max_size=100), most=st.none() | st.integers(1, 200), tokens=st.none() | st.integers(0, 300))
async def test_the_usage_is_what_the_published_tokenizer_counts(
    text: str, most: int | None, tokens: int | None
) -> None:
    directive = "" if tokens is None else f" sandbox:tokens={tokens}"
    request = ask(text.replace("sandbox:", "") + directive) | ({} if most is None else {"max_tokens": most})
    _, answer = await plain(request)
    choice, usage = answer["choices"][0], answer["usage"]
    assert usage["completion_tokens"] == count_tokens(choice["message"]["content"])
    assert usage["prompt_tokens"] == count_messages(request["messages"])
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    if tokens is not None:
        assert usage["completion_tokens"] == min(tokens, most or tokens)
        assert (choice["finish_reason"] == "length") == (most is not None and tokens > most)
    elif most is not None:
        assert usage["completion_tokens"] <= most


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_a_maximum_cuts_the_answer_to_exactly_that(name: str) -> None:
    _, answer = await plain(ask("Tell me a story", **{name: 5}))
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_a_maximum_above_the_natural_length_changes_nothing() -> None:
    _, natural = await plain(ask("Tell me a story"))
    assert (await plain(ask("Tell me a story", max_tokens=10_000)))[1] == natural
    assert natural["choices"][0]["finish_reason"] == "stop"
    assert 30 < natural["usage"]["completion_tokens"] < 250


async def test_the_newer_name_of_the_maximum_wins() -> None:
    _, answer = await plain(ask("Tell me", max_tokens=50, max_completion_tokens=4))
    assert answer["usage"]["completion_tokens"] == 4


async def test_a_stream_says_the_same_as_a_plain_answer() -> None:
    _, answer = await plain(ask("Tell me a story"))
    chunks = await events(ask("Tell me a story", stream_options={"include_usage": True}))
    assert said(chunks) == answer["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"] == answer["usage"]
    assert {chunk["id"] for chunk in chunks} == {answer["id"]}


async def test_a_stream_has_a_role_one_chunk_per_token_an_end_and_usage_in_this_order() -> None:
    chunks = await events(ask("sandbox:tokens=7", stream_options={"include_usage": True}))
    assert len(chunks) == 1 + 7 + 1 + 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all(count_tokens(said([chunk])) == 1 for chunk in chunks[1:8])
    assert chunks[8]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert chunks[9]["choices"] == []
    assert [chunk["usage"] for chunk in chunks[:9]] == [None] * 9


async def test_usage_is_not_streamed_to_who_did_not_ask() -> None:
    assert all("usage" not in chunk for chunk in await events(ask("hi")))


async def test_several_choices_are_all_counted() -> None:
    _, answer = await plain(ask("Tell me", n=3))
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    assert answer["usage"]["completion_tokens"] == sum(map(count_tokens, texts))
    chunks = await events(ask("Tell me", n=3))
    streamed = ["".join(said([c]) for c in chunks if c["choices"][0]["index"] == index) for index in range(3)]
    assert streamed == texts


async def test_parts_of_a_message_are_read_like_a_text() -> None:
    parts = [{"type": "text", "text": "sandbox:tokens=3"}, {"type": "image_url", "image_url": {"url": "https://a/b"}}]
    _, answer = await plain({"model": "m", "messages": [{"role": "user", "content": parts}]})
    assert answer["usage"]["completion_tokens"] == 3


async def test_only_the_last_user_message_directs() -> None:
    messages = [
        {"role": "user", "content": "sandbox:fault=status:500"},
        {"role": "assistant", "content": "sandbox:fault=refuse"},
        {"role": "user", "content": "sandbox:tokens=2"},
        {"role": "assistant", "content": "sandbox:fault=refuse"},
    ]
    status, answer = await plain({"model": "m", "messages": messages})
    assert (status, answer["usage"]["completion_tokens"]) == (200, 2)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"model": 1}',
        b'{"model": "m"}',
        b'{"model": "m", "messages": []}',
        b'{"model": "m", "messages": ["hi"]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 0}',
        b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": "7"}',
        b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "n": true}',
        b'{"model": "m", "messages": [{"role": "user", "content": "sandbox:speed=9"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "sandbox:fault=gremlin"}]}',
    ],
)
async def test_a_request_that_cannot_be_answered_is_a_400_with_a_reason(body: bytes) -> None:
    reply = await Sandbox().send("chat", "m", body, stream=False)
    error = json.loads(await reply.read(MEGABYTE))["error"]
    assert (reply.status, error["type"]) == (400, "invalid_request_error")
    assert error["message"].endswith(".")


@pytest.mark.parametrize("stream", [False, True])
async def test_refuse_is_no_connection(stream: bool) -> None:
    with pytest.raises(ProviderUnreachable):
        await Sandbox().send(
            "chat", "m", json.dumps(ask("sandbox:fault=refuse", stream=stream)).encode(), stream=stream
        )


@pytest.mark.parametrize("status", [400, 429, 503, 529])
async def test_status_is_an_error_body_in_openais_shape(status: int) -> None:
    answered, body = await plain(ask(f"please sandbox:fault=status:{status}"))
    assert answered == status
    assert set(body["error"]) == {"message", "type", "param", "code"}


async def test_garbage_is_a_page_of_html_with_status_200() -> None:
    reply = await Sandbox().send("chat", "m", json.dumps(ask("sandbox:fault=garbage")).encode(), stream=False)
    assert (reply.status, reply.content_type) == (200, "text/html")
    assert (await reply.read(MEGABYTE)).startswith(b"<html>")


async def test_hang_lasts_until_the_first_byte_deadline() -> None:
    with pytest.raises(ProviderTimeout) as late:
        await Sandbox(deadlines=SHORT).send("chat", "m", json.dumps(ask("sandbox:fault=hang")).encode(), stream=False)
    assert late.value.phase == "first_byte"


async def test_a_first_byte_later_than_the_deadline_never_comes() -> None:
    with pytest.raises(ProviderTimeout):
        await Sandbox(deadlines=SHORT).send("chat", "m", json.dumps(ask("sandbox:first=60")).encode(), stream=False)


async def test_cut_breaks_the_stream_after_n_tokens_without_any_ending() -> None:
    received, fault = await streamed_until_fault("sandbox:fault=cut:4", stream_options={"include_usage": True})
    assert isinstance(fault, ReplyBroken)
    assert len(received) == 1 + 4
    assert all('"finish_reason":null' in segment and '"usage":null' in segment for segment in received)


async def test_stall_is_silence_after_n_tokens_until_the_idle_deadline() -> None:
    received, fault = await streamed_until_fault("sandbox:fault=stall:4")
    assert isinstance(fault, ProviderTimeout)
    assert fault.phase == "idle"
    assert len(received) == 1 + 4


async def test_error_is_an_event_in_the_stream_and_its_end() -> None:
    received, fault = await streamed_until_fault("sandbox:fault=error:4")
    assert fault is None
    assert len(received) == 1 + 4 + 1
    assert received[-1].startswith('data: {"error":{')


async def test_a_slow_stream_ends_at_the_total_deadline() -> None:
    received, fault = await streamed_until_fault("sandbox:delay=20 sandbox:tokens=500")
    assert isinstance(fault, ProviderTimeout)
    assert fault.phase == "total"
    assert 1 < len(received) <= 11


@pytest.mark.parametrize("fault", ["cut:4", "stall:4"])
async def test_a_plain_answer_breaks_in_the_middle(fault: str) -> None:
    body = json.dumps(ask(f"sandbox:fault={fault}")).encode()
    reply = await Sandbox(deadlines=SHORT).send("chat", "m", body, stream=False)
    with pytest.raises((ReplyBroken, ProviderTimeout)):
        await reply.read(MEGABYTE)


async def test_nousage_leaves_out_the_usage_and_nothing_else() -> None:
    _, answer = await plain(ask("sandbox:fault=nousage"))
    assert "usage" not in answer
    chunks = await events(ask("sandbox:fault=nousage", stream_options={"include_usage": True}))
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_an_answer_beyond_the_cap_is_refused() -> None:
    reply = await Sandbox().send("chat", "m", json.dumps(ask("sandbox:tokens=1000")).encode(), stream=False)
    with pytest.raises(ReplyTooLarge):
        await reply.read(500)


async def test_a_closed_reply_gives_no_more() -> None:
    reply = await Sandbox(token_delay_ms=0).send("chat", "m", json.dumps(ask("hi", stream=True)).encode(), stream=True)
    segments = aiter(reply.segments())
    await anext(segments)
    await reply.close()
    await reply.close()
    assert [segment async for segment in segments] == []


async def test_a_stream_keeps_the_pace_it_was_given() -> None:
    async def seconds(delay_ms: int) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await events(ask(f"sandbox:tokens=10 sandbox:delay={delay_ms}"))
        return loop.time() - began

    assert await seconds(10) >= 0.1 > await seconds(0)


def test_the_sandbox_is_a_provider() -> None:
    provider: Provider = Sandbox()
    assert isinstance(provider, Sandbox)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("nothing to see", Script()),
        ("say sandbox:tokens=5.", Script(tokens=5)),
        ("sandbox:delay=0 sandbox:first=7", Script(delay_ms=0, first_ms=7)),
        ("sandbox:fault=cut:0", Script(fault=Fault("cut", 0))),
        ("sandbox:fault=nousage\nsandbox:tokens=1", Script(tokens=1, fault=Fault("nousage"))),
        ("sandbox:tokens=1 sandbox:tokens=2", Script(tokens=2)),
        ("a-sandbox:tokens=1", Script()),
    ],
)
def test_a_directive_is_a_word_of_its_own(text: str, script: Script) -> None:
    assert read_script(text) == script


@pytest.mark.parametrize(
    "text",
    [
        "sandbox:tokens=many",
        "sandbox:tokens=99999999",
        "sandbox:fault=cut",
        "sandbox:fault=refuse:1",
        "sandbox:fault=status:99",
        "sandbox:mood=good",
    ],
)
def test_a_directive_that_does_not_exist_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(UnknownDirective, match=r"use|takes"):
        read_script(text)

"""Answers of OpenAI's chat completions in one piece: what a provider sent is read, what a client gets is written.

Source: OpenAI's API reference, chat completions. `reasoning_content` (DeepSeek) and `reasoning` (vLLM, Together) are
what compatible providers add for a model's thoughts.
"""

from typing import Any

import msgspec
from msgspec import Struct

from tollhouse.core.money import format_credits, format_usd
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect import NotAnAnswer
from tollhouse.gateway.dialect.meter import tokens
from tollhouse.gateway.dialect.neutral import Choice, Ended, Reasoning, Refusal, Text, ToolCall, Whole

_encode = msgspec.json.encode
# What decoding raises for bytes that are no JSON of the wanted shape.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ENDED: dict[str, Ended] = {
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class _Function(Struct):
    name: str
    arguments: str = ""


class _Call(Struct):
    function: _Function
    id: str | None = None


class _Message(Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None


class _Likely(Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _Token(_Likely):
    top_logprobs: list[_Likely] = []


class Logprobs(Struct):
    content: list[_Token] | None = None
    refusal: list[_Token] | None = None

    def neutral(self) -> dict[str, Any] | None:
        """OpenAI's shape, with nothing that is not of it; None when no token stands there."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found if any(found.values()) else None


class _Choice(Struct):
    message: _Message
    index: int = 0
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class _Completion(Struct):
    choices: list[_Choice]
    id: str | None = None
    usage: Any = None


_completion = msgspec.json.Decoder(_Completion)


def read_plain(body: bytes) -> tuple[dict[str, Any], Usage | None]:
    """A provider's answer as it came, and its usage. NotAnAnswer when it is none."""
    try:
        answer = msgspec.json.decode(body)
    except UNREADABLE:
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("choices"), list):
        raise NotAnAnswer("it is not a chat completion")
    return answer, read_usage(answer.get("usage"))


def count_plain(answer: dict[str, Any]) -> int:
    """The output tokens of an answer that does not say, at four characters each."""
    choices = (choice for choice in answer["choices"] if isinstance(choice, dict))
    return -(-sum(len(_encode(choice.get("message"))) for choice in choices) // 4)


def read_whole(body: bytes) -> Whole:
    """A provider's answer, neutral. NotAnAnswer when it is none."""
    try:
        read = _completion.decode(body)
    except UNREADABLE as error:
        raise NotAnAnswer(f"it is not a chat completion: {error}") from None
    if not read.choices:
        raise NotAnAnswer("it is a chat completion without choices")
    choices = sorted(read.choices, key=lambda choice: choice.index)
    return Whole(read.id or "", tuple(_neutral(choice) for choice in choices), read_usage(read.usage))


def _neutral(choice: _Choice) -> Choice:
    message = choice.message
    thought = message.reasoning_content or message.reasoning
    calls = message.tool_calls or ([_Call(message.function_call)] if message.function_call else [])
    parts: list[Text | ToolCall | Reasoning | Refusal] = []
    if thought:
        parts.append(Reasoning(thought))
    if message.content:
        parts.append(Text(message.content))
    if message.refusal:
        parts.append(Refusal(message.refusal))
    for slot, call in enumerate(calls):
        call_id = call.id or made_id(choice.index, slot)
        parts.append(ToolCall(call_id, call.function.name, call.function.arguments))
    logprobs = choice.logprobs.neutral() if choice.logprobs else None
    return Choice(tuple(parts), ended(choice.finish_reason, called=bool(calls)), logprobs=logprobs)


def made_id(choice: int, slot: int) -> str:
    """The id of a tool call whose provider gives none."""
    return f"call_{choice}_{slot}"


def ended(finish_reason: str | None, *, called: bool) -> Ended:
    """A model that was made to call a tool ends in `stop`, by OpenAI's own word; what counts is the call."""
    known = _ENDED.get(finish_reason or "stop")
    return known or ("tool_calls" if called else "stop")


def read_usage(usage: object) -> Usage | None:
    """OpenAI's usage object. None when it is missing or cannot be true; an explicit 0 is a count like any other."""
    if not isinstance(usage, dict):
        return None
    given, made = tokens(usage.get("prompt_tokens")), tokens(usage.get("completion_tokens"))
    if given is None or made is None:
        return None
    cached = min(tokens(_detail(usage, "prompt_tokens_details", "cached_tokens")) or 0, given)
    written = tokens(_detail(usage, "prompt_tokens_details", "cache_write_tokens")) or 0
    reasoning = tokens(_detail(usage, "completion_tokens_details", "reasoning_tokens")) or 0
    return Usage(given, made, cached, min(reasoning, made), cache_write_tokens=min(written, given - cached))


def _detail(usage: dict[str, Any], group: str, name: str) -> object:
    details = usage.get(group)
    return details.get(name) if isinstance(details, dict) else None


def usage_object(usage: Usage, settled: Settled | None) -> dict[str, Any]:
    """Our usage in OpenAI's shape with the charge beside it; what is not known, or not true, does not stand there."""
    given: dict[str, int] = {"cached_tokens": usage.cached_input_tokens}
    if usage.cache_write_tokens:
        given["cache_write_tokens"] = usage.cache_write_tokens
    figures: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.tokens,
        "prompt_tokens_details": given,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    return add_charge(figures, usage, settled)


def add_charge(figures: dict[str, Any], usage: Usage, settled: Settled | None) -> dict[str, Any]:
    """The same object, with the charge beside the vendor's own figures."""
    if settled is not None:
        figures["credits"] = format_credits(settled.charged_micros)
        figures["cost_usd"] = format_usd(settled.cost_nanos)
    if usage.estimated:
        figures["estimated"] = True
    return figures


def charge(answer: dict[str, Any], usage: Usage, settled: Settled | None) -> None:
    """See `Surface.charge`. The provider's own usage object stays where it was believed."""
    figures = answer.get("usage")
    if isinstance(figures, dict) and not usage.estimated:
        add_charge(figures, usage, settled)
    else:
        answer["usage"] = usage_object(usage, settled)


def write_answer(whole: Whole, model: str, created: int, *, function_call: bool) -> dict[str, Any]:
    """See `Surface.answer`. `function_call`: the one call of an answer stands where it stood before `tool_calls`."""
    choices = [_written(index, choice, function_call) for index, choice in enumerate(whole.choices)]
    return {
        "id": whole.id or made_answer_id(created),
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": choices,
    }


def made_answer_id(created: int) -> str:
    """The id of an answer whose provider gives none."""
    return f"chatcmpl-{created}"


def _written(index: int, choice: Choice, function_call: bool) -> dict[str, Any]:
    texts = [part.text for part in choice.parts if isinstance(part, Text)]
    refusals = [part.text for part in choice.parts if isinstance(part, Refusal)]
    thoughts = [part.text for part in choice.parts if isinstance(part, Reasoning) and part.text]
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts else None,
        "refusal": "".join(refusals) if refusals else None,
    }
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls and function_call:
        message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
    elif calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    return {
        "index": index,
        "message": message,
        "logprobs": choice.logprobs,
        "finish_reason": finish_reason(choice.ended, function_call),
    }


def finish_reason(ended: Ended, function_call: bool) -> str:
    """The neutral names are OpenAI's."""
    return "function_call" if function_call and ended == "tool_calls" else ended

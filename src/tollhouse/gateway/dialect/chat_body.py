"""A neutral prompt as the body of a chat completion request, for OpenAI and for providers that speak like it.

Thoughts of earlier turns are left out: the vendor that signed them is another one, and this dialect has no place for
them. A budget for thinking becomes the effort that is closest. The result of a tool holds only text, so its images
follow in the next message of the user, and an error is told in the text. Source: OpenAI's API reference.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from tollhouse.core.errors import BadRequest
from tollhouse.gateway.dialect.neutral import (
    AnswerForm,
    Image,
    Part,
    Prompt,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)

STOPS_MAX = 4
# A budget in tokens up to this is this effort.
_EFFORTS = ((2_048, "low"), (8_192, "medium"))


def body_of(prompt: Prompt, model: str, output_tokens: int) -> bytes:
    """See `Wire.request`."""
    if prompt.top_k is not None:
        raise BadRequest(
            "This model does not take `top_k`. Leave it out, or choose a model of another vendor.", "top_k"
        )
    if len(prompt.stop) > STOPS_MAX:
        raise BadRequest(f"This model takes at most {STOPS_MAX} texts in `stop`. Send fewer.", "stop")
    effort = _effort(prompt)
    wanted: dict[str, Any] = {
        "model": model,
        "messages": _messages(prompt),
        "max_tokens" if effort is None else "max_completion_tokens": output_tokens,
        "reasoning_effort": effort,
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "stop": list(prompt.stop) or None,
        "seed": prompt.seed,
        "frequency_penalty": prompt.frequency_penalty,
        "presence_penalty": prompt.presence_penalty,
        "logprobs": prompt.logprobs or None,
        "top_logprobs": prompt.top_logprobs,
        "n": prompt.answers if prompt.answers > 1 else None,
        "response_format": _form(prompt.form),
        "user": prompt.user,
    }
    if prompt.tools:
        wanted["tools"] = [_tool(tool) for tool in prompt.tools]
        wanted["tool_choice"] = _choice(prompt.tool_choice)
        wanted["parallel_tool_calls"] = prompt.parallel_tools
    if prompt.stream:
        wanted |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode({name: value for name, value in wanted.items() if value is not None})


def _effort(prompt: Prompt) -> str | None:
    if prompt.effort is not None or not prompt.thinking_tokens:
        return prompt.effort
    budget = prompt.thinking_tokens
    return next((effort for most, effort in _EFFORTS if budget <= most), "high")


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if prompt.system:
        messages.append({"role": "system", "content": _content(prompt.system)})
    for turn in prompt.turns:
        messages += _assistant(turn) if turn.role == "assistant" else _user(turn)
    return messages


def _user(turn: Turn) -> Iterable[dict[str, Any]]:
    """The results of tools come first: they must follow their calls at once."""
    results = [part for part in turn.parts if isinstance(part, ToolResult)]
    shown = [part for result in results for part in result.content if isinstance(part, Image)]
    said = [part for part in turn.parts if isinstance(part, Text | Image)]
    for result in results:
        texts = [part for part in result.content if isinstance(part, Text)]
        if result.is_error:
            texts = [Text("Error: "), *texts]
        yield {"role": "tool", "tool_call_id": result.call_id, "content": "".join(text.text for text in texts)}
    if shown or said:
        yield {"role": "user", "content": _content((*shown, *said))}


def _assistant(turn: Turn) -> Iterable[dict[str, Any]]:
    said = [part for part in turn.parts if isinstance(part, Text)]
    refusals = [part.text for part in turn.parts if isinstance(part, Refusal)]
    calls = [_call(part) for part in turn.parts if isinstance(part, ToolCall)]
    if not said and not refusals and not calls:
        return
    message: dict[str, Any] = {"role": "assistant", "content": _content(said) if said else None}
    if refusals:
        message["refusal"] = "".join(refusals)
    if calls:
        message["tool_calls"] = calls
    yield message


def _content(parts: Iterable[Part]) -> str | list[dict[str, Any]]:
    """A text alone as a string, which every compatible provider takes."""
    match list(parts):
        case [Text(text)]:
            return text
        case several:
            return [_part(part) for part in several]


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Image):
        url = part.url if part.url is not None else f"data:{part.media_type};base64,{part.data}"
        detail = {"detail": part.detail} if part.detail is not None else {}
        return {"type": "image_url", "image_url": {"url": url, **detail}}
    assert isinstance(part, Text)
    return {"type": "text", "text": part.text}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _tool(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    given = {name: value for name, value in described.items() if value is not None}
    return {"type": "function", "function": {"name": tool.name, **given}}


def _choice(choice: ToolChoice | None) -> str | dict[str, Any] | None:
    if choice is None:
        return None
    return {"type": "function", "function": {"name": choice.name}} if choice.kind == "tool" else choice.kind


def _form(form: AnswerForm | None) -> dict[str, Any] | None:
    if form is None:
        return None
    if form.schema is None:
        return {"type": "json_object"}
    strict = {"strict": form.strict} if form.strict is not None else {}
    return {"type": "json_schema", "json_schema": {"name": form.name, "schema": form.schema, **strict}}

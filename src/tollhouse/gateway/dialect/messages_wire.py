"""Anthropic as a provider: a neutral prompt as a body for /v1/messages.

Dropped, since Anthropic has nothing of the kind and the answer is the same without: an image's `detail`, the name of
the answer's form, empty texts, thoughts that another vendor's model had. Effort is a budget for thinking up to Claude
4.5; from 4.6 on it is an effort there too, with adaptive thinking. Source: Anthropic's API reference, Messages, and its
guides on structured outputs, tool use and thinking (which models take which way).
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import msgspec

from tollhouse.core.errors import BadRequest
from tollhouse.gateway.dialect.messages_block import BUDGET_MIN
from tollhouse.gateway.dialect.messages_request import foreign, thinking_budget
from tollhouse.gateway.dialect.neutral import (
    Effort,
    Image,
    Part,
    Prompt,
    Reasoning,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)

_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_BUDGETS: dict[Effort, int] = {"minimal": 1024, "low": 1024, "medium": 4096, "high": 16_384, "xhigh": 32_768}
_EFFORTS: dict[Effort, str] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
}
# claude-opus-4-6, claude-sonnet-5, claude-3-7-sonnet-20250219: the date is not a part of the version.
_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_ADAPTIVE_SINCE = (4, 6)
# What Anthropic takes in the id of a tool call; other vendors have more.
_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")

Json = dict[str, Any]


def write_request(prompt: Prompt, model: str, output_tokens: int) -> bytes:
    """The body. BadRequest that names what Anthropic has not."""
    _check(prompt)
    messages = _messages(prompt.turns)
    body: Json = {"model": model, "max_tokens": output_tokens, "messages": messages}
    system = [{"type": "text", "text": part.text} for part in prompt.system if part.text]
    if system:
        body["system"] = system
    if prompt.tools:
        body["tools"] = [_tool(tool) for tool in prompt.tools]
    choice = _choice(prompt)
    if choice:
        body["tool_choice"] = choice
    if prompt.stream:
        body["stream"] = True
    for name, value in (
        ("temperature", prompt.temperature),
        ("top_p", prompt.top_p),
        ("top_k", prompt.top_k),
        ("stop_sequences", list(prompt.stop) or None),
        ("metadata", {"user_id": prompt.user} if prompt.user is not None else None),
    ):
        if value is not None:
            body[name] = value
    thought = _adaptive(prompt) if _is_adaptive(model) else _budget(prompt, output_tokens)
    if prompt.form is not None:
        config: Json = {"format": {"type": "json_schema", "schema": prompt.form.schema}}
        thought["output_config"] = thought.get("output_config", {}) | config
    return msgspec.json.encode(body | thought)


def _lacks(field: str, remedy: str) -> BadRequest:
    return BadRequest(f"Models of Anthropic have no `{field}`. {remedy}", field)


def _check(prompt: Prompt) -> None:
    for field, wanted in (
        ("n", prompt.answers > 1),
        ("seed", prompt.seed is not None),
        ("frequency_penalty", bool(prompt.frequency_penalty)),
        ("presence_penalty", bool(prompt.presence_penalty)),
        ("logprobs", prompt.logprobs),
        ("top_logprobs", bool(prompt.top_logprobs)),
    ):
        if wanted:
            raise _lacks(field, "Leave it out, or choose another model.")
    if prompt.temperature is not None and prompt.temperature > 1:
        raise BadRequest("`temperature` may be at most 1 for models of Anthropic. Lower it.", "temperature")
    if prompt.form is not None and prompt.form.schema is None:
        raise BadRequest(
            "Models of Anthropic answer in JSON only by a schema. Give one, or choose another model.", "response_format"
        )


def _messages(turns: Iterable[Turn]) -> list[Json]:
    """Turns of one role in a row are one message, and results of tools stand first in theirs. What says nothing is left
    out."""
    said = [(turn.role, block) for turn in turns for part in turn.parts for block in _blocks(part)]
    messages: list[Json] = []
    for role, group in groupby(said, key=lambda entry: entry[0]):
        blocks = [block for _, block in group]
        blocks.sort(key=lambda block: block["type"] != "tool_result")
        messages.append({"role": role, "content": blocks})
    if not messages or messages[0]["role"] != "user":
        raise BadRequest(
            "A conversation with a model of Anthropic begins with a message of the user. Put one in front.", "messages"
        )
    return messages


def _blocks(part: Part) -> Sequence[Json]:
    """A part as a block; none for what is left out."""
    match part:
        case Text(text) | Refusal(text):
            return [{"type": "text", "text": text}] if text else []
        case Image():
            return [_image(part)]
        case ToolCall():
            return [{"type": "tool_use", "id": _id(part.id), "name": part.name, "input": _arguments(part)}]
        case ToolResult():
            return [_result(part)]
        case Reasoning(redacted=str(redacted)):
            return [{"type": "redacted_thinking", "data": redacted}]
        case Reasoning(signature=signature):
            if signature is None or foreign(signature):
                return []
            return [{"type": "thinking", "thinking": part.text, "signature": signature}]


def _image(image: Image) -> Json:
    if image.url is not None:
        return {"type": "image", "source": {"type": "url", "url": image.url}}
    if image.media_type not in _IMAGES:
        raise BadRequest(
            "Models of Anthropic see images in the formats JPEG, PNG, GIF and WebP. Convert it to one of them.",
            "messages",
        )
    return {"type": "image", "source": {"type": "base64", "media_type": image.media_type, "data": image.data}}


def _id(call_id: str) -> str:
    return _NOT_IN_ID.sub("_", call_id)


def _arguments(call: ToolCall) -> object:
    try:
        arguments = msgspec.json.decode(call.arguments) if call.arguments.strip() else {}
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise BadRequest(
            f"The arguments of the tool call {call.id[:80]!r} are not a JSON object. Correct them.", "messages"
        )
    return arguments


def _result(result: ToolResult) -> Json:
    block: Json = {"type": "tool_result", "tool_use_id": _id(result.call_id)}
    content = [inner for part in result.content for inner in _blocks(part)]
    if content:
        block["content"] = content
    if result.is_error:
        block["is_error"] = True
    return block


def _tool(tool: Tool) -> Json:
    written: Json = {"name": tool.name, "input_schema": {"type": "object"} | (tool.parameters or {"properties": {}})}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.strict is not None:
        written["strict"] = tool.strict
    return written


def _choice(prompt: Prompt) -> Json | None:
    if not prompt.tools and (prompt.tool_choice is None or prompt.tool_choice.kind in ("auto", "none")):
        return None
    choice: Json
    match prompt.tool_choice:
        case None:
            if prompt.parallel_tools is None:
                return None
            choice = {"type": "auto"}
        case wanted if wanted.kind == "tool":
            choice = {"type": "tool", "name": wanted.name}
        case wanted:
            choice = {"type": "any" if wanted.kind == "required" else wanted.kind}
    if prompt.parallel_tools is not None and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = not prompt.parallel_tools
    return choice


def _is_adaptive(model: str) -> bool:
    version = _VERSION.search(model)
    return version is not None and (int(version[1]), int(version[2] or 0)) >= _ADAPTIVE_SINCE


def _adaptive(prompt: Prompt) -> Json:
    """Thinking as models from 4.6 on take it. A budget is the effort whose budget it is at least."""
    if prompt.effort == "none":
        return {"thinking": {"type": "disabled"}}
    effort: Effort | None = prompt.effort
    if effort is None and prompt.thinking_tokens is not None:
        reached = [name for name, budget in _BUDGETS.items() if budget <= prompt.thinking_tokens]
        effort = reached[-1] if reached else "low"
    if effort is None:
        return {}
    return {"thinking": {"type": "adaptive"}, "output_config": {"effort": _EFFORTS[effort]}}


def _budget(prompt: Prompt, output_tokens: int) -> Json:
    """Thinking as models up to 4.5 take it. A budget that does not fit is refused; effort is a wish, which no model
    fulfils where there is no room to think, or in the middle of a use of tools that began without signed thoughts."""
    budget = prompt.thinking_tokens
    if budget is None:
        if prompt.effort is None or prompt.effort == "none" or output_tokens <= BUDGET_MIN or _is_unsigned(prompt):
            return {}
        budget = _BUDGETS[prompt.effort]
    remedy = "together with thinking. Leave it out, or leave the thinking out."
    if prompt.tool_choice is not None and prompt.tool_choice.kind in ("required", "tool"):
        raise BadRequest(f"This model of Anthropic takes no `tool_choice` that forces a tool {remedy}", "tool_choice")
    for field, wrong in (
        ("temperature", prompt.temperature not in (None, 1)),
        ("top_p", prompt.top_p is not None and prompt.top_p < 0.95),
        ("top_k", prompt.top_k is not None),
    ):
        if wrong:
            raise BadRequest(f"This model of Anthropic does not take this `{field}` {remedy}", field)
    return {"thinking": {"type": "enabled", "budget_tokens": thinking_budget(output_tokens, budget)}}


def _is_unsigned(prompt: Prompt) -> bool:
    """Whether the model's last turn used a tool without having thought as itself."""
    said = next((turn for turn in reversed(prompt.turns) if turn.role == "assistant"), None)
    if said is None or not any(isinstance(part, ToolCall) for part in said.parts):
        return False
    return not any(isinstance(part, Reasoning) and _blocks(part) for part in said.parts)

"""The objects of OpenAI's responses: an answer and its items. Source: OpenAI's API reference, responses.

Reasoning is told as a summary, which is the form that clients of this dialect show. Nothing is stored here, so a
reasoning item always brings along what its vendor needs to take it back (`encrypted_content`), asked for or not.
"""

import re
from typing import Any, Literal

from tollhouse.core.money import format_credits, format_usd
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect.neutral import Choice, Ended, Reasoning, Refusal, Text, ToolCall, Whole
from tollhouse.gateway.dialect.responses_input import seal

Status = Literal["in_progress", "completed", "incomplete", "failed"]
Object = dict[str, Any]

_VENDORS_MARK = re.compile(r"^(chatcmpl-|msg_|resp_)")
_ODD = re.compile(r"[^A-Za-z0-9]")
_REASONS: dict[Ended, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}


def stem(provider_id: str, created: int) -> str:
    """What the ids of an answer and of its items have in common, made of the provider's own id."""
    return _ODD.sub("", _VENDORS_MARK.sub("", provider_id))[:64] or str(created)


def response(echo: Object, model: str, created: int, root: str) -> Object:
    """A response that has just begun. `echo` is what it repeats of its request, `root` its `stem`."""
    return {
        "id": f"resp_{root}",
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        "usage": None,
        **echo,
    }


def finish(begun: Object, output: list[Object], ended: Ended) -> Object:
    """The same response when it is complete."""
    reason = _REASONS.get(ended)
    if reason is None:
        return begun | {"status": "completed", "output": output}
    return begun | {"status": "incomplete", "incomplete_details": {"reason": reason}, "output": output}


def status(ended: Ended) -> Status:
    """How the last item of an answer stands."""
    return "incomplete" if ended in _REASONS else "completed"


def text_part(text: str, logprobs: list[Object]) -> Object:
    return {"type": "output_text", "annotations": [], "logprobs": logprobs, "text": text}


def refusal_part(text: str) -> Object:
    return {"type": "refusal", "refusal": text}


def message(item_id: str, content: list[Object], standing: Status) -> Object:
    return {"id": item_id, "type": "message", "status": standing, "role": "assistant", "content": content}


def function_call(item_id: str, call: ToolCall, standing: Status) -> Object:
    return {
        "id": item_id,
        "type": "function_call",
        "status": standing,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }


def reasoning(item_id: str, thought: Reasoning, standing: Status) -> Object:
    item: Object = {"id": item_id, "type": "reasoning", "status": standing}
    item["summary"] = [{"type": "summary_text", "text": thought.text}] if thought.text else []
    sealed = seal(thought)
    return item if sealed is None else item | {"encrypted_content": sealed}


def logprobs_of(told: object) -> list[Object]:
    """The entries of OpenAI's chat shape that are such; only their known fields."""
    entries = told.get("content") if isinstance(told, dict) else None
    found = []
    for entry in entries if isinstance(entries, list) else ():
        read = _logprob(entry)
        if read is not None:
            others = entry.get("top_logprobs")
            tops = [_logprob(other) for other in others] if isinstance(others, list) else []
            found.append(read | {"top_logprobs": [top for top in tops if top is not None]})
    return found


def _logprob(entry: object) -> Object | None:
    if not isinstance(entry, dict):
        return None
    token, logprob, spelt = entry.get("token"), entry.get("logprob"), entry.get("bytes")
    if not isinstance(token, str) or not isinstance(logprob, float | int) or isinstance(logprob, bool):
        return None
    whole = isinstance(spelt, list) and all(type(byte) is int and 0 <= byte <= 255 for byte in spelt)
    return {"token": token, "bytes": spelt if whole else [], "logprob": logprob}


def usage_object(usage: Usage, settled: Settled | None) -> Object:
    """Usage in this dialect's shape, and the charge where it is known; `estimated` stands only where it is true."""
    figures: Object = {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.tokens,
    }
    if usage.estimated:
        figures["estimated"] = True
    if settled is not None:
        figures["credits"] = format_credits(settled.charged_micros)
        figures["cost_usd"] = format_usd(settled.cost_nanos)
    return figures


def answer(whole: Whole, echo: Object, model: str, created: int) -> Object:
    """An answer in one piece, without its usage: the first choice, since this dialect asks for one only."""
    root = stem(whole.id, created)
    begun = response(echo, model, created, root)
    if not whole.choices:
        return finish(begun, [], "stop")
    choice = whole.choices[0]
    return finish(begun, _output(choice, root), choice.ended)


def _output(choice: Choice, root: str) -> list[Object]:
    """Texts and refusals that follow one another make one message; only the last item can be incomplete."""
    output: list[Object] = []
    entries = logprobs_of(choice.logprobs)
    for part in choice.parts:
        number = len(output)
        match part:
            case Text() | Refusal():
                if not output or output[-1]["type"] != "message":
                    output.append(message(f"msg_{root}_{number}", [], "completed"))
                if isinstance(part, Text):
                    output[-1]["content"].append(text_part(part.text, entries))
                    entries = []
                else:
                    output[-1]["content"].append(refusal_part(part.text))
            case ToolCall():
                output.append(function_call(f"fc_{root}_{number}", part, "completed"))
            case Reasoning():
                output.append(reasoning(f"rs_{root}_{number}", part, "completed"))
    if output:
        output[-1]["status"] = status(choice.ended)
    return output

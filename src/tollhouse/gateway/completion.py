"""A call of a model for a capability: through the same pump as any other, in OpenAI's shape, answered with JSON."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from tollhouse.core.errors import Overloaded
from tollhouse.core.price import Usage
from tollhouse.flows.capability import Completed, Judged, Said, Task
from tollhouse.flows.operation import Answer, Outcome, Release
from tollhouse.gateway.dialect import chat
from tollhouse.gateway.exchange import Chat, Plain
from tollhouse.gateway.plain import PlainCall
from tollhouse.gateway.pump import Pumps

# What OpenAI enforces while the model writes. A strict request with anything else in its schema is refused there.
_ENFORCED = frozenset({
    "type", "title", "description", "enum", "const", "properties", "required", "additionalProperties", "items",
    "minItems", "maxItems", "minimum", "maximum", "anyOf", "$ref", "$defs",
})  # fmt: skip


class CapabilityCall(PlainCall):
    """After `begun` it is judged, and settled unless that takes too long."""

    def __init__(self, task: Task, pumps: Pumps, exchange: Chat) -> None:
        super().__init__(pumps, task.admitted, exchange, task.size, task.once)
        self._task = task
        self.judged: Judged | None = None

    def _kept(self, plain: Plain, usage: Usage) -> Answer | None:
        self.judged = self._task.judge(_said(plain.answer), usage, self.candidate)
        if self._once is None:
            return None
        return Answer(self._once, self.judged.status, self.judged.response)


class Completions:
    """Has models do what capabilities need; `complete` is flows.capability.Complete."""

    def __init__(self, pumps: Pumps, clock: Callable[[], datetime]) -> None:
        self._pumps = pumps
        self._clock = clock

    async def complete(self, task: Task) -> Completed:
        try:
            call = self._start(task)
        except Exception:
            admitted, outcome = task.admitted, Outcome("failed", error="not sent to a provider")
            await self._pumps.teller.do(Release(admitted.organization_id, admitted.id, outcome, once=task.once))
            raise
        await asyncio.shield(call.begun)
        assert call.judged is not None
        return Completed(call.judged, call.settled)

    def _start(self, task: Task) -> CapabilityCall:
        if self._pumps.draining:
            raise Overloaded("This server is going down; nothing was taken. Try again: another one answers.")
        exchange = Chat(chat.SURFACE, request_body(task), int(self._clock().timestamp()))
        call = CapabilityCall(task, self._pumps, exchange)
        self._pumps.start(call)
        return call


def request_body(task: Task) -> bytes:
    """The task as a client of OpenAI's dialect would send it; the model is written in by whoever is asked."""
    form = {"name": task.answer_name, "strict": enforceable(task.answer_schema), "schema": task.answer_schema}
    return msgspec.json.encode(
        {
            "model": task.admitted.admission.terms.model.id,
            "messages": task.messages,
            "max_tokens": task.output_tokens,
            "response_format": {"type": "json_schema", "json_schema": form},
        }
    )


def enforceable(schema: object) -> bool:
    """Whether a provider can hold the model to this schema: nothing but what it enforces, and every object closed with
    all its fields required. Of any other it is told all the same, and we check what comes."""
    if not isinstance(schema, dict) or not schema.keys() <= _ENFORCED:
        return False
    properties = schema.get("properties", {})
    if schema.get("type") == "object" or "properties" in schema:
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(properties):
            return False
    elif "additionalProperties" in schema or "required" in schema:
        return False
    inner = [*properties.values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", ())]
    return all(enforceable(one) for one in (*inner, *([schema["items"]] if "items" in schema else ())))


def _said(answer: dict[str, Any]) -> Said:
    """What the first choice says. `choices` is a list, of whatever."""
    first = answer["choices"][0] if answer["choices"] else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(message, dict):
        return Said("", "it says nothing")
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        return Said("", "the model would not do it")
    if first.get("finish_reason") == "length":
        return Said("", "it was cut off at its largest length")
    if first.get("finish_reason") == "content_filter":
        return Said("", "the provider's filter held it back")
    text = message.get("content")
    return Said(text, None) if isinstance(text, str) else Said("", "it holds no text")

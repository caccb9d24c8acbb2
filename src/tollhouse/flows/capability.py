"""Running a capability: what goes in is checked, what it may cost is taken, a model answers, what comes out is checked.

Who calls the model is not known here (`Complete`). It settles the call itself, for a call outlives whoever waits for
it; what is answered is decided before, so that answer and charge are one commit.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID

import msgspec

from tollhouse.core.admission import Candidate
from tollhouse.core.ask import Ask, CapabilityWant, Size
from tollhouse.core.catalogue import Capability
from tollhouse.core.errors import BadRequest, Conflict, InvalidAnswer, NotFound
from tollhouse.core.key import Mode
from tollhouse.core.price import Usage
from tollhouse.core.text import holds_nul
from tollhouse.core.token import count_messages, upper_bound
from tollhouse.flows import schema
from tollhouse.flows.auth import Identity
from tollhouse.flows.once import Once
from tollhouse.flows.operation import Admit, Admitted, Replayed, Settled
from tollhouse.flows.schema import Fault
from tollhouse.flows.spend import Teller
from tollhouse.store import capability as store
from tollhouse.store.db import Database

# A capability's name is the name of its schema at the providers too, which allow no more.
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
STATUS_RAN = 200
# As long as the name of a quality level may be: which one it will be is known when the call is admitted.
_SOME_QUALITY = "-" * 80
# Counting with the sandbox's own tokenizer takes about 1 ms per 10 KB; above this the upper bound serves.
_COUNT_BYTES = 64 * 1024
_CHECK_BYTES = 16 * 1024
_ANSWER_CHARACTERS = 512 * 1024

Message = dict[str, str]


class InputInvalid(BadRequest):
    """The input does not fit the capability's schema; `faults` say where and why."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("The input does not fit this capability.")
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Wish:
    """Run this capability with this input. `quality_id` None: the lowest that the plan offers. `user` is the host
    application's id of the end user for whom it is done."""

    capability_id: str
    quality_id: str | None
    document: dict[str, Any]
    user: str | None
    once: Once | None


@dataclass(frozen=True, slots=True)
class Said:
    """What a model said; `broken` is why that cannot be a whole answer, None when it may be one."""

    text: str
    broken: str | None


@dataclass(frozen=True, slots=True)
class Ran:
    """A run as it is told, and as it is kept under its idempotency key. `available_micros` None: the books could not
    be reached in time, and it is charged all the same."""

    id: UUID
    capability: str
    quality: str
    model_id: str
    answer: dict[str, Any]
    input_tokens: int
    output_tokens: int
    reserved_micros: int
    charged_micros: int
    available_micros: int | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What an answer comes to: as it is kept, and the refusal when it does not fit."""

    status: int
    response: dict[str, Any]
    refusal: InvalidAnswer | None


@dataclass(frozen=True, slots=True)
class Task:
    """One admitted call of a model. `judge` is told what was said and by whom; it is asked before the settlement, whose
    commit also keeps what it says when there is a `once`."""

    admitted: Admitted
    messages: list[Message]
    answer_name: str
    answer_schema: dict[str, Any]
    output_tokens: int
    size: Size
    judge: Callable[[Said, Usage, Candidate], Judged]
    once: Once | None


@dataclass(frozen=True, slots=True)
class Completed:
    """`settled` None: not within the time that somebody waits for it."""

    judged: Judged
    settled: Settled | None


class Complete(Protocol):
    """Has a model do the task, and settles or releases its call, whatever happens and whoever still waits. Raises what
    went wrong before there was an answer; then nothing was charged, and the idempotency key is forgotten."""

    async def __call__(self, task: Task) -> Completed: ...


async def run(
    db: Database, teller: Teller, complete: Complete, mode: Mode, who: Identity, wish: Wish
) -> tuple[Ran, bool]:
    """The run, and whether it is that of an earlier request with the same idempotency key. InputInvalid, Conflict for a
    capability that cannot be run here, InvalidAnswer, and whatever the teller and the provider refuse with."""
    capability = await _find(db, wish.capability_id)
    if not capability.instructions or capability.input_schema is None or capability.answer_schema is None:
        raise Conflict(
            f"The capability {capability.id!r} has no instructions, so it cannot be run here. Reserve for it with "
            "POST /api/credits/reservations, call a model yourself, and settle."
        )
    await _check_input(capability.input_schema, wish.document)
    size = _size(capability, wish, mode)
    admitted = await teller.do(_admit(who, wish, size))
    if isinstance(admitted, Replayed):
        return msgspec.convert(admitted.response, Ran), True
    done = await complete(_task(capability, admitted, wish, size))
    if done.judged.refusal is not None:
        raise done.judged.refusal
    ran = msgspec.convert(done.judged.response, Ran)
    if done.settled is None:
        return ran, False
    booked = done.settled
    return replace(ran, charged_micros=booked.charged_micros, available_micros=booked.available_micros), False


async def _find(db: Database, capability_id: str) -> Capability:
    if NAME.fullmatch(capability_id):
        async with db.nobody() as tx:
            found = await store.find(tx, capability_id)
        if found is not None and found.is_active:
            return found
    raise NotFound(f"There is no capability {capability_id[:80]!r} here. Check its name, or ask the operator.")


async def _check_input(wanted: dict[str, Any], document: dict[str, Any]) -> None:
    """A large document takes up to a second: beside the loop, so that nobody else waits for it."""
    if len(msgspec.json.encode(document)) <= _CHECK_BYTES:
        found = schema.faults(wanted, document)
    else:
        found = await asyncio.to_thread(schema.faults, wanted, document)
    if found:
        raise InputInvalid(found)


def _admit(who: Identity, wish: Wish, size: Size) -> Admit:
    organization_id = who.organization_id
    ask = Ask(
        organization_id=organization_id,
        credential=who.credential,
        subject_id=who.subject_of(wish.user),
        channel="capability",
        want=CapabilityWant(wish.capability_id, wish.quality_id, size),
        needs=who.needs("credits", wish.user),
    )
    endpoint = f"/api/capabilities/{wish.capability_id}/run"
    return Admit(organization_id, ask, endpoint, external_user=wish.user, once=wish.once)


def _task(capability: Capability, admitted: Admitted, wish: Wish, size: Size) -> Task:
    terms = admitted.admission.terms
    assert terms.quality is not None and terms.output_tokens is not None and capability.answer_schema is not None
    return Task(
        admitted=admitted,
        messages=messages(capability, terms.quality.id, wish.document),
        answer_name=capability.id,
        answer_schema=capability.answer_schema,
        output_tokens=terms.output_tokens,
        size=size,
        judge=lambda said, usage, candidate: judge(capability, admitted, said, usage, candidate),
        once=wish.once,
    )


def messages(capability: Capability, quality_id: str, document: dict[str, Any]) -> list[Message]:
    """What the model is told. The input is material, not instructions: it travels as JSON, and by itself."""
    return [
        {"role": "system", "content": f"{capability.instructions}\n\nQuality level: {quality_id}"},
        {"role": "user", "content": msgspec.json.encode(document).decode()},
    ]


def _size(capability: Capability, wish: Wish, mode: Mode) -> Size:
    told = messages(capability, wish.quality_id or _SOME_QUALITY, wish.document)
    wire = msgspec.json.encode(told)
    counted = count_messages(told) if mode == "test" and len(wire) <= _COUNT_BYTES else None
    form = msgspec.json.encode([capability.id, capability.answer_schema])
    return Size(upper_bound(wire, b"", form), capability.max_output_tokens, counted)


def judge(capability: Capability, admitted: Admitted, said: Said, usage: Usage, candidate: Candidate) -> Judged:
    """Whether it is an answer as the capability's schema wants it, and what is kept either way."""
    terms = admitted.admission.terms
    assert terms.quality is not None and capability.answer_schema is not None
    charged = candidate.quote.charge_micros(usage)
    answer, reason = read_answer(capability.answer_schema, said)
    if answer is None:
        refusal = InvalidAnswer(reason, admitted.id, candidate.model.id, charged)
        kept = {"code": refusal.code, "message": str(refusal), "details": refusal.details(), "hints": []}
        return Judged(refusal.status, {"refusal": kept}, refusal)
    ran = Ran(
        admitted.id, capability.id, terms.quality.id, candidate.model.id, answer, usage.input_tokens,
        usage.output_tokens, admitted.amount_micros, charged,
    )  # fmt: skip
    return Judged(STATUS_RAN, msgspec.to_builtins(ran), None)


def read_answer(wanted: dict[str, Any], said: Said) -> tuple[dict[str, Any] | None, str]:
    """The document in what was said, or None and why there is none that fits."""
    if said.broken is not None:
        return None, said.broken
    if len(said.text) > _ANSWER_CHARACTERS:
        return None, "it is far too long"
    try:
        document = msgspec.json.decode(_unfenced(said.text))
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None, "it is not JSON"
    if not isinstance(document, dict):
        return None, "it is not a JSON object"
    if holds_nul(document):
        return None, "it holds the character NUL"
    found = schema.faults(wanted, document)
    if found:
        return None, f"{'.'.join(found[0].path) or 'it'} {found[0].message}"
    return document, ""


def _unfenced(text: str) -> str:
    """Some models put a fence around JSON, however they are told not to."""
    inner = text.strip()
    if inner.startswith("```") and inner.endswith("```"):
        return inner.strip("`").removeprefix("json")
    return inner

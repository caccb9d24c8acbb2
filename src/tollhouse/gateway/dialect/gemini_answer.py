"""What Gemini answers, in one piece or as a stream: a stream's events have the same shape as a whole answer.

A stream has no end mark: an answer is complete when its finishReason came. Only what is known here is passed on. A
signature is kept at thoughts and at function calls, where Gemini insists on having it back; at texts it may come after
all of them, and clients would take it for a thought behind the answer. Source: Google's API reference,
GenerateContentResponse.
"""

import re
from itertools import zip_longest
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from tollhouse.core.price import Usage
from tollhouse.gateway.dialect import NotAnAnswer
from tollhouse.gateway.dialect.collect import Collector
from tollhouse.gateway.dialect.meter import tokens
from tollhouse.gateway.dialect.neutral import (
    Began,
    Counted,
    Ended,
    Ending,
    Failed,
    Piece,
    ReasoningPiece,
    TextPiece,
    ToolBegan,
    ToolPiece,
    Whole,
)

# Stands before a signature of Gemini's, so that it is told from those of other vendors in the same conversation.
SIGNED = "google:"

# Every other reason is a stop, with what there is.
_ENDED: dict[str | None, Ended] = {
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "LANGUAGE": "content_filter",
    "ESCALATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "PUP_LIMITED_DISABLED": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
_UNFINISHED = (None, "", "FINISH_REASON_UNSPECIFIED")


class _Call(Struct):
    name: str
    id: str | None = None
    args: Raw = Raw(b"{}")


class _Part(Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _Call | None = None


class _Content(Struct):
    parts: list[_Part] | None = None


class _Token(Struct, rename="camel"):
    token: str | None = None
    log_probability: Any = None


class _Tokens(Struct):
    candidates: list[_Token] | None = None


class _Logprobs(Struct, rename="camel"):
    chosen_candidates: list[_Token] | None = None
    top_candidates: list[_Tokens] | None = None


class _Candidate(Struct, rename="camel"):
    index: Annotated[int, Meta(ge=0, le=127)] | None = None
    content: _Content | None = None
    finish_reason: str | None = None
    logprobs_result: _Logprobs | None = None


class _Feedback(Struct, rename="camel"):
    block_reason: str | None = None


class _Answer(Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: Any = None
    response_id: str | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Answer)


class PieceReader:
    """See `Reader`. Older models end every event of a stream with a finishReason: what follows is passed on all the
    same, and another `Ending` comes only when it says something else. `whole`: the one event is all of the answer."""

    def __init__(self, whole: bool = False) -> None:
        self._whole = whole
        self._id: str | None = None
        self._calls: dict[int, int] = {}
        self._ended: dict[int, Ended] = {}

    def read(self, data: bytes) -> list[Piece]:
        """The data of one event. NotAnAnswer when it is none of this dialect."""
        answer = _decode(data)
        if answer.error is not None:
            return [Failed(_trouble(answer.error))]
        pieces: list[Piece] = []
        if self._id is None:
            self._id = answer.response_id or ""
            pieces.append(Began(self._id))
        for candidate in answer.candidates or ():
            self._candidate(candidate, pieces)
        if not answer.candidates and answer.prompt_feedback and answer.prompt_feedback.block_reason:
            self._end(0, "content_filter", pieces)
        usage = read_usage(answer.usage_metadata, ended=bool(self._ended))
        if usage is not None:
            pieces.append(Counted(usage))
        return pieces

    def _candidate(self, candidate: _Candidate, pieces: list[Piece]) -> None:
        choice = candidate.index or 0
        logprobs = _logprobs(candidate.logprobs_result)
        for part in candidate.content.parts or () if candidate.content else ():
            if part.function_call is not None:
                self._call(choice, part.function_call, part.thought_signature, pieces)
            elif part.thought:
                if part.text:
                    pieces.append(ReasoningPiece(choice, part.text))
                _sign(choice, part.thought_signature, pieces)
            elif part.text:
                pieces.append(TextPiece(choice, part.text, logprobs))
                logprobs = None
        if self._whole or candidate.finish_reason not in _UNFINISHED:
            stopped: Ended = "tool_calls" if choice in self._calls else "stop"
            self._end(choice, _ENDED.get(candidate.finish_reason, stopped), pieces)

    def _call(self, choice: int, call: _Call, signature: str | None, pieces: list[Piece]) -> None:
        slot = self._calls.get(choice, 0)
        self._calls[choice] = slot + 1
        _sign(choice, signature, pieces)
        pieces.append(ToolBegan(choice, slot, call.id or self._name_call(choice, slot), call.name))
        pieces.append(ToolPiece(choice, slot, _arguments(call.args)))

    def _name_call(self, choice: int, slot: int) -> str:
        """An id for a call that has none: the same whenever this answer is read, and another one in each answer, since
        clients tell the calls of a whole conversation apart by it. At most 40 characters, as OpenAI allows."""
        answer = re.sub(r"[^A-Za-z0-9_-]", "", self._id or "")[:24]
        return "_".join(filter(None, ("call", answer, str(choice) if choice else "", str(slot))))

    def _end(self, choice: int, ended: Ended, pieces: list[Piece]) -> None:
        if self._ended.get(choice) != ended:
            self._ended[choice] = ended
            pieces.append(Ending(choice, ended))


def _decode(data: bytes) -> _Answer:
    try:
        answer = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAnAnswer(f"not an answer of Gemini: {error}") from None
    if (answer.candidates, answer.prompt_feedback, answer.usage_metadata, answer.error) == (None, None, None, None):
        raise NotAnAnswer("neither candidates nor anything else that an answer of Gemini has")
    return answer


def _sign(choice: int, signature: str | None, pieces: list[Piece]) -> None:
    if signature:
        pieces.append(ReasoningPiece(choice, "", SIGNED + signature))


def _arguments(args: Raw) -> str:
    """A call's arguments as compact JSON, its numbers as the model wrote them. NotAnAnswer when they are no object."""
    try:
        text = msgspec.json.format(bytes(args), indent=-1).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAnAnswer(f"the arguments of a function call are not JSON: {error}") from None
    if text == "null":
        return "{}"
    if not text.startswith("{"):
        raise NotAnAnswer("the arguments of a function call are no object")
    return text


def _logprobs(result: _Logprobs | None) -> dict[str, Any] | None:
    """In OpenAI's shape."""
    if result is None or not result.chosen_candidates:
        return None
    content = [
        _token(one) | {"top_logprobs": [_token(other) for other in (top.candidates if top else None) or ()]}
        for one, top in zip_longest(result.chosen_candidates, result.top_candidates or ())
        if one is not None
    ]
    return {"content": content, "refusal": None}


def _token(token: _Token) -> dict[str, Any]:
    """-9999 is what OpenAI says for a token that was next to impossible."""
    text, found = token.token or "", token.log_probability
    known = isinstance(found, int | float) and not isinstance(found, bool)
    return {"token": text, "logprob": found if known else -9999.0, "bytes": list(text.encode())}


def _trouble(error: object) -> str:
    """Only Google's name of the error is passed on: its sentences may tell of our project and key."""
    status = error.get("status") if isinstance(error, dict) else None
    named = f": {status}" if isinstance(status, str) and re.fullmatch(r"[A-Z_]{1,40}", status) else ""
    return f"The provider reported an error in the middle of its answer{named}."


def read_usage(usage: object, ended: bool) -> Usage | None:
    """usageMetadata: cumulative, so the last one counts. None when it is missing, cannot be true, or does not say what
    came out: candidatesTokenCount is left out at first, and where an answer `ended` with nothing but thoughts."""
    if not isinstance(usage, dict):
        return None
    names = ("promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    if any(usage.get(name) is not None and tokens(usage[name]) is None for name in names):
        return None
    prompt, tools, answers, thoughts = (tokens(usage.get(name)) for name in names)
    if prompt is None:
        return None
    given = prompt + (tools or 0)
    if answers is None:
        total = tokens(usage.get("totalTokenCount"))
        if not ended or (total is None and thoughts is None):
            return None
        answers = max(0, total - given - (thoughts or 0)) if total is not None else 0
    cached = min(tokens(usage.get("cachedContentTokenCount")) or 0, given)
    made = answers + (thoughts or 0)
    return Usage(given, made, cached_input_tokens=cached, reasoning_tokens=thoughts or 0)


def read_whole(body: bytes) -> Whole:
    """NotAnAnswer when it is none, or an error."""
    collector, usage = Collector(), None
    pieces = PieceReader(whole=True).read(body)
    for piece in pieces:
        if isinstance(piece, Failed):
            raise NotAnAnswer(piece.message)
        if isinstance(piece, Counted):
            usage = piece.usage
    collector.add(pieces)
    answer = collector.whole(usage)
    if not answer.choices:
        raise NotAnAnswer("no candidates, and no word on why")
    return answer

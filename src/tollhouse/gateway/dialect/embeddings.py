"""OpenAI's embeddings: the one dialect of `/v1/embeddings`, for clients and providers alike, so nothing is translated.

`user` is passed on. Source: OpenAI's API reference, embeddings.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from tollhouse.core.ask import Size
from tollhouse.core.errors import BadRequest
from tollhouse.core.money import format_credits, format_usd
from tollhouse.core.price import Usage
from tollhouse.core.token import MESSAGE_BOUND, count_tokens
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect import NotAnAnswer, body
from tollhouse.gateway.dialect.chat_request import SANDBOX_COUNT_BYTES
from tollhouse.gateway.dialect.meter import tokens

PATH = "/v1/embeddings"
INPUTS_MAX = 2048

Token = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
_encode = msgspec.json.encode


class EmbeddingRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A text, texts, tokens, or lists of tokens; never a mixture. `read` has checked it."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    input: str | list[str | Token | list[Token]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    user: str | None = None

    @property
    def size(self) -> Size:
        """The bound by bytes, as in `core.token.upper_bound`; tokens are as many as they are. There is no output."""
        given = self._inputs()
        bound = sum(len(each.encode()) if isinstance(each, str) else len(each) for each in given)
        exact = None if isinstance(given[0], str) else bound
        return Size(bound + MESSAGE_BOUND * len(given), 0, exact)

    def sandbox_tokens(self, size: int) -> int | None:
        """What the sandbox counts for this request; None when the body, of `size` bytes, is too large to count on the
        way."""
        if size > SANDBOX_COUNT_BYTES:
            return None
        return sum(count_tokens(each) if isinstance(each, str) else len(each) for each in self._inputs())

    def native(self, model: str) -> bytes:
        """The body for the provider: its model name, everything else as it came."""
        return _encode(msgspec.structs.replace(self, model=model))

    def _inputs(self) -> list[Any]:
        if isinstance(self.input, str) or (self.input and isinstance(self.input[0], int)):
            return [self.input]
        return self.input


_decoder = msgspec.json.Decoder(EmbeddingRequest)
_answer = msgspec.json.Decoder(dict[str, Raw])
_data = msgspec.json.Decoder(list[dict[str, Raw]])


def read(data: bytes) -> EmbeddingRequest:
    """The request, or BadRequest with a sentence that names the field and the remedy."""
    request = body.read(_decoder, data, "a request for embeddings")
    given = request.input
    if isinstance(given, list):
        if len({type(each) for each in given}) > 1:
            raise BadRequest("`input` mixes texts and tokens. Send texts only, or tokens only.", "input")
        if len(given) > INPUTS_MAX and not isinstance(given[0], int):
            raise BadRequest(f"`input` has more than {INPUTS_MAX} entries. Send them in several requests.", "input")
    if not given or (isinstance(given, list) and any(each in ("", []) for each in given)):
        raise BadRequest("`input` is empty, or an entry of it is. Send at least one character or token each.", "input")
    return request


def read_answer(data: bytes) -> tuple[dict[str, Any], Usage | None]:
    """A provider's answer as it came, and its usage if it says. The vectors stay bytes (`msgspec.Raw`): reading
    millions of numbers only to write them again would hold up everybody else. NotAnAnswer when it is none."""
    try:
        fields = _answer.decode(data)
        entries = _data.decode(fields.pop("data"))
        if not entries or not all(bytes(entry["embedding"])[:1] in (b"[", b'"') for entry in entries):
            raise NotAnAnswer
        answer: dict[str, Any] = {name: msgspec.json.decode(value) for name, value in fields.items()}
        answer["data"] = [
            {name: value if name == "embedding" else msgspec.json.decode(value) for name, value in entry.items()}
            for entry in entries
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        raise NotAnAnswer from None
    return answer, _usage(answer.get("usage"))


def _usage(told: object) -> Usage | None:
    given = tokens(told.get("prompt_tokens")) if isinstance(told, dict) else None
    return None if given is None else Usage(given, 0)


def charge(answer: dict[str, Any], usage: Usage, settled: Settled | None) -> None:
    """Writes usage and charge into an answer; `estimated` stands only where it is true."""
    figures: dict[str, Any] = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.tokens}
    if usage.estimated:
        figures["estimated"] = True
    if settled is not None:
        figures["credits"] = format_credits(settled.charged_micros)
        figures["cost_usd"] = format_usd(settled.cost_nanos)
    answer["usage"] = figures

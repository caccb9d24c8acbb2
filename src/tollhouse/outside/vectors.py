"""What the sandbox answers when it is asked for embeddings, in OpenAI's format: vectors of length 1, a pure function of
the model, the text and the number of dimensions. Texts that share words lie closer together than texts that do not, so
a search that is tried out with them finds something.

As at OpenAI a request has at most `INPUTS_MAX` inputs, `TOKENS_MAX` tokens each and `TOTAL_MAX` together, and a model
has no more dimensions than its own: 1536, or 3072 where its name ends in ``-large``.
"""

import hashlib
import math
import struct
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from tollhouse.core.token import count_tokens, pieces

INPUTS_MAX: Final = 2048
TOKENS_MAX: Final = 8192
TOTAL_MAX: Final = 300_000

_PLACES: Final = 8  # of a vector that one token speaks for
_FOUR_BYTES: Final = struct.Struct(f"<{_PLACES}I")


class Unfit(ValueError):
    """No embeddings can be made of the request; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that was read. `question`: its last text, empty where tokens were sent."""

    model: str
    inputs: list[str | list[int]]
    dimensions: int
    as_base64: bool

    @property
    def question(self) -> str:
        last = self.inputs[-1]
        return last if isinstance(last, str) else ""

    @property
    def tokens(self) -> int:
        return sum(map(_count, self.inputs))


def read(request: dict[str, Any], model: str) -> Wanted:
    """Raises `Unfit`."""
    inputs = _inputs(request.get("input"))
    if len(inputs) > INPUTS_MAX:
        raise Unfit(f"`input` has more than {INPUTS_MAX} entries. Send them in several requests.")
    if max(map(_count, inputs)) > TOKENS_MAX:
        raise Unfit(f"An entry of `input` has more than {TOKENS_MAX} tokens. Cut it into several.")
    most = 3072 if model.endswith("-large") else 1536
    dimensions = request.get("dimensions") or most
    if not isinstance(dimensions, int) or not 1 <= dimensions <= most:
        raise Unfit(f"`dimensions` must be a whole number from 1 to {most} for {model!r}.")
    if request.get("encoding_format") not in (None, "float", "base64"):
        raise Unfit("`encoding_format` must be float or base64.")
    wanted = Wanted(model, inputs, dimensions, request.get("encoding_format") == "base64")
    if wanted.tokens > TOTAL_MAX:
        raise Unfit(f"`input` has more than {TOTAL_MAX} tokens altogether. Send it in several requests.")
    return wanted


def answer(wanted: Wanted) -> dict[str, Any]:
    """The body of the answer, without its usage."""
    data = [
        {"object": "embedding", "index": index, "embedding": _shown(_vector(wanted, each), wanted.as_base64)}
        for index, each in enumerate(wanted.inputs)
    ]
    return {"object": "list", "data": data, "model": wanted.model}


def _inputs(given: object) -> list[str | list[int]]:
    if isinstance(given, str) or _is_tokens(given):
        given = [given]
    if not isinstance(given, list) or not given or "" in given:
        raise Unfit("`input` must be a text, a list of texts, or tokens, and none of them empty.")
    if not (all(isinstance(each, str) for each in given) or all(map(_is_tokens, given))):
        raise Unfit("`input` must hold texts only, or tokens only.")
    return given


def _is_tokens(given: object) -> bool:
    return isinstance(given, list) and bool(given) and all(type(each) is int for each in given)


def _count(given: str | list[int]) -> int:
    return count_tokens(given) if isinstance(given, str) else len(given)


def _vector(wanted: Wanted, given: str | list[int]) -> bytes:
    """Each token adds to some places of the vector, or takes from them. As floats of four bytes, the least significant
    first."""
    tokens: Iterable[str] = (
        (one.strip() for one in pieces(given.lower())) if isinstance(given, str) else map(str, given)
    )
    vector = [0.0] * wanted.dimensions
    for token, times in Counter(tokens).items():
        for number in _numbers(f"{wanted.model} {token}"):
            vector[(number >> 1) % wanted.dimensions] += times if number & 1 else -times
    length = math.hypot(*vector)
    if length == 0:  # what was added was taken away again
        vector[_numbers(f"{wanted.model} {given}")[0] % wanted.dimensions] = length = 1.0
    return struct.pack(f"<{wanted.dimensions}f", *(one / length for one in vector))


def _numbers(text: str) -> tuple[int, ...]:
    return _FOUR_BYTES.unpack(hashlib.blake2b(text.encode(), digest_size=_FOUR_BYTES.size).digest())


def _shown(vector: bytes, as_base64: bool) -> object:
    return b64encode(vector).decode() if as_base64 else struct.unpack(f"<{len(vector) // 4}f", vector)

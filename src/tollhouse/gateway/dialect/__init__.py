"""The dialects of `/v1` and of the providers: pure translation, one module for each.

A client's dialect (`chat`, `responses`, `messages`) reads requests and writes answers; a provider's (`chat`,
`messages`, `gemini`) writes requests and reads answers. Between two different ones stands `neutral`; between two equal
ones the provider's own bytes are passed on, so that nothing a vendor adds is lost.
"""

from typing import Any, Protocol

from tollhouse.core.ask import Size
from tollhouse.core.errors import TollhouseError
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect.meter import Meter
from tollhouse.gateway.dialect.neutral import Piece, Prompt, Whole


class NotAnAnswer(Exception):
    """What a provider sent is not an answer in its dialect."""


class Wanted(Protocol):
    """A request that was read and found right."""

    @property
    def model(self) -> str: ...

    @property
    def size(self) -> Size:
        """`sandbox_tokens` left None."""

    @property
    def answers(self) -> int: ...

    @property
    def wants_stream(self) -> bool: ...

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with its usage."""

    def prompt(self) -> Prompt:
        """The same, neutral. BadRequest that names what only this dialect has."""


class Native(Wanted, Protocol):
    """A request in a dialect that some providers speak too."""

    def native(self, model: str, output_tokens: int) -> bytes:
        """The body for a provider of the same dialect: its model name, the admitted maximum, usage asked for, and
        everything else as it came."""


class Writer(Protocol):
    """Writes one streamed answer for a client. `model` is the catalogue's id of the model that answers."""

    def write(self, pieces: list[Piece]) -> bytes:
        """Pieces as events of the stream; `Counted`, `Failed` and `Finished` write nothing. What ends the answer is
        held back until `end`."""

    def end(self, usage: Usage, settled: Settled | None) -> bytes:
        """The end, with usage and charge; `settled` None: the charge is not known yet."""

    def error(self, error: TollhouseError) -> bytes:
        """The answer breaks off here."""


class Surface(Protocol):
    """A client's dialect."""

    name: str
    path: str

    def read(self, body: bytes) -> Wanted:
        """BadRequest with a sentence that names the field and the remedy; nothing has been reserved yet."""

    def answer(self, whole: Whole, wanted: Any, model: str, created: int) -> dict[str, Any]:
        """An answer in one piece, without its usage. `wanted` is the surface's own request."""

    def charge(self, answer: dict[str, Any], usage: Usage, settled: Settled | None) -> None:
        """Writes usage and charge (`usage.credits`, `usage.cost_usd`) into an answer, beside the vendor's fields."""

    def writer(self, wanted: Any, model: str, created: int) -> Writer:
        """For one streamed answer. `wanted` is the surface's own request."""

    def refusal(self, error: TollhouseError) -> bytes:
        """An error as the body of an answer."""


class Reader(Protocol):
    """Reads one streamed answer of a provider."""

    def read(self, data: bytes) -> list[Piece]:
        """The data of one event. NotAnAnswer when it is none of this dialect."""


class Wire(Protocol):
    """A provider's dialect."""

    name: str

    def request(self, prompt: Prompt, model: str, output_tokens: int) -> bytes:
        """The body. BadRequest that names what this provider has not."""

    def whole(self, body: bytes) -> Whole:
        """NotAnAnswer when it is none."""

    def reader(self) -> Reader: ...


class Relay(Protocol):
    """One streamed answer between a provider and a client: equal dialects pass the provider's own events on, different
    ones go through `Reader` and `Writer`."""

    meter: Meter

    def take(self, data: bytes) -> bytes:
        """The data of one event of the provider, as the client gets it now; empty for what is held back until the end
        or is not for the client. Counts it in `meter`. NotAnAnswer when it is no event of the provider's dialect."""

    def end(self, usage: Usage, settled: Settled | None) -> bytes:
        """See `Writer.end`."""

    def error(self, error: TollhouseError) -> bytes:
        """See `Writer.error`."""

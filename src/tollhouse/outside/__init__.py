"""Other companies' servers, behind one protocol.

A provider takes the bytes of a request and gives the bytes of an answer. It knows nothing of customers, credits or
plans, and it never tries again by itself: how often a provider was called is what the gateway called.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

Operation = Literal["chat", "embeddings", "count_tokens"]
"""What a provider can be asked for; `body` is in the provider's own format."""

Phase = Literal["connect", "first_byte", "idle", "total"]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each phase of one call may take, in seconds.

    `first_byte` and `total` run from the start of the call; `connect` (name, TCP, TLS) lies within `first_byte`.
    `idle` is the silence between two segments; only time in which somebody waits for the next one counts, so a customer
    who reads slowly is not taken for a silent provider.
    """

    connect: float = 10.0
    first_byte: float = 60.0
    idle: float = 60.0
    total: float = 600.0


class ProviderFault(Exception):
    """The call to a provider failed. Messages are plain and hold neither key nor address."""


class ProviderUnreachable(ProviderFault):
    """No connection, or the provider ended it before it answered."""

    def __init__(self, message: str = "the provider cannot be reached") -> None:
        super().__init__(message)


class ReplyBroken(ProviderUnreachable):
    """The answer began and then broke off, or it breaks the rules of HTTP."""

    def __init__(self) -> None:
        super().__init__("the provider's answer broke off before its end")


class ProviderTimeout(ProviderFault):
    """A deadline passed; `phase` says which."""

    def __init__(self, phase: Phase) -> None:
        super().__init__(_LATE[phase])
        self.phase: Phase = phase


_LATE: dict[Phase, str] = {
    "connect": "the provider did not accept a connection in time",
    "first_byte": "the provider did not begin to answer in time",
    "idle": "the provider stopped in the middle of its answer",
    "total": "the provider did not finish its answer in time",
}


class ReplyTooLarge(ProviderFault):
    """The whole answer is larger than the reader allows; it was abandoned."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the provider's answer is larger than {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class ProviderRefused(ProviderFault):
    """The provider answered a check with a `status` that says the connection will not work."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ProviderLacks(ProviderFault):
    """The provider has no such operation: nothing was sent, and trying again is of no use."""

    def __init__(self, operation: Operation) -> None:
        super().__init__(f"the provider offers no {_NAMES[operation]}; choose a model of another provider")
        self.operation: Operation = operation


_NAMES: dict[Operation, str] = {
    "chat": "chat completions",
    "embeddings": "embeddings",
    "count_tokens": "counting of tokens",
}


class Reply(Protocol):
    """One answer, read once: whole with `read` or as it comes with `segments`, then closed."""

    @property
    def status(self) -> int:
        """The HTTP status; a redirect is an answer like any other and is never followed."""

    @property
    def content_type(self) -> str:
        """The media type in lower case without parameters; empty when the provider names none."""

    @property
    def retry_after_s(self) -> float | None:
        """The seconds that the provider asks callers to wait, at most 3600; None when it does not say so sensibly."""

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises `ReplyTooLarge` beyond `limit` bytes, `ProviderTimeout`, `ReplyBroken`."""

    def segments(self) -> AsyncIterator[bytes]:
        """The body as it comes, never empty segments. Raises `ProviderTimeout`, `ReplyBroken`."""

    async def close(self) -> None:
        """Lets go of the answer, any number of times. Before its end this aborts the call at the provider."""


class Provider(Protocol):
    """One connection to a provider, used by many calls at once."""

    async def send(self, operation: Operation, model: str, body: bytes, *, stream: bool) -> Reply:
        """Sends one request, `body` being its JSON in the provider's own format.

        `model` is the provider's id of the model, for those that want it in the address; `stream` says what the body,
        or for the same providers the address, asks for. Returns when the status is known. Raises
        `ProviderUnreachable`, `ProviderTimeout`, `ProviderLacks`.
        """

    async def check(self) -> None:
        """Asks for something that costs nothing and needs the key. Raises `ProviderRefused` or another
        `ProviderFault` whose message says what is wrong with the connection."""

    async def close(self) -> None:
        """Ends all connections of the pool."""

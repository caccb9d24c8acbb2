"""One request of a client: as each provider that may answer it has to hear it, and what comes back as the client has to
hear it. Equal dialects pass everything on as it came, different ones meet in the neutral form."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tollhouse.core.admission import Candidate
from tollhouse.core.ask import AUTO, Size
from tollhouse.core.complexity import Shape
from tollhouse.core.errors import BadRequest, TollhouseError
from tollhouse.core.price import Usage
from tollhouse.core.routing import Kind, Route
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect import (
    Native,
    Relay,
    Surface,
    Wanted,
    Wire,
    Writer,
    chat,
    chat_answer,
    chat_request,
    chat_stream,
    embeddings,
    gemini,
    messages,
    messages_answer,
    messages_stream,
    responses,
)
from tollhouse.gateway.dialect.collect import Collector
from tollhouse.gateway.dialect.meter import count_text
from tollhouse.gateway.dialect.neutral import Image, Prompt, Text, ToolResult, Whole
from tollhouse.gateway.dialect.translated import Translated
from tollhouse.outside import Operation

WIRES: dict[str, Wire] = {"openai": chat.WIRE, "anthropic": messages.WIRE, "google": gemini.WIRE}


@dataclass(frozen=True, slots=True)
class Shared:
    """A dialect of clients that a provider speaks too: its protocol, and how its answers are passed on."""

    protocol: str
    relay: Callable[[bool], Relay]
    plain: Callable[[bytes], tuple[dict[str, Any], Usage | None]]
    count: Callable[[dict[str, Any]], int]


SHARED = {
    chat.SURFACE.name: Shared("openai", lambda usage: chat_stream.Same(usage=usage), chat_answer.read_plain,
                              chat_answer.count_plain),
    messages.SURFACE.name: Shared("anthropic", lambda usage: messages_stream.Same(), messages_answer.read_plain,
                                  messages_answer.count_plain),
}  # fmt: skip


# What a translation calls otherwise than the client did.
OWN_NAMES = {
    (messages.SURFACE.name, "stop"): "stop_sequences",
    (messages.SURFACE.name, "parallel_tool_calls"): "tool_choice.disable_parallel_tool_use",
    (messages.SURFACE.name, "response_format"): "output_config.format",
    (messages.SURFACE.name, "reasoning_effort"): "thinking",
    (responses.SURFACE.name, "logprobs"): "top_logprobs",
    (responses.SURFACE.name, "response_format"): "text.format",
    (responses.SURFACE.name, "reasoning_effort"): "reasoning.effort",
    (responses.SURFACE.name, "messages"): "input",
}


def protocol_of(route: Route) -> str:
    """The sandbox speaks OpenAI's."""
    return "openai" if route.connection is None else route.connection.protocol


@dataclass(frozen=True, slots=True)
class Plain:
    """An answer in one piece, without its charge. `usage` None: the provider did not say; `output_estimate` is ours."""

    answer: dict[str, Any]
    usage: Usage | None
    output_estimate: int


class Exchange(ABC):
    """What a call needs to know of a request, whatever is asked for. `raw` is the body as the client sent it, `created`
    when it came, in epoch seconds."""

    operation: Operation
    kind: Kind
    answer_max = 32 * 1024 * 1024  # bytes of an answer in one piece

    def __init__(self, raw: bytes, created: int) -> None:
        self.raw = raw
        self.created = created

    @property
    @abstractmethod
    def model(self) -> str:
        """As the client named it."""

    @property
    @abstractmethod
    def size(self) -> Size: ...

    @property
    def answers(self) -> int:
        return 1

    @property
    def wants_stream(self) -> bool:
        return False

    @property
    def shape(self) -> Shape | None:
        """What `auto` judges, where it may choose."""
        return None

    def sandbox_tokens(self) -> int | None:
        """What the sandbox counts for this request, where that is known."""
        return None

    @abstractmethod
    def body(self, candidate: Candidate) -> bytes:
        """What this candidate's provider is sent. BadRequest that names what it has not."""

    @abstractmethod
    def plain(self, candidate: Candidate, body: bytes) -> Plain:
        """The candidate's answer in one piece. NotAnAnswer when it is none."""

    @abstractmethod
    def charge(self, answer: dict[str, Any], usage: Usage, settled: Settled | None) -> None:
        """Writes usage and charge into an answer."""


class Chat(Exchange):
    """A conversation, in any dialect."""

    operation: Operation = "chat"
    kind: Kind = "chat"

    def __init__(self, surface: Surface, raw: bytes, created: int) -> None:
        super().__init__(raw, created)
        self.surface = surface
        self.wanted: Wanted = surface.read(raw)

    @property
    def model(self) -> str:
        return self.wanted.model

    @cached_property
    def size(self) -> Size:
        return self.wanted.size

    @property
    def answers(self) -> int:
        return self.wanted.answers

    @property
    def wants_stream(self) -> bool:
        return self.wanted.wants_stream

    @property
    def shape(self) -> Shape | None:
        return shape_of(self.prompt) if self.wanted.model == AUTO else None

    @cached_property
    def prompt(self) -> Prompt:
        return self.wanted.prompt()

    def sandbox_tokens(self) -> int | None:
        """Known in the dialect that the sandbox speaks."""
        if not isinstance(self.wanted, chat_request.ChatRequest):
            return None
        return chat_request.sandbox_tokens(self.wanted, len(self.raw))

    def body(self, candidate: Candidate) -> bytes:
        assert candidate.output_tokens is not None  # known of every call that is made here
        name, protocol = candidate.model.provider_model_id, protocol_of(candidate.route)
        if self._shared(protocol) is not None:
            native: Native = self.wanted  # type: ignore[assignment]  # what SHARED names is one
            return native.native(name, candidate.output_tokens)
        try:
            return WIRES[protocol].request(self.prompt, name, candidate.output_tokens)
        except BadRequest as error:
            own = OWN_NAMES.get((self.surface.name, error.field or ""))
            if own is None:
                raise
            raise BadRequest(str(error).replace(f"`{error.field}`", f"`{own}`"), own) from None

    def relay(self, candidate: Candidate) -> Relay:
        protocol = protocol_of(candidate.route)
        shared = self._shared(protocol)
        if shared is not None:
            return shared.relay(self.wanted.wants_usage)
        return Translated(WIRES[protocol].reader(), self.writer(candidate.model.id))

    def recorded(self, candidate: Candidate) -> "Recorded":
        """A relay that also keeps what passes."""
        return Recorded(self.relay(candidate), WIRES[protocol_of(candidate.route)])

    def plain(self, candidate: Candidate, body: bytes) -> Plain:
        shared = self._shared(protocol_of(candidate.route))
        if shared is not None:
            answer, usage = shared.plain(body)
            return Plain(answer, usage, 0 if usage else shared.count(answer))
        whole = self.whole(candidate, body)
        return Plain(self.answer(whole, candidate.model.id), whole.usage, count_text(whole))

    def whole(self, candidate: Candidate, body: bytes) -> Whole:
        """A plain answer in the neutral form, to be kept."""
        return WIRES[protocol_of(candidate.route)].whole(body)

    def answer(self, whole: Whole, model: str) -> dict[str, Any]:
        return self.surface.answer(whole, self.wanted, model, self.created)

    def writer(self, model: str) -> Writer:
        return self.surface.writer(self.wanted, model, self.created)

    def charge(self, answer: dict[str, Any], usage: Usage, settled: Settled | None) -> None:
        self.surface.charge(answer, usage, settled)

    def _shared(self, protocol: str) -> Shared | None:
        shared = SHARED.get(self.surface.name)
        return shared if shared is not None and shared.protocol == protocol else None


class Embedding(Exchange):
    """Texts to vectors: one dialect, in one piece, input only."""

    operation: Operation = "embeddings"
    kind: Kind = "embedding"
    answer_max = 160 * 1024 * 1024  # 2,048 vectors of 3,072 numbers, written out

    def __init__(self, raw: bytes, created: int) -> None:
        super().__init__(raw, created)
        self._request = embeddings.read(raw)
        self._size = self._request.size

    @property
    def model(self) -> str:
        return self._request.model

    @property
    def size(self) -> Size:
        return self._size

    def sandbox_tokens(self) -> int | None:
        return self._request.sandbox_tokens(len(self.raw))

    def body(self, candidate: Candidate) -> bytes:
        if protocol_of(candidate.route) != "openai":
            raise BadRequest("The provider of this model gives no embeddings here. Choose another model.", "model")
        return self._request.native(candidate.model.provider_model_id)

    def plain(self, candidate: Candidate, body: bytes) -> Plain:
        answer, usage = embeddings.read_answer(body)
        return Plain(answer, usage, 0)

    def charge(self, answer: dict[str, Any], usage: Usage, settled: Settled | None) -> None:
        embeddings.charge(answer, usage, settled)


def shape_of(prompt: Prompt) -> Shape:
    """What `auto` judges of a prompt."""
    texts = [part.text for part in prompt.system]
    images = 0
    for turn in prompt.turns:
        for part in turn.parts:
            inner: Sequence[object] = part.content if isinstance(part, ToolResult) else (part,)
            texts += [one.text for one in inner if isinstance(one, Text)]
            images += sum(isinstance(one, Image) for one in inner)
    has_schema = prompt.form is not None
    return Shape.of(texts, turns=len(prompt.turns), tools=len(prompt.tools), images=images, has_schema=has_schema)


class Recorded:
    """A relay whose answer can be told again."""

    def __init__(self, relay: Relay, wire: Wire) -> None:
        self.meter = relay.meter
        self._relay = relay
        self._reader = wire.reader()
        self._collector = Collector()

    def take(self, data: bytes) -> bytes:
        out = self._relay.take(data)
        self._collector.add(self._reader.read(data))
        return out

    def end(self, usage: Usage, settled: Settled | None) -> bytes:
        return self._relay.end(usage, settled)

    def error(self, error: TollhouseError) -> bytes:
        return self._relay.error(error)

    def whole(self, usage: Usage) -> Whole:
        return self._collector.whole(usage)

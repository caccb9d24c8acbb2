"""Anthropic's dialect, for clients (`SURFACE`, POST /v1/messages) and for providers (`WIRE`). Source: Anthropic's API
reference, Messages.
"""

from typing import Any

from tollhouse.core.errors import TollhouseError
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect import Reader, Surface, Wire, Writer
from tollhouse.gateway.dialect.messages_answer import PieceReader, error_body, read_whole, write_whole
from tollhouse.gateway.dialect.messages_request import MessagesRequest, read
from tollhouse.gateway.dialect.messages_stream import EventWriter, charge
from tollhouse.gateway.dialect.messages_wire import write_request
from tollhouse.gateway.dialect.neutral import Prompt, Whole


class Messages:
    """See `Surface`."""

    name = "messages"
    path = "/v1/messages"

    def read(self, body: bytes) -> MessagesRequest:
        return read(body)

    def answer(self, whole: Whole, wanted: MessagesRequest, model: str, created: int) -> dict[str, Any]:
        return write_whole(whole, model)

    def charge(self, answer: dict[str, Any], usage: Usage, settled: Settled | None) -> None:
        given = answer.get("usage")
        answer["usage"] = charge(given if isinstance(given, dict) else {}, usage, settled)

    def writer(self, wanted: MessagesRequest, model: str, created: int) -> Writer:
        return EventWriter(model)

    def refusal(self, error: TollhouseError) -> bytes:
        return error_body(error)


class Anthropic:
    """See `Wire`."""

    name = "anthropic"

    def request(self, prompt: Prompt, model: str, output_tokens: int) -> bytes:
        return write_request(prompt, model, output_tokens)

    def whole(self, body: bytes) -> Whole:
        return read_whole(body)

    def reader(self) -> Reader:
        return PieceReader()


SURFACE: Surface = Messages()
WIRE: Wire = Anthropic()

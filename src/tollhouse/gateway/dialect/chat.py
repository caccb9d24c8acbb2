"""OpenAI's chat completions: a dialect of clients, and of OpenAI and all providers that speak like it."""

from typing import Any

from tollhouse.core.errors import TollhouseError
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect import Surface, Wire
from tollhouse.gateway.dialect.chat_answer import charge, read_whole, write_answer
from tollhouse.gateway.dialect.chat_body import body_of
from tollhouse.gateway.dialect.chat_error import error_body
from tollhouse.gateway.dialect.chat_request import ChatRequest, read
from tollhouse.gateway.dialect.chat_stream import ChunkReader, ChunkWriter
from tollhouse.gateway.dialect.neutral import Prompt, Whole


class _Surface:
    name = "chat"
    path = "/v1/chat/completions"

    def read(self, body: bytes) -> ChatRequest:
        return read(body)

    def answer(self, whole: Whole, wanted: ChatRequest, model: str, created: int) -> dict[str, Any]:
        return write_answer(whole, model, created, function_call=wanted.wants_function_call)

    def charge(self, answer: dict[str, Any], usage: Usage, settled: Settled | None) -> None:
        charge(answer, usage, settled)

    def writer(self, wanted: ChatRequest, model: str, created: int) -> ChunkWriter:
        return ChunkWriter(model, created, usage=wanted.wants_usage, function_call=wanted.wants_function_call)

    def refusal(self, error: TollhouseError) -> bytes:
        return error_body(error)


class _Wire:
    name = "openai"

    def request(self, prompt: Prompt, model: str, output_tokens: int) -> bytes:
        return body_of(prompt, model, output_tokens)

    def whole(self, body: bytes) -> Whole:
        return read_whole(body)

    def reader(self) -> ChunkReader:
        return ChunkReader()


SURFACE: Surface = _Surface()
WIRE: Wire = _Wire()

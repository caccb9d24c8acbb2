"""A streamed answer between two different dialects."""

from tollhouse.core.errors import TollhouseError
from tollhouse.core.price import Usage
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect import Reader, Writer
from tollhouse.gateway.dialect.meter import Meter


class Translated:
    """See `dialect.Relay`. What follows the end, or an error, is not read any more."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self.meter = Meter()
        self._reader = reader
        self._writer = writer

    def take(self, data: bytes) -> bytes:
        if self.meter.ended or self.meter.failed is not None:
            return b""
        pieces = self._reader.read(data)
        self.meter.count(pieces)
        return self._writer.write(pieces)

    def end(self, usage: Usage, settled: Settled | None) -> bytes:
        return self._writer.end(usage, settled)

    def error(self, error: TollhouseError) -> bytes:
        return self._writer.error(error)

"""Anthropic's Messages API, and servers that speak it."""

from typing import Final

from tollhouse.outside import Operation, ProviderLacks
from tollhouse.outside.http import HttpProvider

VERSION: Final = "2023-06-01"
"""The version of the API whose formats the gateway reads and writes."""

_PATHS: Final[dict[Operation, str]] = {"chat": "messages", "count_tokens": "messages/count_tokens"}


class Anthropic(HttpProvider):
    """The base URL is ``https://api.anthropic.com``, with or without ``/v1``. The body names the model."""

    versions = ("v1",)
    models = "models?limit=1"

    def _own_headers(self, key: str | None) -> dict[str, str]:
        return {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})

    def _path(self, operation: Operation, model: str, *, stream: bool) -> str:
        path = _PATHS.get(operation)
        if path is None:
            raise ProviderLacks(operation)
        return path

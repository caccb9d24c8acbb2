"""Google's Gemini API (Generative Language), where the address names model and operation."""

from typing import Final
from urllib.parse import quote

from tollhouse.outside import Operation, ProviderLacks
from tollhouse.outside.http import HttpProvider

_METHODS: Final[dict[tuple[Operation, bool], str]] = {
    ("chat", False): "generateContent",
    ("chat", True): "streamGenerateContent?alt=sse",
    ("embeddings", False): "batchEmbedContents",
}


class Google(HttpProvider):
    """The base URL is ``https://generativelanguage.googleapis.com``, with or without ``/v1beta``.

    The key goes into a header and never into the address, which servers on the way write into their logs.
    """

    versions = ("v1beta", "v1")
    models = "models?pageSize=1"

    def _own_headers(self, key: str | None) -> dict[str, str]:
        return {"x-goog-api-key": key} if key else {}

    def _path(self, operation: Operation, model: str, *, stream: bool) -> str:
        method = _METHODS.get((operation, stream))
        if method is None:
            raise ProviderLacks(operation)
        return f"models/{quote(model, safe='')}:{method}"

    def _refuses_key(self, status: int) -> bool:
        # An invalid key is an INVALID_ARGUMENT here, and a list of models has no other argument to be invalid.
        return status == 400 or super()._refuses_key(status)

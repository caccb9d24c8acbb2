"""Any server that speaks OpenAI's API over HTTP: OpenAI, Together, Ollama, vLLM and many more."""

from typing import Final

from tollhouse.outside import Operation, ProviderLacks
from tollhouse.outside.http import HttpProvider

_PATHS: Final[dict[Operation, str]] = {"chat": "chat/completions", "embeddings": "embeddings"}


class OpenAICompatible(HttpProvider):
    """The base URL ends where the operations begin, such as ``https://api.openai.com/v1``. The body names the model."""

    models = "models"

    def _own_headers(self, key: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _path(self, operation: Operation, model: str, *, stream: bool) -> str:
        path = _PATHS.get(operation)
        if path is None:
            raise ProviderLacks(operation)
        return path

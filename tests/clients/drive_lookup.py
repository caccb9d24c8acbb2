"""openai-python and anthropic-python: what they ask beside conversations."""

from __future__ import annotations

from typing import Any

import anthropic
import openai

from tests.clients import driver
from tests.clients.driver import MODEL, part, tell

EMBEDDING = "text-embedding-3-small"


def main() -> None:
    mine = part()
    by_openai = openai.OpenAI(base_url=mine.v1, api_key=mine.key)
    by_anthropic = anthropic.Anthropic(base_url=mine.url, api_key=mine.key)
    asked = by_anthropic.messages.create(
        model=MODEL, messages=[{"role": "user", "content": mine.texts["plain"]}], max_tokens=5
    )
    counted = by_anthropic.messages.count_tokens(
        model=MODEL, messages=[{"role": "user", "content": mine.texts["plain"]}]
    )
    tell(
        {
            "embeddings": embeddings(by_openai),
            "models": {"openai": models(by_openai), "anthropic": models(by_anthropic)},
            "no_model": {"openai": no_model(by_openai), "anthropic": no_model(by_anthropic)},
            "tokens": {"counted": counted.input_tokens, "used": asked.usage.input_tokens},
        }
    )


def embeddings(client: openai.OpenAI) -> dict[str, Any]:
    """As floats, and as the base64 that the client asks for by itself and unpacks."""
    texts = ["one text", "another"]
    packed = client.embeddings.create(model=EMBEDDING, input=texts)
    floats = client.embeddings.create(model=EMBEDDING, input=texts, encoding_format="float", dimensions=8)
    return {
        "packed": [item.embedding for item in packed.data],
        "floats": [item.embedding for item in floats.data],
        "usage": [driver.usage(answer.usage, input_name="prompt_tokens") for answer in (packed, floats)],
    }


def models(client: openai.OpenAI | anthropic.Anthropic) -> dict[str, Any]:
    """Every id, over as many pages as there are, and one looked up by itself."""
    return {"listed": [model.id for model in client.models.list()], "one": client.models.retrieve(MODEL).id}


def no_model(client: openai.OpenAI | anthropic.Anthropic) -> str | None:
    try:
        client.models.retrieve("no-such-model")
    except (openai.NotFoundError, anthropic.NotFoundError) as error:
        return type(error).__module__.partition(".")[0]
    return None


if __name__ == "__main__":
    main()

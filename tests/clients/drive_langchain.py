"""langchain-openai and langchain-anthropic: the same cases through LangChain's own interface. The word after the
program's name says which."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.clients import driver
from tests.clients.driver import MODEL, MOST, Part, failure_of, part, refused, tell

Make = Callable[[str, str], BaseChatModel]
"""A model of the catalogue, asked with a key: the key, and the model's name."""


def main() -> None:
    mine = part()
    make = {"openai": of_openai, "anthropic": of_anthropic}[sys.argv[1]](mine)
    cases = Cases(make, mine)
    tell(
        {
            "plain": cases.plain(),
            "stream": cases.stream(),
            "tools": cases.tools(),
            "tools_stream": cases.tools_stream(),
            "broken": cases.broken(),
            "left": cases.leave(),
            "refusals": refused(cases.ask, mine, Exception),
        }
    )


def of_openai(mine: Part) -> Make:
    """`stream_usage` because LangChain doesn't ask a server of one's own for usage by itself."""

    def make(key: str, model: str) -> BaseChatModel:
        return ChatOpenAI(
            base_url=mine.v1, api_key=SecretStr(key), model=model, max_completion_tokens=MOST, stream_usage=True
        )

    return make


def of_anthropic(mine: Part) -> Make:
    def make(key: str, model: str) -> BaseChatModel:
        return ChatAnthropic(
            base_url=mine.url,
            api_key=SecretStr(key),
            model_name=model,
            max_tokens_to_sample=MOST,
            timeout=None,
            stop=None,
        )

    return make


class Cases:
    def __init__(self, make: Make, mine: Part) -> None:
        self._make = make
        self._part = mine
        self._model = make(mine.key, MODEL)
        self._with_tools = self._model.bind_tools([{"type": "function", "function": tool} for tool in mine.tools])

    def plain(self) -> dict[str, Any]:
        answer = self._model.invoke(self._part.texts["plain"])
        return {"text": answer.text, "usage": _usage(answer)}

    def stream(self) -> dict[str, Any]:
        whole: AIMessageChunk | None = None
        for chunk in self._model.stream(self._part.texts["plain"]):
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        return {"text": whole.text, "usage": _usage(whole)}

    def tools(self) -> dict[str, Any]:
        question = HumanMessage(self._part.texts["tools"])
        asked = self._with_tools.invoke([question])
        results = [ToolMessage("sunny", tool_call_id=call["id"]) for call in asked.tool_calls]
        answer = self._with_tools.invoke([question, asked, *results])
        return {
            "calls": _calls(asked),
            "usage": _usage(asked),
            "then": {"text": answer.text, "usage": _usage(answer)},
        }

    def tools_stream(self) -> dict[str, Any]:
        whole: Any = None
        for chunk in self._with_tools.stream(self._part.texts["tools"]):
            whole = chunk if whole is None else whole + chunk
        return {"calls": _calls(whole), "usage": _usage(whole)}

    def broken(self) -> dict[str, Any]:
        said = ""
        try:
            for chunk in self._model.stream(self._part.texts["broken"]):
                said += chunk.text
        except (openai.APIError, anthropic.APIError) as error:
            return {"text": said, "failure": failure_of(error)}
        return {"text": said, "failure": None}

    def leave(self) -> int:
        """Goes away after a few pieces; how many it got."""
        stream = self._make(self._part.leaving_key, MODEL).stream(self._part.texts["left"])
        seen = 0
        for _ in stream:
            seen += 1
            if seen == 3:
                break
        stream.close()  # type: ignore[attr-defined]  # it is a generator
        return seen

    def ask(self, key: str, model: str) -> object:
        return self._make(key, model).invoke("Why?")


def _usage(answer: AIMessage) -> dict[str, Any]:
    """LangChain's own counts; the charge where it passes on what the provider said."""
    counts = driver.usage(answer.usage_metadata or {})
    raw = answer.response_metadata.get("token_usage") or answer.response_metadata.get("usage") or {}
    return counts | {"credits": raw.get("credits"), "cost_usd": raw.get("cost_usd")}


def _calls(answer: AIMessage) -> list[list[Any]]:
    return [[call["name"], call["args"]] for call in answer.tool_calls]


if __name__ == "__main__":
    main()

"""openai-python: chat completions."""

from __future__ import annotations

import json
from typing import Any

import openai
from openai.types.chat import ChatCompletionMessageFunctionToolCall, ChatCompletionMessageParam

from tests.clients import driver
from tests.clients.driver import MODEL, MOST, Part, failure_of, part, refused, tell

USAGE = {"input_name": "prompt_tokens", "output_name": "completion_tokens"}


def main() -> None:
    mine = part()
    chat = Chat(openai.OpenAI(base_url=mine.v1, api_key=mine.key), mine)
    tell(
        {
            "plain": chat.plain(),
            "stream": chat.stream(),
            "tools": chat.tools(),
            "tools_stream": chat.tools_stream(),
            "broken": chat.broken(),
            "left": chat.leave(),
            "refusals": refused(chat.ask, mine, openai.APIError),
        }
    )


class Chat:
    def __init__(self, client: openai.OpenAI, mine: Part) -> None:
        self._client = client
        self._part = mine
        self._tools: Any = [{"type": "function", "function": tool} for tool in mine.tools]

    def plain(self) -> dict[str, Any]:
        answer = self._client.chat.completions.create(
            model=MODEL, messages=_user(self._part.texts["plain"]), max_tokens=MOST
        )
        assert answer.usage is not None
        return {"text": answer.choices[0].message.content, "usage": driver.usage(answer.usage, **USAGE)}

    def stream(self) -> dict[str, Any]:
        said, counted = "", None
        with self._client.chat.completions.create(
            model=MODEL,
            messages=_user(self._part.texts["plain"]),
            max_tokens=MOST,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            for chunk in stream:
                said += "".join(choice.delta.content or "" for choice in chunk.choices)
                counted = chunk.usage or counted
        assert counted is not None
        return {"text": said, "usage": driver.usage(counted, **USAGE)}

    def tools(self) -> dict[str, Any]:
        messages = _user(self._part.texts["tools"])
        asked = self._client.chat.completions.create(model=MODEL, messages=messages, tools=self._tools, max_tokens=MOST)
        message = asked.choices[0].message
        calls = message.tool_calls or []
        results: list[ChatCompletionMessageParam] = [
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in calls
        ]
        told: Any = message.model_dump(exclude_none=True)
        answer = self._client.chat.completions.create(
            model=MODEL, messages=[*messages, told, *results], tools=self._tools, max_tokens=MOST
        )
        assert asked.usage is not None and answer.usage is not None
        return {
            "calls": _calls(calls),
            "usage": driver.usage(asked.usage, **USAGE),
            "then": {"text": answer.choices[0].message.content, "usage": driver.usage(answer.usage, **USAGE)},
        }

    def tools_stream(self) -> dict[str, Any]:
        """Through the client's own accumulator."""
        with self._client.chat.completions.stream(
            model=MODEL,
            messages=_user(self._part.texts["tools"]),
            tools=self._tools,
            max_tokens=MOST,
            stream_options={"include_usage": True},
        ) as stream:
            answer = stream.get_final_completion()
        assert answer.usage is not None
        calls = answer.choices[0].message.tool_calls or []
        return {"calls": _calls(calls), "usage": driver.usage(answer.usage, **USAGE)}

    def broken(self) -> dict[str, Any]:
        said = ""
        try:
            for chunk in self._client.chat.completions.create(
                model=MODEL, messages=_user(self._part.texts["broken"]), stream=True, max_tokens=MOST
            ):
                said += chunk.choices[0].delta.content or ""
        except openai.APIError as error:
            return {"text": said, "failure": failure_of(error)}
        return {"text": said, "failure": None}

    def leave(self) -> int:
        """Goes away after a few pieces; how many it got."""
        seen = 0
        with self._client.with_options(api_key=self._part.leaving_key).chat.completions.create(
            model=MODEL, messages=_user(self._part.texts["left"]), stream=True, max_tokens=MOST
        ) as stream:
            for _ in stream:
                seen += 1
                if seen == 3:
                    break
        return seen

    def ask(self, key: str, model: str) -> object:
        client = self._client.with_options(api_key=key)
        return client.chat.completions.create(model=model, messages=_user("Why?"), max_tokens=MOST)


def _user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def _calls(calls: Any) -> list[list[Any]]:
    assert all(isinstance(call, ChatCompletionMessageFunctionToolCall) for call in calls)
    return [[call.function.name, json.loads(call.function.arguments)] for call in calls]


if __name__ == "__main__":
    main()

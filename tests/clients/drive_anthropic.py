"""anthropic-python: messages."""

from __future__ import annotations

from typing import Any

import anthropic
from anthropic.types import MessageParam, ToolUseBlock

from tests.clients import driver
from tests.clients.driver import MODEL, MOST, Part, failure_of, part, refused, tell


def main() -> None:
    mine = part()
    messages = Messages(anthropic.Anthropic(base_url=mine.url, api_key=mine.key), mine)
    tell(
        {
            "plain": messages.plain(),
            "stream": messages.stream(),
            "tools": messages.tools(),
            "tools_stream": messages.tools_stream(),
            "broken": messages.broken(),
            "left": messages.leave(),
            "refusals": refused(messages.ask, mine, anthropic.APIError),
        }
    )


class Messages:
    def __init__(self, client: anthropic.Anthropic, mine: Part) -> None:
        self._client = client
        self._part = mine
        self._tools: Any = [
            {"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]}
            for tool in mine.tools
        ]

    def plain(self) -> dict[str, Any]:
        answer = self._client.messages.create(model=MODEL, messages=_user(self._part.texts["plain"]), max_tokens=MOST)
        return {"text": _text(answer), "usage": driver.usage(answer.usage)}

    def stream(self) -> dict[str, Any]:
        """The text as it came, and the usage of the event that ends the message, where the charge stands."""
        said, counted = "", None
        with self._client.messages.stream(
            model=MODEL, messages=_user(self._part.texts["plain"]), max_tokens=MOST
        ) as stream:
            for event in stream:
                said += event.text if event.type == "text" else ""
                counted = event.usage if event.type == "message_delta" else counted
            answer = stream.get_final_message()
        assert counted is not None and said == _text(answer)
        kept = driver.usage(answer.usage)
        told = driver.usage(counted)
        assert (kept["input"], kept["output"]) == (told["input"], told["output"])
        return {"text": said, "usage": told}

    def tools(self) -> dict[str, Any]:
        question = _user(self._part.texts["tools"])
        asked = self._client.messages.create(model=MODEL, messages=question, tools=self._tools, max_tokens=MOST)
        calls = [block for block in asked.content if isinstance(block, ToolUseBlock)]
        results: Any = [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"} for call in calls]
        answer = self._client.messages.create(
            model=MODEL,
            messages=[
                *question,
                {"role": "assistant", "content": asked.content},
                {"role": "user", "content": results},
            ],
            tools=self._tools,
            max_tokens=MOST,
        )
        return {
            "calls": [[call.name, call.input] for call in calls],
            "usage": driver.usage(asked.usage),
            "then": {"text": _text(answer), "usage": driver.usage(answer.usage)},
        }

    def tools_stream(self) -> dict[str, Any]:
        """Through the client's own accumulator."""
        with self._client.messages.stream(
            model=MODEL, messages=_user(self._part.texts["tools"]), tools=self._tools, max_tokens=MOST
        ) as stream:
            answer = stream.get_final_message()
        calls = [block for block in answer.content if block.type == "tool_use"]
        return {"calls": [[call.name, call.input] for call in calls], "usage": driver.usage(answer.usage)}

    def broken(self) -> dict[str, Any]:
        said = ""
        try:
            with self._client.messages.stream(
                model=MODEL, messages=_user(self._part.texts["broken"]), max_tokens=MOST
            ) as stream:
                for text in stream.text_stream:
                    said += text
        except anthropic.APIError as error:
            return {"text": said, "failure": failure_of(error)}
        return {"text": said, "failure": None}

    def leave(self) -> int:
        """Goes away after a few pieces; how many it got."""
        seen = 0
        with self._client.with_options(api_key=self._part.leaving_key).messages.stream(
            model=MODEL, messages=_user(self._part.texts["left"]), max_tokens=MOST
        ) as stream:
            for _ in stream.text_stream:
                seen += 1
                if seen == 3:
                    break
        return seen

    def ask(self, key: str, model: str) -> object:
        client = self._client.with_options(api_key=key)
        return client.messages.create(model=model, messages=_user("Why?"), max_tokens=MOST)


def _user(text: str) -> list[MessageParam]:
    return [{"role": "user", "content": text}]


def _text(answer: Any) -> str:
    return "".join(block.text for block in answer.content if block.type == "text")


if __name__ == "__main__":
    main()

"""openai-python: responses."""

from __future__ import annotations

import json
from typing import Any

import openai
from openai.types.responses import ResponseFunctionToolCall, ResponseStreamEvent

from tests.clients import driver
from tests.clients.driver import MODEL, MOST, Part, failure_of, part, refused, tell


def main() -> None:
    mine = part()
    responses = Responses(openai.OpenAI(base_url=mine.v1, api_key=mine.key), mine)
    tell(
        {
            "plain": responses.plain(),
            "stream": responses.stream(),
            "tools": responses.tools(),
            "tools_stream": responses.tools_stream(),
            "broken": responses.broken(),
            "left": responses.leave(),
            "refusals": refused(responses.ask, mine, openai.APIError),
        }
    )


class Responses:
    def __init__(self, client: openai.OpenAI, mine: Part) -> None:
        self._client = client
        self._part = mine
        self._tools: Any = [{"type": "function", "strict": False, **tool} for tool in mine.tools]

    def plain(self) -> dict[str, Any]:
        answer = self._client.responses.create(
            model=MODEL, input=self._part.texts["plain"], max_output_tokens=MOST, store=False
        )
        return {"text": answer.output_text, "usage": driver.usage(answer.usage)}

    def stream(self) -> dict[str, Any]:
        """The text as it came; the usage from the end."""
        said = ""
        with self._client.responses.stream(
            model=MODEL, input=self._part.texts["plain"], max_output_tokens=MOST, store=False
        ) as stream:
            for event in stream:
                said += event.delta if event.type == "response.output_text.delta" else ""
            answer = stream.get_final_response()
        assert said == answer.output_text
        return {"text": said, "usage": driver.usage(answer.usage)}

    def tools(self) -> dict[str, Any]:
        question: Any = [{"role": "user", "content": self._part.texts["tools"]}]
        asked = self._client.responses.create(
            model=MODEL, input=question, tools=self._tools, max_output_tokens=MOST, store=False
        )
        calls = [item for item in asked.output if isinstance(item, ResponseFunctionToolCall)]
        said: Any = [item.model_dump(exclude_none=True) for item in asked.output]
        results: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
        answer = self._client.responses.create(
            model=MODEL, input=[*question, *said, *results], tools=self._tools, max_output_tokens=MOST, store=False
        )
        return {
            "calls": [[call.name, json.loads(call.arguments)] for call in calls],
            "usage": driver.usage(asked.usage),
            "then": {"text": answer.output_text, "usage": driver.usage(answer.usage)},
        }

    def tools_stream(self) -> dict[str, Any]:
        with self._client.responses.stream(
            model=MODEL,
            input=self._part.texts["tools"],
            tools=self._tools,
            max_output_tokens=MOST,
            store=False,
        ) as stream:
            answer = stream.get_final_response()
        calls = [item for item in answer.output if item.type == "function_call"]
        return {
            "calls": [[call.name, json.loads(call.arguments)] for call in calls],
            "usage": driver.usage(answer.usage),
        }

    def broken(self) -> dict[str, Any]:
        said = ""
        try:
            for event in self._begin(self._client, "broken"):
                said += event.delta if event.type == "response.output_text.delta" else ""
        except openai.APIError as error:
            return {"text": said, "failure": failure_of(error)}
        return {"text": said, "failure": None}

    def leave(self) -> int:
        """Goes away after a few pieces; how many it got."""
        seen = 0
        with self._begin(self._client.with_options(api_key=self._part.leaving_key), "left") as stream:
            for event in stream:
                seen += event.type == "response.output_text.delta"
                if seen == 3:
                    break
        return seen

    def _begin(self, client: openai.OpenAI, case: str) -> openai.Stream[ResponseStreamEvent]:
        return client.responses.create(
            model=MODEL, input=self._part.texts[case], max_output_tokens=MOST, store=False, stream=True
        )

    def ask(self, key: str, model: str) -> object:
        client = self._client.with_options(api_key=key)
        return client.responses.create(model=model, input="Why?", max_output_tokens=MOST, store=False)


if __name__ == "__main__":
    main()

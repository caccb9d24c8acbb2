"""openai-python: chat completions, responses, embeddings, models."""

from __future__ import annotations

import json
from typing import Any

import openai
from openai.types.chat import ChatCompletionMessageFunctionToolCall, ChatCompletionMessageParam
from openai.types.responses import ResponseFunctionToolCall

from tests.clients import driver
from tests.clients.driver import MODEL, MOST, Part, failure_of, part, refused, tell

USAGE = {"input_name": "prompt_tokens", "output_name": "completion_tokens"}


def main() -> None:
    mine = part()
    client = openai.OpenAI(base_url=mine.v1, api_key=mine.key)
    chat, responses = Chat(client, mine), Responses(client, mine)
    tell(
        {
            "plain": chat.plain(),
            "stream": chat.stream(mine.texts["plain"]),
            "tools": chat.tools(),
            "tools_stream": chat.tools_stream(),
            "broken": chat.broken(),
            "left": leave(openai.OpenAI(base_url=mine.v1, api_key=mine.leaving_key), mine),
            "refusals": refused(chat.ask, mine, openai.APIError),
            "responses": responses.all(),
            "responses_refusals": refused(responses.ask, mine, openai.APIError),
            "embeddings": embeddings(client, mine),
            "models": models(client),
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

    def stream(self, text: str) -> dict[str, Any]:
        said, counted = "", None
        with self._client.chat.completions.create(
            model=MODEL, messages=_user(text), max_tokens=MOST, stream=True, stream_options={"include_usage": True}
        ) as stream:
            for chunk in stream:
                said += "".join(choice.delta.content or "" for choice in chunk.choices)
                counted = chunk.usage or counted
        assert counted is not None
        return {"text": said, "usage": driver.usage(counted, **USAGE)}

    def tools(self) -> dict[str, Any]:
        messages = _user(self._part.texts["tools"])
        asked = self._client.chat.completions.create(
            model=MODEL, messages=messages, tools=self._tools, max_tokens=MOST
        )
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

    def ask(self, key: str, model: str) -> object:
        client = self._client.with_options(api_key=key)
        return client.chat.completions.create(model=model, messages=_user("Why?"), max_tokens=MOST)


class Responses:
    def __init__(self, client: openai.OpenAI, mine: Part) -> None:
        self._client = client
        self._part = mine
        self._tools: Any = [{"type": "function", "strict": False, **tool} for tool in mine.tools]

    def all(self) -> dict[str, Any]:
        return {
            "plain": self.plain(),
            "stream": self.stream(),
            "tools": self.tools(),
            "tools_stream": self.tools_stream(),
            "broken": self.broken(),
        }

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
        said = [item.model_dump(exclude_none=True) for item in asked.output]
        results = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
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
        """This vendor's stream tells of a failure in an event of its own."""
        said, failure = "", None
        try:
            for event in self._client.responses.create(
                model=MODEL, input=self._part.texts["broken"], max_output_tokens=MOST, store=False, stream=True
            ):
                said += event.delta if event.type == "response.output_text.delta" else ""
                if event.type == "response.failed" and event.response.error is not None:
                    failure = {"kind": event.type, "message": event.response.error.message}
        except openai.APIError as error:
            failure = failure_of(error)
        return {"text": said, "failure": failure}

    def ask(self, key: str, model: str) -> object:
        client = self._client.with_options(api_key=key)
        return client.responses.create(model=model, input="Why?", max_output_tokens=MOST, store=False)


def leave(client: openai.OpenAI, mine: Part) -> int:
    """Goes away after a few pieces; how many it got."""
    seen = 0
    with client.chat.completions.create(
        model=MODEL, messages=_user(mine.texts["left"]), stream=True, max_tokens=MOST
    ) as stream:
        for _ in stream:
            seen += 1
            if seen == 3:
                break
    return seen


def embeddings(client: openai.OpenAI, mine: Part) -> dict[str, Any]:
    """As floats, and as the base64 that the client asks for by itself and unpacks."""
    texts = ["one text", "another"]
    packed = client.embeddings.create(model=mine.embedding_model, input=texts)
    floats = client.embeddings.create(model=mine.embedding_model, input=texts, encoding_format="float")
    pairs = zip(packed.data, floats.data, strict=True)
    apart = max(abs(a - b) for one, two in pairs for a, b in zip(one.embedding, two.embedding, strict=True))
    return {
        "vectors": [len(item.embedding) for item in packed.data],
        "apart": apart,
        "usage": [driver.usage(answer.usage, **USAGE) for answer in (packed, floats)],
    }


def models(client: openai.OpenAI) -> dict[str, Any]:
    listed = [model.id for model in client.models.list()]
    return {"listed": listed, "one": client.models.retrieve(MODEL).id}


def _user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def _calls(calls: Any) -> list[list[Any]]:
    assert all(isinstance(call, ChatCompletionMessageFunctionToolCall) for call in calls)
    return [[call.function.name, json.loads(call.function.arguments)] for call in calls]


if __name__ == "__main__":
    main()

"""What a provider of each vendor was sent: read from the body as that vendor would read it."""

from __future__ import annotations

from typing import Any

from tests.fake_vendor import Call


def results_in(call: Call) -> list[tuple[str, str]]:
    """Of each use of a tool, in order, its name and what the tool said. The results stand together, behind the uses."""
    match call.vendor:
        case "openai":
            used, said = _of_openai(call.body["messages"])
        case "anthropic":
            used, said = _of_anthropic(call.body["messages"])
        case _:
            used, said = _of_google(call.body["contents"])
    assert list(used) == list(said), "a use without its result, or a result without its use"
    return [(used[id_], said[id_]) for id_ in used]


def image_in(call: Call) -> tuple[str, str]:
    """The one image: media type and base64."""
    match call.vendor:
        case "openai":
            (url,) = [one["image_url"]["url"] for one in call.body["messages"][-1]["content"] if "image_url" in one]
            head, _, data = url.partition(";base64,")
            return head.removeprefix("data:"), data
        case "anthropic":
            (source,) = [one["source"] for one in call.body["messages"][-1]["content"] if one["type"] == "image"]
            assert source["type"] == "base64"
            return source["media_type"], source["data"]
        case _:
            (found,) = [one["inlineData"] for one in call.body["contents"][-1]["parts"] if "inlineData" in one]
            return found["mimeType"], found["data"]


def _of_openai(messages: list[dict[str, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    (turn,) = [message for message in messages if message["role"] == "assistant"]
    results = [message for message in messages if message["role"] == "tool"]
    assert messages[-len(results) - 1 :] == [turn, *results]
    used = {use["id"]: use["function"]["name"] for use in turn["tool_calls"]}
    return used, {message["tool_call_id"]: _text(message["content"]) for message in results}


def _of_anthropic(messages: list[dict[str, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    *_, turn, last = messages
    assert (turn["role"], last["role"]) == ("assistant", "user")
    used = {block["id"]: block["name"] for block in turn["content"] if block["type"] == "tool_use"}
    return used, {block["tool_use_id"]: _text(block["content"]) for block in last["content"]}


def _of_google(contents: list[dict[str, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    *_, turn, last = contents
    assert (turn["role"], last["role"]) == ("model", "user")
    uses = [part["functionCall"] for part in turn["parts"] if "functionCall" in part]
    results = [part["functionResponse"] for part in last["parts"]]
    assert [use["name"] for use in uses] == [result["name"] for result in results]
    said = {result["id"]: result["response"]["output"] for result in results}
    return {use["id"]: use["name"] for use in uses}, said


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)

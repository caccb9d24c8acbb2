"""Google's Gemini as a provider: generateContent and streamGenerateContent?alt=sse. The model stands in the URL.

Dropped, since they are hints that Gemini has nothing for: `user`, an image's `detail`, `strict` of tools and schemas
(Gemini validates by its own rules), and what other vendors' models thought. `maxOutputTokens` covers thoughts too.
Source: Google's API reference, generateContent; its guides on thinking, thought signatures, function calling and file
input.
"""

import re
from collections.abc import Iterable
from itertools import chain, groupby
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tollhouse.core.errors import BadRequest
from tollhouse.gateway.dialect import Reader, Wire
from tollhouse.gateway.dialect.gemini_answer import SIGNED, PieceReader, read_whole
from tollhouse.gateway.dialect.neutral import (
    Image,
    Part,
    Prompt,
    Reasoning,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    Whole,
)

ANSWERS_MAX = 8
STOPS_MAX = 5
SEED_MAX = 2**31 - 1

# From its third generation on Gemini thinks by levels, wants a signature at the first call of a turn, and sees images
# in the result of a tool. A name that ends in -latest stands for a current model.
_THIRD = re.compile(r"gemini-(?:[3-9]|[1-9][0-9]|(?:pro|flash|flash-lite)-latest)")
# What Google documents for a call that did not come from Gemini, or whose signature the client could not keep.
_UNSIGNED = "skip_thought_signature_validator"

# Tokens of thought, as Google's own OpenAI-compatible endpoint has them; the most that every model takes is 24,576.
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 24_576}
_LEVELS = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH"}

_IMAGES_BY_URL = {
    ".bmp": "image/bmp",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
# What Gemini finds under these is no image: videos, which cost more than any image may, and files of the key's owner.
_NO_IMAGES = ("youtube.com", "youtu.be", "youtube-nocookie.com", "generativelanguage.googleapis.com")


class Gemini:
    """See `Wire`."""

    name = "google"

    def request(self, prompt: Prompt, model: str, output_tokens: int) -> bytes:
        """The body. BadRequest that names what Gemini has not."""
        _check(prompt)
        third = _THIRD.search(model) is not None
        contents = _contents(prompt.turns, third)
        if not contents:
            raise BadRequest("Models of Google need a message that says something. Add one of the user.", "messages")
        body: dict[str, Any] = {"contents": contents}
        system = [{"text": part.text} for part in prompt.system if part.text]
        if system:
            body["systemInstruction"] = {"parts": system}
        if prompt.tools:
            body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in prompt.tools]}]
        calling = _calling(prompt.tool_choice, bool(prompt.tools))
        if calling:
            body["toolConfig"] = {"functionCallingConfig": calling}
        body["generationConfig"] = _generation(prompt, third, output_tokens)
        return msgspec.json.encode(body)

    def whole(self, body: bytes) -> Whole:
        """NotAnAnswer when it is none. A prompt that Google blocked has one empty answer, ended by its filter."""
        return read_whole(body)

    def reader(self) -> Reader:
        return PieceReader()


WIRE: Wire = Gemini()


def _check(prompt: Prompt) -> None:
    if prompt.parallel_tools is False:
        raise BadRequest(
            "Models of Google have no switch for `parallel_tool_calls`. Leave it out, or choose another model.",
            "parallel_tool_calls",
        )
    if prompt.answers > ANSWERS_MAX:
        raise BadRequest(f"Models of Google give at most {ANSWERS_MAX} answers. Send a smaller `n`.", "n")
    if len(prompt.stop) > STOPS_MAX:
        raise BadRequest(f"Models of Google take at most {STOPS_MAX} texts in `stop`. Send fewer.", "stop")
    if prompt.seed is not None and not -SEED_MAX - 1 <= prompt.seed <= SEED_MAX:
        raise BadRequest("Models of Google take a `seed` of 32 bits. Send a smaller one.", "seed")


def _contents(turns: Iterable[Turn], third: bool) -> list[dict[str, Any]]:
    """Turns of one side in a row become one: Gemini wants all results of parallel calls together."""
    names: dict[str, str] = {}
    contents = []
    for role, said in groupby(turns, key=lambda turn: turn.role):
        parts = _parts(chain.from_iterable(turn.parts for turn in said), names, third)
        if parts:
            contents.append({"role": "model" if role == "assistant" else "user", "parts": parts})
    return contents


def _parts(parts: Iterable[Part], names: dict[str, str], third: bool) -> list[dict[str, Any]]:
    """`names` keeps the function of each call, by the call's id. Gemini refuses empty texts, so they are left out."""
    written: list[dict[str, Any]] = []
    signature: str | None = None
    called = False
    for part in parts:
        entries: list[dict[str, Any]] = []
        match part:
            case Reasoning():
                signature = _signature(part) or signature
            case Text() | Refusal():
                entries = [{"text": part.text}] if part.text else []
            case Image():
                entries = [_image(part)]
            case ToolCall():
                entries = [_call(part)]
                names[part.id] = part.name
                if signature is None and third and not called:
                    signature = _UNSIGNED
                called = True
            case ToolResult():
                entries = _result(part, names, third)
        if entries and signature is not None:
            entries[0]["thoughtSignature"] = signature
            signature = None
        written += entries
    return written


def _signature(thought: Reasoning) -> str | None:
    """Gemini's own; one of another vendor it would call corrupt."""
    if thought.signature is not None and thought.signature.startswith(SIGNED):
        return thought.signature.removeprefix(SIGNED)
    return None


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments.strip() or "{}"
    try:
        msgspec.json.decode(arguments, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadRequest(
            f"The arguments of the tool call {call.id!r} are not a JSON object. Send them as the model wrote them.",
            "messages",
        ) from None
    return {"functionCall": {"id": call.id, "name": call.name, "args": msgspec.Raw(arguments.encode())}}


def _result(result: ToolResult, names: dict[str, str], third: bool) -> list[dict[str, Any]]:
    """The result of a tool; its images inside, or beside it for the models that would not look there."""
    name = result.name or names.get(result.call_id)
    if name is None:
        raise BadRequest(
            f"No tool call has the id {result.call_id!r} of this result. Send the model's message with the call too.",
            "messages",
        )
    said = "\n".join(part.text for part in result.content if isinstance(part, Text))
    images = [_image(part) for part in result.content if isinstance(part, Image)]
    response: dict[str, Any] = {
        "id": result.call_id,
        "name": name,
        "response": {"error" if result.is_error else "output": said},
    }
    if images and third:
        response["parts"] = images
        return [{"functionResponse": response}]
    return [{"functionResponse": response}, *images]


def _image(image: Image) -> dict[str, Any]:
    """An image only: what else Gemini would look at, video, sound, documents, costs more than was admitted for it."""
    if image.url is not None:
        return {"fileData": {"mimeType": _type_by_url(image.url), "fileUri": image.url}}
    if image.data is None or image.media_type is None or not image.media_type.startswith("image/"):
        raise BadRequest("An image must be data of a type such as image/png. Correct it.", "messages")
    return {"inlineData": {"mimeType": image.media_type, "data": image.data}}


def _type_by_url(url: str) -> str:
    try:
        place = urlsplit(url)
        host = place.hostname or ""
    except ValueError:
        place, host = urlsplit(""), ""
    kind = _IMAGES_BY_URL.get(PurePosixPath(place.path).suffix.lower())
    no_image = any(host == known or host.endswith(f".{known}") for known in _NO_IMAGES)
    if place.scheme != "https" or not host or no_image or kind is None:
        raise BadRequest(
            "Models of Google take an image by its URL only from https and when its name ends in .png, .jpg, .jpeg, "
            ".webp or .bmp. Send it as base64 data.",
            "messages",
        )
    return kind


def _declaration(tool: Tool) -> dict[str, Any]:
    declared: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        declared["description"] = tool.description
    if tool.parameters is not None:
        declared["parametersJsonSchema"] = tool.parameters
    return declared


def _calling(choice: ToolChoice | None, tools: bool) -> dict[str, Any]:
    """Empty when there is nothing to say: Gemini refuses a choice without tools."""
    if choice is None:
        return {}
    if not tools:
        if choice.kind in ("auto", "none"):
            return {}
        raise BadRequest("`tool_choice` wants a tool used, and there are none. Add `tools`.", "tool_choice")
    match choice.kind:
        case "auto":
            return {"mode": "AUTO"}
        case "none":
            return {"mode": "NONE"}
        case "required":
            return {"mode": "ANY"}
        case "tool":
            return {"mode": "ANY", "allowedFunctionNames": [choice.name]}


def _generation(prompt: Prompt, third: bool, output_tokens: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "maxOutputTokens": output_tokens,
        "temperature": prompt.temperature,
        "topP": prompt.top_p,
        "topK": prompt.top_k,
        "candidateCount": prompt.answers if prompt.answers > 1 else None,
        "stopSequences": prompt.stop or None,
        "seed": prompt.seed,
        "presencePenalty": prompt.presence_penalty,
        "frequencyPenalty": prompt.frequency_penalty,
        "responseLogprobs": prompt.logprobs or None,
        "logprobs": prompt.top_logprobs if prompt.logprobs else None,
        "responseMimeType": "application/json" if prompt.form else None,
        "responseJsonSchema": prompt.form.schema if prompt.form else None,
        "thinkingConfig": _thinking(prompt, third),
    }
    return {name: value for name, value in config.items() if value is not None}


def _thinking(prompt: Prompt, third: bool) -> dict[str, Any] | None:
    """None: as the model does by itself, unseen. A budget in tokens goes before an effort; Gemini takes only one."""
    if prompt.thinking_tokens is None:
        if prompt.effort is None:
            return None
        if third and prompt.effort != "none":
            return {"thinkingLevel": _LEVELS[prompt.effort], "includeThoughts": True}
        budget = _BUDGETS[prompt.effort]
    else:
        budget = prompt.thinking_tokens
    return {"thinkingBudget": budget, "includeThoughts": budget > 0}

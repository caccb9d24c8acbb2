"""The `input` of OpenAI's responses as turns of a neutral prompt.

Hints that only OpenAI understands (cache breakpoints, ids, statuses and phases of items, annotations) are accepted and
dropped. Reasoning goes back to the vendor that wrote it when its `encrypted_content` was written here (see `seal`);
what another gateway or OpenAI itself encrypted means nothing to any provider and is dropped.
Source: OpenAI's API reference, responses, the parameter `input`.
"""

import re
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from tollhouse.core.errors import BadRequest
from tollhouse.gateway.dialect.neutral import Image, Part, Reasoning, Refusal, Text, ToolCall, ToolResult, Turn

Shape = TypeVar("Shape")
Status = Literal["in_progress", "completed", "incomplete"] | None
Anything = Any

_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]+);base64,", re.IGNORECASE)
_SIGNATURE, _REDACTED = "signature", "redacted"


class InputText(Struct, tag="input_text", tag_field="type", forbid_unknown_fields=True):
    text: str
    prompt_cache_breakpoint: Anything = None


class InputImage(Struct, tag="input_image", tag_field="type", forbid_unknown_fields=True):
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None
    prompt_cache_breakpoint: Anything = None


class OutputText(Struct, tag="output_text", tag_field="type", forbid_unknown_fields=True):
    text: str
    annotations: Anything = None
    logprobs: Anything = None


class OutputRefusal(Struct, tag="refusal", tag_field="type", forbid_unknown_fields=True):
    refusal: str


class InputFile(Struct, tag="input_file", tag_field="type"):
    """Refused, whatever it holds."""


class InputAudio(Struct, tag="input_audio", tag_field="type"):
    """Refused, whatever it holds."""


Content = InputText | InputImage | OutputText | OutputRefusal | InputFile | InputAudio


class Message(Struct, forbid_unknown_fields=True):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Content]
    type: Literal["message"] = "message"
    id: str | None = None
    status: Status = None
    phase: Anything = None


class DirectCaller(Struct, forbid_unknown_fields=True):
    type: Literal["direct"]


class FunctionCall(Struct, forbid_unknown_fields=True):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status = None
    caller: DirectCaller | None = None
    namespace: None = None


class FunctionCallOutput(Struct, forbid_unknown_fields=True):
    type: Literal["function_call_output"]
    call_id: str
    output: str | list[Content]
    id: str | None = None
    name: str | None = None
    status: Status = None
    caller: DirectCaller | None = None
    namespace: None = None


class Thought(Struct, forbid_unknown_fields=True):
    type: Literal["summary_text", "reasoning_text"]
    text: str


class ReasoningItem(Struct, forbid_unknown_fields=True):
    type: Literal["reasoning"]
    summary: list[Thought] = []
    content: list[Thought] | None = None
    encrypted_content: str | None = None
    id: str | None = None
    status: Status = None


Item = Message | FunctionCall | FunctionCallOutput | ReasoningItem
_KINDS: dict[object, type[Item]] = {
    "message": Message,
    "function_call": FunctionCall,
    "function_call_output": FunctionCallOutput,
    "reasoning": ReasoningItem,
}


def seal(reasoning: Reasoning) -> str | None:
    """`encrypted_content` of a reasoning item: the vendor's signature or what it encrypted, so that a client that sends
    the item back sends that too. None when there is neither."""
    if reasoning.redacted is not None:
        return f"{_REDACTED}:{reasoning.redacted}"
    return None if reasoning.signature is None else f"{_SIGNATURE}:{reasoning.signature}"


def shaped(value: object, shape: type[Shape], place: str) -> Shape:
    """A value of a decoded body in its shape. BadRequest that names its place in the body."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        said, _, inner = str(error).partition(" - at `$")
        name = place + inner.removesuffix("`")
        raise BadRequest(f"`{name}` is wrong: {said}. Correct it and send the request again.", name) from None


def read_input(value: str | list[dict[str, Any]]) -> tuple[tuple[Text, ...], tuple[Turn, ...]]:
    """What the system says, and the turns. Messages of the system are its word as long as nothing else stands before
    them; later ones stay in their place, as turns of the user. BadRequest that names the item."""
    if isinstance(value, str):
        return (), (Turn("user", (Text(value),)),)
    turns = _Turns()
    for number, item in enumerate(value):
        turns.take(item, f"input[{number}]")
    if not turns.roles and not turns.system:
        raise BadRequest("`input` is empty. Send a text, or at least one message.", "input")
    pairs = zip(turns.roles, turns.parts, strict=True)
    return tuple(turns.system), tuple(Turn(role, tuple(parts)) for role, parts in pairs)


class _Turns:
    """Items one after another: those of the assistant make one turn, results of tools make one turn of the user."""

    def __init__(self) -> None:
        self.system: list[Text] = []
        self.roles: list[Literal["user", "assistant"]] = []
        self.parts: list[list[Part]] = []
        self._names: dict[str, str] = {}

    def take(self, item: dict[str, Any], place: str) -> None:
        kind = item.get("type", "message" if "role" in item else None)
        if kind is None and "id" in item:
            kind = "item_reference"
        shape = _KINDS.get(kind) if isinstance(kind, str) else None
        if shape is None:
            raise _unknown_item(kind, place)
        read = shaped(item, shape, place)
        match read:
            case Message():
                self._message(read, place)
            case FunctionCall():
                self._names[read.call_id] = read.name
                self._say("assistant", [ToolCall(read.call_id, read.name, read.arguments)])
            case FunctionCallOutput():
                self._result(read, place)
            case ReasoningItem():
                self._reasoning(read)

    def _message(self, message: Message, place: str) -> None:
        parts = _parts(message.content, f"{place}.content", message.role)
        if message.role in ("system", "developer") and not self.roles:
            self.system += [part for part in parts if isinstance(part, Text)]
        elif message.role == "assistant":
            self._say("assistant", [*parts])
        elif parts:
            self.roles.append("user")
            self.parts.append([*parts])

    def _result(self, result: FunctionCallOutput, place: str) -> None:
        name = self._names.get(result.call_id)
        if name is None:
            raise BadRequest(
                f"No function_call of `input` before `{place}` has its call_id. Nothing is stored here: send the call "
                "together with its output.",
                f"{place}.call_id",
            )
        content = _parts(result.output, f"{place}.output", "tool")
        told = ToolResult(result.call_id, tuple(part for part in content if not isinstance(part, Refusal)), name=name)
        if self.roles and self.roles[-1] == "user" and isinstance(self.parts[-1][-1], ToolResult):
            self.parts[-1].append(told)
        else:
            self.roles.append("user")
            self.parts.append([told])

    def _reasoning(self, item: ReasoningItem) -> None:
        text = "\n\n".join(thought.text for thought in [*item.summary, *(item.content or ())])
        mark, _, sealed = (item.encrypted_content or "").partition(":")
        signature = sealed or None if mark == _SIGNATURE else None
        redacted = sealed or None if mark == _REDACTED else None
        if text or signature or redacted:
            self._say("assistant", [Reasoning(text, signature, redacted)])

    def _say(self, role: Literal["assistant"], parts: list[Part]) -> None:
        if not parts:
            return
        if self.roles and self.roles[-1] == role:
            self.parts[-1] += parts
        else:
            self.roles.append(role)
            self.parts.append(parts)


def _unknown_item(kind: object, place: str) -> BadRequest:
    if kind == "item_reference":
        return BadRequest(
            f"`{place}` refers to an item, and nothing is stored here. Send the item itself; most SDKs do so with "
            "`store` set to false.",
            place,
        )
    what = f"is of the type {kind}" if isinstance(kind, str) else "has no type and no role"
    return BadRequest(
        f"`{place}` {what}. Only message, function_call, function_call_output and reasoning are available here: "
        "leave it out.",
        place,
    )


def _parts(content: str | list[Content], place: str, role: str) -> list[Text | Image | Refusal]:
    """`role` is tool for what a tool said."""
    if isinstance(content, str):
        return [Text(content)]
    return [_part(part, f"{place}[{number}]", role) for number, part in enumerate(content)]


def _part(part: Content, place: str, role: str) -> Text | Image | Refusal:
    match part:
        case InputText() | OutputText():
            return Text(part.text)
        case OutputRefusal() if role == "assistant":
            return Refusal(part.refusal)
        case InputImage() if role in ("user", "tool"):
            return _image(part, place)
        case InputFile() | InputAudio():
            raise BadRequest(
                f"`{place}` is a file or a sound, and only texts and images are available here. Send its text.", place
            )
    raise BadRequest(f"`{place}` cannot stand in a message of the role {role}. Take it out.", place)


def _image(image: InputImage, place: str) -> Image:
    if image.file_id is not None:
        raise BadRequest(
            f"`{place}.file_id` is not available, since no files are stored here. Send the image in `image_url`, as a "
            "URL or as data.",
            f"{place}.file_id",
        )
    url = image.image_url or ""
    head = _DATA_URL.match(url)
    if head is not None:
        return Image(media_type=head.group(1).lower(), data=url[head.end() :], detail=image.detail)
    if url.startswith(("https://", "http://")):
        return Image(url=url, detail=image.detail)
    raise BadRequest(
        f"`{place}.image_url` is neither a web address nor data:image/...;base64,... Correct it.", f"{place}.image_url"
    )

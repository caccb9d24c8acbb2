"""A chat completion request as a neutral prompt.

System and developer messages at the start are the prompt's system; later ones stand in their place as turns of the
user. Messages of tools that follow each other are one turn. `functions`, `function_call` and messages of the role
function, the form before `tools`, are tools too. What only OpenAI's models take is refused by its name.
"""

from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tollhouse.core.errors import BadRequest
from tollhouse.gateway.dialect.neutral import (
    AnswerForm,
    Effort,
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
)

if TYPE_CHECKING:
    from tollhouse.gateway.dialect.chat_request import ChatRequest, Message

Value = TypeVar("Value")
_SYSTEM = ("system", "developer")
_TOOL = ("tool", "function")
_ONLY_OPENAI = ("logit_bias", "prediction")
_EFFORTS: tuple[Effort, ...] = get_args(Effort)


class _Part(Struct, forbid_unknown_fields=True, tag_field="type"):
    """Where a cache may end is a hint to the vendor."""

    prompt_cache_breakpoint: Any = None
    cache_control: Any = None


class _TextPart(_Part, tag="text", kw_only=True):
    text: str


class _ImageUrl(Struct, forbid_unknown_fields=True):
    url: str
    detail: str | None = None


class _ImagePart(_Part, tag="image_url", kw_only=True):
    image_url: _ImageUrl


class _RefusalPart(_Part, tag="refusal", kw_only=True):
    refusal: str


class _Spec(Struct, forbid_unknown_fields=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    function: _Spec
    cache_control: Any = None


class _Called(Struct, forbid_unknown_fields=True):
    name: str
    arguments: str


class _Call(Struct):
    id: str
    function: _Called
    type: Literal["function"] = "function"


class _Named(Struct, forbid_unknown_fields=True):
    name: str


class _NamedTool(Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    function: _Named


class _Schema(Struct, forbid_unknown_fields=True):
    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


def only_openai(field: str) -> BadRequest:
    return BadRequest(f"Only models of OpenAI take `{field}`. Leave it out or choose one of them.", field)


def prompt_of(request: "ChatRequest") -> Prompt:
    """See `Wanted.prompt`."""
    for name in _ONLY_OPENAI:
        if _given(getattr(request, name)):
            raise only_openai(name)
    if _given(request.verbosity) not in (None, "medium"):
        raise only_openai("verbosity")
    system, turns = _conversation(request.messages)
    stop = _given(request.stop)
    return Prompt(
        system=system,
        turns=turns,
        tools=_tools(request),
        tool_choice=_tool_choice(request),
        parallel_tools=_given(request.parallel_tool_calls),
        stream=request.wants_stream,
        answers=request.answers,
        temperature=_given(request.temperature),
        top_p=_given(request.top_p),
        stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        seed=_given(request.seed),
        frequency_penalty=_given(request.frequency_penalty),
        presence_penalty=_given(request.presence_penalty),
        logprobs=request.logprobs is True,
        top_logprobs=_given(request.top_logprobs),
        form=_form(_given(request.response_format)),
        effort=_effort(_given(request.reasoning_effort)),
        user=_given(request.user) or _given(request.safety_identifier),
    )


def _given(value: Value | UnsetType | None) -> Value | None:
    return None if isinstance(value, UnsetType) else value


def _convert(value: object, kind: type[Value], place: str) -> Value:
    """A value that passes unread to OpenAI's models, read. BadRequest when only they may understand it."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise BadRequest(
            f"`{place}` cannot be told to this model: {error}. Correct it, or choose a model of OpenAI.", place
        ) from None


def _conversation(messages: "list[Message]") -> tuple[tuple[Text, ...], tuple[Turn, ...]]:
    leading = next((at for at, message in enumerate(messages) if message.role not in _SYSTEM), 0)
    system = [part for at in range(leading) for part in _texts(messages[at], f"messages[{at}]")]
    turns: list[Turn] = []
    results: list[ToolResult] = []  # of the tools whose messages follow each other
    called: list[ToolCall] = []  # in the old form, which knows no ids
    for at in range(leading, len(messages)):
        message, place = messages[at], f"messages[{at}]"
        if message.role in _TOOL:
            results.append(_result(message, place, called))
            continue
        if results:
            turns.append(Turn("user", tuple(results)))
            results = []
        turn = _turn(message, place, called)
        if turn.parts:
            turns.append(turn)
    if results:
        turns.append(Turn("user", tuple(results)))
    if not turns:
        raise BadRequest("`messages` has nothing to answer. Add a message of the user.", "messages")
    return tuple(system), tuple(turns)


def _turn(message: "Message", place: str, called: list[ToolCall]) -> Turn:
    if _given(message.name):
        raise only_openai(f"{place}.name")
    if message.role == "assistant":
        return Turn("assistant", tuple(_said(message, place, called)))
    if message.role == "user":
        return Turn("user", tuple(_texts_and_images(message, place)))
    return Turn("user", tuple(_texts(message, place)))


def _said(message: "Message", place: str, called: list[ToolCall]) -> list[Part]:
    parts: list[Part] = []
    if thought := _given(message.reasoning_content):
        parts.append(Reasoning(thought))
    if message.content not in (UNSET, None, ""):
        for part in _content(message, list[_TextPart | _RefusalPart], place):
            parts.append(Text(part.text) if isinstance(part, _TextPart) else Refusal(part.refusal))
    if refusal := _given(message.refusal):
        parts.append(Refusal(refusal))
    for call in _convert(_given(message.tool_calls) or [], list[_Call], f"{place}.tool_calls"):
        parts.append(ToolCall(call.id, call.function.name, call.function.arguments))
    if _given(message.function_call) is not None:
        function = _convert(message.function_call, _Called, f"{place}.function_call")
        called.append(ToolCall(f"call_{len(called)}", function.name, function.arguments))
        parts.append(called[-1])
    return parts


def _result(message: "Message", place: str, called: list[ToolCall]) -> ToolResult:
    name = _given(message.name)
    if message.role == "tool":
        field, call_id = f"{place}.tool_call_id", _given(message.tool_call_id)
    else:
        field, call_id = f"{place}.name", next((call.id for call in reversed(called) if call.name == name), None)
    if not call_id:
        raise BadRequest(f"`{field}` must name a call of a message before it, whose result this is. Add it.", field)
    return ToolResult(call_id, tuple(_texts_and_images(message, place)), name)


def _texts(message: "Message", place: str) -> list[Text]:
    return [Text(part.text) for part in _content(message, list[_TextPart], place)]


def _texts_and_images(message: "Message", place: str) -> list[Text | Image]:
    parts = _content(message, list[_TextPart | _ImagePart], place)
    return [Text(part.text) if isinstance(part, _TextPart) else _image(part.image_url, place) for part in parts]


def _content(message: "Message", kind: type[list[Value]], place: str) -> list[Value]:
    content = _given(message.content)
    if content is None:
        raise BadRequest(f"The field `{place}.content` is missing. Add it.", f"{place}.content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return _convert(parts, kind, f"{place}.content")


def _image(image: _ImageUrl, place: str) -> Image:
    place = f"{place}.content"
    scheme, _, rest = image.url.partition(":")
    if scheme.lower() in ("http", "https"):
        return Image(url=image.url, detail=image.detail)
    media_type, mark, data = rest.partition(";base64,")
    if scheme.lower() != "data" or not mark or "/" not in media_type:
        raise BadRequest(
            f"`{place}` has an image whose URL is neither http(s) nor data:<type>;base64,<data>. Correct it.", place
        )
    return Image(media_type=media_type, data=data, detail=image.detail)


def _tools(request: "ChatRequest") -> tuple[Tool, ...]:
    specs = [tool.function for tool in _convert(_given(request.tools) or [], list[_Tool], "tools")]
    specs += _convert(_given(request.functions) or [], list[_Spec], "functions")
    return tuple(Tool(spec.name, spec.description, spec.parameters, spec.strict) for spec in specs)


def _tool_choice(request: "ChatRequest") -> ToolChoice | None:
    match _given(request.tool_choice):
        case None:
            pass
        case "auto" | "none" | "required" as kind:
            return ToolChoice(kind)
        case other:
            return ToolChoice("tool", _convert(other, _NamedTool, "tool_choice").function.name)
    match _given(request.function_call):
        case None:
            return None
        case "auto" | "none" as kind:
            return ToolChoice(kind)
        case other:
            return ToolChoice("tool", _convert(other, _Named, "function_call").name)


def _form(form: dict[str, Any] | None) -> AnswerForm | None:
    """A schema's description stands beside it in OpenAI's form, and in it in everybody's."""
    if form is None or form["type"] == "text":
        return None
    if form["type"] == "json_object":
        return AnswerForm()
    wanted = _convert(form["json_schema"], _Schema, "response_format.json_schema")
    schema = wanted.schema
    if wanted.description is not None:
        schema = {"description": wanted.description, **schema}
    return AnswerForm(wanted.name, schema, wanted.strict)


def _effort(effort: str | None) -> Effort | None:
    if effort is None:
        return None
    for known in _EFFORTS:
        if effort == known:
            return known
    raise BadRequest(
        f"`reasoning_effort` must be one of {', '.join(_EFFORTS)} for this model. Choose one, or leave it out.",
        "reasoning_effort",
    )

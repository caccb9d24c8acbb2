"""OpenAI's responses, for clients: requests, and the surface. Every provider is reached through a neutral prompt.

Nothing is stored here, so `store` is taken as it comes and answered with false, and whatever needs a stored
conversation, file or prompt is refused, as are the tools that a vendor runs. Hints that only OpenAI understands are
accepted and dropped: `metadata`, `reasoning.summary`, `prompt_cache_key`, `prompt_cache_retention`,
`prompt_cache_options`, `service_tier` auto and default, `stream_options`, `truncation` auto (a prompt that is too long
is refused by its provider), `max_tool_calls` (it counts the tools that a vendor runs).
Source: OpenAI's API reference, responses.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tollhouse.core.ask import Size
from tollhouse.core.errors import BadRequest, TollhouseError
from tollhouse.core.price import Usage
from tollhouse.core.token import IMAGE_BOUND, MESSAGE_BOUND
from tollhouse.flows.operation import Settled
from tollhouse.gateway.dialect import Surface, Writer, responses_answer
from tollhouse.gateway.dialect.body import read
from tollhouse.gateway.dialect.chat_error import error_body
from tollhouse.gateway.dialect.neutral import (
    AnswerForm,
    Effort,
    Image,
    Prompt,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    Whole,
)
from tollhouse.gateway.dialect.responses_input import read_input, shaped
from tollhouse.gateway.dialect.responses_stream import ResponseWriter

Tokens = Annotated[int, Meta(ge=1, le=1_000_000)]
Anything = Any

TOOLS_BOUND = 1_000
"""What the upper bound allows for the words with which a provider explains tools or a schema to its model."""

_encode = msgspec.json.encode


class StreamOptions(Struct, forbid_unknown_fields=True):
    include_obfuscation: bool | None = None


class ReasoningOptions(Struct, forbid_unknown_fields=True):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto"] | None = None
    mode: Literal["standard"] | None = None


class TextFormat(Struct, tag="text", tag_field="type", forbid_unknown_fields=True):
    pass


class ObjectFormat(Struct, tag="json_object", tag_field="type", forbid_unknown_fields=True):
    pass


class SchemaFormat(Struct, tag="json_schema", tag_field="type", forbid_unknown_fields=True, omit_defaults=True):
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class TextOptions(Struct, forbid_unknown_fields=True):
    format: TextFormat | ObjectFormat | SchemaFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class CacheOptions(Struct, forbid_unknown_fields=True):
    mode: Literal["implicit", "explicit"] | None = None
    ttl: str | None = None


class FunctionTool(Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    allowed_callers: list[Literal["direct"]] | None = None
    output_schema: None = None


class FunctionChoice(Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    name: str


class AllowedTools(Struct, forbid_unknown_fields=True):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[FunctionChoice]


class ResponseRequest(Struct, forbid_unknown_fields=True):
    model: Annotated[str, Meta(min_length=1, max_length=200)]
    input: str | Annotated[list[dict[str, Any]], Meta(max_length=10_000)]
    instructions: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: Tokens | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    include: list[str] | None = None
    store: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: CacheOptions | None = None
    service_tier: str | None = None
    background: bool | None = None
    background_options: Anything = None
    previous_response_id: Anything = None
    conversation: Anything = None
    prompt: Anything = None
    context_management: Anything = None
    moderation: Anything = None
    access_programs: Anything = None
    image: Anything = None


_decoder = msgspec.json.Decoder(ResponseRequest)
_NOTHING_STORED = "No conversations are kept here. Send the earlier items in `input` and leave `{}` out."
_NO_SUCH = "`{}` is not available here. Leave it out."
_REFUSED = {
    "previous_response_id": _NOTHING_STORED,
    "conversation": _NOTHING_STORED,
    "background": "Nothing runs in the background here. Leave `{}` out, and stream an answer that takes long.",
    "background_options": _NO_SUCH,
    "prompt": "No prompts are kept here. Send its text in `instructions` or `input`, and leave `{}` out.",
    "context_management": "`{}` is not available here. Leave it out, and shorten the input yourself.",
    "moderation": _NO_SUCH,
    "access_programs": _NO_SUCH,
    "image": _NO_SUCH,
}
_INCLUDABLE = ("reasoning.encrypted_content", "message.output_text.logprobs")


@dataclass(frozen=True, slots=True)
class ResponseWanted:
    """A request that was read. `echo` is what its answer repeats of it."""

    model: str
    size: Size
    wants_stream: bool
    neutral: Prompt
    echo: dict[str, Any]
    answers: int = 1
    wants_usage: bool = True

    def prompt(self) -> Prompt:
        return self.neutral


class Responses:
    """The surface; its protocol says the rest."""

    name = "responses"
    path = "/v1/responses"

    def read(self, body: bytes) -> ResponseWanted:
        request = read(_decoder, body, "a request for a response")
        _refuse(request)
        prompt = _prompt(request)
        return ResponseWanted(
            model=request.model,
            size=Size(_input_bound(prompt), request.max_output_tokens),
            wants_stream=prompt.stream,
            neutral=prompt,
            echo=_echo(request),
        )

    def answer(self, whole: Whole, wanted: ResponseWanted, model: str, created: int) -> dict[str, Any]:
        return responses_answer.answer(whole, wanted.echo, model, created)

    def charge(self, answer: dict[str, Any], usage: Usage, settled: Settled | None) -> None:
        answer["usage"] = responses_answer.usage_object(usage, settled)

    def writer(self, wanted: ResponseWanted, model: str, created: int) -> Writer:
        return ResponseWriter(wanted.echo, model, created)

    def refusal(self, error: TollhouseError) -> bytes:
        return error_body(error)


def _refuse(request: ResponseRequest) -> None:
    """BadRequest for what is known and not available here."""
    for name, sentence in _REFUSED.items():
        value = getattr(request, name)
        if value is not None and value is not False:
            raise BadRequest(sentence.format(name), name)
    if request.service_tier not in (None, "auto", "default"):
        raise BadRequest("`service_tier` may only be auto or default here. Leave it out.", "service_tier")
    if request.text is not None and request.text.verbosity not in (None, "medium"):
        raise BadRequest("`text.verbosity` may only be medium here. Leave it out.", "text.verbosity")
    for name in request.include or ():
        if name not in _INCLUDABLE:
            raise BadRequest(f"`include` may only hold {' and '.join(_INCLUDABLE)} here. Take the rest out.", "include")


def _prompt(request: ResponseRequest) -> Prompt:
    system, turns = read_input(request.input)
    if request.instructions is not None:
        system = (Text(request.instructions), *system)
    tools = tuple(_tool(tool, f"tools[{number}]") for number, tool in enumerate(request.tools or ()))
    choice, tools = _tool_choice(request.tool_choice, tools)
    logprobs = "message.output_text.logprobs" in (request.include or ()) or bool(request.top_logprobs)
    return Prompt(
        system=system,
        turns=turns,
        tools=tools,
        tool_choice=choice,
        parallel_tools=request.parallel_tool_calls,
        stream=request.stream is True,
        temperature=request.temperature,
        top_p=request.top_p,
        logprobs=logprobs,
        top_logprobs=request.top_logprobs if logprobs else None,
        form=_form(request.text),
        effort=request.reasoning.effort if request.reasoning is not None else None,
        user=request.safety_identifier if request.safety_identifier is not None else request.user,
    )


def _tool(tool: dict[str, Any], place: str) -> Tool:
    kind = tool.get("type")
    if kind != "function":
        what = kind if isinstance(kind, str) else "without a type"
        raise BadRequest(
            f"`{place}` is a tool {what}. Only tools of the type function are available here: run others yourself.",
            place,
        )
    for name in ("defer_loading", "async"):
        if tool.get(name):
            raise BadRequest(f"`{place}.{name}` is not available here. Leave it out.", f"{place}.{name}")
    known = {name: value for name, value in tool.items() if name not in ("defer_loading", "async")}
    function = shaped(known, FunctionTool, place)
    return Tool(function.name, function.description, function.parameters, function.strict)


def _tool_choice(
    choice: str | dict[str, Any] | None, tools: tuple[Tool, ...]
) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    """The choice, and the tools it leaves: a provider without `allowed_tools` is told of the allowed ones only."""
    names = {tool.name for tool in tools}
    match choice:
        case None:
            return None, tools
        case "auto" | "none" | "required" as kind:
            if kind == "required" and not tools:
                raise BadRequest("`tool_choice` is required, and there are no `tools`. Send some.", "tool_choice")
            return ToolChoice(kind), tools
        case {"type": "function"}:
            name = shaped(choice, FunctionChoice, "tool_choice").name
            wanted = {name}
            found = ToolChoice("tool", name)
        case {"type": "allowed_tools"}:
            allowed = shaped(choice, AllowedTools, "tool_choice")
            wanted = {tool.name for tool in allowed.tools}
            found = ToolChoice(allowed.mode)
            tools = tuple(tool for tool in tools if tool.name in wanted)
        case _:
            raise BadRequest(
                "`tool_choice` must be auto, none, required, or of the type function or allowed_tools. Correct it.",
                "tool_choice",
            )
    if not wanted or wanted - names:
        raise BadRequest("`tool_choice` names a function that is not among the `tools`. Correct it.", "tool_choice")
    return found, tools


def _form(text: TextOptions | None) -> AnswerForm | None:
    match text.format if text is not None else None:
        case ObjectFormat():
            return AnswerForm()
        case SchemaFormat(name=name, schema=schema, description=description, strict=strict):
            said = {} if description is None else {"description": description}
            return AnswerForm(name, said | schema, strict)
    return None


def _input_bound(prompt: Prompt) -> int:
    """The most input tokens that any provider can count, by the reasoning of `core.token.upper_bound`: bytes bound
    tokens, every part may have marks around it, an image has a bound of its own in place of its base64."""
    parts = [part for turn in prompt.turns for part in turn.parts]
    results = [inner for part in parts if isinstance(part, ToolResult) for inner in part.content]
    images = [part for part in (*parts, *results) if isinstance(part, Image)]
    told = _encode((prompt.system, prompt.turns, prompt.tools, prompt.form))
    marks = MESSAGE_BOUND * (len(prompt.system) + len(parts) + len(prompt.tools))
    explained = TOOLS_BOUND if prompt.tools or prompt.form is not None else 0
    return len(told) + marks + explained + sum(IMAGE_BOUND - len(image.data or "") for image in images)


def _echo(request: ResponseRequest) -> dict[str, Any]:
    reasoning = request.reasoning or ReasoningOptions()
    form = request.text.format if request.text is not None else None
    return {
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "metadata": request.metadata or {},
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {"effort": reasoning.effort, "summary": reasoning.summary or reasoning.generate_summary},
        "safety_identifier": request.safety_identifier,
        "service_tier": "default",
        "store": False,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": {"format": msgspec.to_builtins(form or TextFormat()), "verbosity": "medium"},
        "tool_choice": request.tool_choice or "auto",
        "tools": [{"description": None, "parameters": None, "strict": None} | tool for tool in request.tools or ()],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": "disabled",
        "user": request.user,
    }


SURFACE: Surface = Responses()

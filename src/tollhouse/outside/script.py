"""The directives by which a message tells the sandbox how to answer, for tests and demonstrations.

They stand anywhere in the last user message, each a word of its own:

========================== ===========================================================================================
``sandbox:tokens=N``       exactly N output tokens, unless the request's own maximum cuts them; of JSON at most N
``sandbox:tools=N``        no text but N calls of the request's tools, in turn; text again once their results are there
``sandbox:delay=MS``       milliseconds before each token; a plain call waits for all of them together
``sandbox:first=MS``       milliseconds before the first byte
``sandbox:fault=refuse``   no connection
``sandbox:fault=status:S`` the HTTP status S with an OpenAI error body
``sandbox:fault=hang``     silence until the first-byte deadline
``sandbox:fault=garbage``  status 200 with a page of HTML
``sandbox:fault=cut:N``    the answer breaks off after N tokens: no finish reason, no usage, no ``[DONE]``
``sandbox:fault=error:N``  an error event inside the stream after N tokens
``sandbox:fault=stall:N``  silence after N tokens until the idle deadline
``sandbox:fault=nousage``  a whole answer without a usage object
========================== ===========================================================================================

Of calls of tools the name and the arguments are the tokens; the name comes in one piece.

A plain call has no tokens on the wire: there ``cut`` and ``stall`` send half of the body first, and ``error`` is a body
with status 200 that holds an error.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

FaultKind = Literal["refuse", "status", "hang", "garbage", "cut", "error", "stall", "nousage"]

_NUMBERED: Final = frozenset({"status", "cut", "error", "stall"})
_DIRECTIVE: Final = re.compile(r"(?<!\S)sandbox:([a-z_]+)=([\w:]+)")
_MOST: Final = 1_000_000
_MOST_TOOLS: Final = 100


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong; `number` is the status for ``status`` and tokens for ``cut``, ``error`` and ``stall``."""

    kind: FaultKind
    number: int = 0


@dataclass(frozen=True, slots=True)
class Script:
    """How to answer one call; None leaves it to the sandbox."""

    tokens: int | None = None
    delay_ms: int | None = None
    first_ms: int = 0
    fault: Fault | None = None
    tools: int = 0


class UnknownDirective(ValueError):
    """A directive that does not exist, or whose value is none of the allowed ones. The message names the remedy."""


def read_script(text: str) -> Script:
    """The script in a message. The last directive of a kind counts. Raises `UnknownDirective`."""
    if "sandbox:" not in text:
        return Script()
    tokens: int | None = None
    delay_ms: int | None = None
    first_ms = 0
    fault: Fault | None = None
    tools = 0
    for name, value in _DIRECTIVE.findall(text):
        match name:
            case "tokens":
                tokens = _number(name, value)
            case "tools":
                tools = _number(name, value, _MOST_TOOLS)
            case "delay":
                delay_ms = _number(name, value)
            case "first":
                first_ms = _number(name, value)
            case "fault":
                fault = _fault(value)
            case _:
                raise UnknownDirective(f"sandbox:{name} does not exist; use tokens, tools, delay, first or fault")
    return Script(tokens, delay_ms, first_ms, fault, tools)


def without_directives(text: str) -> str:
    """The message as a reader would quote it."""
    return _DIRECTIVE.sub("", text)


def _fault(value: str) -> Fault:
    kind, _, number = value.partition(":")
    if kind not in get_args(FaultKind) or (kind in _NUMBERED) != bool(number):
        choices = ", ".join(f"{kind}:N" if kind in _NUMBERED else kind for kind in get_args(FaultKind))
        raise UnknownDirective(f"sandbox:fault={value} does not exist; use one of {choices}")
    fault = Fault(cast(FaultKind, kind), _number("fault", number) if number else 0)
    if fault.kind == "status" and not 200 <= fault.number <= 599:
        raise UnknownDirective(f"sandbox:fault={value} is not an HTTP status; use one from 200 to 599")
    return fault


def _number(name: str, value: str, most: int = _MOST) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 7 and int(value) <= most):
        raise UnknownDirective(f"sandbox:{name} takes a whole number from 0 to {most}, not {value!r}")
    return int(value)

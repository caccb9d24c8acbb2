"""What people type: read within bounds, checked field by field, and shown again when something is wrong."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from tollhouse.core.errors import BadRequest, TollhouseError
from tollhouse.web import language
from tollhouse.web.language import _

BODY_MAX = 64 * 1024
FIELDS_MAX = 200
TOKEN = "csrf"  # noqa: S105 (the name of the field, not a token)
_TYPE = "application/x-www-form-urlencoded"
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

Fields = Mapping[str, tuple[str, ...]]


async def read_fields(request: Request, most: int = BODY_MAX) -> Fields:
    """The fields of a form as the browser sends them, each with all of its values. BadRequest (400, 413, 415) when it
    is no form, larger than `most` bytes or not text."""
    raw = await _body(request, most)
    if not raw:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _TYPE:
        raise BadRequest("This address takes forms. Send it as " + _TYPE + ".", status=415)
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest(_("The form is not UTF-8. Go back, reload the page and send it again.")) from None
    except ValueError:
        raise BadRequest(
            _("The form has more than %(count)s fields. Send fewer at once.", count=FIELDS_MAX), status=413
        ) from None
    found: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        found[name] = (*found.get(name, ()), value)
    return found


async def _body(request: Request, most: int) -> bytes:
    parts = bytearray()
    try:
        async for part in request.stream():
            parts += part
            if len(parts) > most:
                raise BadRequest(
                    _("The form is larger than %(size)s kB. Send less at once.", size=most // 1024),
                    status=413,
                )
    except ClientDisconnect:
        raise BadRequest(_("The form did not come whole. Send it again.")) from None
    return bytes(parts)


@dataclass(frozen=True, slots=True)
class Field:
    """A field that a form may have. `most`: its longest text, in characters; `many`: it may come more than once, such
    as checkboxes; `secret`: taken as it is typed, and never shown again; `lines`: it may have line breaks."""

    name: str
    required: bool = True
    most: int = 200
    many: bool = False
    secret: bool = False
    lines: bool = False


@dataclass(frozen=True, slots=True)
class Form:
    """What was typed, and what is wrong with it. `errors` by field; under "" what is wrong with the whole."""

    fields: tuple[Field, ...]
    values: Fields = field(default_factory=dict, repr=False)
    errors: Mapping[str, str] = field(default_factory=dict)
    sent: bool = False

    @property
    def ok(self) -> bool:
        return not self.errors

    def __getitem__(self, name: str) -> str:
        """The text of a field; empty when it was left so."""
        return next(iter(self.values.get(name, ())), "")

    def all(self, name: str) -> tuple[str, ...]:
        return self.values.get(name, ())

    def typed(self, name: str) -> str:
        """What to show in the field again."""
        return "" if any(one.secret for one in self.fields if one.name == name) else self[name]

    def chosen(self, name: str, value: str) -> bool:
        return value in self.all(name)

    @property
    def focus(self) -> str | None:
        """The first field that is wrong with what was sent: the next keystroke belongs there."""
        wrong = (one.name for one in self.fields if one.name in self.errors)
        return next(wrong, None) if self.sent else None

    def error(self, name: str) -> str | None:
        return self.errors.get(name)

    def refused(self, name: str, message: str) -> "Form":
        """The same with one more thing wrong; the first about a field stands."""
        return replace(self, errors={name: message} | dict(self.errors))

    def refused_by(self, error: TollhouseError) -> "Form":
        """The same, refused: at the field that the refusal names if the form has it, else as a whole."""
        named = error.field if isinstance(error, BadRequest) else None
        return self.refused(
            named if named in {one.name for one in self.fields} and named else "", language.refusal(error)
        )


def blank(fields: Sequence[Field], values: Mapping[str, str | Sequence[str]] | None = None) -> Form:
    """A form before anybody typed, with what stands in it already."""
    given = values or {}
    return Form(
        tuple(fields), {name: (value,) if isinstance(value, str) else tuple(value) for name, value in given.items()}
    )


def read(fields: Sequence[Field], sent: Fields) -> Form:
    """The form as it was sent. BadRequest for a field that it does not have: nobody's browser makes one up."""
    known = {one.name: one for one in fields}
    for name, values in sent.items():
        if name == TOKEN:
            continue
        if name not in known:
            raise BadRequest(
                _("This form has no field %(name)s. Reload the page and fill it in again.", name=repr(name[:80]))
            )
        if len(values) > 1 and not known[name].many:
            raise BadRequest(
                _("The field %(name)s came more than once. Reload the page and fill it in again.", name=repr(name[:80]))
            )
    texts = {name: tuple(_text(known[name], one) for one in sent[name]) for name in sent if name != TOKEN}
    errors = {one.name: problem for one in fields if (problem := _problem(one, texts.get(one.name, ()))) is not None}
    return Form(tuple(fields), texts, errors, sent=True)


def _text(one: Field, value: str) -> str:
    if one.secret:
        return value
    return value.replace("\r\n", "\n").strip()


def _problem(one: Field, values: tuple[str, ...]) -> str | None:
    """What is wrong with a field, as a sentence; None when nothing is."""
    if not any(values):
        return _("Fill this in.") if one.required else None
    if any(len(value) > one.most for value in values):
        return _("This is longer than %(most)s characters. Shorten it.", most=one.most)
    if any(_NOT_TEXT.search(value) or ("\n" in value and not one.lines) for value in values):
        return _("This has characters that cannot be typed. Type it again.")
    return None

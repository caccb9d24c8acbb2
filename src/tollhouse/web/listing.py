"""Lists whose filters and place stand in the address of the page, so that it can be kept, sent and gone back to."""

from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request

from tollhouse.core.errors import BadRequest
from tollhouse.web import forms
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _

LENGTH = 50
CURSOR = Field("cursor", required=False, most=100)


def asked(request: Request, *fields: Field) -> Form:
    """What the address says of these fields, each once; whatever else it says is passed over. BadRequest for what
    cannot be."""
    known = {one.name for one in fields}
    sent = {name: (value,) for name, value in request.query_params.items() if name in known}
    form = forms.read(fields, sent)
    if not form.ok:
        name, message = next(iter(form.errors.items()))
        raise BadRequest(
            _(
                "The address of this page says something of %(name)s that cannot be. %(message)s",
                name=repr(name),
                message=message,
            ),
            name,
        )
    return form


def address(path: str, **values: str | None) -> str:
    """The path with what is said of it; what is empty is left out."""
    said = {name: value for name, value in values.items() if value}
    return f"{path}?{urlencode(said)}" if said else path


@dataclass(frozen=True, slots=True)
class Ways:
    """From one part of a list to its beginning and to the next part; None: it is there, or there is none."""

    first: str | None
    following: str | None

    @classmethod
    def of(cls, path: str, form: Form, following: str | None) -> "Ways":
        """`following` is the cursor of the next part."""
        kept = {one.name: form[one.name] for one in form.fields if one.name != CURSOR.name}
        first = address(path, **kept) if form[CURSOR.name] else None
        return cls(first, address(path, **kept, cursor=following) if following else None)

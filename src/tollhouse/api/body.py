"""What comes in: JSON read strictly, and the types of its fields."""

import hashlib
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import Header, Request, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from tollhouse.core.errors import BadRequest, NotFound
from tollhouse.core.money import parse_credits
from tollhouse.core.text import holds_nul

EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EMAIL = re.compile(r"[^\s@,<>\"]{1,64}@[^\s@,<>\"]+\.[^\s@,<>\".]+")
_VISIBLE = re.compile(r"[\x20-\x7e]{1,255}")


class Body(BaseModel):
    """Nothing is converted or passed over: a field that is not documented is refused by its name."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def without_default(schema: dict[str, Any]) -> None:
    """For fields of a change (`json_schema_extra`): what is left out stays as it is, whatever stands in the class."""
    schema.pop("default", None)


def body_hash(body: Body, user: str | None = None) -> bytes:
    """The same for two bodies that say the same, in whatever order. `user`: on whose behalf, which a header may say in
    place of the body."""
    said = body.model_dump(mode="json", exclude_unset=True)
    if user is not None:
        said["user"] = user
    return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).digest()


class StrictRoute(APIRoute):
    """A route whose request is checked for what none may hold before anything else looks at it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def checked(request: Request) -> Response:
            if request.query_params and not self.dependant.query_params:
                raise BadRequest("This call takes no query parameters. Remove what follows the question mark.")
            if "\0" in request.scope["path"] and request.method != "PUT":  # what makes something refuses its name
                raise NotFound("There is nothing of that id here.")
            nul = next((name for name, value in request.query_params.multi_items() if "\0" in value), None)
            if nul is not None:
                field = nul if nul.isprintable() else None
                raise BadRequest("A query parameter holds the character NUL (%00), which no text may.", field)
            strict = StrictRequest(request.scope, request.receive)
            await strict.check()
            return await handler(strict)

        return checked


class StrictRequest(Request):
    """A request with one JSON document: UTF-8, without NUL and lone surrogates, which no text may hold."""

    _document: Any = None

    async def check(self) -> None:
        """BadRequest that says what is wrong with the body."""
        body = await self.body()
        if not body:
            return
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise BadRequest("Send the body as JSON, with the header 'content-type: application/json'.", status=415)
        try:
            self._document = msgspec.json.decode(body)
        except RecursionError as error:
            raise BadRequest("The JSON of the body is nested too deep.") from error
        except (ValueError, msgspec.DecodeError) as error:
            raise BadRequest(f"The body is not valid JSON in UTF-8: {error}.") from error
        if b"\\u0000" in body and holds_nul(self._document):
            raise BadRequest("The body holds the character NUL (\\u0000), which no text may. Leave it out.")

    async def json(self) -> Any:
        return self._document


def _credits(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError('must be a decimal string such as "12.5": JSON numbers lose digits')
    return parse_credits(value)


def _moment(value: object) -> datetime:
    remedy = 'must be a time with its offset, as in RFC 3339, for example "2026-01-31T12:00:00Z"'
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise ValueError(remedy)
    try:
        moment = datetime.fromisoformat(value.upper())
    except ValueError:
        raise ValueError(f"{remedy}; there is no such day or hour") from None
    if not EARLIEST <= moment < LATEST:
        raise ValueError("must lie in the years 2000 to 2099; leave it out when there shall be none")
    return moment.astimezone(UTC)


def _above_zero(micros: int) -> int:
    if micros <= 0:
        raise ValueError("must be more than 0")
    return micros


def _not_below_zero(micros: int) -> int:
    if micros < 0:
        raise ValueError("must not be below 0")
    return micros


def _email(value: str) -> str:
    if not _EMAIL.fullmatch(value) or len(value) > 254:
        raise ValueError('must be an e-mail address such as "ada@example.com"')
    return value.lower()


def _visible(value: str) -> str:
    if not _VISIBLE.fullmatch(value):
        raise ValueError("must be 1 to 255 visible ASCII characters, for example a UUID")
    return value


def _end_user(value: str) -> str:
    if not (0 < len(value) <= 200 and value.isprintable()):
        raise ValueError("must be 1 to 200 printable characters: your own id of the end user")
    return value


_AsCredits = WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,11}(\.[0-9]{1,6})?$", "examples": ["12.5"]})
PositiveCredits = Annotated[int, BeforeValidator(_credits), AfterValidator(_above_zero), _AsCredits]
Credits = Annotated[int, BeforeValidator(_credits), AfterValidator(_not_below_zero), _AsCredits]
Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Note = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=80)]
EndUser = Annotated[str, AfterValidator(_end_user)]
Email = Annotated[str, AfterValidator(_email)]
Id = Annotated[UUID, Field(strict=False)]
_Key = Annotated[str, AfterValidator(_visible)]
_KEPT = Header(
    alias="Idempotency-Key", description="The same key and body are answered again and done once, for 24 hours."
)
IdempotencyKey = Annotated[_Key, _KEPT]
OptionalIdempotencyKey = Annotated[_Key | None, _KEPT]

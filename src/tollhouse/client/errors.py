"""Everything the client raises of its own; wrong arguments are ValueError and TypeError, before anything is sent.

TollhouseError
  BadRequest .............. 400, 413, 415, 422: the request is not what the call takes
  Unauthenticated ......... 401: the key is unknown, revoked or expired
  InsufficientCredits ..... 402
  Forbidden ............... 403: a locked or disabled model, a missing scope, a suspended organisation: see `code`
    CapabilityDenied ...... 403: the plan has not this capability or quality
  NotFound ................ 404: also for what is another organisation's
  Conflict ................ 409: the state forbids it
  LimitReached ............ 429
  ProviderFailed .......... a run whose model failed, or gave an answer that does not fit
  Unavailable ............. no answer, or none but 502 to 504, for as long as it was tried; `status` None: no answer
  UnknownAnswer ........... what answers is not Tollhouse's API
  Unsettled ............... something was used, and its charge could not be delivered

`code` is stable and meant for programs, `detail` is a sentence for a person that names the remedy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from tollhouse.client.answers import Hint, Moment, Usage

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one part of the request; `location` is body, query, header or path."""

    location: str
    field: str
    message: str


class TollhouseError(Exception):
    """`details` are further members that depend on the code; `retry_after` seconds, when the server named them."""

    def __init__(
        self,
        detail: str = "",
        *,
        code: str = "error",
        status: int | None = None,
        request_id: str | None = None,
        hints: tuple[Hint, ...] = (),
        fields: tuple[FieldError, ...] = (),
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.request_id = request_id
        self.hints = hints
        self.fields = fields
        self.details = dict(details or {})
        self.retry_after = retry_after

    def __str__(self) -> str:
        marks = [self.code] + ([f"request {self.request_id}"] if self.request_id else [])
        return f"{self.detail} ({', '.join(marks)})"

    def _member(self, name: str, kind: type[Kind]) -> Kind | None:
        """A member of the answer; None when it is missing or of another kind."""
        try:
            return msgspec.convert(self.details.get(name), kind)
        except msgspec.ValidationError:
            return None

    @property
    def resets_at(self) -> datetime | None:
        """When the limit or the credits begin anew."""
        return self._member("resets_at", Moment)


class BadRequest(TollhouseError):
    """`fields` names what is wrong."""


class Unauthenticated(TollhouseError):
    pass


class InsufficientCredits(TollhouseError):
    """`reserved` is what calls hold that are still running: it may come back."""

    @property
    def required(self) -> Decimal | None:
        return self._member("required", Decimal)

    @property
    def spendable(self) -> Decimal | None:
        return self._member("spendable", Decimal)

    @property
    def reserved(self) -> Decimal | None:
        return self._member("reserved", Decimal)


class Forbidden(TollhouseError):
    pass


class CapabilityDenied(Forbidden):
    @property
    def capability(self) -> str | None:
        return self._member("capability", str)

    @property
    def quality(self) -> str | None:
        return self._member("quality", str)

    @property
    def plan(self) -> str | None:
        return self._member("plan", str)


class NotFound(TollhouseError):
    pass


class Conflict(TollhouseError):
    pass


class LimitReached(TollhouseError):
    """A rate or a quota is used up: `retry_after` for the short ones, `resets_at` for all that reset. Amounts of
    credits are decimals."""

    def _amount(self, name: str) -> int | Decimal | None:
        whole = self._member(name, int)
        return self._member(name, Decimal) if whole is None else whole

    @property
    def scope(self) -> str | None:
        return self._member("scope", str)

    @property
    def meter(self) -> str | None:
        return self._member("meter", str)

    @property
    def period(self) -> str | None:
        return self._member("period", str)

    @property
    def limit(self) -> int | Decimal | None:
        return self._amount("limit")

    @property
    def used(self) -> int | Decimal | None:
        return self._amount("used")

    @property
    def remaining(self) -> int | Decimal | None:
        return self._amount("remaining")


class ProviderFailed(TollhouseError):
    """`credits_used` None: nothing was charged. An answer that does not fit the capability was paid for, and is."""

    @property
    def credits_used(self) -> Decimal | None:
        return self._member("credits_used", Decimal)


class Unavailable(TollhouseError):
    """A reservation may have been made all the same: it ends by itself. Sent again with the same key it is answered
    again and taken once."""


class UnknownAnswer(TollhouseError):
    """Look at `base_url`, and at what stands between."""


class Unsettled(TollhouseError):
    """The charge of `reservation_id` is open: `credits` or `usage` (one of them) was used and could not be delivered.
    Keep the three and call ``client.settle(reservation_id, credits=... | usage=...)`` later; it is safe to repeat, and
    valid after the reservation has expired. `failure` is what stood in the way; `during` the exception that was on its
    way out of the block, which is also this error's `__context__`."""

    def __init__(
        self,
        detail: str = "",
        *,
        reservation_id: str = "",
        credits: Decimal | None = None,
        usage: Usage | None = None,
        failure: BaseException | None = None,
        during: BaseException | None = None,
    ) -> None:
        super().__init__(
            detail,
            code="unsettled",
            status=getattr(failure, "status", None),
            request_id=getattr(failure, "request_id", None),
        )
        self.reservation_id = reservation_id
        self.credits = credits
        self.usage = usage
        self.failure = failure
        self.during = during

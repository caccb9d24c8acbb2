"""Everything Tollhouse refuses, in one list; each face (OpenAI error, problem JSON, page) renders it its own way. Those
that a model, a capability, credits or a limit are the reason of stand in refusals, those of assistants and of models of
one's own beside them.

TollhouseError
  Unauthenticated ......... 401  the key is missing, unknown, revoked or expired
  Forbidden ............... 403  the key has not the scope, or the organisation is suspended
    ProofRequired ......... 403  password or code are asked for once more
  BadRequest .............. 400  the body is not what the endpoint takes (413 when too large)
  NotFound ................ 404  also for what is another tenant's
  Conflict ................ 409  the state forbids it
    StillRunning .......... 409  the first request with the same idempotency key
  Mismatch ................ 422  the idempotency key was used with another body
  ModelNotFound ........... 404
  OwnModelGone ............ 404  a model of one's own that is there no more, or is somebody else's
  ModelDisabled ........... 403
  ModelNotAllowed ......... 403  the key may not call this model
  NotConnected ............ 503  the model's provider has no connection
  CapabilityDenied ........ 403  the plan does not offer it, or not at this quality
  PlanRequired ............ 403  the plan has no such assistant, and its trial is over
  NotEnabled .............. 403  the admins have not switched the assistant on
  ModelLocked ............. 403  premium, and neither unlocked nor on trial
  TrialExpired ............ 402  premium, and its trial messages are used up
  PriceUnknown ............ 403  money in doubt is refused
  InsufficientCredits ..... 402
  LimitExceeded ........... 429  messages of a period
    QuotaExceeded ......... 429  tokens of a period
  TooManyTries ............ 429  sign-ins, codes, guesses of keys: throttled before anybody is known
  Overloaded .............. 503  nothing was taken, nothing was sent to a provider
  ProviderFailed .......... 502  before any output; 400, 429, 503, 504 when that says it better
  ProviderBroke ........... 502  in the middle of an answer
  InvalidAnswer ........... 502  the model's answer does not fit the capability; it is charged
  Unexpected .............. 500  a fault of ours
  Remembered .............. any  a refusal that an idempotency key met before
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tollhouse.core.money import format_credits


@dataclass(frozen=True, slots=True)
class Hint:
    """What would help: kind is upgrade, top_up, unlock or wait."""

    kind: str
    price_cents: int | None = None
    at: datetime | None = None
    plan: str | None = None


class TollhouseError(Exception):
    """A refusal. `code` and `status` are the API's; `str()` is a sentence for a person that names the remedy. Clients
    retry 429 and 503 by themselves: `retry_after_s` names a short wait, `should_retry` False forbids what would be
    slept through."""

    code: str = "error"
    status: int = 500
    retry_after_s: int | None = None
    should_retry: bool = True

    def details(self) -> dict[str, object]:
        """Fields beside code and message, as in API.md: model_id, price_cents, limit, used, remaining, resets_at ..."""
        return {}

    def hints(self) -> tuple[Hint, ...]:
        return ()


class Unauthenticated(TollhouseError):
    code, status = "invalid_api_key", 401


class Forbidden(TollhouseError):
    code, status = "forbidden", 403


class ProofRequired(Forbidden):
    """Who is signed in must prove again who they are."""

    code = "proof_required"


class BadRequest(TollhouseError):
    """`field` names the part of the body that is wrong, when one can be named."""

    code, status = "invalid_request", 400

    def __init__(self, message: str, field: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.field = field
        self.status = status

    def details(self) -> dict[str, object]:
        return {"field": self.field} if self.field else {}


class NotFound(TollhouseError):
    code, status = "not_found", 404


class Conflict(TollhouseError):
    code, status = "conflict", 409


class StillRunning(Conflict):
    """The first request with this idempotency key: its answer comes."""

    retry_after_s = 1


class Mismatch(TollhouseError):
    code, status = "idempotency_mismatch", 422


class Overloaded(TollhouseError):
    """Nothing was taken and nothing was sent."""

    code, status = "overloaded", 503
    retry_after_s = 1


@dataclass(eq=False)
class TooManyTries(TollhouseError):
    """Throttled; `retry_after_s` is the wait until the next try. Clients sleep through a minute, not through more."""

    retry_after_s: int
    code, status = "too_many_tries", 429

    def __post_init__(self) -> None:
        self.should_retry = self.retry_after_s <= 60

    def __str__(self) -> str:
        wait = f"{self.retry_after_s} s" if self.should_retry else f"{-(-self.retry_after_s // 60)} minutes"
        return f"That was tried too often. Wait {wait}, then try again."


class Unexpected(TollhouseError):
    """A fault of ours. What is behind it stands in the log and in no answer."""

    code, status = "internal_error", 500


class ProviderFailed(TollhouseError):
    """The provider failed before it had answered anything: nothing was charged. `status` says how: 502 refused or
    broken, 504 too late, 503 busy, 429 it limits us, 400 it would not take the request."""

    code, status = "provider_error", 502

    def __init__(self, message: str, status: int = 502) -> None:
        super().__init__(message)
        self.status = status


class ProviderBroke(TollhouseError):
    """The provider failed in the middle of its answer: what came until then is charged."""

    code, status = "provider_broke", 502


@dataclass(eq=False)
class InvalidAnswer(TollhouseError):
    """The model answered, and not as the capability's schema wants it. The call ran, so it is charged."""

    reason: str
    reservation_id: UUID
    model_id: str
    charged_micros: int
    code, status = "invalid_answer", 502

    def __str__(self) -> str:
        return (
            f"The answer of the model {self.model_id!r} does not fit the capability: {self.reason}. The call ran and "
            f"cost {format_credits(self.charged_micros)} credits. Try again, or choose a higher quality."
        )

    def details(self) -> dict[str, object]:
        return {
            "id": str(self.reservation_id),
            "model_id": self.model_id,
            "credits_used": format_credits(self.charged_micros),
        }


class Remembered(TollhouseError):
    """The refusal that the first request with this idempotency key met; it stands for a day."""

    should_retry = False

    def __init__(
        self, code: str, status: int, message: str, details: dict[str, object], hints: tuple[Hint, ...]
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self._details = details
        self._hints = hints

    def details(self) -> dict[str, object]:
        return self._details

    def hints(self) -> tuple[Hint, ...]:
        return self._hints

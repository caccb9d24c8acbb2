"""Why an ask is refused: the model, the capability, the price, credits, a limit. The list of all refusals stands in
errors."""

from dataclasses import dataclass
from datetime import datetime

from tollhouse.core.errors import Hint, TollhouseError
from tollhouse.core.money import format_credits


@dataclass(eq=False)
class ModelNotFound(TollhouseError):
    model_id: str
    code, status = "model_not_found", 404

    def __str__(self) -> str:
        return f"There is no model {self.model_id[:80]!r} here. GET /v1/models lists those that this key may ask for."

    def details(self) -> dict[str, object]:
        return {"model_id": self.model_id[:80]}


@dataclass(eq=False)
class ModelDisabled(TollhouseError):
    model_id: str
    code, status = "model_disabled", 403

    def __str__(self) -> str:
        return f"The model {self.model_id!r} is switched off at the moment. GET /v1/models lists the others."

    def details(self) -> dict[str, object]:
        return {"model_id": self.model_id}


@dataclass(eq=False)
class ModelNotAllowed(TollhouseError):
    """`models` are those that the key may call."""

    model_id: str
    models: tuple[str, ...]
    code, status = "model_not_allowed", 403

    def __str__(self) -> str:
        allowed = ", ".join(self.models[:20]) + (", ..." if len(self.models) > 20 else "")
        return (
            f"This API key is for these models alone: {allowed or 'none'}. {self.model_id[:80]!r} would be answered by "
            "another. Name one of them, or have the model added to the key."
        )

    def details(self) -> dict[str, object]:
        return {"model_id": self.model_id[:80], "models": list(self.models)}


@dataclass(eq=False)
class NotConnected(TollhouseError):
    model_id: str
    provider_id: str
    code, status = "model_not_connected", 503

    def __str__(self) -> str:
        missing = f"No connection to {self.provider_id!r} is configured, so {self.model_id!r} cannot answer."
        return f"{missing} An operator can add one."

    def details(self) -> dict[str, object]:
        return {"model_id": self.model_id}


@dataclass(eq=False)
class CapabilityDenied(TollhouseError):
    """`upgrade_to` is the id of the lowest plan that has it, if any; `quality` None: at no quality."""

    capability: str
    quality: str | None
    plan: str
    upgrade_to: str | None
    price_cents: int | None = None
    code, status = "capability_denied", 403

    def __str__(self) -> str:
        at = f" at quality {self.quality!r}" if self.quality else ""
        remedy = f"Upgrade to {self.upgrade_to!r} to use it." if self.upgrade_to else "No plan offers it at the moment."
        return f"The plan {self.plan!r} does not offer {self.capability!r}{at}. {remedy}"

    def details(self) -> dict[str, object]:
        return {"capability": self.capability, "quality": self.quality, "plan": self.plan}

    def hints(self) -> tuple[Hint, ...]:
        return (Hint("upgrade", price_cents=self.price_cents, plan=self.upgrade_to),) if self.upgrade_to else ()


@dataclass(eq=False)
class ModelLocked(TollhouseError):
    model_id: str
    price_cents: int | None
    code, status = "model_locked", 403

    def __str__(self) -> str:
        price = f" for {format_price(self.price_cents)}" if self.price_cents else ""
        return f"The model {self.model_id!r} is premium and not unlocked. Unlock it{price}, or choose a free model."

    def details(self) -> dict[str, object]:
        return {"model_id": self.model_id, "price_cents": self.price_cents}

    def hints(self) -> tuple[Hint, ...]:
        return (Hint("unlock", price_cents=self.price_cents),)


@dataclass(eq=False)
class TrialExpired(TollhouseError):
    model_id: str
    price_cents: int | None
    total: int
    code, status = "trial_expired", 402

    def __str__(self) -> str:
        price = f" for {format_price(self.price_cents)}" if self.price_cents else ""
        return f"All {self.total} trial messages of {self.model_id!r} are used. Unlock it{price} to go on with it."

    def details(self) -> dict[str, object]:
        return {"model_id": self.model_id, "price_cents": self.price_cents, "trial_messages": self.total}

    def hints(self) -> tuple[Hint, ...]:
        return (Hint("unlock", price_cents=self.price_cents),)


@dataclass(eq=False)
class PriceUnknown(TollhouseError):
    model_id: str
    code, status = "price_unknown", 403

    def __str__(self) -> str:
        return f"The model {self.model_id!r} has no price in force, so it may not be called. An operator can set one."

    def details(self) -> dict[str, object]:
        return {"model_id": self.model_id}


@dataclass(eq=False)
class InsufficientCredits(TollhouseError):
    """`needed_micros` is what this call may cost at most; `held_micros` is reserved by calls that are still running."""

    needed_micros: int
    spendable_micros: int
    held_micros: int
    period_end: datetime
    code, status = "insufficient_credits", 402

    def __str__(self) -> str:
        held = f"; {format_credits(self.held_micros)} more are held by calls still running" if self.held_micros else ""
        return (
            f"This call may cost up to {format_credits(self.needed_micros)} credits and "
            f"{format_credits(max(0, self.spendable_micros))} are left{held}. Top up, or lower max_tokens."
        )

    def details(self) -> dict[str, object]:
        return {
            "required": format_credits(self.needed_micros),
            "spendable": format_credits(max(0, self.spendable_micros)),
            "reserved": format_credits(self.held_micros),
            "resets_at": self.period_end,
        }

    def hints(self) -> tuple[Hint, ...]:
        return (Hint("top_up"), Hint("upgrade"), Hint("wait", at=self.period_end))


@dataclass(eq=False)
class LimitExceeded(TollhouseError):
    """A window is full. `meter` messages, tokens, requests or credits (whose numbers are micro-credits); `resets_at`
    None for one that never opens again."""

    scope: str
    meter: str
    period: str
    limit: int
    used: int
    reserved: int
    resets_at: datetime | None
    model_id: str | None = None
    capability: str | None = None
    retry_after_s: int | None = None  # of a limit per minute
    code, status = "rate_limit_exceeded", 429

    def __post_init__(self) -> None:
        self.should_retry = self.retry_after_s is not None

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used - self.reserved)

    def __str__(self) -> str:
        what = self.model_id or self.capability
        of_model = f" of {what!r}" if what else ""
        when = f"; it resets at {self.resets_at:%Y-%m-%d %H:%M} UTC" if self.resets_at else ""
        limit, used, held = (self._said(one) for one in (self.limit, self.used, self.reserved))
        remedy = "Wait for that, or upgrade the plan."
        if self.meter == "credits":
            remedy = "Wait for that, lower max_tokens, or have the limit raised."
        return (
            f"The limit of {limit} {self.meter}{of_model} per {self.period} for this {self.scope} is reached "
            f"({used} used, {held} held by calls still running){when}. {remedy}"
        )

    def details(self) -> dict[str, object]:
        found: dict[str, object] = {
            "scope": self.scope,
            "meter": self.meter,
            "period": self.period,
            "limit": self._said(self.limit),
            "used": self._said(self.used),
            "remaining": self._said(self.remaining),
            "resets_at": self.resets_at,
        }
        if self.model_id:
            found["model_id"] = self.model_id
        if self.capability:
            found["capability"] = self.capability
        return found

    def hints(self) -> tuple[Hint, ...]:
        wait = (Hint("wait", at=self.resets_at),) if self.resets_at else ()
        return wait if self.meter == "credits" else (*wait, Hint("upgrade"))

    def _said(self, amount: int) -> int | str:
        return format_credits(amount) if self.meter == "credits" else amount


class QuotaExceeded(LimitExceeded):
    """The same for tokens."""

    code = "quota_exceeded"


def format_price(cents: int | None) -> str:
    """299 -> "$2.99"."""
    return f"${(cents or 0) // 100}.{(cents or 0) % 100:02d}"

"""Values that /design shows its parts with: models in every state, refusals, and an answer."""

from datetime import datetime, timedelta

from tollhouse.core.catalogue import Plan
from tollhouse.core.conversation import Trouble
from tollhouse.core.errors import TollhouseError
from tollhouse.core.preference import Preferences
from tollhouse.core.refusals import InsufficientCredits, LimitExceeded, ModelLocked, TrialExpired
from tollhouse.core.routing import Model
from tollhouse.core.selection import Selected
from tollhouse.core.shelf import Auto, Metadata, ModelState, Shelf, State

ANSWER = """A toll house stood where a **turnpike** began: whoever passed paid once, and the gate opened.

| passed | paid |
|---|---|
| on foot | nothing |
| a cart and two horses | sixpence |

```python
def toll(horses: int) -> int:
    return 3 * horses  # pence
```"""


# Messages of a week by model, as figures.js draws them.
CHART: dict[str, object] = {
    "labels": ["16 Nov", "17 Nov", "18 Nov", "19 Nov", "20 Nov", "21 Nov", "22 Nov"],
    "series": [
        {"label": "GPT-4o Mini", "values": [12, 18, 9, 22, 25, 4, 6]},
        {"label": "GPT-4o", "values": [2, 0, 5, 3, 8, 1, 0]},
        {"label": "Claude 3.5 Haiku", "values": [0, 4, 6, 2, 1, 0, 3]},
    ],
    "format": {},
}


def refusals(now: datetime) -> list[TollhouseError | Trouble]:
    """What stands in the place of an answer."""
    return [
        ModelLocked("gpt-4o", 299),
        LimitExceeded("person", "messages", "day", 50, 50, 0, now + timedelta(hours=7), "gpt-4o"),
        InsufficientCredits(4_100_000, 1_320_000, 0, now + timedelta(days=12)),
        Trouble("provider_broke", "The provider broke off in the middle. What came until then is charged; try again."),
    ]


def shelf(now: datetime) -> Shelf:
    """Models as they may stand for somebody."""
    plan = Plan("pro", "Pro", 40, 500_000_000, 0, None, 10_000, 8192, frozenset({"api"}), 4900)
    full = LimitExceeded("person", "messages", "day", 50, 50, 0, now + timedelta(hours=7), "gemini-1.5-pro")
    models = (
        _model("gpt-4o-mini", "GPT-4o Mini", "free", now),
        _model("gpt-4o", "GPT-4o", "trial", now, trial=2),
        _model("claude-3.5-sonnet", "Claude 3.5 Sonnet", "unlocked", now, used=12),
        _model("gemini-1.5-pro", "Gemini 1.5 Pro", "limit_hit", now, full, used=50),
        _model("claude-3-opus", "Claude 3 Opus", "locked", now, ModelLocked("claude-3-opus", 499)),
        _model("o1", "o1", "trial_exhausted", now, TrialExpired("o1", 499, 2)),
    )
    return Shelf(
        now=now, plan=plan, models=models, own=(), auto=Auto({"simple": models[0].model}, None), limits=(),
        preferences=Preferences(), selected=Selected("gpt-4o-mini", "system"), system_default="gpt-4o-mini",
    )  # fmt: skip


def _model(
    id_: str, name: str, state: State, now: datetime, refusal: TollhouseError | None = None, trial: int = 0,
    used: int = 0,
) -> ModelState:  # fmt: skip
    tier, price = ("free", None) if state == "free" else ("premium", 499 if "opus" in id_ or id_ == "o1" else 299)
    model = Model(
        id_, "openai", id_, name, True, True, "free" if tier == "free" else "premium", price, 50, 2, 4096, now
    )
    about = Metadata(
        "For questions that need thought.", "A provider", "fast", "high", 128_000, 2.5, ("writing", "code")
    )
    return ModelState(
        model=model, metadata=about, state=state, unlocked=state in ("free", "unlocked", "limit_hit"),
        price_cents=price, trial_remaining=None if tier == "free" else trial, trial_total=2, used_today=used,
        limit_today=50 if used else None, resets_at=now + timedelta(hours=7), refusal=refusal, most_micros=1_000_000,
    )  # fmt: skip

"""Providers, their models, and what these cost us."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from tollhouse.core.money import NANOS_PER_USD
from tollhouse.seed import SINCE

QualityTier = Literal["fast", "balanced", "powerful"]


@dataclass(frozen=True, slots=True)
class ProviderRow:
    id: str
    name: str
    protocol: Literal["openai", "anthropic", "google", "sandbox"]
    base_url: str | None


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a person is shown to choose by. `cost_per_1m_tokens` is in dollars, and informs only: prices charge."""

    speed: str
    quality: str
    context_window: int
    cost_per_1m_tokens: float
    best_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """`price_cents` unlocks a premium model once; `daily_messages` None: no limit of the model's own. The one that
    `is_default` answers when another fails."""

    id: str
    provider_id: str
    provider_model_id: str
    display_name: str
    description: str
    context_window: int
    max_output_tokens: int
    sort_order: int
    metadata: Metadata
    selectable: bool = True
    tier: Literal["free", "premium"] = "free"
    price_cents: int | None = None
    daily_messages: int | None = None
    trial_messages: int = 0
    quality_tier: QualityTier | None = None
    is_default: bool = False
    kind: Literal["chat", "embedding"] = "chat"


@dataclass(frozen=True, slots=True)
class PriceRow:
    """`cache_write_nanos_per_million` None: as other input."""

    model_id: str
    version: int
    effective_from: datetime
    input_nanos_per_million: int
    cached_input_nanos_per_million: int
    output_nanos_per_million: int
    cache_write_nanos_per_million: int | None
    note: str
    source: Literal["seed"] = "seed"


PROVIDERS = (
    ProviderRow("openai", "OpenAI", "openai", "https://api.openai.com/v1"),
    ProviderRow("anthropic", "Anthropic", "anthropic", "https://api.anthropic.com"),
    ProviderRow("google", "Google", "google", "https://generativelanguage.googleapis.com"),
    ProviderRow("together", "Together AI", "openai", "https://api.together.xyz/v1"),
    ProviderRow("ollama", "Ollama", "openai", "http://127.0.0.1:11434/v1"),
    ProviderRow("vllm", "vLLM", "openai", None),
    ProviderRow("sandbox", "Sandbox", "sandbox", None),
)


def _free(
    id_: str,
    provider: tuple[str, str],
    name: str,
    description: str,
    sizes: tuple[int, int],
    sort_order: int,
    shown: tuple[str, str, float],
    best_for: tuple[str, ...],
    *,
    quality_tier: QualityTier | None = None,
    selectable: bool = True,
    is_default: bool = False,
) -> ModelRow:
    """A model that needs no unlocking. `provider`: and its id there; `sizes`: context, output; `shown`: speed, quality,
    dollars per million tokens."""
    speed, quality, cost = shown
    metadata = Metadata(speed, quality, sizes[0], cost, best_for)
    return ModelRow(
        id_,
        *provider,
        name,
        description,
        *sizes,
        sort_order,
        metadata,
        quality_tier=quality_tier,
        selectable=selectable,
        is_default=is_default,
    )


def _premium(
    id_: str,
    provider: tuple[str, str],
    name: str,
    description: str,
    sizes: tuple[int, int],
    sort_order: int,
    shown: tuple[str, str, float],
    best_for: tuple[str, ...],
    *,
    price_cents: int,
    daily_messages: int,
    trial_messages: int,
    quality_tier: QualityTier | None = None,
) -> ModelRow:
    """A model that is unlocked once, for each person limited by the day."""
    speed, quality, cost = shown
    return ModelRow(
        id_,
        *provider,
        name,
        description,
        *sizes,
        sort_order,
        Metadata(speed, quality, sizes[0], cost, best_for),
        tier="premium",
        price_cents=price_cents,
        daily_messages=daily_messages,
        trial_messages=trial_messages,
        quality_tier=quality_tier,
    )


def _embedding(
    id_: str, name: str, description: str, sort_order: int, shown: tuple[str, str, float], best_for: tuple[str, ...]
) -> ModelRow:
    """One of OpenAI's, that needs no unlocking. It has no output, where the catalogue wants one token at least."""
    speed, quality, cost = shown
    metadata = Metadata(speed, quality, _EMBEDDED_MAX, cost, best_for)
    return ModelRow(
        id_, "openai", id_, name, description, _EMBEDDED_MAX, 1, sort_order, metadata, kind="embedding"
    )  # fmt: skip


_EMBEDDED_MAX = 8_192  # tokens of one text

MODELS = (
    # People choose among these.
    _free(
        "gpt-4o-mini", ("openai", "gpt-4o-mini"), "GPT-4o Mini",
        "Quick and economical, and good enough for most conversations.",
        (128_000, 16_384), 1, ("fast", "good", 0.15),
        ("Quick responses", "Daily coaching", "General advice"), quality_tier="fast", is_default=True,
    ),
    _free(
        "claude-3-5-haiku", ("anthropic", "claude-3-5-haiku-20241022"), "Claude 3.5 Haiku",
        "The quickest of Anthropic's models, with sound reasoning.",
        (200_000, 8_192), 2, ("fastest", "good", 0.25),
        ("Speed", "Analysis", "Quick insights"),
    ),
    _free(
        "llama-3.1-8b", ("together", "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo"), "Llama 3.1 8B",
        "An open model, small and quick, run by Together AI.",
        (131_072, 8_192), 3, ("fast", "good", 0.18),
        ("Open source", "Privacy-conscious", "Experimentation"),
    ),
    _premium(
        "gpt-4o", ("openai", "gpt-4o"), "GPT-4o",
        "OpenAI's large multimodal model, for questions that need thought.",
        (128_000, 16_384), 10, ("standard", "excellent", 2.50),
        ("Deep analysis", "Complex questions", "Nuanced reasoning"),
        price_cents=299, daily_messages=50, trial_messages=2, quality_tier="balanced",
    ),
    _premium(
        "claude-3-5-sonnet", ("anthropic", "claude-3-5-sonnet-20241022"), "Claude 3.5 Sonnet",
        "Strong in discussion, in weighing arguments and in long texts.",
        (200_000, 8_192), 11, ("standard", "excellent", 3.00),
        ("Philosophical depth", "Ethical reasoning", "Long-form responses"),
        price_cents=299, daily_messages=50, trial_messages=2,
    ),
    _premium(
        "claude-3-opus", ("anthropic", "claude-3-opus-20240229"), "Claude 3 Opus",
        "The most thorough of the Claude 3 family; takes its time.",
        (200_000, 4_096), 12, ("slower", "exceptional", 15.00),
        ("Maximum depth", "Complex philosophy", "Extended dialogues"),
        price_cents=499, daily_messages=30, trial_messages=2,
    ),
    _premium(
        "gemini-pro-1.5", ("google", "gemini-1.5-pro-latest"), "Gemini 1.5 Pro",
        "Keeps two million tokens in view: for very long conversations and documents.",
        (2_000_000, 8_192), 13, ("standard", "excellent", 1.25),
        ("Long context", "Multi-turn dialogue", "Reference-heavy discussions"),
        price_cents=299, daily_messages=50, trial_messages=2,
    ),
    # These answer for capabilities, and cannot be asked for by name.
    _free(
        "gemini-2.0-flash", ("google", "gemini-2.0-flash"), "Gemini 2.0 Flash",
        "Short answers at very low cost.",
        (1_048_576, 8_192), 20, ("fastest", "good", 0.10),
        ("Short texts", "High volume"), quality_tier="fast", selectable=False,
    ),
    _free(
        "claude-3-5-haiku-latest", ("anthropic", "claude-3-5-haiku-latest"), "Claude 3.5 Haiku (latest)",
        "Anthropic's quick model, in its newest release.",
        (200_000, 8_192), 21, ("fastest", "good", 0.80),
        ("Short texts", "Tone of voice"), quality_tier="fast", selectable=False,
    ),
    _free(
        "gemini-2.5-flash", ("google", "gemini-2.5-flash"), "Gemini 2.5 Flash",
        "Thinks before it answers, and is still quick.",
        (1_048_576, 65_536), 22, ("fast", "very good", 0.30),
        ("Structured output", "Longer texts"), quality_tier="balanced", selectable=False,
    ),
    _free(
        "claude-sonnet-4-20250514", ("anthropic", "claude-sonnet-4-20250514"), "Claude Sonnet 4",
        "Careful writing and reliable following of instructions.",
        (200_000, 64_000), 23, ("standard", "excellent", 3.00),
        ("Writing", "Following instructions"), quality_tier="balanced", selectable=False,
    ),
    _free(
        "gemini-2.5-pro", ("google", "gemini-2.5-pro"), "Gemini 2.5 Pro",
        "Google's strongest model of its generation.",
        (1_048_576, 65_536), 24, ("slower", "exceptional", 1.25),
        ("Difficult material", "Long sources"), quality_tier="powerful", selectable=False,
    ),
    _free(
        "sandbox", ("sandbox", "sandbox"), "Sandbox (test answers)",
        "Made-up text that no model wrote: for trying Tollhouse and for automated tests, without a provider's key.",
        (128_000, 16_384), 99, ("fast", "test answers", 0.50),
        ("First steps", "Automated tests"),
    ),
    # These make vectors of texts.
    _embedding(
        "text-embedding-3-small", "Text Embedding 3 Small", "Vectors for search and comparison, at very low cost.",
        100, ("fastest", "good", 0.02), ("Search", "High volume"),
    ),
    _embedding(
        "text-embedding-3-large", "Text Embedding 3 Large", "Finer vectors, also for texts in many languages.",
        101, ("fast", "excellent", 0.13), ("Search in many languages", "Clustering"),
    ),
)  # fmt: skip


def _usd(amount: str) -> int:
    """ "0.15" -> 150_000_000 nano-dollars, exactly."""
    return int(Decimal(amount) * NANOS_PER_USD)


def _price(
    model_id: str,
    input_usd: str,
    cached_usd: str,
    output_usd: str,
    written_usd: str | None = None,
    note: str = "List price",
) -> PriceRow:
    written = None if written_usd is None else _usd(written_usd)
    return PriceRow(model_id, 1, SINCE, _usd(input_usd), _usd(cached_usd), _usd(output_usd), written, note)


# What Anthropic's models write to the cache is kept for five minutes; the gateway refuses to ask for an hour.
PRICES = (
    # dollars per million tokens      input   cached    output  written to the cache
    _price("gpt-4o-mini",              "0.15", "0.075",  "0.60"),
    _price("gpt-4o",                   "2.50", "1.25",   "10"),
    _price("claude-3-5-haiku",         "0.80", "0.08",   "4",    "1"),
    _price("claude-3-5-haiku-latest",  "0.80", "0.08",   "4",    "1"),
    _price("claude-3-5-sonnet",        "3",    "0.30",   "15",   "3.75"),
    _price("claude-3-opus",            "15",   "1.50",   "75",   "18.75"),
    _price("claude-sonnet-4-20250514", "3",    "0.30",   "15",   "3.75"),
    _price("gemini-pro-1.5",           "1.25", "0.3125", "5"),
    _price("gemini-2.0-flash",         "0.10", "0.025",  "0.40"),
    _price("gemini-2.5-flash",         "0.30", "0.075",  "2.50"),
    _price("gemini-2.5-pro",           "1.25", "0.3125", "10"),
    _price("llama-3.1-8b",             "0.18", "0.18",   "0.18"),
    _price("sandbox",                  "0.50", "0.25",   "1.50", note="Invented, so that test calls cost something"),
    _price("text-embedding-3-small",   "0.02", "0.02",   "0"),
    _price("text-embedding-3-large",   "0.13", "0.13",   "0"),
)  # fmt: skip

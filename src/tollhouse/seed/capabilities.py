"""Capabilities, quality levels, and which plan may use which of them with which models."""

from dataclasses import dataclass
from typing import Any

from tollhouse.core.money import MICROS_PER_CREDIT
from tollhouse.seed import prompts


@dataclass(frozen=True, slots=True)
class QualityLevelRow:
    id: str
    name: str
    description: str
    display_order: int
    multiplier_permille: int


@dataclass(frozen=True, slots=True)
class CapabilityRow:
    """`estimated_micros` is what one use takes at a multiplier of 1. The schemas are JSON schemas."""

    id: str
    name: str
    description: str
    category: str
    icon: str
    estimated_micros: int
    instructions: str
    input_schema: dict[str, Any]
    answer_schema: dict[str, Any]
    max_output_tokens: int


@dataclass(frozen=True, slots=True)
class PlanCapabilityRow:
    """Requests None: unlimited."""

    plan_id: str
    capability_id: str
    requests_per_minute: int | None
    requests_per_day: int | None


@dataclass(frozen=True, slots=True)
class PlanQualityRow:
    plan_id: str
    capability_id: str
    quality_id: str


@dataclass(frozen=True, slots=True)
class PlanModelRow:
    """Priority 1 is asked first."""

    plan_id: str
    capability_id: str
    quality_id: str
    model_id: str
    is_default: bool
    priority: int


@dataclass(frozen=True, slots=True)
class _Offer:
    """What a plan offers: every one of these capabilities at every one of these levels."""

    plan_id: str
    capabilities: tuple[str, ...]
    levels: tuple[str, ...]
    requests_per_minute: int | None
    requests_per_day: int | None


QUALITY_LEVELS = (
    QualityLevelRow("fast", "Fast", "Quick answers from economical models.", 1, 1_000),
    QualityLevelRow("enhanced", "Enhanced", "Better wording and reasoning, at twice the credits.", 2, 2_000),
    QualityLevelRow("premium", "Premium", "The strongest models, at four times the credits.", 3, 4_000),
)

CAPABILITIES = (
    CapabilityRow(
        "question_generation", "Question generation", "Suggests questions that fit a product and its customers.",
        "questions", "message-circle-question", MICROS_PER_CREDIT,
        prompts.QUESTIONS, prompts.QUESTIONS_INPUT, prompts.QUESTIONS_ANSWER, 2_048,
    ),
    CapabilityRow(
        "testimonial_assembly", "Testimonial assembly", "Turns a customer's answers into one testimonial.",
        "testimonials", "quote", MICROS_PER_CREDIT * 3 // 2,
        prompts.ASSEMBLY, prompts.ASSEMBLY_INPUT, prompts.ASSEMBLY_ANSWER, 3_072,
    ),
    CapabilityRow(
        "testimonial_polish", "Testimonial polish", "Smooths the wording of a testimonial and keeps its meaning.",
        "testimonials", "sparkles", MICROS_PER_CREDIT // 2,
        prompts.POLISH, prompts.POLISH_INPUT, prompts.POLISH_ANSWER, 3_072,
    ),
)  # fmt: skip

# By priority; the first is the default.
LEVEL_MODELS = {
    "fast": ("gpt-4o-mini", "gemini-2.0-flash", "claude-3-5-haiku-latest"),
    "enhanced": ("gpt-4o", "gemini-2.5-flash", "claude-sonnet-4-20250514"),
    "premium": ("gpt-4o", "gemini-2.5-pro", "claude-sonnet-4-20250514"),
}

_ALL = tuple(capability.id for capability in CAPABILITIES)

# A plan that is not here offers what the next lower one offers that is.
_OFFERS = (
    #       plan    capabilities              levels                             a minute  a day
    _Offer("free", ("question_generation",), ("fast",),                                 5,    20),
    _Offer("pro",  _ALL,                     ("fast", "enhanced"),                     30,   500),
    _Offer("team", _ALL,                     ("fast", "enhanced", "premium"),        None,  None),
)  # fmt: skip

PLAN_CAPABILITIES = tuple(
    PlanCapabilityRow(offer.plan_id, capability, offer.requests_per_minute, offer.requests_per_day)
    for offer in _OFFERS
    for capability in offer.capabilities
)

PLAN_QUALITIES = tuple(
    PlanQualityRow(offer.plan_id, capability, level)
    for offer in _OFFERS
    for capability in offer.capabilities
    for level in offer.levels
)

PLAN_MODELS = tuple(
    PlanModelRow(row.plan_id, row.capability_id, row.quality_id, model, priority == 1, priority)
    for row in PLAN_QUALITIES
    for priority, model in enumerate(LEVEL_MODELS[row.quality_id], start=1)
)

"""How hard a question is, judged by its shape alone: what decides which quality of model `auto` chooses.

Each feature gives points, the points add up, and their sum is the level. Nothing here understands the question; it is
cheap, always the same for the same question, and says why.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tollhouse.core.routing import QualityTier

Level = Literal["simple", "moderate", "complex"]
MODERATE, COMPLEX = 2, 5  # from so many points on
TIERS: dict[Level, QualityTier] = {"simple": "fast", "moderate": "balanced", "complex": "powerful"}

# Of a longer text only its end is looked at, which is where the question stands.
_LOOKED_AT = 20_000
_WORDS_COUNTED = 3
_CODE = re.compile(
    r"```|^\s*(?:def |class |import |from \S+ import|function |const |let |var |#include|SELECT |public |fn )", re.M
)
_REASONING = re.compile(
    r"\b(?:why|prove|proof|derive|analy[sz]e|compare|evaluate|explain|reason|step by step|trade-?offs?|optimi[sz]e|"
    r"design|refactor|debug|calculate|solve|plan|critique|summari[sz]e|implement|algorithm|hypothes[ie]s|strategy)\b",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """The features of a question. `characters` of all text, `turns` the messages of people and models,
    `reasoning_words` how many different words ask for thought."""

    characters: int
    turns: int = 1
    tools: int = 0
    images: int = 0
    has_code: bool = False
    has_schema: bool = False
    reasoning_words: int = 0

    @classmethod
    def of(
        cls, texts: Iterable[str], *, turns: int = 1, tools: int = 0, images: int = 0, has_schema: bool = False
    ) -> "Shape":
        """The shape of a conversation, from its texts in their order, the newest last."""
        kept = list(texts)
        looked_at = "\n".join(kept)[-_LOOKED_AT:]
        words = {found.lower() for found in _REASONING.findall(looked_at)}
        has_code = _CODE.search(looked_at) is not None
        return cls(sum(map(len, kept)), turns, tools, images, has_code, has_schema, len(words))


@dataclass(frozen=True, slots=True)
class Judgement:
    """`reason` names what gave points, most first."""

    level: Level
    points: int
    reason: str


def judge(shape: Shape) -> Judgement:
    """The level of a question of this shape."""
    found = sorted(((points, said) for points, said in _features(shape) if points), key=lambda one: -one[0])
    points = sum(one for one, _ in found)
    level: Level = "complex" if points >= COMPLEX else "moderate" if points >= MODERATE else "simple"
    return Judgement(level, points, ", ".join(said for _, said in found) or "short question")


def _features(shape: Shape) -> Iterable[tuple[int, str]]:
    """Points of each feature, and how it is called."""
    yield _steps(shape.characters, 500, 2_000, 8_000), "long text"
    yield _steps(shape.turns, 6, 16), "long conversation"
    yield _steps(shape.tools, 1, 5), "tools"
    yield _steps(shape.images, 1), "images"
    yield 2 * shape.has_code, "code"
    yield 1 * shape.has_schema, "answer in a given form"
    yield min(shape.reasoning_words, _WORDS_COUNTED), "asks for reasoning"


def _steps(value: int, *thresholds: int) -> int:
    return sum(value >= one for one in thresholds)

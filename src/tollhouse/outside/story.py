"""What the sandbox says: readable English that depends on nothing but its arguments."""

from typing import Final

from tollhouse.core.token import pieces
from tollhouse.outside.script import without_directives

LABEL: Final = "[sandbox]"
"""What every text of the sandbox begins with."""

_QUOTE_CHARACTERS: Final = 60

_OPENINGS: Final = (
    'You wrote "{quote}", and here is what a model might say to that.',
    'Your message was "{quote}"; this answer only shows its shape.',
    'I read "{quote}" and will gladly pretend to know more.',
    'On "{quote}" there is a short answer and a long one; this is the short one.',
    '"{quote}" is a fine place to start.',
)
_NOTHING_TO_QUOTE: Final = "You wrote nothing that could be quoted."
_SENTENCES: Final = (
    "No provider was called, so nothing left this machine and nobody sends a bill.",
    "The words are chosen from a small list, and the same question always gets the same ones.",
    "Every token is counted by a published rule, so you can check the charge by hand.",
    "Three things usually matter: what is asked, what is known already, and how long the answer may be.",
    "A real model would weigh the details here; the sandbox only keeps the rhythm.",
    "If your application shows this sentence while it grows, its streaming works.",
    "Try a smaller maximum and watch the answer stop in the middle of a thought.",
    "A second call with these messages costs exactly what this one did.",
    "Compare the usage at the end with your balance before and after; the two agree.",
    "Long answers are made of short sentences, one after the other, much like this.",
    "Some readers skim, some count, and both deserve plain words.",
    "Between the first word and the last, a limit may change, but not for this call.",
)
_CLOSINGS: Final = (
    "Connect a provider to hear from a real model.",
    "That is all the sandbox has to say.",
    "Ask again in other words and the answer changes with them.",
    "With a provider's key in place, this text is replaced by a true answer.",
)


def tell(seed: bytes, message: str, length: int | None) -> list[str]:
    """The answer to `message` as tokens: of its natural length, or exactly `length` tokens when that is given.

    `seed` (at least 5 bytes) picks among the sentences.
    """
    quote = " ".join(without_directives(message).split())[:_QUOTE_CHARACTERS].rstrip()
    opening = _OPENINGS[seed[0] % len(_OPENINGS)].format(quote=quote) if quote else _NOTHING_TO_QUOTE
    tokens = pieces(f"{LABEL} {opening}")
    step = (1, 5, 7, 11)[seed[1] % 4]  # prime to the number of sentences: all of them come before one comes again
    number = seed[2]
    natural_end = number + step * (2 + seed[3] % 3)
    while number != natural_end if length is None else len(tokens) < length:
        tokens += pieces(" " + sentence(number))
        number += step
    if length is None:
        return tokens + pieces(" " + _CLOSINGS[seed[4] % len(_CLOSINGS)])
    return tokens[:length]


def sentence(number: int) -> str:
    """One of the sentences; those of numbers that follow one another differ."""
    return _SENTENCES[number % len(_SENTENCES)]

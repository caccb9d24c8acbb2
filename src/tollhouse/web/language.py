"""The language of pages: which one a request is answered in, and every text of ours in it.

Texts stand in English where they are shown, in `_("Text")`. What they are in another language stands in
`locale/<code>/messages.po`; what is missing there is shown in English."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from gettext import c2py
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

ENGLISH = "en"
# Code and own name of each language that pages are shown in.
LANGUAGES: Mapping[str, str] = {ENGLISH: "English", "de": "Deutsch"}
LOCALES = Path(__file__).parent / "locale"
REFUSAL = "refusal"
_PLACE = re.compile(r"%\((\w+)\)s")
_current: ContextVar[str] = ContextVar("language", default=ENGLISH)


@dataclass(frozen=True, slots=True)
class Translation:
    """The texts of one language by the English ones, those with a context by context and text; `form` gives which of
    the plural forms a number takes. `refusals`: by what one with values in it looks like in English."""

    texts: Mapping[str | tuple[str, str], tuple[str, ...]]
    form: Callable[[int], int]
    refusals: tuple[tuple[re.Pattern[str], str], ...] = ()


@cache
def translation(code: str) -> Translation:
    """What stands in the catalogue of a language; nothing for English."""
    if code == ENGLISH:
        return Translation({}, lambda n: int(n != 1))
    with (LOCALES / code / "messages.po").open("rb") as file:
        catalog = read_po(file, locale=code)
    texts = dict(_texts(catalog))
    return Translation(texts, c2py(catalog.plural_expr), tuple(_refusals(texts)))


def _texts(catalog: Catalog) -> Iterator[tuple[str | tuple[str, str], tuple[str, ...]]]:
    for message in catalog:
        english = message.id if isinstance(message.id, str) else message.id[0]
        given = (message.string,) if isinstance(message.string, str) else tuple(message.string or ())
        if english and given and all(given) and not message.fuzzy:
            yield (english if message.context is None else (message.context, english)), given


def _refusals(
    texts: Mapping[str | tuple[str, str], tuple[str, ...]],
) -> Iterator[tuple[re.Pattern[str], str]]:
    for english, given in texts.items():
        if isinstance(english, tuple) and english[0] == REFUSAL and "%(" in english[1]:
            parts = _PLACE.split(english[1])
            pattern = "".join(f"(?P<{one}>.+?)" if at % 2 else re.escape(one) for at, one in enumerate(parts))
            yield re.compile(pattern, re.DOTALL), given[0]


def load() -> None:
    """Reads all catalogues, so that no request waits for it."""
    for code in LANGUAGES:
        translation(code)


# ------------------------------------------------------------------------------------------------------------ which one


def current() -> str:
    """The code of the language in which this request is answered."""
    return _current.get()


@contextmanager
def speaking(code: str) -> Iterator[None]:
    """Within, texts are in this language, or in the one that `speak` says later."""
    before = _current.set(code)
    try:
        yield
    finally:
        _current.reset(before)


def speak(code: str | None) -> None:
    """From here on texts are in this language; None, or one that there is not: no change."""
    if code is not None and code in LANGUAGES:
        _current.set(code)


def wanted(chosen: str | None, accepted: str) -> str:
    """What a visitor chose here before, else the first of the header Accept-Language that there is, else English."""
    if chosen is not None and chosen in LANGUAGES:
        return chosen
    return next((code for code in _by_weight(accepted) if code in LANGUAGES), ENGLISH)


def _by_weight(accepted: str) -> list[str]:
    """ "en;q=0.5, de-CH" -> ["de", "en"]: what weighs nothing is left out."""
    found = []
    for one in accepted.split(","):
        tag, _, rest = one.partition(";")
        weight = _weight(rest)
        if weight > 0:
            found.append((weight, tag.strip().partition("-")[0].lower()))
    return [code for _, code in sorted(found, key=lambda pair: -pair[0])]


def _weight(said: str) -> float:
    """The weight after the semicolon; 1 where there is none, 0 for what is no number."""
    text = said.strip().removeprefix("q=")
    try:
        return float(text) if text else 1.0
    except ValueError:
        return 0.0


# ------------------------------------------------------------------------------------------------------------ the texts


def gettext(text: str) -> str:
    """A text in the language of the request, its placeholders as they are. Templates write `_("Text", name=value)`."""
    return translation(current()).texts.get(text, (text,))[0]


def pgettext(context: str, text: str) -> str:
    """The same for a text that means several things in English: the context tells which."""
    return translation(current()).texts.get((context, text), (text,))[0]


def plural(one: str, many: str, number: int) -> str:
    """The text for a number of things, its placeholders as they are."""
    spoken = translation(current())
    forms = spoken.texts.get(one)
    if forms is None or spoken.form(number) >= len(forms):
        return one if number == 1 else many
    return forms[spoken.form(number)]


def _(text: str, **values: object) -> str:
    """A text of a handler in the language of the request, with values put in: `_("Hello, %(name)s.", name=name)`.
    Without values it is taken as it is, with values a percent sign is written twice."""
    return gettext(text) % values if values else gettext(text)


def ngettext(one: str, many: str, number: int, **values: object) -> str:
    """The same for a number of things: `ngettext("%(num)s key", "%(num)s keys", count)`."""
    return plural(one, many, number) % {"num": number, **values}


def refusal(error: Exception | str) -> str:
    """What a rule or a flow refused with, in the language of the request. Their sentences are English, with values put
    in already, for the API promises them to programs: one that is not known is shown as it is."""
    said, spoken = str(error), translation(current())
    known = spoken.texts.get((REFUSAL, said))
    if known is not None:
        return known[0]
    found = ((text, pattern.fullmatch(said)) for pattern, text in spoken.refusals)
    return next((text % match.groupdict() for text, match in found if match is not None), said)


def N_(text: str) -> str:
    """Marks a text of a table that is translated by `_` when it is shown."""
    return text

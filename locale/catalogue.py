"""The texts of the pages and their translations: what is extracted from src/tollhouse/web, and the catalogue of each
language."""

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po

WEB = Path(__file__).parent.parent / "src" / "tollhouse" / "web"
LOCALES = WEB / "locale"
# The context of what the rules and flows refuse with.
REFUSAL = "refusal"
# Those of their modules that no page asks.
UNASKED = (
    "core/access.py", "core/admission.py", "core/choice.py", "flows/answer.py", "flows/attempt.py", "flows/auth.py",
    "flows/capability.py", "flows/experiment.py", "flows/jwt.py", "flows/limit.py", "flows/offer.py", "flows/price.py",
    "flows/schema.py", "flows/seed.py", "flows/once.py",
)  # fmt: skip
# Functions whose arguments are texts, besides `_` and `ngettext`: what the menus are made of is translated when shown.
KEYWORDS = {
    "_": None,
    "gettext": None,
    "ngettext": (1, 2),
    "pgettext": ((1, "c"), 2),
    "N_": None,
    "Entry": (2,),
}
# The page that shows all parts of the design: for who builds pages, in test mode only, in English.
UNTRANSLATED = ("templates/design/", "design.py")
_JINJA = {"newstyle_gettext": "true", "silent": "false", "trimmed": "false"}


def texts() -> Catalog:
    """Every text of ours in English, with where it stands."""
    catalog = Catalog(charset="utf-8")
    for path in sorted(WEB.rglob("*")):
        name = str(path.relative_to(WEB))
        if path.suffix not in (".py", ".html") or name.startswith(UNTRANSLATED):
            continue
        for _line, message, _comments, context in _found(path):
            if message and message != ("", ""):
                catalog.add(message, locations=[(name, 0)], context=context)
    for name, sentence in refusals():
        catalog.add(sentence, locations=[(name, 0)], context=REFUSAL)
    return catalog


def refusals() -> Iterator[tuple[str, str]]:
    """The sentences that rules and flows raise, with where they stand; what is put in stands as `%(name)s`."""
    for folder in ("core", "flows"):
        for path in sorted((WEB.parent / folder).rglob("*.py")):
            name = str(path.relative_to(WEB.parent))
            if name in UNASKED:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                    sentence = _sentence(node.exc.args[0])
                    if sentence.endswith(".") and "%%" not in sentence and " " in sentence:
                        yield name, sentence


def _sentence(node: ast.expr) -> str:
    """A literal with or without values in it; "" for what is made otherwise."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.JoinedStr):
        return ""
    said = ""
    for at, part in enumerate(node.values):
        if isinstance(part, ast.Constant):
            said += str(part.value)
        else:
            words = re.findall(r"[a-z_]+", ast.unparse(part).lower())
            said += f"%({(words[-1] if words else 'value').strip('_') or 'value'}_{at})s"
    return said


def _found(path: Path) -> Iterator[tuple[int, str | tuple[str, ...], list[str], str | None]]:
    method = "python" if path.suffix == ".py" else "jinja2.ext:babel_extract"
    options = {"encoding": "utf-8"} if path.suffix == ".py" else _JINJA
    try:
        yield from extract_from_file(method, path, keywords=KEYWORDS, options=options)
    except (SyntaxError, tokenize.TokenError) as error:
        raise SystemExit(f"{path} cannot be read: {error}") from error


def languages() -> list[str]:
    """The codes of the languages that there are besides English."""
    return sorted(path.parent.name for path in LOCALES.glob("*/messages.po"))


def catalogue(code: str) -> Catalog:
    """What stands in the catalogue of a language."""
    with (LOCALES / code / "messages.po").open("rb") as file:
        return read_po(file, locale=code)

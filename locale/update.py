"""Brings the catalogue of each language up to the texts of the pages: new ones come empty, those that are gone go."""

import io
import sys

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import write_po
from catalogue import LOCALES, catalogue, languages, texts

_HEADER = """# The texts of the pages in another language: see CONTRIBUTING.md.
msgid ""
msgstr ""
"Language: {code}\\n"
"Plural-Forms: {plurals}\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""


def main() -> int:
    found = texts()
    for code in languages():
        made = merged(found, catalogue(code), code)
        text = io.BytesIO()
        write_po(text, made, width=120, sort_output=True, include_lineno=False, omit_header=True)
        header = _HEADER.format(code=code, plurals=made.plural_forms)
        (LOCALES / code / "messages.po").write_bytes(header.encode() + text.getvalue().lstrip())
        empty = sum(1 for message in made if message.id and not is_complete(message))
        print(f"{code}: {len(made)} texts, {empty} without a translation")
    return 0


def merged(found: Catalog, there: Catalog, code: str) -> Catalog:
    """The texts that there are, with the translations that are there."""
    made = Catalog(locale=code, charset="utf-8", fuzzy=False)
    for message in found:
        if message.id:
            known = there.get(message.id, message.context)
            string = known.string if known is not None else ""
            made.add(message.id, string, sorted(set(message.locations)), context=message.context)
    return made


def is_complete(message: Message) -> bool:
    given = (message.string,) if isinstance(message.string, str) else tuple(message.string or ())
    return bool(given) and all(given)


if __name__ == "__main__":
    sys.exit(main())

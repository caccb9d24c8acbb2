"""Is every text of the pages translated, and is nothing translated that is no more? Exit status 1 when not."""

import re
import sys

from babel.messages.catalog import Catalog, Message
from catalogue import catalogue, languages, texts

_PLACE = re.compile(r"%(?:\(\w+\)s|%)")
_TAG = re.compile(r"<[^>]*>")


def main() -> int:
    found = texts()
    faults = [f"{message.id!r}: {fault}" for message in found if message.id for fault in unfit(message)]
    for code in languages():
        faults += [f"{code}: {fault}" for fault in faults_of(catalogue(code), found)]
    for fault in faults:
        print(f"locale: {fault}")
    if faults:
        print("locale: run make messages, and fill in what it leaves empty.")
    return 1 if faults else 0


def faults_of(there: Catalog, found: Catalog) -> list[str]:
    """What is wrong with the catalogue of a language."""
    faults = [f"{one.id!r} is not translated" for one in found if one.id and key(one) not in keys(there)]
    for message in there:
        if not message.id:
            continue
        given = message.string if isinstance(message.string, tuple | list) else (message.string,)
        if key(message) not in keys(found):
            faults.append(f"{message.id!r} is nowhere any more")
        elif message.fuzzy or not all(given):
            faults.append(f"{message.id!r} is not translated")
        else:
            english = message.id if isinstance(message.id, tuple | list) else (message.id,)
            for at, text in enumerate(given):
                faults += [
                    f"{message.id!r}: {fault}" for fault in differences(english[min(at, 1, len(english) - 1)], text)
                ]
    return faults


def key(message: Message) -> tuple[object, str | None]:
    return message.id, message.context


def keys(catalog: Catalog) -> set[tuple[object, str | None]]:
    return {key(message) for message in catalog}


def unfit(message: Message) -> list[str]:
    """What a text may not have: it goes into pages, and into attributes, as it is."""
    one = message.id if isinstance(message.id, str) else message.id[-1]
    return ["write “ and ” for quotation marks"] if '"' in _TAG.sub("", one) else []


def differences(one: str, text: str) -> list[str]:
    """What a translation has that its text has not, or has not that its text has."""
    faults = []
    if set(_PLACE.findall(one)) != set(_PLACE.findall(text)):
        faults.append("its placeholders differ")
    if sorted(_TAG.findall(one)) != sorted(_TAG.findall(text)):
        faults.append("its tags differ")
    if '"' in _TAG.sub("", text):
        faults.append("write „ and “ for quotation marks")
    return faults


if __name__ == "__main__":
    sys.exit(main())

"""Lines of CSV that open in a spreadsheet as they are meant."""

from collections.abc import Iterable

# With what a spreadsheet begins to reckon.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def line(cells: Iterable[object]) -> str:
    """Every cell is quoted, None is empty; a text that a spreadsheet would take for a formula begins with an
    apostrophe. Numbers stay numbers."""
    return ",".join(map(_cell, cells)) + "\r\n"


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    if isinstance(value, str) and text.startswith(_FORMULA):
        text = "'" + text
    return '"' + text.replace('"', '""') + '"'

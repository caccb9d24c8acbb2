"""What an installation may look like in place of ours: a name, a hue, a mark."""

import re
from xml.etree import ElementTree

MARK_MAX = 32 * 1024
NAME_MAX = 40
_SVG = "{http://www.w3.org/2000/svg}"
# What draws nothing but runs, loads or embeds something.
_REFUSED = frozenset({"script", "foreignobject", "iframe", "embed", "object", "audio", "video", "handler", "listener"})
_ELSEWHERE = re.compile(r"(?:url\(\s*['\"]?(?!['\"]?#)|@import)", re.IGNORECASE)


def check_mark(data: bytes) -> None:
    """ValueError, with what is wrong, unless it is an SVG image that is all there is of it: it runs no script and loads
    nothing."""
    if len(data) > MARK_MAX:
        raise ValueError(f"has {len(data):,} bytes, and may have {MARK_MAX:,}: simplify the drawing")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8: save it as a plain SVG file") from None
    if "<!DOCTYPE" in text.upper() or "<!ENTITY" in text.upper():
        raise ValueError("has a document type, which a mark needs not: save it as a plain SVG file")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 (without a document type there are no entities to expand)
    except ElementTree.ParseError as error:
        raise ValueError(f"is not an SVG file ({error}): save the drawing as plain SVG") from None
    if root.tag != f"{_SVG}svg":
        raise ValueError('is not an SVG file: it has to begin with <svg xmlns="http://www.w3.org/2000/svg">')
    for element in root.iter():
        _check_element(element)


def _check_element(element: ElementTree.Element) -> None:
    name = element.tag.rpartition("}")[2]
    if name.lower() in _REFUSED:
        raise ValueError(f"has an element <{name}>: a mark is drawn, and does nothing. Take it out")
    for key, value in element.attrib.items():
        short = key.rpartition("}")[2].lower()
        if short.startswith("on"):
            raise ValueError(f"has a script in the attribute {short}. Take it out")
        if (short in ("href", "src") and not value.strip().startswith("#")) or _ELSEWHERE.search(value):
            raise ValueError(f"loads something from elsewhere in the attribute {short}: draw it instead")
    if _ELSEWHERE.search(element.text or ""):
        raise ValueError(f"loads something from elsewhere in <{name}>: draw it instead")

"""A mark of an operator's own is a drawing, and nothing but."""

from __future__ import annotations

import pytest

from tollhouse.core.brand import MARK_MAX, check_mark

_GOOD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{}</svg>'


@pytest.mark.parametrize(
    "inside",
    [
        '<circle cx="16" cy="16" r="9" fill="#a33"/>',
        '<defs><linearGradient id="g"/></defs><rect width="9" height="9" fill="url(#g)"/><use href="#g"/>',
        "<title>Mill</title><style>.a{fill:url(#g)}</style>",
    ],
)
def test_a_drawing_is_taken(inside: str) -> None:
    check_mark(_GOOD.format(inside).encode())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\xff", "not UTF-8"),
        (b"<html></html>", "not an SVG file"),
        (b"<svg", "not an SVG file"),
        (b"<svg/>", "not an SVG file"),
        (b'<!DOCTYPE svg [<!ENTITY a "b">]><svg xmlns="http://www.w3.org/2000/svg">&a;</svg>', "document type"),
        (_GOOD.format("<script>alert(1)</script>").encode(), "<script>"),
        (_GOOD.format('<a xmlns:x="http://www.w3.org/1999/xhtml"><x:script/></a>').encode(), "<script>"),
        (_GOOD.format("<foreignObject/>").encode(), "<foreignObject>"),
        (_GOOD.format('<rect onload="alert(1)"/>').encode(), "attribute onload"),
        (_GOOD.format('<rect ONCLICK="alert(1)"/>').encode(), "attribute onclick"),
        (_GOOD.format('<a href="javascript:alert(1)"/>').encode(), "attribute href"),
        (_GOOD.format('<image href="https://example.com/a.png"/>').encode(), "attribute href"),
        (
            _GOOD.format('<use xmlns:x="http://www.w3.org/1999/xlink" x:href="https://example.com/#a"/>').encode(),
            "attribute href",
        ),
        (_GOOD.format('<rect style="fill: URL( https://example.com/a )"/>').encode(), "attribute style"),
        (_GOOD.format("<style>@import 'https://example.com/a.css';</style>").encode(), "<style>"),
        (_GOOD.format("<!--" + "x" * MARK_MAX + "-->").encode(), "simplify"),
    ],
)
def test_what_runs_loads_or_is_no_drawing_is_refused_with_the_reason(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_mark(data)

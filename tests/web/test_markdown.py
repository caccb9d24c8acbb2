"""What models write is hostile: as HTML it runs nothing, loads nothing and costs no more than its length."""

from __future__ import annotations

import re
from time import process_time

import pytest
from bs4 import BeautifulSoup, Tag

from tollhouse.web.markdown import COLUMNS_MAX, FORMATTED_MAX, PARAGRAPH_MAX, render

TAGS = (
    "a blockquote br button code del div em h3 h4 h5 h6 hr li ol p pre s span strong sup table tbody td th thead tr ul"
)
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<style>body{display:none}</style>",
    "<iframe src=//evil.example></iframe>",
    "<form action=//evil.example><input name=password></form>",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](&#106;avascript:alert(1))",
    "[click](\tjavascript:alert(1))",
    "[click](vbscript:x)",
    "[click](data:text/html;base64,PHNjcmlwdD4=)",
    "<javascript:alert(1)>",
    "![x](javascript:alert(1))",
    "![x](data:image/svg+xml;base64,PHN2Zz4=)",
    "![x](https://evil.example/pixel.png)",
    "[![x](https://evil.example/pixel.png)](https://evil.example)",
    '[x](https://evil.example "\\" onmouseover=alert(1)")',
    "[1]: javascript:alert(1)\n\n[1]",
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "```js\" onmouseover=\"alert(1)\nx\n```",
    "`<script>alert(1)</script>`",
    "| <script>alert(1)</script> |\n|-|\n| <img src=x onerror=alert(1)> |",
    "</div></article><script>alert(1)</script>",
    "\0<script>\0alert(1)</script>",
    "[a](//evil.example)",
    "[a](/sign-out)",
    "<pre><code>x",
]  # fmt: skip


def soup(text: str, cited: tuple[int, ...] = ()) -> BeautifulSoup:
    return BeautifulSoup(render(text, cited, "c"), "html.parser")


def one(text: str, selector: str, cited: tuple[int, ...] = ()) -> Tag:
    found = soup(text, cited).select_one(selector)
    assert found is not None
    return found


@pytest.mark.parametrize("text", [*HOSTILE, *(f"> - {text}" for text in HOSTILE), "\n\n".join(HOSTILE)])
def test_nothing_of_it_runs_or_loads(text: str) -> None:
    for tag in soup(text).find_all(True):
        assert tag.name in TAGS.split()
        assert not [name for name in tag.attrs if name.startswith("on") or name in ("style", "src", "id", "action")]
        if tag.name == "a":
            assert re.match(r"(https?://|mailto:)", str(tag["href"]))
            assert tag["rel"] == ["noopener", "noreferrer"] and tag["target"] == "_blank"


def test_what_is_hostile_is_shown_as_it_was_written() -> None:
    assert "<script>alert(1)</script>" in soup(HOSTILE[0]).text
    assert "<script>alert(1)</script>" in one("```html\n<script>alert(1)</script>\n```", "pre code").text
    assert one("![a cat](https://example.com/cat.png)", "a").text == "a cat"


def test_markdown_becomes_what_it_means() -> None:
    found = soup(
        "# One\n\n### Two\n\n~~no~~ **yes** `x`\n\n3. a\n4. b\n\n| a | b |\n|:-|-:|\n| 1 | 2 |\n\n> q\n\n---\n"
    )
    assert [tag.name for tag in found.find_all(re.compile("h[1-6]"))] == ["h3", "h4"]
    assert found.s is not None and found.strong is not None and found.blockquote is not None and found.hr is not None
    assert found.ol is not None and found.ol["start"] == "3"
    assert [cell.text for cell in found.select("td")] == ["1", "2"]
    assert found.select("td")[1]["class"] == ["text-right"]


def test_headings_leave_none_out_and_end_at_the_sixth() -> None:
    found = soup("## a\n\n#### b\n\n###### c\n\n## d\n\n# e\n\n## f\n\n### g\n\n#### h\n\n##### i\n\n###### j")
    assert [tag.name for tag in found.find_all(re.compile("h[1-6]"))] == [
        "h3", "h4", "h5", "h3", "h3", "h4", "h5", "h6", "h6", "h6",
    ]  # fmt: skip


def test_code_has_colours_by_class_its_language_and_a_button() -> None:
    found = soup("```python\ndef f():\n    return 1\n```\n\n    plain\n\n```nothing-known\n<b>\n```")
    blocks = found.select(".code")
    assert len(blocks) == 3 and all(block.select_one("button[data-action=copy]") for block in blocks)
    assert blocks[0].select_one("pre")["data-language"] == "python"  # type: ignore[index]
    assert [tag.text for tag in blocks[0].select(".hl-k")] == ["def", "return"]
    assert blocks[0].select_one("code").text == "def f():\n    return 1\n"  # type: ignore[union-attr]
    assert blocks[2].select_one("code").text == "<b>\n"  # type: ignore[union-attr]


def test_numbers_of_sources_lead_to_them_and_other_numbers_do_not() -> None:
    text = (
        "So [1] and [2], `[1]`, [7], [see [1]](https://example.com) and [1](https://example.com/1).\n\n[2]: elsewhere"
    )
    links = soup(text, (1, 2)).select("a.cited")
    assert [(link["href"], link.text) for link in links] == [("#c-1", "1"), ("#c-2", "2"), ("#c-2", "2")]
    assert "[7]" in soup(text, (1, 2)).text and "[1]" in one(text, "code", (1, 2)).text
    assert not soup(text).select("a.cited")
    assert "So1 and" in soup("So [1] and", (1,)).text


@pytest.mark.parametrize("end", range(0, 90, 3))
def test_what_is_cut_anywhere_is_still_whole(end: int) -> None:
    text = "Text **bold [link](https://example.com) `code`\n\n```python\nx = '<b>'\n```\n\n| a |\n|-|\n| 1 |\n"[:end]
    html = render(text)
    assert str(BeautifulSoup(html, "html.parser")).count("</div>") == html.count("<div")
    assert not re.search(r"<(b|script)>", html)


@pytest.mark.parametrize(
    "text",
    ["[" * 55_000, "*a **a " * 8000, "![[]()" * 9000, ">" * 50_000, "_a __a " * 8000, "<" * 55_000, "[a](<b" * 9000,
     "|a" * 200 + "|\n" + "|-" * 200 + "|\n" + "|x|\n" * 9000, "|a" * 30 + "|\n" + "|-" * 30 + "|\n" + "|x|\n" * 9000,
     "|a\n|-\n" * 9000, ("[" * 5900 + "\n\n") * 9, "> a\n\n" * 9000, "```python\n" + "'" * 19_000 + "\n```",
     "```js\n" + "/" * 19_000 + "\n```", "- " * 20_000, "&" * 55_000, "\\" * 55_000, "`" * 30_000 + "a" + "`" * 29_000],
    ids=range(18),
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    """Quadratic work took minutes for some of these; the bound is far above what they take."""
    assert len(text) <= FORMATTED_MAX
    begun = process_time()
    render(text)
    assert process_time() - begun < 10


def test_what_is_too_long_to_be_formatted_is_still_read() -> None:
    assert "**" in soup("**a** " + "x" * FORMATTED_MAX).text
    assert soup("*a* " * PARAGRAPH_MAX).text.count("*a*") > 100
    wide = "|" + "a|" * (COLUMNS_MAX + 1) + "\n|" + "-|" * (COLUMNS_MAX + 1) + "\n"
    assert soup(wide).table is None and "|a|a|" in soup(wide).text

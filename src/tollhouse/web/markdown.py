"""What models write, as HTML. It is hostile: no raw HTML, no images, links to the web and to mail alone, and work that
grows with the length of the text and with nothing else."""

import re
from collections.abc import Collection, MutableMapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any, TypeAlias

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.table import table as table_rule
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from tollhouse.web.language import _

FORMATTED_MAX = 60_000
PARAGRAPH_MAX = 6_000
BRACKETS_MAX = 50
CODE_MAX = 20_000
COLUMNS_MAX = 40
EMPTY_CELLS_MAX = 400
KEPT_MAX = 20_000
TOP_HEADING, LOWEST_HEADING = 3, 6
LINKS = ("http://", "https://", "mailto:")
# Those whose lexers are quick on any text; everything else is shown without colours.
LANGUAGES = frozenset(
    {"bash", "c", "c++", "cpp", "csharp", "css", "diff", "docker", "dockerfile", "go", "graphql", "html",
     "http", "ini", "java", "javascript", "js", "json", "jsx", "kotlin", "lua", "make", "makefile", "nginx",
     "php", "powershell", "py", "python", "r", "rb", "ruby", "rs", "rust", "scala", "sh", "shell", "sql",
     "swift", "toml", "ts", "tsx", "typescript", "xml", "yaml", "yml", "zsh"}
)  # fmt: skip
_CITED = re.compile(r"\[([1-9][0-9]?)\]")
_WORD = re.compile(r"[^0-9A-Za-z+#.-]")
_FORMAT: HtmlFormatter[str] = HtmlFormatter(nowrap=True, classprefix="hl-")
_TAGS = {"a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
         "s", "span", "strong", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul"}  # fmt: skip
_ATTRIBUTES = {"a": {"href", "title", "class"}, "pre": {"data-language"}, "span": {"class"}, "ol": {"start"},
               "th": {"class"}, "td": {"class"}}  # fmt: skip
_CLEANER = nh3.Cleaner(
    tags=_TAGS,
    attributes=_ATTRIBUTES,
    url_schemes={"http", "https", "mailto"},
    link_rel="noopener noreferrer",
    tag_attribute_values={"a": {"target": {"_blank"}}},
)


def render(text: str, cited: Collection[int] = (), anchor: str = "") -> Markup:
    """Markdown (CommonMark, with tables and strikethrough) as HTML that may stand on our pages. Each [n] of those
    `cited` leads to the element `{anchor}-{n}`. A text longer than FORMATTED_MAX characters is shown as it is."""
    if len(text) > FORMATTED_MAX:
        return Markup('<p class="whitespace-pre-wrap">{}</p>').format(text)
    made = _kept if len(text) <= KEPT_MAX else _made
    return _dressed(made(text, frozenset(cited), anchor))


def _made(text: str, cited: frozenset[int], anchor: str) -> str:
    return _CLEANER.clean(str(_MARKDOWN.render(text, {"cited": cited, "anchor": anchor})))


_kept = lru_cache(maxsize=256)(_made)  # a conversation is shown again with every message


def _dressed(clean: str) -> Markup:
    """With what only we say: a button to copy code, and boxes that scroll. In what was cleaned, a tag is a tag, and the
    text of one is escaped."""
    code = Markup(
        '<div class="code"><button type="button" class="btn" data-variant="ghost" data-size="xs" data-action="copy" '
        'data-copies="" aria-live="polite"><span class="todo">{}</span><span class="done">{}</span></button>'
    ).format(_("Copy"), _("Copied"))
    group = Markup(' tabindex="0" role="group" aria-label="{}"')
    dressed = clean.replace("<pre", f"{code}<pre{group.format(_('Code'))}").replace("</pre>", "</pre></div>")
    table = Markup('<div class="grid-table"{}><table>').format(group.format(_("Table")))
    return Markup(dressed.replace("<table>", table).replace("</table>", "</table></div>"))  # noqa: S704 (cleaned)


# --------------------------------------------------------------------------------------------------- rules of ours


def _is_ours(url: str) -> bool:
    return url.strip().lower().startswith(LINKS)


def _table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A table, unless most of it would be cells that nobody wrote. What was none once is looked through once."""
    if start < state.env.get("no_table_before", 0) or not table_rule(state, start, end, True):
        return False
    columns = _line(state, start).count("|") + 1
    empty = 0
    for at in range(start + 1, end):
        line = _line(state, at)
        if not line.strip():
            break
        empty += max(0, columns - line.count("|") - 1)
        if columns > COLUMNS_MAX or empty > EMPTY_CELLS_MAX:
            state.env["no_table_before"] = at
            return False
    return table_rule(state, start, end, silent)


def _line(state: StateBlock, at: int) -> str:
    return state.src[state.bMarks[at] : state.eMarks[at]]


def _bounded(state: StateCore) -> None:
    """A paragraph that no person would read has nothing to be formatted: what looks for pairs would look for long."""
    for token in state.tokens:
        if token.type == "inline" and len(token.content) > PARAGRAPH_MAX:
            plain = Token("text", "", 0)
            plain.content = token.content
            token.type, token.children = "plain", [plain]


def _headed(state: StateCore) -> None:
    """Headings go on below those of the page, and none is left out on the way down."""
    above: list[int] = []
    shown: list[str] = []
    for token in state.tokens:
        if token.type == "heading_open":
            level = int(token.tag[1])
            while above and above[-1] >= level:
                above.pop()
            above.append(level)
            shown.append(f"h{min(TOP_HEADING + len(above) - 1, LOWEST_HEADING)}")
            token.tag = shown[-1]
        elif token.type == "heading_close":
            token.tag = shown[-1]


def _linked(state: StateCore) -> None:
    """The numbers of citations become links, in text that is neither code nor a link already."""
    cited: Collection[int] = state.env["cited"]
    if not cited:
        return
    for block in state.tokens:
        inside, made = 0, list[Token]()
        for token in block.children or ():
            inside += {"link_open": 1, "link_close": -1}.get(token.type, 0)
            made += _split(token, cited, state.env["anchor"]) if token.type == "text" and not inside else [token]
        if block.children:
            block.children = made


def _split(token: Token, cited: Collection[int], anchor: str) -> list[Token]:
    """The text in pieces; a number stands close to the word before it."""
    parts = _CITED.split(token.content)
    found = []
    for at, part in enumerate(parts):
        one = Token("text", "", 0)
        one.content = part
        if at % 2 == 1 and int(part) in cited:
            one.type, one.meta = "citation", {"to": f"{anchor}-{part}"}
        elif at % 2 == 1:
            one.content = f"[{part}]"
        elif at + 1 < len(parts) and int(parts[at + 1]) in cited:
            one.content = part.rstrip(" ")
        found.append(one)
    return found


Tokens: TypeAlias = Sequence[Token]
Env: TypeAlias = MutableMapping[str, Any]


def _citation(_self: RendererHTML, tokens: Tokens, at: int, _options: OptionsDict, _env: Env) -> str:
    to, number = escape(tokens[at].meta["to"]), tokens[at].content
    return f'<sup><a class="cited" href="#{to}">{number}</a></sup>'


def _plain(_self: RendererHTML, tokens: Tokens, at: int, _options: OptionsDict, _env: Env) -> str:
    return escape(tokens[at].content)


def _link(self: RendererHTML, tokens: Tokens, at: int, options: OptionsDict, env: Env) -> str:
    tokens[at].attrSet("target", "_blank")
    return self.renderToken(tokens, at, options, env)


def _image(_self: RendererHTML, tokens: Tokens, at: int, _options: OptionsDict, _env: Env) -> str:
    """As a link: what loads an image tells a stranger's server who reads this."""
    source = str(tokens[at].attrGet("src") or "")
    return f'<a href="{escape(source)}" target="_blank">{escape(tokens[at].content or source)}</a>'


def _cell(self: RendererHTML, tokens: Tokens, at: int, options: OptionsDict, env: Env) -> str:
    """The alignment of a column as a class: a style in the page is forbidden."""
    style = str(tokens[at].attrs.pop("style", ""))
    if style:
        tokens[at].attrSet("class", {"right": "text-right", "center": "text-center"}.get(style.split(":")[-1], ""))
    return self.renderToken(tokens, at, options, env)


def _code(_self: RendererHTML, tokens: Tokens, at: int, _options: OptionsDict, _env: Env) -> str:
    content = tokens[at].content
    language = (tokens[at].info.split() or [""])[0].lower()[:20]
    said = f' data-language="{escape(_WORD.sub("", language))}"' if language else ""
    if language in LANGUAGES and len(content) <= CODE_MAX:
        return f"<pre{said}><code>{highlight(content, get_lexer_by_name(language), _FORMAT)}</code></pre>\n"
    return f"<pre{said}><code>{escape(content)}</code></pre>\n"


def _deep(state: StateInline, silent: bool) -> bool:
    """Brackets that are opened and never closed are looked through from each of them: past so many they are text."""
    if state.src[state.pos] != "[" or state.src.count("[", 0, state.pos) < BRACKETS_MAX:
        return False
    if not silent:
        state.pending += "["
    state.pos += 1
    return True


def _build() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    markdown.disable("reference")  # [1]: is how models list what they cite
    markdown.validateLink = _is_ours  # type: ignore[method-assign]  # how the library takes it
    markdown.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
    markdown.inline.ruler.before("link", "deep", _deep)
    markdown.core.ruler.before("inline", "bounded", _bounded)
    markdown.core.ruler.push("headed", _headed)
    markdown.core.ruler.push("linked", _linked)
    rules = {"citation": _citation, "plain": _plain, "link_open": _link, "image": _image, "fence": _code,
             "code_block": _code, "th_open": _cell, "td_open": _cell}  # fmt: skip
    for name, rule in rules.items():
        markdown.add_render_rule(name, rule)
    return markdown


_MARKDOWN = _build()

"""The rules of templates: nothing inline, nothing unescaped, nothing that would need eval, a token in every form."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from jinja2 import Environment, nodes

from tests.conftest import TEST_SECRET
from tollhouse.core.vault import Keyring
from tollhouse.flows.site import Site
from tollhouse.web.asset import Assets
from tollhouse.web.page import TEMPLATES, Pages

ALL = sorted(str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.html"))
SYNTAX = Environment(autoescape=True, extensions=["jinja2.ext.i18n"])
FORBIDDEN = {
    "an inline style": r"\bstyle\s*=",
    "an inline handler": r"\son[a-z]+\s*=",
    "a style element": r"<style\b",
    "an inline script": r"<script(?![^>]*\bsrc=)",
    "an address that runs script": r"javascript:",
    "a handler of htmx, which needs eval": r"hx-on\b|hx-live\b|hx-vals\s*=\s*[\"']js:|hx-confirm\s*=\s*[\"']js:",
    "a filter of hx-trigger, which needs eval": r"hx-trigger\s*=\s*\"[^\"]*\[",
    "an attribute of htmx 2": r"hx-(ext|vars|params|disabled-elt|sse|ws)\b|sse-(swap|connect)",
    "something from elsewhere": r"(?:src|href|action)\s*=\s*\"(?:https?:)?//",
    "the request's host": r"request\.(?:url|base_url|host)",
}


@pytest.fixture(scope="module")
def pages() -> Pages:
    return Pages(Site("http://127.0.0.1", "test", Keyring(TEST_SECRET)), Assets())


def text_of(name: str) -> str:
    """A template without its comments."""
    return re.sub(r"\{#.*?#\}", "", (TEMPLATES / name).read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("name", ALL)
def test_a_template_has_nothing_inline_and_nothing_from_elsewhere(name: str) -> None:
    for what, pattern in FORBIDDEN.items():
        found = re.search(pattern, text_of(name), re.IGNORECASE)
        assert found is None, f"{name} has {what}: {found.group()}"


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("an inline style", '<p style="color: red">'),
        ("an inline handler", '<a onclick="x()">'),
        ("an inline script", "<script>x()</script>"),
        ("a handler of htmx, which needs eval", '<p hx-on:click="x()">'),
        ("a filter of hx-trigger, which needs eval", '<p hx-trigger="click[ctrlKey]">'),
        ("something from elsewhere", '<script src="//cdn.example/x.js"></script>'),
    ],
)
def test_the_rules_find_what_they_are_for(what: str, text: str) -> None:
    assert re.search(FORBIDDEN[what], text)


@pytest.mark.parametrize("name", ALL)
def test_only_literals_go_unescaped(name: str) -> None:
    tree = SYNTAX.parse((TEMPLATES / name).read_text())
    for filtered in tree.find_all(nodes.Filter):
        if filtered.name == "safe":
            assert isinstance(filtered.node, nodes.Const | nodes.CondExpr), f"{name}:{filtered.lineno}"
            inner = [filtered.node] if isinstance(filtered.node, nodes.Const) else list(branches(filtered.node))
            assert all(isinstance(one, nodes.Const) for one in inner), f"{name}:{filtered.lineno}"
    assert not list(tree.find_all(nodes.ScopedEvalContextModifier)), "autoescape is not switched off"


def branches(node: nodes.Node) -> Iterator[nodes.Node]:
    assert isinstance(node, nodes.CondExpr)
    yield node.expr1
    if node.expr2 is not None:
        yield node.expr2


@pytest.mark.parametrize("name", ALL)
def test_every_form_that_posts_brings_the_token(name: str) -> None:
    for form in re.findall(r"<form\b.*?</form>", text_of(name), re.DOTALL):
        assert ("csrf_field()" in form) == bool(re.search(r'method="post"', form)), f"{name}: {form[:200]}"


@pytest.mark.parametrize("name", ALL)
def test_templates_name_only_icons_parts_and_templates_that_are_there(name: str, pages: Pages) -> None:
    tree = SYNTAX.parse((TEMPLATES / name).read_text())
    parts = set(re.findall(r"{% macro (\w+)", (TEMPLATES / "ui.html").read_text()))
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name == "icon" and isinstance(call.args[0], nodes.Const):
            pages.icon(call.args[0].value)
        if isinstance(call.node, nodes.Getattr) and getattr(call.node.node, "name", "") == "ui":
            assert call.node.attr in parts, f"{name}:{call.lineno}: there is no ui.{call.node.attr}"
    for named in [*(one.template for one in tree.find_all(nodes.Extends)), *included(tree)]:
        assert isinstance(named, nodes.Const) and (TEMPLATES / named.value).exists()


def included(tree: nodes.Template) -> list[nodes.Expr]:
    return [one.template for one in tree.find_all(nodes.Include)]


def test_what_is_no_icon_is_an_error_and_not_a_hole(pages: Pages) -> None:
    with pytest.raises(KeyError, match=re.escape("assets/icons.txt")):
        pages.icon("no-such-icon")


def test_what_a_page_was_not_given_is_an_error(pages: Pages) -> None:
    with pytest.raises(Exception, match="is undefined"):
        pages.render("layout/error.html", {})


def test_templates_stay_short() -> None:
    """ui.html holds all parts and is longer."""
    lengths = {name: len((TEMPLATES / name).read_text().splitlines()) for name in ALL if name != "ui.html"}
    assert {name: length for name, length in lengths.items() if length > 120} == {}

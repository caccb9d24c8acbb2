"""A browser is sent on to paths of the installation only."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.core.path import local_path


@pytest.mark.parametrize("path", ["/", "/chat", "/chat/1?a=b&c=//d#e", "/a/../b", "/%2F%2Fevil.example"])
def test_a_path_here_is_kept(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    "path",
    [None, "", "chat", "//evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example",
     "/\t/evil.example",     "/\n/evil.example", " /chat", "/chat ", "/\x7f", "/é", "javascript:alert(1)",
     "/" + "a" * 1000, "/a\r\nset-cookie: b"],
)  # fmt: skip
def test_everything_else_is_the_beginning(path: str | None) -> None:
    assert local_path(path) == "/"
    assert local_path(path, "/settings") == "/settings"


@given(st.text() | st.from_regex(r"[/\\.:a@\t]{1,12}", fullmatch=True))
def test_no_path_leads_to_another_host(path: str) -> None:
    assert urlsplit(urljoin("https://ai.example.com/sign-in", local_path(path))).netloc == "ai.example.com"

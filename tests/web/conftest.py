"""The fixtures of the browser, for all tests of pages."""

from tests.web.browser import chromium, window

__all__ = ["chromium", "window"]

"""The fixtures of the browser, for journeys through pages."""

from tests.web.browser import chromium, window

__all__ = ["chromium", "window"]

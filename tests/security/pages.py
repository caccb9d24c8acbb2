"""An example for each page: whoever adds a page adds its line here (see tests/security/example.py).

`status` is what an owner of organisation A gets, for a superadmin's page what a superadmin gets. A form's CSRF token is
put in by the walker."""

from __future__ import annotations

from tests.security.example import Example

PAGES: dict[str, Example] = {
    "GET /": Example(),
    "GET /design": Example(),
    "POST /design": Example({"name": "<text>"}, status=422),
    "GET /design/bare": Example(),
}

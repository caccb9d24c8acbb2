"""How pages are made of templates, and the headers that go with every answer to a browser."""

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2_fragments import render_block
from markupsafe import Markup, escape
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tollhouse.flows.site import Site
from tollhouse.web import figure, language, wording
from tollhouse.web.asset import Assets

TEMPLATES = Path(__file__).parent / "templates"
PARTS = "ui.html"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), clipboard-write=(self)",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_OVER_TLS = "max-age=31536000"


class Pages:
    """The templates of an installation. Everything is escaped, and a name that nobody set is an error. `ui` in every
    template holds our macros; `icon(name)`, `asset(name)`, `site`, `language()` and the filters of figure.py and
    wording.py are there too."""

    def __init__(self, site: Site, assets: Assets) -> None:
        self._assets = assets
        self._icons = assets.icons()
        self._drawn: dict[tuple[str, str], Markup] = {}  # as many as templates name
        self._environment = environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            extensions=("jinja2.ext.i18n",),
        )
        environment.install_gettext_callables(  # type: ignore[attr-defined]  # what the extension adds
            language.gettext, language.plural, newstyle=True, pgettext=language.pgettext
        )
        language.load()
        environment.filters.update(figure.FILTERS, word=wording.word, within=wording.within, refusal=language.refusal)
        environment.globals.update(site=site, asset=assets.__getitem__, branded=assets.__contains__, icon=self.icon)
        environment.globals.update(language=language.current, languages=language.LANGUAGES)
        # blocks that are rendered alone do not run the imports of their template
        environment.globals["ui"] = environment.get_template(PARTS).module

    def icon(self, name: str, css: str = "") -> Markup:
        """An icon of the sprite, which readers aloud pass over: what it says must stand beside it. KeyError when
        assets/icons.txt does not list it."""
        drawn = self._drawn.get((name, css))
        if drawn is None:
            if name not in self._icons:
                raise KeyError(f"there is no icon {name!r}: add it to assets/icons.txt and run make assets")
            classes = escape(f"icon {css}".strip())
            drawn = self._drawn[name, css] = Markup(
                '<svg class="{}" aria-hidden="true"><use href="{}#{}"></use></svg>'
            ).format(classes, self._assets["icons.svg"].url, name)
        return drawn

    def render(self, template: str, context: Mapping[str, object]) -> str:
        return self._environment.get_template(template).render(context)

    def render_block(self, template: str, block: str, context: Mapping[str, object]) -> str:
        """One block of a template, for what a page asks for later."""
        return render_block(self._environment, template, block, dict(context))


class Guarded:
    """An application whose every answer tells the browser what it may not do with it. What says nothing about keeping
    is not kept."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._headers = _HEADERS | ({"strict-transport-security": _OVER_TLS} if site.secure else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, guarded)

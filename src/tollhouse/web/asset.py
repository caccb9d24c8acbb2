"""The built files that browsers load: which there are, and serving them for ever."""

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import msgspec
from starlette.types import Receive, Scope, Send

FOLDER = Path(__file__).parent / "static" / "dist"
PREFIX = "/static/"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_PACKED = (".css", ".js", ".svg")


class Asset(msgspec.Struct, frozen=True):
    """`file` has a digest of what is in it in its name; `integrity` is what browsers compare (sha384-...)."""

    file: str
    integrity: str
    package: str
    version: str | None
    licence: str

    @property
    def url(self) -> str:
        return PREFIX + self.file


class Manifest(msgspec.Struct, frozen=True):
    """`files` by the name that templates use. `sources` has the SHA-256 of everything in assets/ they were built of."""

    files: dict[str, Asset]
    sources: dict[str, str]


class Assets:
    """The files of the manifest, and the installation's `own` by name, as an ASGI application under /static/."""

    def __init__(self, folder: Path = FOLDER, own: Mapping[str, bytes] | None = None) -> None:
        self._folder = folder
        self._own = {name: (_described(name, data), data) for name, data in (own or {}).items()}
        self.manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)

    def __getitem__(self, name: str) -> Asset:
        """KeyError when templates name a file that was never built."""
        return self._own[name][0] if name in self._own else self.manifest.files[name]

    def __contains__(self, name: str) -> bool:
        return name in self._own or name in self.manifest.files

    def icons(self) -> frozenset[str]:
        """The names of the sprite's icons."""
        sprite = (self._folder / self["icons.svg"].file).read_text()
        return frozenset(re.findall(r'<symbol id="([^"]+)"', sprite))

    @cached_property
    def _served(self) -> dict[str, tuple[bytes, bytes | None]]:
        """Each file by its path, plain and packed. Read with the first request for one."""
        found: dict[str, tuple[bytes, bytes | None]] = {}
        built = ((asset, (self._folder / asset.file).read_bytes()) for asset in self.manifest.files.values())
        for asset, plain in [*built, *self._own.values()]:
            found[asset.url] = plain, gzip.compress(plain, mtime=0) if asset.file.endswith(_PACKED) else None
        return found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET or HEAD of a path that `knows`."""
        path: str = scope["path"]
        plain, packed = self._served[path]
        accepted = next((value for name, value in scope["headers"] if name == b"accept-encoding"), b"")
        chosen = packed if packed is not None and b"gzip" in accepted else plain
        headers = [
            (b"content-type", _TYPES[Path(path).suffix].encode()),
            (b"content-length", str(len(chosen)).encode()),
            (b"cache-control", b"public, max-age=31536000, immutable"),
            (b"vary", b"accept-encoding"),
        ]
        if chosen is packed:
            headers.append((b"content-encoding", b"gzip"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else chosen})

    def knows(self, path: str) -> bool:
        return path in self._served


def _described(name: str, data: bytes) -> Asset:
    """As the build would have: the file's name changes with what is in it."""
    stem, _, extension = name.partition(".")
    integrity = base64.b64encode(hashlib.sha384(data).digest()).decode()
    file = f"{stem}-{hashlib.sha256(data).hexdigest()[:12]}.{extension}"
    return Asset(file, f"sha384-{integrity}", "the installation's own", None, "")

"""What of an installation people see, and what keeps their secrets."""

from dataclasses import dataclass
from typing import Literal

from tollhouse.core.key import Mode
from tollhouse.core.vault import Keyring


@dataclass(frozen=True, slots=True)
class Site:
    """`origin`: where people reach this installation, such as https://ai.example.com, without a slash at the end. Links
    in mail and redirects start with it, whatever a request says its host is. `sends_mail` False: mail is kept in the
    outbox and not sent. `security_contact`: of whom to tell about a hole, as a URI; empty: nobody is named. `name`,
    `hue` (of the accent colour, in degrees of OKLCH) and `mark` (an SVG file) are what people see: None and empty for
    ours."""

    origin: str
    mode: Mode
    keyring: Keyring
    sign_up: Literal["open", "invited"] = "open"
    sends_mail: bool = False
    name: str = "Tollhouse"
    security_contact: str = ""
    hue: int | None = None
    mark: bytes = b""

    @property
    def secure(self) -> bool:
        """Whether browsers reach it over TLS: cookies are then for TLS only."""
        return self.origin.startswith("https://")

    @property
    def cookie(self) -> str:
        """The name of the session's cookie. With the prefix, browsers take it over TLS only and for this host alone."""
        return "__Host-tollhouse" if self.secure else "tollhouse"

    def url(self, path: str) -> str:
        return self.origin + path

"""The settings of a process, read once from the environment and then frozen."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tollhouse.core.brand import NAME_MAX, check_mark
from tollhouse.core.vault import Keyring
from tollhouse.trouble import Trouble

SECRET_KEY_LENGTH_MIN = 32
VENDORS_WITH_KEY = ("openai", "anthropic", "google", "together")
VENDORS = (*VENDORS_WITH_KEY, "ollama", "vllm")
WORKERS_MAX = 256
BODY_BYTES_MIN, BODY_BYTES_MAX = 1024, 1024**3
EXPECTED = {
    "mode": "test or live",
    "port": "a number from 0 to 65535",
    "workers": f"a number from 1 to {WORKERS_MAX}",
    "allow_private_providers": "true or false",
    "connections_per_address": "a number, 1 or more",
    "body_max_bytes": f"a number of bytes from {BODY_BYTES_MIN} to {BODY_BYTES_MAX}",
    "log_level": "debug, info, warning or error",
    "sign_up": "open or invited",
    "brand_name": f"one line of at most {NAME_MAX} characters",
    "brand_hue": "a number from 0 to 360",
}


class ConfigError(Trouble):
    """One or more settings are wrong; `problems` holds a sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(["The configuration is not usable:", *(f"  - {problem}" for problem in problems)]))


@dataclass(frozen=True, slots=True)
class VendorConnection:
    """What the environment says about one vendor: a key, another address, or both."""

    provider_id: str
    base_url: str | None
    key: SecretStr | None


def default_data_dir() -> Path:
    """Where the database and the generated secrets live when nobody says otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/tollhouse")
    shared = os.environ.get("XDG_DATA_HOME", "")
    base = Path(shared) if os.path.isabs(shared) else Path.home() / ".local" / "share"
    return base / "tollhouse"


class Config(BaseSettings):
    """Everything that can be set, each as `TOLLHOUSE_<NAME>`. Use `load` to read and complete it."""

    model_config = SettingsConfigDict(
        env_prefix="TOLLHOUSE_",
        env_file=None,
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        validate_default=True,
    )

    mode: Literal["test", "live"] = "test"
    database_url: str | None = Field(default=None, repr=False)  # None: the embedded PostgreSQL of data_dir
    data_dir: Path = Field(default_factory=default_data_dir)
    host: str = "127.0.0.1"
    port: int = Field(default=8400, ge=0, le=65535)  # 0: any free one
    workers: int = Field(default=1, ge=1, le=WORKERS_MAX)
    secret_key: SecretStr = SecretStr("")  # empty only in test mode before `load` has completed it
    # what was sealed under an earlier secret still opens; written with commas between
    previous_secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    operator_key: SecretStr | None = None
    allow_private_providers: bool = False
    body_max_bytes: int = Field(default=8 * 1024 * 1024, ge=BODY_BYTES_MIN, le=BODY_BYTES_MAX)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    public_url: str = ""  # where people reach this installation; empty: http://host:port
    sign_up: Literal["open", "invited"] = "open"  # invited: only who was invited may sign up
    smtp_url: SecretStr | None = None  # smtp://user:password@host:587, or smtps://; None: mail is kept, not sent
    mail_from: str = "Tollhouse <tollhouse@localhost>"
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()  # networks whose X-Forwarded-For is believed
    security_contact: str = ""  # of whom to tell about a hole: a mail address or a page; empty: nobody is named
    brand_name: str = Field(default="Tollhouse", max_length=NAME_MAX)  # how pages and mail call this installation
    brand_hue: int | None = Field(default=None, ge=0, le=360)  # of the accent colour; None: ours
    brand_mark: Path | None = None  # an SVG file; None: our mark
    connections_per_address: int = Field(default=1000, ge=1)  # of one process; proxies and loopback are exempt

    @field_validator("mode", "log_level", "sign_up", mode="before")
    @classmethod
    def _in_lower_case(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: str | None) -> str | None:
        remedy = "must look like postgresql://user:password@host:5432/database"
        if value is not None:
            try:
                conninfo_to_dict(value)
            except ProgrammingError:  # whose message repeats all of it, with the password
                raise ValueError(remedy) from None
            if not value.startswith(("postgresql://", "postgres://")):
                raise ValueError(remedy)
        return value

    @field_validator("data_dir")
    @classmethod
    def _is_absolute(cls, value: Path) -> Path:
        return Path(os.path.abspath(value.expanduser()))

    @field_validator("secret_key")
    @classmethod
    def _is_long_enough(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        length = len(value.get_secret_value())
        remedy = "set it to at least 32 random characters, for example the output of: openssl rand -base64 48"
        if length == 0 and info.data.get("mode") == "live":
            raise ValueError(f"is required in live mode: {remedy}. Keep it: API keys and provider keys depend on it")
        if 0 < length < SECRET_KEY_LENGTH_MIN:
            raise ValueError(f"has {length} characters and needs {SECRET_KEY_LENGTH_MIN}: {remedy}")
        return value

    @field_validator("previous_secret_keys", mode="before")
    @classmethod
    def _are_parted(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(SecretStr(part) for part in map(str.strip, value.split(",")) if part)

    @field_validator("previous_secret_keys")
    @classmethod
    def _are_long_enough(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, secret in enumerate(value, start=1):
            if len(secret.get_secret_value()) < SECRET_KEY_LENGTH_MIN:
                raise ValueError(
                    f"holds, as number {number}, one that is shorter than {SECRET_KEY_LENGTH_MIN} characters, which no "
                    "secret ever was: give each whole, with commas between"
                )
        return value

    @field_validator("public_url")
    @classmethod
    def _is_an_origin(cls, value: str) -> str:
        value = value.strip().rstrip("/")
        if value and (not _is_http(value) or urlsplit(value).path):
            raise ValueError("must be an address without a path, such as https://ai.example.com")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _is_a_mail_server(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parts = urlsplit(value.get_secret_value())
            if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path.strip("/"):
                raise ValueError("must look like smtp://user:password@host:587 or smtps://user:password@host:465")
        return value

    @field_validator("mail_from")
    @classmethod
    def _is_a_mailbox(cls, value: str) -> str:
        if "@" not in parseaddr(value)[1] or "\n" in value or "\r" in value:
            raise ValueError("must be a mail address, such as Tollhouse <no-reply@example.com>")
        return value

    @field_validator("security_contact")
    @classmethod
    def _is_reachable(cls, value: str) -> str:
        value = value.strip()
        address = value.removeprefix("mailto:")
        if value and not (value.isascii() and value.isprintable() and " " not in value):
            raise ValueError("must be a mail address or a page, such as https://example.com/security")
        if not value or value.startswith("https://"):
            return value
        if "@" not in address or "/" in address:
            raise ValueError("must be a mail address or a page, such as https://example.com/security")
        return f"mailto:{address}"

    @field_validator("brand_name")
    @classmethod
    def _is_one_line(cls, value: str) -> str:
        value = value.strip()
        if not value or not value.isprintable():
            raise ValueError("must be a name in one line, such as Mill AI")
        return value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _are_named(cls, value: object) -> object:
        return tuple(part for part in map(str.strip, value.split(",")) if part) if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError("must be networks with commas between, such as 10.0.0.0/8,192.0.2.7") from None
        return value

    @field_validator("operator_key")
    @classmethod
    def _only_in_test_mode(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and info.data.get("mode") == "live":
            raise ValueError("is for test mode only: unset it, and create a key with: tollhouse key create")
        return value

    @property
    def origin(self) -> str:
        """Where people reach this installation, without a slash at the end."""
        return self.public_url or f"http://{self.host}:{self.port}"

    def keyring(self) -> Keyring:
        """The secret that seals, and those that still open."""
        return Keyring(
            self.secret_key.get_secret_value().encode(),
            tuple(secret.get_secret_value().encode() for secret in self.previous_secret_keys),
        )

    def mark(self) -> bytes:
        """The operator's mark; empty for ours. Raises ConfigError for a file that cannot be read, or is no mark."""
        if self.brand_mark is None:
            return b""
        try:
            data = self.brand_mark.read_bytes()
            check_mark(data)
        except OSError as error:
            raise ConfigError([f"TOLLHOUSE_BRAND_MARK: {self.brand_mark} can't be read ({error.strerror})."]) from error
        except ValueError as error:
            raise ConfigError([f"TOLLHOUSE_BRAND_MARK: {self.brand_mark} {error}."]) from error
        return data

    def vendor_connections(self, environ: Mapping[str, str]) -> list[VendorConnection]:
        """The vendors that `environ` names by `<VENDOR>_API_KEY` or `<VENDOR>_BASE_URL`, in a fixed order.

        Raises ConfigError for an address that is not http or https."""
        found, problems = [], []
        for vendor in VENDORS:
            key = environ.get(f"{vendor.upper()}_API_KEY", "").strip() if vendor in VENDORS_WITH_KEY else ""
            base_url = environ.get(f"{vendor.upper()}_BASE_URL", "").strip().rstrip("/")
            if base_url and not _is_http(base_url):
                problems.append(
                    f"{vendor.upper()}_BASE_URL must be an http or https address such as https://host/v1, "
                    f"without a question mark or a password in it."
                )
            elif key or base_url:
                found.append(VendorConnection(vendor, base_url or None, SecretStr(key) if key else None))
        if problems:
            raise ConfigError(problems)
        return found


def _is_http(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and not (parts.query or parts.fragment or parts.username or parts.password)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        return False


def read() -> Config:
    """The configuration as the environment has it; touches no file. Raises ConfigError with every problem at once."""
    problems = []
    config = None
    try:
        config = Config()
    except ValidationError as error:
        problems = [_sentence(item["loc"], item["msg"], item.get("input")) for item in error.errors()]
    try:
        Config.model_construct().vendor_connections(os.environ)
    except ConfigError as error:
        problems += error.problems
    if config is None or problems:
        raise ConfigError(problems)
    return config


def load() -> Config:
    """Like `read`, and in test mode without a secret key, takes the one kept in the data directory, made on first use.

    Raises ConfigError, also when the data directory can't be written, and when the mark is none."""
    config = read()
    config.mark()
    if config.secret_key.get_secret_value():
        return config
    return config.model_copy(update={"secret_key": SecretStr(_kept_secret(config.data_dir))})


def _kept_secret(data_dir: Path) -> str:
    path = data_dir / "secret-key"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            # a whole file appears under the final name or none does, also when two processes start at once
            draft = data_dir / f"secret-key.{secrets.token_hex(8)}"
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(48) + "\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        secret = path.read_text().strip()
    except OSError as error:
        raise ConfigError(
            [f"The data directory {data_dir} can't be used ({error.strerror}): set TOLLHOUSE_DATA_DIR to one of yours."]
        ) from error
    if len(secret) < SECRET_KEY_LENGTH_MIN:
        raise ConfigError([f"{path} is damaged. Restore it from a backup, or delete it: then every API key is void."])
    return secret


def _sentence(location: tuple[int | str, ...], message: str, given: object) -> str:
    field = str(location[0])
    text = message.removeprefix("Value error, ")
    if text != message:  # our own words, which follow the name
        return f"TOLLHOUSE_{field.upper()} {text}."
    return f"TOLLHOUSE_{field.upper()} is {given!r} and must be {EXPECTED.get(field, text)}."

"""A mail server, spoken to over SMTP. One connection for each letter, since letters are few."""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime, parseaddr
from typing import Self
from urllib.parse import unquote, urlsplit
from uuid import UUID

from aiosmtplib import SMTP, SMTPDataError, SMTPException, SMTPRecipientsRefused, SMTPResponseException

STEP_TIMEOUT_S = 30.0
LETTER_TIMEOUT_S = 120.0
GOOD_BYE_S = 2.0
SUBMISSION, RELAY, SUBMISSION_OVER_TLS = 587, 25, 465
_MESSAGE_LENGTH = 300


class NotSent(Exception):
    """The letter was not taken, or nobody knows. `for_good`: the server says that it never will be."""

    def __init__(self, message: str, *, for_good: bool = False) -> None:
        super().__init__(" ".join(message.split())[:_MESSAGE_LENGTH])
        self.for_good = for_good


@dataclass(frozen=True, slots=True)
class Letter:
    """Plain text to one address. `id` is the same whenever it is sent again: who gets it twice can tell."""

    id: UUID
    recipient: str
    subject: str
    body: str
    written_at: datetime


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where letters are handed in, and from whom they are. `tls`: from the first byte; else by STARTTLS, which with a
    password must succeed and prove whose server it is. Without one it is used when it is offered, whatever the
    certificate, as between mail servers: whoever could forge that could also keep it from being offered."""

    host: str
    port: int
    tls: bool
    sender: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str, sender: str) -> Self:
        """From smtp://user:password@host:587 or smtps://user:password@host:465; user and password are percent-encoded.
        Without a port: 465 for smtps, 587 with a user, else 25. `sender` may have a name before the address."""
        parts = urlsplit(url)
        tls = parts.scheme == "smtps"
        user = unquote(parts.username) if parts.username else None
        password = unquote(parts.password or "") if user else None
        usual = SUBMISSION_OVER_TLS if tls else SUBMISSION if user else RELAY
        return cls(parts.hostname or "", parts.port or usual, tls, sender, user, password)

    async def send(self, letter: Letter) -> None:
        """Hands the letter in. NotSent when the server did not take it, or did not say so in time."""
        try:
            message = self._message(letter)
        except (ValueError, UnicodeError) as error:
            raise NotSent(f"the mail cannot be written: {error}", for_good=True) from error
        client = self._client()
        try:
            async with asyncio.timeout(LETTER_TIMEOUT_S):
                await client.connect()
                await client.send_message(message)
        except (SMTPException, OSError, TimeoutError, ValueError) as error:
            raise _not_sent(error) from error
        finally:
            # It was taken or not: a server that is slow to part must not make a letter look lost.
            with contextlib.suppress(SMTPException, OSError, TimeoutError):
                async with asyncio.timeout(GOOD_BYE_S):
                    await client.quit()
            client.close()

    def _client(self) -> SMTP:
        proves_itself = self.tls or self.user is not None
        context = ssl.create_default_context()
        if not proves_itself:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return SMTP(
            hostname=self.host,
            port=self.port,
            use_tls=self.tls,
            start_tls=False if self.tls else True if self.user is not None else None,
            username=self.user,
            password=self.password,
            local_hostname=self._domain,
            timeout=STEP_TIMEOUT_S,
            tls_context=context,
        )

    @property
    def _domain(self) -> str:
        return parseaddr(self.sender)[1].rpartition("@")[2]

    def _message(self, letter: Letter) -> EmailMessage:
        local, _, domain = letter.recipient.rpartition("@")
        message = EmailMessage(SMTP_POLICY)
        message["From"] = self.sender
        message["To"] = Address(username=local, domain=domain.encode("idna").decode("ascii"))
        message["Subject"] = letter.subject
        message["Date"] = format_datetime(letter.written_at)
        message["Message-ID"] = f"<{letter.id}@{self._domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.body)
        return message


def _not_sent(error: Exception) -> NotSent:
    """5xx to the recipient or to the letter itself is the server's last word; anything else may be better later."""
    if isinstance(error, SMTPRecipientsRefused):
        refused = error.recipients[0]
        return NotSent(f"{refused.code} {refused.message}", for_good=refused.code >= 500)
    if isinstance(error, SMTPResponseException):
        for_good = isinstance(error, SMTPDataError) and error.code >= 500
        return NotSent(f"{error.code} {error.message}", for_good=for_good)
    return NotSent(str(error) or "the mail server did not answer in time")

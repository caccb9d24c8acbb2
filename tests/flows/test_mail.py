"""Mail: written with what it tells about, sent once, tried again as a mail server wants it, and never a way to write a
header. The mail server is a real one, spoken to over a socket."""

import asyncio
import email
import email.policy
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from aiosmtpd.smtp import SMTP as SmtpProtocol
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.cast import NOON
from tests.flows.cast import Clock
from tollhouse.core.errors import Forbidden
from tollhouse.flows import mail
from tollhouse.flows.order import Order
from tollhouse.outside import mail as outside
from tollhouse.outside.mail import MailServer
from tollhouse.store import mail as mails
from tollhouse.store.db import Database

SENDER = "The House <no-reply@tollhouse.test>"
MINUTE = timedelta(minutes=1)


def at_noon() -> Clock:
    return Clock(NOON)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    await opened.open()
    yield opened
    await opened.close()


# -------------------------------------------------------------------------------------------------------- a mail server


@dataclass(slots=True)
class MailHouse:
    """Takes what is handed in, unless it was told to answer otherwise."""

    letters: list[EmailMessage] = field(default_factory=list)
    secure: list[bool] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    rcpt_answers: list[str] = field(default_factory=list)  # in place of taking it, one after another
    data_answers: list[str] = field(default_factory=list)
    delay_s: float = 0.0
    tried: int = 0

    async def handle_RCPT(self, server: Any, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        self.tried += 1
        if self.rcpt_answers:
            return self.rcpt_answers.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        await asyncio.sleep(self.delay_s)
        if self.data_answers:
            return self.data_answers.pop(0)
        assert isinstance(envelope.content, bytes)
        letter = email.message_from_bytes(envelope.content, policy=email.policy.SMTP)
        assert isinstance(letter, EmailMessage)
        self.letters.append(letter)
        self.secure.append(session.ssl is not None)
        self.recipients += envelope.rcpt_tos
        return "250 Taken"


@asynccontextmanager
async def running(house: MailHouse, over_tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[int]:
    """The port. `over_tls`: TLS from the first byte."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SmtpProtocol(house, hostname="mail.test", **options), "127.0.0.1", 0, ssl=over_tls
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost that signs itself, with its key behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    pem = serialization.Encoding.PEM
    kind = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, *kind))
    return file


def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, which this machine trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return certificate


# -------------------------------------------------------------------------------------------------------------- writing


async def write(
    db: Database,
    recipient: str = "ada@example.com",
    subject: str = "Sign in",
    body: str = "A link",
    at: datetime = NOON,
) -> None:
    async with db.nobody() as tx:
        await mail.write(tx, recipient, "sign_in", subject, body, at)


async def rows(db: Database, query: LiteralString = "SELECT attempts, sent_at, given_up, error FROM mail") -> Any:
    async with await psycopg.AsyncConnection.connect(db.url) as connection:
        return await (await connection.execute(query)).fetchall()


async def send(db: Database, port: int, clock: Callable[[], datetime], host: str = "127.0.0.1") -> None:
    await mail.send_due(db, MailServer.of(f"smtp://{host}:{port}", SENDER), clock)


async def test_what_is_written_arrives_once(db: Database) -> None:
    house, clock = MailHouse(), at_noon()
    await write(db, subject="Willkommen, Jürgen", body="Hallo Jürgen\n\nhttps://ai.example.com/in?t=a=b\n")
    async with running(house) as port:
        await send(db, port, clock)
        await send(db, port, clock)
    [letter] = house.letters
    assert house.recipients == ["ada@example.com"]
    assert (letter["From"], letter["To"]) == (SENDER, "ada@example.com")
    assert letter["Subject"] == "Willkommen, Jürgen"
    assert letter["Date"].datetime == NOON
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter.get_content_type() == "text/plain"
    assert letter.get_content().replace("\r\n", "\n") == "Hallo Jürgen\n\nhttps://ai.example.com/in?t=a=b\n"
    [(id_,)] = await rows(db, "SELECT id FROM mail")
    assert letter["Message-ID"] == f"<{id_}@tollhouse.test>"
    assert await rows(db) == [(1, clock(), False, None)]


async def test_mail_of_a_transaction_that_fails_was_never_written(db: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with db.operator() as tx:
            await mail.write(tx, "ada@example.com", "sign_in", "Sign in", "A link", NOON)
            raise ZeroDivisionError
    assert await rows(db) == []


@pytest.mark.parametrize("role", ["operator", "nobody", "tenant", "person"])
async def test_whoever_tells_people_something_may_write(db: Database, role: str) -> None:
    opened: Any = {"operator": db.operator, "nobody": db.nobody}.get(role) or (lambda: getattr(db, role)(UUID(int=1)))
    async with opened() as tx:
        await mail.write(tx, "ada@example.com", "sign_in", "Sign in", "A link", NOON)
    assert len(await rows(db)) == 1


async def test_people_and_pages_cannot_read_what_others_were_written(db: Database) -> None:
    await write(db)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with db.nobody() as tx:
            await tx.execute("SELECT body FROM mail")


@pytest.mark.parametrize(
    "recipient",
    [
        "", "ada", "@example.com", "ada@", "ada@example.com\r\nBcc: eve@example.com", "ada@example.com\n",
        "ada@example.com, eve@example.com", "Ada <ada@example.com>", "ada@example.com eve@example.com",
        "ada@example.com\0", "ada\u2028@example.com", '"a b"@example.com', "ada@[192.0.2.1]",
    ],
)  # fmt: skip
async def test_a_recipient_that_is_not_one_plain_address_is_refused(db: Database, recipient: str) -> None:
    with pytest.raises(ValueError, match="one address"):
        await write(db, recipient)
    assert await rows(db) == []


HOSTILE = st.text(st.one_of(st.sampled_from("\r\n\0\t\u2028\u2029\x85\u202e:<>=?_. "), st.characters()), max_size=60)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(subject=HOSTILE, body=HOSTILE)
async def test_no_name_that_people_choose_writes_a_header(db: Database, subject: str, body: str) -> None:
    house = MailHouse()
    async with await psycopg.AsyncConnection.connect(db.url) as connection:
        await connection.execute("DELETE FROM mail")
    await write(db, subject=f"{subject}\r\nBcc: eve@example.com\r\n\r\nHello", body=f"{body}\r\n.\r\nMAIL FROM:<eve>")
    async with running(house) as port:
        await send(db, port, at_noon())
    [letter] = house.letters
    assert {name.lower() for name in letter} == {
        "from", "to", "subject", "date", "message-id", "auto-submitted", "content-type", "content-transfer-encoding",
        "mime-version",
    } - {name for name in ("content-transfer-encoding",) if name not in letter}  # fmt: skip
    assert house.recipients == ["ada@example.com"]
    assert letter.get_content().rstrip().endswith("MAIL FROM:<eve>")


async def test_an_address_of_another_script_is_written_as_mail_servers_want_it(db: Database) -> None:
    house = MailHouse()
    await write(db, "ada@bücher.example")
    await write(db, "jürgen@example.com")
    async with running(house, enable_SMTPUTF8=True) as port:
        await send(db, port, at_noon())
    assert sorted(house.recipients) == ["ada@xn--bcher-kva.example", "jürgen@example.com"]


# --------------------------------------------------------------------------------------------------------- trying again


async def test_a_server_that_wants_to_be_asked_later_is(db: Database) -> None:
    house, clock = MailHouse(rcpt_answers=["451 4.7.1 Greylisted, come back in a minute"]), at_noon()
    await write(db)
    async with running(house) as port:
        await send(db, port, clock)
        assert await rows(db) == [(1, None, False, "451 4.7.1 Greylisted, come back in a minute")]
        clock.now += MINUTE - timedelta(seconds=1)
        await send(db, port, clock)
        assert house.tried == 1
        clock.now += timedelta(seconds=1)
        await send(db, port, clock)
    assert len(house.letters) == 1
    assert await rows(db) == [(2, clock(), False, None)]


@pytest.mark.parametrize("stage", ["rcpt_answers", "data_answers"])
async def test_a_refusal_for_good_is_the_last_word(db: Database, stage: str) -> None:
    house, clock = MailHouse(), at_noon()
    getattr(house, stage).append("550 5.1.1 There is nobody of that name")
    await write(db)
    async with running(house) as port:
        await send(db, port, clock)
        clock.now += timedelta(hours=12)
        await send(db, port, clock)
    assert house.letters == []
    assert await rows(db) == [(1, None, True, "550 5.1.1 There is nobody of that name")]


async def test_after_six_attempts_it_is_given_up(db: Database) -> None:
    clock = at_noon()
    await write(db)
    for wait in (*mail.WAITS, timedelta(days=1)):
        await send(db, 1, clock)
        clock.now += wait
    [(attempts, sent_at, given_up, error)] = await rows(db)
    assert (attempts, sent_at, given_up) == (6, None, True)
    assert "connecting to 127.0.0.1 on port 1" in error
    house = MailHouse()
    async with running(house) as port:
        await send(db, port, clock)
    assert house.tried == 0


async def test_one_that_cannot_be_sent_keeps_nobody_else_waiting(db: Database) -> None:
    house = MailHouse(rcpt_answers=["550 No"])
    await write(db, "nobody@example.com")
    for number in range(10):
        await write(db, f"ada{number}@example.com", at=NOON + timedelta(milliseconds=number + 1))
    async with running(house) as port:
        await send(db, port, Clock(NOON + MINUTE))
    assert len(house.letters) == 10


async def test_a_server_that_says_nothing_is_left_after_a_while(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "LETTER_TIMEOUT_S", 0.2)
    await write(db)
    async with running(MailHouse(delay_s=5)) as port:
        async with asyncio.timeout(4):
            await send(db, port, at_noon())
    assert await rows(db) == [(1, None, False, "the mail server did not answer in time")]


async def test_a_server_that_is_slow_to_part_does_not_make_a_letter_look_lost(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SlowToPart(SmtpProtocol):
        async def smtp_QUIT(self, arg: str) -> None:
            await asyncio.sleep(5)

    house = MailHouse()
    monkeypatch.setattr(outside, "GOOD_BYE_S", 0.1)
    await write(db)
    server = await asyncio.get_running_loop().create_server(lambda: SlowToPart(house, hostname="x"), "127.0.0.1", 0)
    async with asyncio.timeout(4):
        await send(db, server.sockets[0].getsockname()[1], at_noon())
    server.close()
    assert len(house.letters) == 1
    assert [row[1] for row in await rows(db)] == [NOON]


async def test_mail_that_waited_too_long_for_a_server_is_not_sent_any_more(db: Database) -> None:
    house = MailHouse()
    await write(db)
    async with running(house) as port:
        await send(db, port, Clock(NOON + timedelta(hours=25)))
    assert house.tried == 0
    assert [(row[2], row[3]) for row in await rows(db)] == [(True, "it was not sent in time")]


# ---------------------------------------------------------------------------------------------- two senders, and a dead


async def test_two_workers_send_each_letter_once(db: Database) -> None:
    house = MailHouse(delay_s=0.02)
    for number in range(20):
        await write(db, f"ada{number}@example.com")
    other = Database(db.url)
    await other.open()
    async with running(house) as port:
        await asyncio.gather(send(db, port, at_noon()), send(other, port, at_noon()))
    await other.close()
    assert sorted(house.recipients) == sorted(f"ada{number}@example.com" for number in range(20))


async def test_a_letter_whose_sender_died_is_sent_again_under_the_same_id(db: Database) -> None:
    house, clock = MailHouse(), at_noon()
    await write(db)
    async with running(house) as port:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(ExceptionGroup):
            patch.setattr(mails, "write_sent", _die)
            await send(db, port, clock)
        await send(db, port, clock)
        assert len(house.letters) == 1  # claimed still
        clock.now += mail.CLAIMED_FOR
        await send(db, port, clock)
    first, second = house.letters
    assert first["Message-ID"] == second["Message-ID"]
    assert [row[:3] for row in await rows(db)] == [(2, clock(), False)]


async def _die(*_: object) -> None:
    raise ConnectionError("the process is gone")


async def test_a_letter_whose_senders_always_die_is_given_up(db: Database) -> None:
    house, clock = MailHouse(), at_noon()
    await write(db)
    for _ in range(mail.ATTEMPTS_MAX):
        async with db.worker() as tx:
            assert await mails.claim(tx, clock(), clock() + mail.CLAIMED_FOR) is not None
        clock.now += mail.CLAIMED_FOR
    async with running(house) as port:
        await send(db, port, clock)
    assert house.tried == 0
    assert [row[2] for row in await rows(db)] == [True]


# ----------------------------------------------------------------------------------------------------- TLS and password


async def test_starttls_is_used_where_it_is_offered(db: Database, certificate: Path) -> None:
    house = MailHouse()
    await write(db)
    async with running(house, tls_context=tls(certificate)) as port:
        await send(db, port, at_noon())
    assert house.secure == [True]


async def test_a_password_goes_only_over_tls_to_whom_it_belongs(db: Database, trusted: Path) -> None:
    house, seen = MailHouse(), []

    def authenticator(server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
        seen.append((data.login, data.password, session.ssl is not None))
        return AuthResult(success=data.password == b"p@ss word")

    url = "smtp://us%65r:p%40ss%20word@localhost:{}"
    await write(db)
    options: dict[str, Any] = {"authenticator": authenticator, "tls_context": tls(trusted)}
    async with running(house, **options) as port:
        await mail.send_due(db, MailServer.of(url.format(port), SENDER), at_noon())
    assert seen == [(b"user", b"p@ss word", True)]
    assert house.secure == [True]


@pytest.mark.parametrize("server_offers", ["no TLS", "a certificate that nobody trusts", "a certificate of another"])
async def test_a_password_is_kept_from_whoever_cannot_prove_themselves(
    db: Database, certificate: Path, monkeypatch: pytest.MonkeyPatch, server_offers: str
) -> None:
    seen: list[LoginPassword] = []

    def authenticator(server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
        seen.append(data)
        return AuthResult(success=True)

    options: dict[str, Any] = {"authenticator": authenticator, "auth_require_tls": False}
    if server_offers != "no TLS":
        options |= {"tls_context": tls(certificate)}
    if server_offers == "a certificate of another":
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    host = "127.0.0.1" if server_offers == "a certificate of another" else "localhost"
    house, clock = MailHouse(), at_noon()
    await write(db)
    async with running(house, **options) as port:
        await mail.send_due(db, MailServer.of(f"smtp://user:secret@{host}:{port}", SENDER), clock)
    assert (seen, house.letters) == ([], [])
    [(attempts, _, given_up, error)] = await rows(db)
    assert (attempts, given_up) == (1, False)
    assert "secret" not in error


async def test_a_wrong_password_is_tried_again_since_that_is_the_operators_mistake(db: Database, trusted: Path) -> None:
    options: dict[str, Any] = {"tls_context": tls(trusted), "auth_required": True}
    options |= {"authenticator": lambda *_: AuthResult(success=False, handled=False)}
    await write(db)
    async with running(MailHouse(), **options) as port:
        await mail.send_due(db, MailServer.of(f"smtp://user:secret@localhost:{port}", SENDER), at_noon())
    [(_, _, given_up, error)] = await rows(db)
    assert not given_up
    assert error.startswith("535")


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_smtps_is_tls_from_the_first_byte(
    db: Database, certificate: Path, monkeypatch: pytest.MonkeyPatch, is_trusted: bool
) -> None:
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    house = MailHouse()
    await write(db)
    async with running(house, over_tls=tls(certificate)) as port:
        await mail.send_due(db, MailServer.of(f"smtps://localhost:{port}", SENDER), at_noon())
    assert len(house.letters) == (1 if is_trusted else 0)


@pytest.mark.parametrize(
    ("url", "port", "over_tls", "user"),
    [
        ("smtp://relay.test", 25, False, None),
        ("smtp://u:p@relay.test", 587, False, "u"),
        ("smtps://u:p@relay.test", 465, True, "u"),
        ("smtp://u:p@relay.test:2525", 2525, False, "u"),
    ],
)
def test_the_usual_ports(url: str, port: int, over_tls: bool, user: str | None) -> None:
    server = MailServer.of(url, SENDER)
    assert (server.host, server.port, server.tls, server.user) == ("relay.test", port, over_tls, user)
    assert "p@" not in repr(server)


# -------------------------------------------------------------------------------------------------------------- keeping


async def test_the_text_goes_a_day_after_it_was_sent_and_the_rest_after_thirty(db: Database) -> None:
    clock = at_noon()
    await write(db)
    async with running(MailHouse()) as port:
        await send(db, port, clock)
    await write(db, "bob@example.com")
    kept: LiteralString = "SELECT recipient, body FROM mail ORDER BY recipient"
    await mail.tidy(db, NOON + timedelta(hours=24))
    assert await rows(db, kept) == [("ada@example.com", "A link\n"), ("bob@example.com", "A link\n")]
    await mail.tidy(db, NOON + timedelta(hours=25))
    assert await rows(db, kept) == [("ada@example.com", ""), ("bob@example.com", "A link\n")]
    await mail.tidy(db, NOON + timedelta(days=31))
    assert await rows(db, kept) == []


async def test_the_outbox_shows_what_was_written_and_who_looked(db: Database) -> None:
    await write(db, body="https://ai.example.com/in?token=1")
    await write(db, "bob@example.com", at=NOON + MINUTE)
    order = Order("system", NOON + 2 * MINUTE)
    found = await mail.outbox(db, order, "test", 10)
    assert [(one.recipient, one.body) for one in found] == [
        ("bob@example.com", "A link\n"),
        ("ada@example.com", "https://ai.example.com/in?token=1\n"),
    ]
    assert await rows(db, "SELECT details FROM audit WHERE action = 'outbox.read'") == [({"mails": 2},)]


async def test_in_live_mode_no_operator_reads_links_that_sign_others_in(db: Database) -> None:
    await write(db)
    with pytest.raises(Forbidden, match="TOLLHOUSE_SMTP_URL"):
        await mail.outbox(db, Order("system", NOON), "live", 10)

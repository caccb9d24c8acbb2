"""The guard of addresses: what may be written, what a name may lead to, and where the socket really goes."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from tests.outside.wiretap import Wiretap
from tollhouse.outside import Deadlines, Phase, ProviderFault, ProviderTimeout, ProviderUnreachable
from tollhouse.outside.address import AddressRefused, check_base_url, objection
from tollhouse.outside.openai import OpenAICompatible

KEY = "canary-key-that-must-never-be-shown"
NAME = "provider.test"
PRIVATE = [
    *("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1", "100.127.255.255"),
    *("127.0.0.1", "127.255.255.254", "::1", "fc00::1", "fdff::1"),
]
NEVER = [
    *("0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "168.63.129.16", "100.100.100.200", "192.0.0.192"),  # noqa: S104
    *("192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "::", "::7f00:1", "fe80::1", "fe80::1%1", "fec0::1", "ff02::1", "100::1", "5f00::1"),
    *("fd00:ec2::254", "fd20:ce::254", "fd00:42::42", "2001:db8::1", "3fff::1", "2001::1", "2002:7f00:1::"),
    *("2002:808:808::", "64:ff9b:1::1", "::ffff:0:7f00:1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"),
]
INSIDE = ["::ffff:8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::808:808", "64:ff9b::a00:1"]
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "192.169.0.1", "2606:4700::1111", "2a00:1450::1"]


class Names(AbstractResolver):
    """A resolver whose answers are written down: the first, the second, and so on; the last one stands."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.closed = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [self._result(host, address, port) for address in answer]

    async def close(self) -> None:
        self.closed += 1

    def _result(self, host: str, address: str, port: int) -> ResolveResult:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)


class Slow(Names):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        await asyncio.Event().wait()
        return []


def provider_of(tap: Wiretap, names: Names, *, scheme: str = "http", name: str = NAME) -> OpenAICompatible:
    return OpenAICompatible(f"{scheme}://{name}:{tap.port}/v1", KEY, allow_private=True, resolver=names)


async def call(provider: OpenAICompatible) -> bytes:
    return await (await provider.send("chat", "m", b"{}", stream=False)).read(1 << 20)


@pytest.mark.parametrize("address", PUBLIC)
def test_nothing_speaks_against_a_public_address(address: str) -> None:
    assert objection(ip_address(address), allow_private=False) is None
    assert objection(ip_address(address), allow_private=True) is None


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_for_the_operator_alone(address: str) -> None:
    assert objection(ip_address(address), allow_private=False) == "private"
    assert objection(ip_address(address), allow_private=True) is None


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_for_nobody(address: str) -> None:
    assert objection(ip_address(address), allow_private=False) is not None
    assert objection(ip_address(address), allow_private=True) is not None


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_another_is_seen(address: str) -> None:
    assert objection(ip_address(address), allow_private=False) == "an IPv4 address inside an IPv6 address"
    assert objection(ip_address(address), allow_private=True) is None


def test_the_objection_names_the_remedy_where_there_is_one() -> None:
    for address in ("169.254.169.254", "168.63.129.16", "fd00:ec2::254"):
        assert objection(ip_address(address), allow_private=True) == "link-local or of a cloud's metadata service"
    for address in ("0.0.0.0", "::"):  # noqa: S104
        assert "write 127.0.0.1" in str(objection(ip_address(address), allow_private=True))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_the_same_wherever_it_is_inside(address: IPv4Address) -> None:
    for carrier in ("::ffff:", "64:ff9b::"):
        inside = ip_address(f"{carrier}{address}")
        assert objection(inside, allow_private=False) is not None
        assert objection(inside, allow_private=True) == objection(address, allow_private=True)


@given(st.ip_addresses())
def test_whoever_is_not_the_operator_only_reaches_the_internet(address: IPv4Address | IPv6Address) -> None:
    if objection(address, allow_private=False) is None:
        assert address.is_global
        assert not (address.is_private or address.is_multicast or address.is_reserved or address.is_link_local)
        assert objection(address, allow_private=True) is None


@pytest.mark.parametrize(
    ("written", "called"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("HTTPS://API.OpenAI.com./v1/", "https://api.openai.com/v1"),
        ("https://host", "https://host"),
        ("https://host/", "https://host"),
        ("https://host:8443/a/b//", "https://host:8443/a/b"),
        ("https://host/a%2Fb", "https://host/a%2Fb"),
        ("https://bücher.example/v1", "https://xn--bcher-kva.example/v1"),
        ("https://ｅxample.com/v1", "https://example.com/v1"),
        ("https://a_b.example/v1", "https://a_b.example/v1"),
        ("https://8.8.8.8/v1", "https://8.8.8.8/v1"),
        ("https://134744072/v1", "https://8.8.8.8/v1"),
        ("https://0x8.0x8.0x808/v1", "https://8.8.8.8/v1"),
        ("https://8.8.8.8./v1", "https://8.8.8.8/v1"),
        ("https://[2606:4700:0::1111]:443/v1", "https://[2606:4700::1111]/v1"),
        ("https://8.8.8.8.example.com/v1", "https://8.8.8.8.example.com/v1"),
    ],
)
def test_an_address_is_written_in_one_way(written: str, called: str) -> None:
    assert str(check_base_url(written, allow_private=False)) == called
    assert str(check_base_url(called, allow_private=False)) == called


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "127.0.0.1.", "2130706433", "0x7f000001", "0X7F.1", "0177.0.0.1", "017700000001"),
        *("①②⑦.0.0.1", "127。0。0。1", "１２７.0.0.1", "[::1]", "[0:0::1]", "10.1", "192.168.1", "3232235777"),
        *("localhost", "LOCALHOST.", "any.localhost", "[fd12::1]", "100.64.1"),
    ],
)
def test_a_private_host_is_seen_in_every_disguise(host: str) -> None:
    with pytest.raises(ValueError, match="must not be one that is private"):
        check_base_url(f"https://{host}/v1", allow_private=False)
    assert check_base_url(f"http://{host}:11434/v1", allow_private=True).port == 11434


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize(
    "host",
    [
        *("169.254.169.254", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518", "0", "0.0.0.0"),  # noqa: S104
        *("[::ffff:a9fe:a9fe]", "[::ffff:169.254.169.254]", "[fe80::1]", "[::]", "[64:ff9b::169.254.169.254]"),
        *("168.63.129.16", "224.0.0.1", "255.255.255.255", "[2002:a9fe:a9fe::]"),
    ],
)
def test_a_host_for_nobody_is_seen_in_every_disguise(host: str, allow_private: bool) -> None:
    with pytest.raises(ValueError, match="use another one"):
        check_base_url(f"https://{host}/v1", allow_private=allow_private)


@pytest.mark.parametrize(
    "written",
    [
        *("", "host/v1", "//host/v1", "https:host", "https://", "https:///v1", "ftp://host/v1", "file:///etc/passwd"),
        *("https://me:secret@host/v1", "https://me@host/v1", "https://@host/v1", "https://:secret@host/v1"),
        *("https://host/v1?", "https://host/v1?key=secret", "https://host/v1#", "https://host/v1#part"),
        *("https://host:0/v1", "https://host:65536/v1", "https://host:x/v1", "https://host /v1", " https://host/v1"),
        *("https://host/v1\n", "https://ho\tst/v1", "https://host\\@other/v1", "https://%31%32%37.0.0.1/v1"),
        *("https://host%00.example/v1", "https://[fe80::1%eth0]/v1", "https://[fe80::1%25eth0]/v1", "https://[::1/v1"),
        *("https://.../v1", "https://a..b/v1", "https://-a.example/v1", "https://256.1.1.1/v1", "https://1.2.3.4.5/v1"),
        *("https://0x100000000/v1", "https://0x/v1", "https://host.1/v1", "https://xn--\u200d.example/v1"),
        "https://" + "a" * 64 + ".example/v1",
        "https://" + "a." * 127 + "example/v1",
    ],
)
@pytest.mark.parametrize("allow_private", [False, True])
def test_what_no_provider_can_have_is_refused_without_being_repeated(written: str, allow_private: bool) -> None:
    with pytest.raises(ValueError, match="must look like https://host/v1") as refused:
        check_base_url(written, allow_private=allow_private)
    assert "secret" not in str(refused.value)


def test_only_the_operator_may_do_without_tls() -> None:
    with pytest.raises(ValueError, match="must begin with https://"):
        check_base_url("http://api.example.com/v1", allow_private=False)
    assert str(check_base_url("http://api.example.com/v1", allow_private=True)) == "http://api.example.com/v1"


@given(st.text() | st.from_regex(r"https://[0-9a-fx.:\[\]%]{1,20}/v1", fullmatch=True), st.booleans())
def test_whatever_is_written_is_refused_in_a_sentence_or_safe(written: str, allow_private: bool) -> None:
    try:
        called = check_base_url(written, allow_private=allow_private)
    except ValueError as refused:
        assert str(refused).startswith("the address of a provider")
        return
    assert called.raw_host is not None
    assert called.raw_host.isascii()
    try:  # the C library takes more for an address than `ipaddress` does
        address: IPv4Address | IPv6Address = IPv4Address(socket.inet_aton(called.raw_host))
    except OSError:
        if ":" not in called.raw_host:
            return
        address = IPv6Address(called.raw_host)
    assert objection(address, allow_private=allow_private) is None


@given(st.ip_addresses(v=4), st.sampled_from(["{:d}", "0x{:x}", "0{:o}"]))
def test_a_number_is_judged_as_the_address_it_stands_for(address: IPv4Address, form: str) -> None:
    said = []
    for host in (str(address), form.format(int(address))):
        try:
            said.append(str(check_base_url(f"https://{host}/v1", allow_private=False)))
        except ValueError as refused:
            said.append(str(refused))
    assert said[0] == said[1]


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["10.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["169.254.169.254"]])
async def test_a_name_that_leads_inside_is_refused_before_a_socket_is_opened(addresses: list[str]) -> None:
    async with Wiretap() as tap:
        provider = OpenAICompatible(
            f"https://{NAME}:{tap.port}/v1", KEY, allow_private=False, resolver=Names(addresses)
        )
        with pytest.raises(AddressRefused, match="nothing was sent") as refused:
            await call(provider)
        with pytest.raises(AddressRefused):
            await provider.check()
        await provider.close()
        assert tap.connections == 0
    assert isinstance(refused.value, ProviderFault)
    assert not any(word in str(refused.value) for word in (KEY, NAME, *addresses))


async def test_what_the_system_resolves_is_judged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 9))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)
    provider = OpenAICompatible(f"https://{NAME}:9/v1", KEY, allow_private=False)
    with pytest.raises(AddressRefused, match="private"):
        await call(provider)
    await provider.close()


async def test_one_bad_address_spoils_the_answer() -> None:
    async with Wiretap() as tap:
        provider = provider_of(tap, Names(["127.0.0.1", "169.254.169.254"]))
        with pytest.raises(AddressRefused):
            await call(provider)
        await provider.close()
        assert tap.connections == 0


async def test_the_operators_name_may_lead_into_the_own_network() -> None:
    async with Wiretap() as tap:
        names = Names(["127.0.0.1"])
        provider = provider_of(tap, names)
        assert await call(provider) == b'{"data":[]}'
        await provider.close()
        assert names.asked == [NAME]
        assert f"Host: {NAME}:{tap.port}".encode() in tap.received[0]


async def test_a_second_answer_that_differs_changes_nothing_for_the_call_that_was_judged() -> None:
    async with Wiretap() as tap, Wiretap(host="127.0.0.2", port=tap.port) as trap:
        names = Names(["127.0.0.1"], ["127.0.0.2"])
        provider = provider_of(tap, names)
        await call(provider)
        await provider.close()
        assert names.asked == [NAME]
        assert (tap.connections, trap.connections) == (1, 0)


async def test_a_second_answer_is_judged_like_the_first() -> None:
    async with Wiretap() as tap:
        names = Names(["127.0.0.1"], ["169.254.169.254"])
        provider = provider_of(tap, names)
        await call(provider)
        await provider.close()  # forgets socket and answer
        with pytest.raises(AddressRefused):
            await call(provider)
        await provider.close()
        assert (tap.connections, len(names.asked), names.closed) == (1, 2, 2)


async def test_many_calls_at_once_are_all_refused() -> None:
    async with Wiretap() as tap:
        provider = provider_of(tap, Names(["169.254.169.254"]))
        outcomes = await asyncio.gather(*(call(provider) for _ in range(20)), return_exceptions=True)
        await provider.close()
        assert {type(outcome) for outcome in outcomes} == {AddressRefused}
        assert tap.connections == 0


async def test_a_name_without_addresses_is_unreachable() -> None:
    async with Wiretap() as tap:
        provider = provider_of(tap, Names([]))
        with pytest.raises(ProviderUnreachable, match="name cannot be resolved"):
            await call(provider)
        await provider.close()


async def test_a_look_up_that_takes_too_long_runs_into_the_connect_deadline() -> None:
    provider = OpenAICompatible(
        f"https://{NAME}/v1", KEY, Deadlines(connect=0.1), allow_private=False, resolver=Slow([])
    )
    with pytest.raises(ProviderTimeout) as late:
        await call(provider)
    await provider.close()
    phase: Phase = "connect"
    assert late.value.phase == phase


class Authority:
    """A certificate for one name, signed by itself, and the TLS contexts of a server that has it and of a client that
    trusts it."""

    def __init__(self, folder: Path, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        chain, secret = folder / f"{name}.crt", folder / f"{name}.key"
        chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8
        secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server.load_cert_chain(chain, secret)
        self.client = ssl.create_default_context(cafile=str(chain))


async def test_tls_verifies_the_name_and_not_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path, NAME)
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", authority.client)
    async with Wiretap(tls=authority.server) as tap:
        right = provider_of(tap, Names(["127.0.0.1"]), scheme="https")
        assert await call(right) == b'{"data":[]}'
        wrong = provider_of(tap, Names(["127.0.0.1"]), scheme="https", name="other.test")
        with pytest.raises(ProviderUnreachable, match="no secure connection"):
            await call(wrong)
        await right.close()
        await wrong.close()
        assert tap.names == [NAME, "other.test"]
        assert len(tap.received) == 1


async def test_a_certificate_that_nobody_vouches_for_is_not_taken(tmp_path: Path) -> None:
    async with Wiretap(tls=Authority(tmp_path, NAME).server) as tap:
        provider = provider_of(tap, Names(["127.0.0.1"]), scheme="https")
        with pytest.raises(ProviderUnreachable, match="no secure connection"):
            await call(provider)
        await provider.close()
        assert tap.received == []

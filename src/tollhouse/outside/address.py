"""Which addresses a provider may have: a base URL must not turn this server against the network it stands in.

Two places judge. `check_base_url` reads the address when it is saved and again when a client is made of it, and judges
an IP address that is written there. `GuardedResolver` judges what a name leads to, at the moment of connecting: the
addresses it gives are those that the socket connects to, so an answer that changes later changes nothing. TLS goes on
verifying the name. The ranges follow IANA's registries of special-purpose addresses. What no server can know is which
public addresses a network routes to its own inside; that is for its firewall.
"""

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from tollhouse.outside import ProviderFault

Address = IPv4Address | IPv6Address

_SHAPE: Final = "the address of a provider must look like https://host/v1, without user name, query and fragment"
_URL_SHAPE: Final = "the address must look like https://host/path, without user name and fragment"
_URL_LENGTH: Final = 2000
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAME_CHARACTERS: Final = 253

_OWN_NETWORKS: Final = tuple(
    map(
        ip_network,
        ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"),
    )
)
# Where clouds keep the credentials of a machine: Azure, Alibaba, AWS, Google and Scaleway. Those among link-local and
# reserved addresses are refused with them.
_METADATA: Final = tuple(
    map(
        ip_network,
        ("168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254", "fd00:42::42"),
    )
)
# Not all versions of Python know these: protocol assignments, 6to4 and its relays, Teredo, documentation.
_SPECIAL: Final = tuple(
    map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2002::/16", "2001::/23", "2001:db8::/32", "3fff::/20"))
)
_GLOBAL_UNICAST: Final = ip_network("2000::/3")
_NAT64: Final = ip_network("64:ff9b::/96")


class AddressRefused(ProviderFault):
    """The provider's name leads where no provider may be. Nothing was sent, and trying again is of no use."""

    def __init__(self, objection: str) -> None:
        super().__init__(f"the provider's name leads to an address that is {objection}, so nothing was sent")
        self.objection = objection


def check_base_url(url: str, *, allow_private: bool) -> URL:
    """The base URL as it will be called: the host in lower-case ASCII or as a plain IP address, no slash at the end.

    `allow_private` is for connections of the operator, whose models may run in the network of this server: it admits
    http and the addresses of that network. Names are not looked up. Raises `ValueError`, a sentence that does not
    repeat the address.
    """
    if any(character <= " " or character in "\\?#\x7f" for character in url):
        raise ValueError(_SHAPE)
    try:
        parsed = URL(url)
    except ValueError:
        raise ValueError(_SHAPE) from None
    if parsed.scheme not in ("http", "https") or not parsed.raw_host or parsed.port == 0:
        raise ValueError(_SHAPE)
    if "@" in url.partition("//")[2].partition("/")[0]:
        raise ValueError(_SHAPE)
    if parsed.scheme == "http" and not allow_private:
        raise ValueError("the address of a provider must begin with https://, such as https://host/v1")
    host = parsed.raw_host.removesuffix(".")
    address = _written_address(host)
    if address is not None:
        found = objection(address, allow_private=allow_private)
    else:
        found = _objection_to_name(host, allow_private=allow_private)
    if found is not None:
        raise ValueError(f"the address of a provider must not be one that is {found}; use another one")
    return parsed.with_host(str(address or host)).with_path(parsed.raw_path.rstrip("/"), encoded=True)


def check_url(url: str, *, allow_private: bool) -> URL:
    """The same for the address of one document or endpoint: path and query are called as they are written. Raises
    `ValueError`, a sentence that does not repeat the address."""
    if len(url) > _URL_LENGTH or not url.isascii():
        raise ValueError(_URL_SHAPE)
    whole, question, query = url.partition("?")
    if any(character <= " " or character in "\\#\x7f" for character in query):
        raise ValueError(_URL_SHAPE)
    try:
        base = check_base_url(whole, allow_private=allow_private)
    except ValueError as error:
        said = str(error)
        raise ValueError(_URL_SHAPE if said == _SHAPE else _of_an_url(said)) from None
    path = "/" + whole.partition("://")[2].partition("/")[2]
    return URL(f"{base.origin()}{path}{question}{query}", encoded=True)


def _of_an_url(said: str) -> str:
    return said.replace("the address of a provider", "the address", 1).removesuffix(", such as https://host/v1")


def objection(address: Address, *, allow_private: bool) -> str | None:
    """What speaks against calling a provider at `address`, to follow "an address that is"; None when nothing does."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or _behind_nat64(address)
        if inner is not None:
            return objection(inner, allow_private=True) if allow_private else "an IPv4 address inside an IPv6 address"
    if address.is_link_local or any(address in network for network in _METADATA):
        return "link-local or of a cloud's metadata service"
    if any(address in network for network in _OWN_NETWORKS):
        return None if allow_private else "private"
    if address.is_unspecified:
        return "unspecified (for this machine write 127.0.0.1)"
    if not address.is_global or address.is_multicast or address.is_reserved:
        return "reserved"
    if any(address in network for network in _SPECIAL):
        return "reserved"
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return "reserved"
    return None


class GuardedResolver(AbstractResolver):
    """Resolves with `inner` and lets an answer through only when nothing speaks against any of its addresses.

    One bad address spoils the answer: a provider has no reason to mix them, somebody who probes has.
    """

    def __init__(self, inner: AbstractResolver, *, allow_private: bool) -> None:
        self._inner = inner
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host`. Raises `AddressRefused`, or `OSError` when there are none."""
        results = await self._inner.resolve(host, port, family)
        if not results:
            raise OSError("the name has no address")
        for result in results:
            found = objection(ip_address(result["host"]), allow_private=self._allow_private)
            if found is not None:
                raise AddressRefused(found)
        return results

    async def close(self) -> None:
        await self._inner.close()


def _written_address(host: str) -> Address | None:
    """The IP address that is written as the host, in any form that the C library reads (0x7f.1, 2130706433); None for a
    name. Raises `ValueError` for what is neither: no name ends in a number."""
    if ":" in host:
        try:
            if "%" in host:
                raise ValueError
            return IPv6Address(host)
        except ValueError:
            raise ValueError(_SHAPE) from None
    if not _NUMBER.fullmatch(host.rpartition(".")[2]):
        return None
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        raise ValueError(_SHAPE) from None


def _objection_to_name(host: str, *, allow_private: bool) -> str | None:
    labels = host.split(".")
    if len(host) > _NAME_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(_SHAPE)
    return "private" if labels[-1] == "localhost" and not allow_private else None


def _behind_nat64(address: IPv6Address) -> IPv4Address | None:
    return IPv4Address(address.packed[-4:]) if address in _NAT64 else None

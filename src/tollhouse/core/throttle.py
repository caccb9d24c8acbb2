"""How often something may be tried: sign-ins, codes, guesses of keys. Each rule is a generic cell rate: some tries at
once, after which they come back one by one."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TypeVar

from tollhouse.core.errors import TooManyTries

SECOND = timedelta(seconds=1)
# What one provider gives to one customer of IPv6: whoever has one address of it has them all.
IPV6_PREFIX = 64
SUBJECTS_MAX = 100_000
UNKNOWN_FOR = timedelta(minutes=1)

Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Rule:
    """`burst` tries at once; one comes back each `per / burst`, so that they are whole again after `per`."""

    name: str
    burst: int
    per: timedelta

    @property
    def interval(self) -> timedelta:
        return self.per / self.burst

    @property
    def slack(self) -> timedelta:
        """How far ahead of the present the time may be at which all tries will have come back, for one more."""
        return self.per - self.interval


# Signing in with a password. One address that fails for one account stands still long before the account does, so
# nobody keeps its owner out from a single place; a success gives the account's tries back (flows.throttle.forget).
SIGN_IN_ADDRESS = Rule("sign-in: address", 30, timedelta(minutes=15))
SIGN_IN_ACCOUNT_FROM_ADDRESS = Rule("sign-in: account from address", 10, timedelta(minutes=15))
SIGN_IN_ACCOUNT = Rule("sign-in: account", 100, timedelta(hours=1))
SIGN_UP_ADDRESS = Rule("sign-up: address", 10, timedelta(hours=1))
# Links by mail: to sign in, to choose another password, to prove an address.
MAIL_ACCOUNT = Rule("mail: account", 5, timedelta(hours=1))
MAIL_ADDRESS = Rule("mail: address", 20, timedelta(hours=1))
# Codes of six digits, three of which are right at any time: 70 guesses a day are right once in thirteen years.
CODE_ACCOUNT = Rule("code: account", 10, timedelta(hours=4))
INVITATION_ORGANIZATION = Rule("invitation: organisation", 100, timedelta(days=1))
# Each begins with the credits of its plan, and one that is deleted no longer counts among those that a person owns.
ORGANIZATION_PERSON = Rule("organisation: person", 5, timedelta(days=1))
# Keys and tokens that nobody here knows.
GUESS_ADDRESS = Rule("guess: address", 30, timedelta(minutes=5))
WEBHOOK_ADDRESS = Rule("webhook: address", 600, timedelta(minutes=1))
READ_PERSON = Rule("read: person", 600, timedelta(minutes=1))


def subject(part: str) -> str:
    """What is counted as one: an IPv4 address, the network of an IPv6 address, anything else as it is."""
    try:
        address = ip_address(part.partition("%")[0])
    except ValueError:
        return part
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((address, IPV6_PREFIX), strict=False))
    return str(address)


def refusal(rule: Rule, whole_at: datetime, now: datetime) -> TooManyTries:
    """The refusal of one whose tries will all have come back at `whole_at`: it says when the next one has."""
    return TooManyTries(max(1, -((now + rule.slack - whole_at) // SECOND)))


class Memory:
    """A rule that one process keeps by itself: nothing is written, and each process counts for itself."""

    def __init__(self, rule: Rule, most: int = SUBJECTS_MAX) -> None:
        self._rule = rule
        self._most = most
        self._whole_at: dict[str, datetime] = {}

    def check(self, part: str, now: datetime) -> None:
        """TooManyTries when no try is left. Takes none."""
        whole_at = self._whole_at.get(subject(part))
        if whole_at is not None and whole_at - now > self._rule.slack:
            raise refusal(self._rule, whole_at, now)

    def count(self, part: str, now: datetime) -> None:
        """Takes a try. The subject that was seen first is forgotten when there are too many."""
        key = subject(part)
        whole_at = max(self._whole_at.pop(key, now), now) + self._rule.interval
        if len(self._whole_at) >= self._most:
            del self._whole_at[next(iter(self._whole_at))]
        self._whole_at[key] = min(whole_at, now + self._rule.per)

    def take(self, part: str, now: datetime) -> None:
        """A try, or TooManyTries."""
        self.check(part, now)
        self.count(part, now)


class Guesses:
    """Guesses of credentials, counted by the address that they come from, in the memory of a process. A credential
    that was found once goes on working from an address that guesses. One that was not found is refused for a moment
    without asking again: a client with one wrong key is no guesser."""

    def __init__(self, rule: Rule = GUESS_ADDRESS) -> None:
        self._failures = Memory(rule)
        self._found: dict[bytes, None] = {}
        self._unknown: dict[bytes, datetime] = {}

    def worth_asking(self, address: str, digested: bytes, now: datetime) -> bool:
        """Whether to look the credential up. False: it was not found a moment ago. TooManyTries when the address has
        guessed too much, and the credential is none that was found before."""
        if digested in self._found:
            return True
        unknown_since = self._unknown.get(digested)
        if unknown_since is not None and unknown_since <= now < unknown_since + UNKNOWN_FOR:
            return False
        self._failures.check(address, now)
        return True

    def found(self, digested: bytes) -> None:
        """There is such a credential, whether or not it still works."""
        _keep(self._found, digested, None)

    def failed(self, address: str, digested: bytes, now: datetime) -> None:
        """There is none."""
        self._failures.count(address, now)
        _keep(self._unknown, digested, now)


def _keep(among: dict[bytes, Kept], digested: bytes, kept: Kept) -> None:
    """As the latest; the first goes when there are too many."""
    among.pop(digested, None)
    if len(among) >= SUBJECTS_MAX:
        del among[next(iter(among))]
    among[digested] = kept

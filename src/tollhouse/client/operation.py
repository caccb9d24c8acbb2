"""What an operation knows of itself, and what it does at its end; the clients carry it out.

At the end of the block:
  used(...) was called ...................... settle that
  not called, the block ended normally ...... settle the amount reserved: the estimate is the price
  not called, an exception after sent() ..... settle the amount reserved: the provider may have to be paid
  not called, an exception before sent() .... release
"""

import logging
import threading
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, NoReturn

from tollhouse.client.answers import Release, Renewal, Reservation, Settlement, Usage
from tollhouse.client.calls import Call, Charge, Credits, read_charge, release, renew, settle
from tollhouse.client.errors import TollhouseError, UnknownAnswer, Unsettled
from tollhouse.client.settings import Patience, Settings

log = logging.getLogger("tollhouse.client")
TTL_LEAST_S, TTL_MOST_S = 5, 86400


@dataclass(frozen=True, slots=True)
class Settling:
    charge: Charge


@dataclass(frozen=True, slots=True)
class Releasing:
    reason: str


Ending = Settling | Releasing


def choose_ending(reserved: Decimal, reported: Charge | None, sent: bool, problem: BaseException | None) -> Ending:
    """The table above. The reason of a release is the name of the exception's type: its text may hold what is none of
    the ledger's business."""
    if reported is not None:
        return Settling(reported)
    if problem is None or sent:
        return Settling(Charge(credits=reserved))
    return Releasing(type(problem).__name__)


def largest(before: Charge | None, now: Charge) -> Charge:
    """Of each figure the largest that was reported. Never the sum: providers repeat and accumulate their counts. Not
    the last: their final word may leave out what an earlier one said, and reports of several threads have no order."""
    if before is None:
        return now
    if before.credits is not None and now.credits is not None:
        return Charge(credits=max(before.credits, now.credits))
    if before.usage is not None and now.usage is not None:
        return Charge(usage=Usage(*(_most(before.usage, now.usage, field.name) for field in fields(Usage))))
    raise ValueError(f"this operation has reported {before} before: keep to credits or to usage")


def _most(before: Usage, now: Usage, name: str) -> Any:
    return max((tokens for tokens in (getattr(before, name), getattr(now, name)) if tokens is not None), default=None)


class BaseOperation:
    """One use of an AI feature, from its reservation to its settlement; made by `client.operation(...)`, entered once.

    `reservation`, `model`, `amount` and `max_output_tokens` stand from the beginning of the block on, `expires_at`
    moves on with each renewal, `result` holds the settlement or the release afterwards. `sent` and `used` may be
    called from any thread."""

    def __init__(self, reserving: Call[Reservation]) -> None:
        self.result: Settlement | Release | None = None
        self._reserving = reserving
        self._reservation: Reservation | None = None
        self._expires_at: datetime | None = None
        self._reported: Charge | None = None
        self._sent = False
        self._entered = False
        self._over = False
        self._lock = threading.Lock()

    @property
    def reservation(self) -> Reservation:
        """As it was made."""
        if self._reservation is None:
            raise RuntimeError("There is no reservation yet: it is made when the block begins.")
        return self._reservation

    @property
    def model(self) -> str | None:
        """The model to call; None for a reservation of plain credits."""
        return self.reservation.model

    @property
    def amount(self) -> Decimal:
        """The credits reserved."""
        return self.reservation.amount

    @property
    def max_output_tokens(self) -> int | None:
        """What the amount pays for, of a reservation for a model: pass it on to the provider."""
        return self.reservation.max_output_tokens

    @property
    def expires_at(self) -> datetime:
        return self._expires_at or self.reservation.expires_at

    def sent(self) -> None:
        """From now on the provider may have been called: whatever happens, the operation is charged."""
        with self._lock:
            self._check_open()
            self._sent = True

    def used(self, *, credits: Credits | None = None, usage: Usage | None = None) -> None:
        """What was used so far, as often as it is known. The largest report counts, of usage the largest of each
        figure; nothing is added up. Credits or usage, the same kind in all reports; usage is priced by the
        reservation's model, so a reservation of plain credits takes credits only. Implies `sent`."""
        with self._lock:
            self._check_open()
            self._sent = True
            charge = read_charge(credits, usage)
            if charge.usage is not None and self.model is None and self.reservation.capability is None:
                raise ValueError("this is a reservation of plain credits, which prices no usage: report credits=...")
            self._reported = largest(self._reported, charge)

    def _check_open(self) -> None:
        if self._reservation is None or self._over:
            raise RuntimeError("Nothing can be reported outside of the block: it is settled when the block ends.")

    # ---------------------------------------------------------------------------------------------- for the clients

    def _begin(self) -> Call[Reservation]:
        if self._entered:
            raise RuntimeError("An operation is entered once. Make another one with client.operation(...).")
        self._entered = True
        return self._reserving

    def _end(self, problem: BaseException | None) -> Ending:
        with self._lock:
            self._over = True
            return choose_ending(self.amount, self._reported, self._sent, problem)

    @property
    def _lasts_s(self) -> float:
        """By the server's clock alone."""
        return (self.reservation.expires_at - self.reservation.created_at).total_seconds()

    def _renewal(self) -> tuple[Call[Renewal], float]:
        """The call that renews, and the seconds until it is first made. A stored answer does not tell how much of the
        time is left."""
        ttl_seconds = min(max(round(self._lasts_s), TTL_LEAST_S), TTL_MOST_S)
        first_s = 0.0 if self.reservation.replayed else self._lasts_s / 3
        return renew(self.reservation.id, ttl_seconds), first_s

    def _renewed(self, renewal: Renewal) -> float:
        """Seconds until the next renewal."""
        self._expires_at = renewal.expires_at
        return self._lasts_s / 3

    def _not_renewed(self, error: Exception) -> float | None:
        """Seconds until the next attempt; None when there is no use in one: the reservation has ended, or the client
        was closed."""
        if not isinstance(error, TollhouseError) or not leaves_open(error):
            log.info("reservation %s is not renewed any more: %s", self.reservation.id, error)
            return None
        log.warning("reservation %s could not be renewed, trying again: %s", self.reservation.id, error)
        return self._lasts_s / 12

    def _delivery(self, ending: Ending, settings: Settings) -> tuple[Call[Settlement | Release], Patience]:
        match ending:
            case Settling(charge):
                return settle(self.reservation.id, charge), settings.settling
            case Releasing(reason):
                return release(self.reservation.id, reason), settings.ordinary

    def _undelivered(self, ending: Ending, failure: BaseException, problem: BaseException | None) -> None:
        """An open charge is raised, whatever else is on its way. An open release is not: the reservation ends by
        itself, and nothing was used."""
        match ending:
            case Settling(charge):
                raise_unsettled(self.reservation.id, charge, failure, problem)
            case Releasing():
                if not isinstance(failure, Exception):
                    raise failure
                note = f"Reservation {self.reservation.id} was not released, it ends by itself: {failure}"
                log.warning(note)
                if problem is not None:
                    problem.add_note(note)


def leaves_open(error: TollhouseError) -> bool:
    """Whether a settlement that failed so may still be delivered; a refusal is the caller's to correct."""
    return error.status is None or error.status >= 500 or isinstance(error, UnknownAnswer)


def raise_unsettled(id: str, charge: Charge, failure: BaseException, during: BaseException | None) -> NoReturn:
    why = str(failure) if isinstance(failure, TollhouseError) else f"{type(failure).__name__} {failure}".rstrip()
    unsettled = Unsettled(
        f"Reservation {id} was used and its charge could not be delivered: {why}. "
        f"Settle it later: client.settle({id!r}, {charge})",
        reservation_id=id,
        credits=charge.credits,
        usage=charge.usage,
        failure=failure,
        during=during,
    )
    log.error(unsettled.detail)
    if during is None:
        raise unsettled from failure
    unsettled.__context__ = during
    raise unsettled

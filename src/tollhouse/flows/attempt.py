"""The next candidate of a call is asked, because the one before failed before its first byte.

While another model is asked the reservation is that model's: at its price, and with what is bound to a model (messages
of a day, trial messages, rules of the organisation) taken from its windows and given back to those of the model before.
So whoever settles, the reaper too, finds the model that answers.
"""

from collections.abc import Sequence

from tollhouse.core.errors import Conflict
from tollhouse.core.limits import Takes
from tollhouse.core.quota import Take
from tollhouse.core.refusals import ModelNotFound, PriceUnknown
from tollhouse.flows.batch import Batch, Desk
from tollhouse.flows.operation import Attempt
from tollhouse.store.attempt import AttemptOpened
from tollhouse.store.call import OpenReservation, Parts, Taken


def attempt(batch: Batch, desk: Desk, reservation: OpenReservation, takes: Takes, operation: Attempt) -> None:
    """Conflict when the reservation is not open any more, LimitExceeded when the model's limits do not allow it,
    PriceUnknown when it had no price as the call began; then nothing has changed."""
    if reservation.state != "pending":
        raise Conflict(f"The reservation of this call is {reservation.state}: nobody may be asked for it any more.")
    before = reservation.model_id
    moved = operation.model_id != before
    if moved:
        _move(batch, desk, reservation, takes, operation.model_id)
    batch.attempted[reservation.id] = AttemptOpened(
        organization_id=operation.organization_id,
        id=reservation.id,
        number=operation.number,
        model_id=operation.model_id,
        provider_id=operation.provider_id,
        connection_id=operation.connection_id,
        own_key=operation.own_key,
        started_at=desk.now,
        status_before=operation.before.status,
        error_before=operation.before.error,
        moved=moved,
        price_version=reservation.price_version,
        parts=reservation.parts,
        reason=f"fallback: {before} did not answer" if moved else None,
    )


def _move(batch: Batch, desk: Desk, reservation: OpenReservation, takes: Takes, model_id: str) -> None:
    if model_id not in batch.catalogue.models:
        raise ModelNotFound(model_id)
    price = batch.catalogue.price_at(model_id, reservation.created_at)
    if price is None:
        raise PriceUnknown(model_id)
    parts = reservation.parts
    tokens = next((part.amount for part in parts.windows if part.meter == "tokens"), 0)
    desk.rates.check(takes.rates, desk.now)
    desk.windows.check(takes.windows, tokens, reservation.amount_micros)
    kept = [part for part in parts.windows if not part.model_id]
    for part in parts.windows:
        if part.model_id:
            desk.windows.settle(part.window_id, part.amount, 0)
    desk.windows.reserve(takes.windows, tokens, reservation.amount_micros)
    desk.rates.count(takes.rates, desk.now)
    reservation.model_id, reservation.price_version = model_id, price.version
    taken = taken_from(takes.windows, tokens, reservation.amount_micros)
    reservation.parts = Parts(parts.grants, parts.overdraft, (*kept, *taken))


def taken_from(takes: Sequence[Take], tokens: int, micros: int) -> tuple[Taken, ...]:
    """What a call of so many tokens and micro-credits took from its windows, as it is stored."""
    return tuple(
        Taken(take.counter.window_id, take.counter.meter, take.of(tokens, micros), take.counter.model_id)
        for take in takes
    )

"""What each operation does to the working copies of its batch, and what it is answered."""

import os
from dataclasses import replace
from datetime import datetime
from typing import assert_never
from uuid import UUID

import msgspec

from tollhouse.core.access import check_key, decide
from tollhouse.core.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Hint,
    Mismatch,
    NotFound,
    Remembered,
    StillRunning,
    TollhouseError,
)
from tollhouse.core.explain import Explanation, explain
from tollhouse.core.key import end_user_id, ordered_id
from tollhouse.core.price import Quote, Stated, Usage
from tollhouse.flows.batch import Batch, record_key
from tollhouse.flows.operation import (
    Admit,
    Admitted,
    AnyOperation,
    CatchUp,
    Explain,
    Outcome,
    Reap,
    Release,
    Released,
    Renew,
    Renewed,
    Replayed,
    Settle,
    Settled,
)
from tollhouse.flows.reserved import Reserved
from tollhouse.store import call as calls
from tollhouse.store.call import OpenReservation
from tollhouse.store.idempotency import Record, RecordKey

STATUS_RESERVED = 201
# A process that was lost, as it stands in the request and the attempt.
LOST = "process lost"


def answer(batch: Batch, number: int, operation: AnyOperation) -> object:
    """The operation's result, or its refusal, which then has changed nothing."""
    if operation.organization_id not in batch.organizations:
        return NotFound("There is no such organisation.")
    try:
        _check_bearer(batch, number, operation)
        match operation:
            case Admit():
                return _admit(batch, number, operation)
            case Explain():
                return _explain(batch, number, operation)
            case Settle():
                return _settle(batch, operation)
            case Release():
                return _release(batch, operation)
            case Renew():
                return _renew(batch, operation)
            case Reap():
                return _reap(batch, operation)
            case CatchUp():
                return None
    except TollhouseError as refusal:
        return refusal
    assert_never(operation)


def _check_bearer(batch: Batch, number: int, operation: AnyOperation) -> None:
    """What comes with a key is done only while the key works, and answered again only then. A suspended organisation
    still settles: it was spent."""
    now = batch.time_of(operation.organization_id)
    match operation:
        case Settle(bearer=bearer) | Release(bearer=bearer) | Renew(bearer=bearer) if bearer is not None:
            check_key(batch.keys[number], bearer.needs, now)
        case Admit(ask=ask, once=once) if once is not None and ask.key_id is not None:
            check_key(batch.keys[number], ask.needs, now)
        case _:
            return


def _admit(batch: Batch, number: int, operation: Admit) -> Admitted | Replayed:
    kept_as = record_key(operation)
    if kept_as is not None and (known := batch.records.get(kept_as)) is not None:
        return _replay(known, operation)
    organization_id = operation.organization_id
    asked, account, now = batch.asked[number], batch.accounts[organization_id], batch.time_of(organization_id)
    try:
        admission = decide(operation.ask, asked.facts, asked.takes, account, batch.windows, batch.rates)
    except TollhouseError as refusal:
        if kept_as is not None and refusal.status < 500 and not isinstance(refusal, Forbidden):
            _keep(batch, kept_as, operation, refusal.status, _written(refusal), None)
        raise
    id_ = ordered_id(batch.now, os.urandom(10))
    amount, available = admission.hold.amount_micros, account.balance.available_micros
    admitted = Admitted(
        id_, organization_id, admission, amount, available, now, now + operation.lease, batch.catalogue
    )  # fmt: skip
    _open(batch, operation, admitted)
    if kept_as is not None and operation.endpoint is None:
        reserved = Reserved.of(admitted, operation)
        _keep(batch, kept_as, operation, STATUS_RESERVED, msgspec.to_builtins(reserved), id_)
    elif kept_as is not None:
        _keep(batch, kept_as, operation, None, None, id_)
    return admitted


def _open(batch: Batch, operation: Admit, admitted: Admitted) -> None:
    ask, admission = operation.ask, admitted.admission
    weighed, terms = admission.weighed, admission.weighed.terms
    taken = tuple((take.window_id, take.counter.meter, take.amount) for take in weighed.windows)
    route = terms.route if terms else None
    batch.opened.append(
        calls.CallOpened(
            organization_id=admitted.organization_id,
            id=admitted.id,
            key_id=ask.key_id,
            subject_id=ask.subject_id,
            channel=ask.channel,
            endpoint=operation.endpoint,
            stream=operation.stream,
            capability=terms.capability.id if terms and terms.capability else None,
            quality=terms.quality.id if terms and terms.quality else None,
            model_id=terms.model.id if terms else None,
            provider_id=route.provider_id if route else None,
            connection_id=route.connection.id if route and route.connection else None,
            price_version=terms.quote.price.version if terms else None,
            rate_version=terms.quote.rate.version if terms else None,
            multiplier_permille=terms.quote.multiplier_permille if terms else 1000,
            charged=weighed.charged,
            trial=weighed.trial is not None,
            amount_micros=admitted.amount_micros,
            parts=calls.Parts(admission.hold.grants, admission.hold.overdraft_micros, taken),
            created_at=admitted.created_at,
            expires_at=admitted.expires_at,
            metadata=operation.metadata,
        )
    )
    if operation.external_user is not None:
        organization_id = admitted.organization_id
        user_id = end_user_id(organization_id, operation.external_user)
        row = calls.EndUserRow(organization_id, user_id, operation.external_user, admitted.created_at)
        batch.end_users[user_id] = row


def _keep(
    batch: Batch,
    kept_as: RecordKey,
    operation: Admit,
    status: int | None,
    response: dict[str, object] | None,
    reservation_id: UUID | None,
) -> None:
    """Answers are kept by real time: a test clock does not age them."""
    assert operation.once is not None
    record = Record(
        kept_as.organization_id, kept_as.endpoint, kept_as.key, operation.once.body_hash.hex(), status, response,
        batch.now, reservation_id, "pending",
    )  # fmt: skip
    batch.records[kept_as] = batch.kept[kept_as] = record
    batch.dropped.discard(kept_as)


def _replay(known: Record, operation: Admit) -> Replayed:
    """What the first request was answered; Conflict while it runs, Mismatch when it had another body."""
    assert operation.once is not None
    key = operation.once.key
    if known.body_hash != operation.once.body_hash.hex():
        raise Mismatch(
            f"The Idempotency-Key {key!r} came with another body before. Send the same body, or another key."
        )
    if known.status is None or known.response is None:
        if known.reservation_state == "pending":
            raise StillRunning(f"The first request with the Idempotency-Key {key!r} still runs. Ask again shortly.")
        raise Conflict(f"The answer to the Idempotency-Key {key!r} was lost with its process. Use another key.")
    if "refusal" not in known.response:
        return Replayed(known.status, known.response)
    refusal = known.response["refusal"]
    hints = tuple(msgspec.convert(hint, Hint) for hint in refusal["hints"])
    raise Remembered(refusal["code"], known.status, refusal["message"], refusal["details"], hints)


def _written(refusal: TollhouseError) -> dict[str, object]:
    """A refusal as it is kept."""
    hints = [msgspec.to_builtins(hint) for hint in refusal.hints()]
    details = msgspec.to_builtins(refusal.details())
    return {"refusal": {"code": refusal.code, "message": str(refusal), "details": details, "hints": hints}}


def _explain(batch: Batch, number: int, operation: Explain) -> Explanation:
    asked, account = batch.asked[number], batch.accounts[operation.organization_id]
    return explain(operation.ask, asked.facts, asked.takes, account, batch.windows, batch.rates)


def _find(batch: Batch, organization_id: UUID, reservation_id: UUID) -> OpenReservation:
    reservation = batch.reservations.get((organization_id, reservation_id))
    if reservation is None:
        raise NotFound("There is no such reservation.")
    return reservation


def _quote(batch: Batch, reservation: OpenReservation) -> Quote:
    """The terms the reservation was made at."""
    if reservation.model_id is None:
        raise BadRequest("This reservation was made in credits and has no price. Settle it in credits.", "usage")
    prices = batch.catalogue.prices[reservation.model_id]
    price = next(one for one in prices if one.version == reservation.price_version)
    rate = next(one for one in batch.catalogue.rates if one.version == reservation.rate_version)
    return Quote(price, rate, reservation.multiplier_permille, reservation.charged)


def _settle(batch: Batch, operation: Settle) -> Settled:
    reservation = _find(batch, operation.organization_id, operation.reservation_id)
    settled = _book(batch, reservation, operation.usage, operation.outcome, operation.provider_id, 1)
    if operation.answer is not None and not settled.replayed:
        _keep_answer(batch, operation, settled)
    return settled


def _keep_answer(batch: Batch, operation: Settle, settled: Settled) -> None:
    """The record that ran is answered, unless it was forgotten meanwhile."""
    kept_as = record_key(operation)
    known = batch.records.get(kept_as) if kept_as else None
    if kept_as is None or known is None or operation.answer is None:
        return
    booked = {"charged_micros": settled.charged_micros, "available_micros": settled.available_micros}
    answered = replace(known, status=operation.answer.status, response=operation.answer.response | booked)
    batch.records[kept_as] = batch.kept[kept_as] = answered


def _book(
    batch: Batch,
    reservation: OpenReservation,
    usage: Usage | Stated,
    outcome: Outcome | None,
    provider_id: str | None,
    attempt: int,
) -> Settled:
    """Charges what was used, once: a repeated settlement answers what the first one charged."""
    account, now = batch.accounts[reservation.organization_id], batch.time_of(reservation.organization_id)
    amount, late = reservation.hold.amount_micros, reservation.state != "pending"
    if reservation.charged_micros is not None:
        charged, available = reservation.charged_micros, account.balance.available_micros
        was_late = reservation.state != "settled"
        return Settled(charged, _cost(batch, reservation, usage), charged - amount, available, was_late, True)
    if isinstance(usage, Stated):
        charge, cost, used = usage.charge_micros if reservation.charged else 0, 0, Usage(0, 0)
    else:
        quote = _quote(batch, reservation)
        charge, cost, used = quote.charge_micros(usage), quote.cost_nanos(usage), usage
    if late:
        account.settle_late(reservation.id, charge, now, "system")
    else:
        account.settle(reservation.id, reservation.hold, charge, now, "system")
    for window_id, meter, taken in reservation.parts.windows:
        window_used = used.tokens if meter == "tokens" else taken
        batch.windows.settle(reservation.organization_id, window_id, 0 if late else taken, window_used)
    state = reservation.state if late else "settled"
    closed = _closed(batch, reservation, state, charge, outcome, attempt, None)
    batch.closed[reservation.organization_id, reservation.id] = replace(
        closed,
        stated=isinstance(usage, Stated),
        usage_id=ordered_id(batch.now, os.urandom(10)),
        recorded_at=batch.now,
        provider_id=provider_id,
        input_tokens=used.input_tokens,
        cached_input_tokens=used.cached_input_tokens,
        output_tokens=used.output_tokens,
        reasoning_tokens=used.reasoning_tokens,
        estimated=used.estimated,
        cost_nanos=cost,
    )
    return Settled(charge, cost, charge - amount, account.balance.available_micros, late, False)


def _cost(batch: Batch, reservation: OpenReservation, usage: Usage | Stated) -> int:
    return 0 if isinstance(usage, Stated) else _quote(batch, reservation).cost_nanos(usage)


def _release(batch: Batch, operation: Release) -> Released:
    reservation = _find(batch, operation.organization_id, operation.reservation_id)
    pending = reservation.state == "pending"
    if pending:
        _give_back(batch, reservation, "released", operation.outcome, 1, operation.reason)
        kept_as = record_key(operation)
        if kept_as is not None:
            batch.dropped.add(kept_as)
            batch.kept.pop(kept_as, None)
            batch.records.pop(kept_as, None)
    state = "settled" if reservation.charged_micros is not None else reservation.state
    return Released(state, batch.accounts[operation.organization_id].balance.available_micros, not pending)


def _give_back(
    batch: Batch, reservation: OpenReservation, state: str, outcome: Outcome | None, attempt: int, reason: str | None
) -> None:
    now = batch.time_of(reservation.organization_id)
    batch.accounts[reservation.organization_id].release(reservation.hold, now)
    for window_id, _, amount in reservation.parts.windows:
        batch.windows.settle(reservation.organization_id, window_id, amount, 0)
    said = outcome.error if outcome is not None else reason
    closed = _closed(batch, reservation, state, None, outcome, attempt, said)
    batch.closed[reservation.organization_id, reservation.id] = closed


def _closed(
    batch: Batch,
    reservation: OpenReservation,
    state: str,
    charge: int | None,
    outcome: Outcome | None,
    attempt: int,
    reason: str | None,
) -> calls.CallClosed:
    """Closes the working copy, so that a second operation of this batch finds it closed."""
    reservation.state, reservation.charged_micros = state, charge
    organization_id, now = reservation.organization_id, batch.time_of(reservation.organization_id)
    if outcome is None:
        return calls.CallClosed(organization_id, reservation.id, state, charge, now, reason)
    return calls.CallClosed(
        organization_id=organization_id,
        id=reservation.id,
        state=state,
        charged_micros=charge,
        closed_at=now,
        reason=reason,
        request_state=outcome.state,
        client_left=outcome.client_left,
        error=outcome.error,
        attempt=attempt,
        outcome={"done": "answered", "incomplete": "incomplete", "failed": "failed"}[outcome.state],
        status=outcome.status,
        first_token_ms=outcome.first_byte_ms,
        duration_ms=outcome.duration_ms,
    )


def _renew(batch: Batch, operation: Renew) -> Renewed:
    """A reservation that has been closed meanwhile is not opened again: its call will be settled late."""
    reservation = _find(batch, operation.organization_id, operation.reservation_id)
    if reservation.state == "pending":
        reservation.expires_at = _lease(batch, operation, reservation.expires_at)
        batch.renewed[operation.organization_id, reservation.id] = calls.Checkpoint(
            operation.organization_id, reservation.id, reservation.expires_at, operation.input_tokens,
            operation.output_tokens,
        )  # fmt: skip
    return Renewed(reservation.state, reservation.expires_at)


def _lease(batch: Batch, operation: Renew, until: datetime) -> datetime:
    """A renewal never shortens."""
    return max(until, batch.time_of(operation.organization_id) + operation.lease)


def _reap(batch: Batch, operation: Reap) -> bool:
    """What its process last wrote down is charged, flagged as estimated; a call without output is released."""
    reservation = _find(batch, operation.organization_id, operation.reservation_id)
    now = batch.time_of(operation.organization_id)
    if reservation.state != "pending" or reservation.expires_at > now:
        return False
    lost = batch.checkpoints.get((operation.organization_id, operation.reservation_id))
    if lost is None:  # the host application's own call, of which nothing is known here
        _give_back(batch, reservation, "expired", None, 1, "outlived its time")
    elif lost.output_tokens:
        usage = Usage(lost.input_tokens or 0, lost.output_tokens, estimated=True)
        _book(batch, reservation, usage, Outcome("incomplete", error=LOST), lost.provider_id, lost.number)
    else:
        _give_back(batch, reservation, "expired", Outcome("failed", error=LOST), lost.number, None)
    return True

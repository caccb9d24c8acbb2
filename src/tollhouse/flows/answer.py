"""What each operation does to the working copies of its batch, and what it is answered."""

import os
from dataclasses import replace
from typing import assert_never
from uuid import UUID

import msgspec

from tollhouse.core.admission import check_credential, decide
from tollhouse.core.ask import CreditsWant, Want
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
    Unauthenticated,
)
from tollhouse.core.explain import explain
from tollhouse.core.key import end_user_id, ordered_id
from tollhouse.core.limits import Takes
from tollhouse.core.price import Quote, Stated, Usage
from tollhouse.core.refusals import ModelNotAllowed, ModelNotFound
from tollhouse.flows.attempt import attempt, taken_from
from tollhouse.flows.batch import Batch, Desk, record_key
from tollhouse.flows.operation import (
    Admit,
    Admitted,
    Answered,
    AnyOperation,
    Attempt,
    Bearer,
    CatchUp,
    Explain,
    Keeps,
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
from tollhouse.store import attempt as attempts
from tollhouse.store import call as calls
from tollhouse.store.call import OpenReservation
from tollhouse.store.idempotency import Record, RecordKey

STATUS_RESERVED = 201
_NOTHING = Usage(0, 0)
_OF_THE_REQUEST = BadRequest | NotFound | ModelNotFound | ModelNotAllowed | Unauthenticated | Forbidden
_LOST = Outcome("incomplete", error="process lost")


def answer(batch: Batch, number: int, operation: AnyOperation) -> object:
    """The operation's result, or its refusal, which then has changed nothing."""
    desk = batch.desks.get(operation.organization_id)
    if desk is None:
        return NotFound("There is no such organisation.")
    try:
        match operation:
            case Admit():
                return _admit(batch, desk, number, operation)
            case Attempt():
                reservation = _find(desk, operation.reservation_id)
                attempt(batch, desk, reservation, batch.moves.get(number, Takes((), ())), operation)
                return None
            case Settle():
                _check_bearer(batch, desk, number, operation.bearer)
                return _settle(batch, desk, operation)
            case Release():
                _check_bearer(batch, desk, number, operation.bearer)
                return _release(batch, desk, operation)
            case Renew():
                _check_bearer(batch, desk, number, operation.bearer)
                return _renew(batch, desk, operation)
            case Explain():
                asked = batch.asked[number]
                return explain(operation.ask, asked.facts, asked.takes, desk.account, desk.windows, desk.rates)
            case Reap():
                return _reap(batch, desk, operation)
            case CatchUp():
                return None
    except TollhouseError as refusal:
        return refusal
    assert_never(operation)


def _check_bearer(batch: Batch, desk: Desk, number: int, bearer: Bearer | None) -> None:
    """What comes with a key is done only while the key works. A suspended organisation still settles: it was spent."""
    if bearer is not None:
        check_credential(bearer.credential, batch.keys[number], bearer.needs, desk.now)


def _admit(batch: Batch, desk: Desk, number: int, operation: Admit) -> Admitted | Replayed:
    asked, ask, kept_as = batch.asked[number], operation.ask, record_key(operation)
    if kept_as is not None:
        if ask.credential is not None:  # an answer is told again only while the key works
            check_credential(ask.credential, asked.facts.key, ask.needs, desk.now)
        known = batch.records.get(kept_as)
        if known is not None:
            return _replay(known, operation)
    try:
        admission = decide(ask, asked.facts, asked.takes, desk.account, desk.windows, desk.rates)
    except TollhouseError as refusal:
        if kept_as is not None and _stands(refusal):
            _keep(batch, kept_as, operation, refusal.status, _written(refusal), None)
        raise
    id_ = ordered_id(batch.now, os.urandom(10))
    amount, available = admission.hold.amount_micros, desk.account.balance.available_micros
    expires_at = desk.now + operation.lease
    admitted = Admitted(
        id_, operation.organization_id, admission, amount, available, desk.now, expires_at, batch.catalogue,
        Keeps(desk.locked.cache_ttl_s, desk.locked.stores_content),
    )  # fmt: skip
    _open(batch, operation, admitted)
    if kept_as is not None and operation.endpoint is None:
        reserved = Reserved.of(admitted, operation)
        _keep(batch, kept_as, operation, STATUS_RESERVED, msgspec.to_builtins(reserved), id_)
    elif kept_as is not None:
        _keep(batch, kept_as, operation, None, None, id_)
    return admitted


def _stands(refusal: TollhouseError) -> bool:
    """Whether the refusal is kept for those who ask again: not what is wrong with the request or its key, nor what has
    passed in a minute, nor a fault of ours."""
    return refusal.status < 500 and refusal.retry_after_s is None and not isinstance(refusal, _OF_THE_REQUEST)


def _open(batch: Batch, operation: Admit, admitted: Admitted) -> None:
    ask, admission = operation.ask, admitted.admission
    weighed, terms = admission.weighed, admission.weighed.terms
    taken = taken_from(weighed.windows, weighed.tokens, weighed.amount_micros)
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
            asked_model=terms.asked if terms and terms.capability is None else None,
            reason=terms.reason if terms else None,
            experiment_id=terms.experiment_id if terms else None,
            model_id=terms.model.id if terms else None,
            provider_id=route.provider_id if route else None,
            connection_id=route.connection.id if route and route.connection else None,
            own_key=route.own_key if route else False,
            input_tokens=_input_estimate(ask.want),
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


def _input_estimate(want: Want) -> int | None:
    """What is charged for the input of a call of which nothing more is ever heard."""
    return None if isinstance(want, CreditsWant) or want.size is None else want.size.input_estimate


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
        raise Conflict(f"The answer to the Idempotency-Key {key!r} broke off or was lost. Use another key.")
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


def _find(desk: Desk, reservation_id: UUID) -> OpenReservation:
    reservation = desk.reservations.get(reservation_id)
    if reservation is None:
        raise NotFound("There is no such reservation.")
    return reservation


def _quote(batch: Batch, reservation: OpenReservation, by: Answered | None) -> Quote:
    """The terms the reservation was made at, of the model that was asked last. Where the organisation pays the provider
    itself, or nobody does, a share of the charge is taken."""
    if reservation.model_id is None:
        raise BadRequest("This reservation was made in credits and has no price. Settle it in credits.", "usage")
    if by is not None and by.model_id != reservation.model_id:
        raise Conflict(f"This reservation is for {reservation.model_id!r}, and {by.model_id!r} was never attempted.")
    price = batch.catalogue.price_of(reservation.model_id, reservation.price_version)
    rate = next(one for one in batch.catalogue.rates if one.version == reservation.rate_version)
    shares = {"provider": 1000, "own_key": rate.own_key_permille, "cache": rate.cache_hit_permille}
    share = shares[by.origin if by else "provider"]
    return Quote(price, rate, reservation.multiplier_permille, reservation.charged, share)


def _settle(batch: Batch, desk: Desk, operation: Settle) -> Settled:
    reservation = _find(desk, operation.reservation_id)
    settled = _book(batch, desk, reservation, operation.usage, operation.outcome, operation.by)
    if operation.answer is not None and not settled.replayed:
        _keep_answer(batch, operation, settled)
    return settled


def _keep_answer(batch: Batch, operation: Settle, settled: Settled) -> None:
    """The record that ran is answered, unless it was forgotten meanwhile, or is that of another try."""
    kept_as = record_key(operation)
    known = batch.records.get(kept_as) if kept_as else None
    if kept_as is None or known is None or known.reservation_id != operation.reservation_id or not operation.answer:
        return
    booked = {
        "charged_micros": settled.charged_micros,
        "cost_nanos": settled.cost_nanos,
        "available_micros": settled.available_micros,
    }
    answered = replace(known, status=operation.answer.status, response=operation.answer.response | booked)
    batch.records[kept_as] = batch.kept[kept_as] = answered


def _book(
    batch: Batch,
    desk: Desk,
    reservation: OpenReservation,
    usage: Usage | Stated,
    outcome: Outcome | None,
    by: Answered | None,
) -> Settled:
    """Charges what was used, once: a repeated settlement answers what the first one charged."""
    account, amount = desk.account, reservation.amount_micros
    if isinstance(usage, Stated):
        charge, cost, used = usage.charge_micros if reservation.charged else 0, 0, _NOTHING
    else:
        quote = _quote(batch, reservation, by)
        charge, cost, used = quote.charge_micros(usage), quote.cost_nanos(usage), usage
        if by is not None and by.origin != "provider":
            cost = 0  # to us
    late = reservation.state != "pending"
    if reservation.charged_micros is not None:
        charged, late = reservation.charged_micros, reservation.state != "settled"
        return Settled(charged, cost, charged - amount, account.balance.available_micros, late, replayed=True)
    if late:
        account.settle_late(reservation.id, charge, desk.now, "system")
    else:
        account.settle(reservation.id, reservation.hold, charge, desk.now, "system")
        reservation.state = "settled"
    for window_id, meter, taken, _ in reservation.parts.windows:
        counted = used.tokens if meter == "tokens" else charge if meter == "credits" else taken
        desk.windows.settle(window_id, 0 if late else taken, counted)
    reservation.charged_micros = charge
    batch.closed[reservation.id] = calls.CallClosed(
        reservation.organization_id,
        reservation.id,
        reservation.state,
        charge,
        desk.now,
        None,
        *_ended(outcome, by.attempt if by else None),
        stated=isinstance(usage, Stated),
        usage_id=ordered_id(batch.now, os.urandom(10)),
        recorded_at=batch.now,
        provider_id=by.provider_id if by else None,
        input_tokens=used.input_tokens,
        cached_input_tokens=used.cached_input_tokens,
        output_tokens=used.output_tokens,
        reasoning_tokens=used.reasoning_tokens,
        estimated=used.estimated,
        cost_nanos=cost,
        cache_write_tokens=used.cache_write_tokens,
        origin=by.origin if by else "provider",
    )
    return Settled(charge, cost, charge - amount, account.balance.available_micros, late, replayed=False)


def _ended(outcome: Outcome | None, number: int | None) -> calls.Ended:
    """How the request and its attempt of this number, or else the last one, ended; of a call that the host application
    made there are none."""
    if outcome is None:
        return calls.Ended()
    return calls.Ended(
        outcome.state, outcome.client_left, outcome.error, number,
        {"done": "answered", "incomplete": "incomplete", "failed": "failed"}[outcome.state], outcome.status,
        outcome.first_byte_ms, outcome.duration_ms,
    )  # fmt: skip


def _release(batch: Batch, desk: Desk, operation: Release) -> Released:
    reservation = _find(desk, operation.reservation_id)
    pending = reservation.state == "pending"
    if pending:
        _give_back(batch, desk, reservation, "released", operation.outcome, operation.reason)
        kept_as = record_key(operation)
        if kept_as is not None:
            batch.dropped.add(kept_as)
            batch.kept.pop(kept_as, None)
            batch.records.pop(kept_as, None)
    state = "settled" if reservation.charged_micros is not None else reservation.state
    return Released(state, desk.account.balance.available_micros, not pending)


def _give_back(
    batch: Batch,
    desk: Desk,
    reservation: OpenReservation,
    state: str,
    outcome: Outcome | None,
    reason: str | None,
) -> None:
    desk.account.release(reservation.hold, desk.now)
    for part in reservation.parts.windows:
        desk.windows.settle(part.window_id, part.amount, 0)
    reservation.state = state
    said = outcome.error if outcome is not None else reason
    batch.closed[reservation.id] = calls.CallClosed(
        reservation.organization_id, reservation.id, state, None, desk.now, said, *_ended(outcome, None)
    )


def _renew(batch: Batch, desk: Desk, operation: Renew) -> Renewed:
    """A renewal never shortens. What has been closed meanwhile is not opened again: its call will be settled late."""
    reservation = _find(desk, operation.reservation_id)
    if reservation.state == "pending":
        reservation.expires_at = max(reservation.expires_at, desk.now + operation.lease)
        batch.renewed[reservation.id] = attempts.Checkpoint(
            operation.organization_id, reservation.id, reservation.expires_at, operation.input_tokens,
            operation.output_tokens,
        )  # fmt: skip
    return Renewed(reservation.state, reservation.expires_at)


def _reap(batch: Batch, desk: Desk, operation: Reap) -> bool:
    """What its process last wrote down is charged, flagged as estimated: its input at least, since the provider was
    called. What the host application calls by itself, and never came back for, is released."""
    reservation = _find(desk, operation.reservation_id)
    if reservation.state != "pending" or reservation.expires_at > desk.now:
        return False
    lost = desk.checkpoints.get(reservation.id)
    if lost is None:
        _give_back(batch, desk, reservation, "expired", None, "outlived its time")
    else:
        usage = Usage(lost.input_tokens or 0, lost.output_tokens or 0, estimated=True)
        by = Answered(lost.model_id, lost.provider_id, lost.number, "own_key" if lost.own_key else "provider")
        _book(batch, desk, reservation, usage, _LOST, by)
    return True

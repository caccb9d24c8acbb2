"""One batch of the teller: lock, read the facts of all operations, let the core decide one after another, write,
commit.

Two round trips as a rule: lock and facts; writes and commit. Nothing but SQL and the core's arithmetic happens while
the organisations are locked.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import assert_never
from uuid import UUID

from tollhouse.core.access import Admission, Catalogue, Facts, KeyFacts, counters_of, decide, takes_of
from tollhouse.core.credit import Account, MoreGrantsNeeded
from tollhouse.core.errors import NotFound, TollhouseError
from tollhouse.core.key import Mode, end_user_id, ordered_id
from tollhouse.core.price import Quote, Usage
from tollhouse.core.quota import Take, Windows
from tollhouse.flows.fund import catch_up
from tollhouse.flows.operation import (
    Admit,
    Admitted,
    AnyOperation,
    CatchUp,
    Outcome,
    Reap,
    Release,
    Renew,
    Settle,
    Settled,
)
from tollhouse.store import account as accounts
from tollhouse.store import call as calls
from tollhouse.store import catalogue as catalogues
from tollhouse.store import quota
from tollhouse.store.account import GrantRow, Locked
from tollhouse.store.call import CheckpointFound, OpenReservation
from tollhouse.store.db import TellerTx
from tollhouse.store.exchange import run

Key = tuple[UUID, UUID]
# How long a call may stay silent before it counts as lost; a running call renews well before.
LEASE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Asked:
    """One ask with its facts, and the windows that it may touch."""

    organization_id: UUID
    facts: Facts
    takes: list[Take]


@dataclass(slots=True)
class Batch:
    """The working copies of one transaction, and what must be written of it."""

    now: datetime
    mode: Mode
    catalogue: Catalogue
    organizations: dict[UUID, Locked]
    asked: dict[int, Asked] = field(default_factory=dict)
    reservations: dict[Key, OpenReservation] = field(default_factory=dict)
    checkpoints: dict[Key, CheckpointFound] = field(default_factory=dict)
    windows: Windows = field(default_factory=Windows)
    accounts: dict[UUID, Account] = field(default_factory=dict)
    opened: list[calls.CallOpened] = field(default_factory=list)
    closed: dict[Key, calls.CallClosed] = field(default_factory=dict)  # one row each: of several, the last
    renewed: dict[Key, calls.Checkpoint] = field(default_factory=dict)
    end_users: dict[UUID, calls.EndUserRow] = field(default_factory=dict)

    def time_of(self, organization_id: UUID) -> datetime:
        """The organisation's own time: real time, or ahead of it by its test clock."""
        offset = self.organizations[organization_id].clock_offset_micros
        return self.now + timedelta(microseconds=offset) if offset else self.now


async def serve(
    tx: TellerTx, operations: list[AnyOperation], now: datetime, catalogue: Catalogue | None, mode: Mode
) -> tuple[list[object], Catalogue]:
    """Serves the operations in one transaction and commits it. The answers are in their order, refusals among them as
    exceptions; the catalogue is for the next batch. After an error, giving the connection up is the rollback."""
    for grants_read in (accounts.GRANTS_READ, None):
        batch = await _load(tx, operations, now, catalogue, mode, grants_read)
        try:
            answers = [_answer(batch, number, operation) for number, operation in enumerate(operations)]
        except MoreGrantsNeeded:
            continue
        await _write(tx, batch)
        return answers, batch.catalogue
    raise AssertionError("all grants were loaded, and more were needed")


async def _load(
    tx: TellerTx,
    operations: list[AnyOperation],
    now: datetime,
    catalogue: Catalogue | None,
    mode: Mode,
    grants_read: int | None,
) -> Batch:
    """Locks the organisations and reads what the operations need, in one exchange as a rule: the windows that an ask
    will touch are guessed from the catalogue of the batch before, and what the guess missed is read afterwards."""
    ids = sorted({operation.organization_id for operation in operations})
    admits = {number: one for number, one in enumerate(operations) if isinstance(one, Admit)}
    asking = {one.organization_id for one in admits.values()}
    heads_of = ids if grants_read is None else sorted(asking)
    asks = [
        calls.AskRow(number, one.organization_id, one.ask.key_id, one.ask.subject_id, one.ask.model_id)
        for number, one in admits.items()
    ]
    closings = [(one.organization_id, one.reservation_id) for one in operations if not isinstance(one, Admit | CatchUp)]
    reaps = [(one.organization_id, one.reservation_id) for one in operations if isinstance(one, Reap)]
    guessed = _guess(admits.values(), catalogue, now)
    locked, found, opened, lost, windows, taken, heads, drawn = await run(
        tx,
        accounts.lock(ids),
        calls.ask_facts(asks, now),
        calls.reservations(closings),
        calls.checkpoints(reaps),
        quota.windows(guessed),
        quota.taken(closings),
        accounts.heads(heads_of, grants_read),
        accounts.drawn(closings),
    )
    organizations: dict[UUID, Locked] = {one.id: one for one in locked}
    if catalogue is None or any(one.catalogue_version != catalogue.version for one in locked):
        catalogue = await catalogues.load(tx)
    batch = Batch(now, mode, catalogue, organizations)
    batch.reservations = {(one.organization_id, one.id): one for one in opened}
    batch.checkpoints = {(one.organization_id, one.request_id): one for one in lost}
    if await _catch_up(tx, batch):
        heads, drawn = await run(tx, accounts.heads(heads_of, grants_read), accounts.drawn(closings))
    for row in found:
        admit = admits[row.n]
        if admit.organization_id in organizations:
            facts = _facts(batch, admit.organization_id, row)
            batch.asked[row.n] = Asked(admit.organization_id, facts, takes_of(admit.ask, facts))
    needed = {(asked.organization_id, take.window_id) for asked in batch.asked.values() for take in asked.takes}
    (missed,) = await run(tx, quota.windows(needed - guessed)) if needed - guessed else ([],)
    batch.windows = quota.working_copies([*windows, *taken, *missed])
    _open_accounts(batch, heads, drawn, asking, grants_read)
    return batch


def _guess(admits: Iterable[Admit], catalogue: Catalogue | None, now: datetime) -> set[Key]:
    """The windows that these asks will touch, as far as the catalogue of the batch before is still true and the
    organisation has no test clock."""
    if catalogue is None:
        return set()
    return {
        (one.organization_id, about.window_id)
        for one in admits
        if (model := catalogue.models.get(one.ask.model_id)) is not None
        for about in counters_of(one.ask, model, now)
    }


async def _catch_up(tx: TellerTx, batch: Batch) -> bool:
    """Whoever asks finds a balance of this moment: nothing depends on a job having run. Whether anything was due."""
    due = [id_ for id_, locked in batch.organizations.items() if locked.balance.next_due_at <= batch.time_of(id_)]
    for id_ in due:
        await catch_up(tx, batch.organizations[id_], batch.catalogue, batch.time_of(id_))
    if due:
        (locked,) = await run(tx, accounts.lock(due))
        batch.organizations |= {one.id: one for one in locked}
    return bool(due)


def _open_accounts(
    batch: Batch, heads: list[GrantRow], drawn: list[GrantRow], asking: set[UUID], grants_read: int | None
) -> None:
    """The accounts with the grants that were read: those that reservations being closed drew from, and for those who
    ask the head of the burn order. A settlement above its reservation needs more, and says so (MoreGrantsNeeded)."""
    for id_, locked in batch.organizations.items():
        batch.accounts[id_] = Account(locked.balance, {})
    for row in heads:
        batch.accounts[row.organization_id].grants[row.grant.id] = row.grant
    for id_, account in batch.accounts.items():
        if grants_read is not None and (id_ not in asking or len(account.grants) >= grants_read):
            account.known_to = max((grant.burn_key() for grant in account.grants.values()), default=())
    for row in drawn:
        batch.accounts[row.organization_id].grants.setdefault(row.grant.id, row.grant)


def _facts(batch: Batch, organization_id: UUID, row: calls.AskFacts) -> Facts:
    locked = batch.organizations[organization_id]
    key = None
    if row.mode is not None:
        key = KeyFacts(frozenset(row.scopes or ()), row.mode, row.expires_at, row.revoked_at)
    plan = batch.catalogue.plans[locked.plan_id]
    return Facts(batch.time_of(organization_id), plan, locked.suspended, key, row.entitled, batch.catalogue, batch.mode)


def _answer(batch: Batch, number: int, operation: AnyOperation) -> object:
    if operation.organization_id not in batch.organizations:
        return NotFound("There is no such organisation.")
    try:
        match operation:
            case Admit():
                return _admit(batch, number, operation)
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


def _admit(batch: Batch, number: int, operation: Admit) -> Admitted:
    organization_id = operation.organization_id
    asked, account, now = batch.asked[number], batch.accounts[organization_id], batch.time_of(organization_id)
    admission = decide(operation.ask, asked.facts, asked.takes, account, batch.windows)
    id_ = ordered_id(batch.now, os.urandom(10))
    _write_admission(batch, operation, admission, id_, now)
    amount, available = admission.hold.amount_micros, account.balance.available_micros
    return Admitted(id_, organization_id, admission, amount, available, now, batch.catalogue)


def _write_admission(batch: Batch, operation: Admit, admission: Admission, id_: UUID, now: datetime) -> None:
    ask, organization_id, quote = operation.ask, operation.organization_id, admission.quote
    taken = tuple((take.window_id, take.counter.meter, take.amount) for take in admission.takes)
    parts = calls.Parts(admission.hold.grants, admission.hold.overdraft_micros, taken)
    route = admission.route
    batch.opened.append(
        calls.CallOpened(
            organization_id=organization_id,
            id=id_,
            key_id=ask.key_id,
            subject_id=ask.subject_id,
            channel=ask.channel,
            endpoint=operation.endpoint,
            stream=operation.stream,
            model_id=admission.model.id,
            provider_id=route.provider_id,
            connection_id=route.connection.id if route.connection else None,
            price_version=quote.price.version,
            rate_version=quote.rate.version,
            multiplier_permille=quote.multiplier_permille,
            charged=quote.charged,
            trial=admission.trial,
            amount_micros=admission.hold.amount_micros,
            parts=parts,
            created_at=now,
            expires_at=now + LEASE,
        )
    )
    if operation.external_user is not None:
        user_id = end_user_id(organization_id, operation.external_user)
        batch.end_users[user_id] = calls.EndUserRow(organization_id, user_id, operation.external_user, now)


def _find(batch: Batch, organization_id: UUID, reservation_id: UUID) -> OpenReservation:
    reservation = batch.reservations.get((organization_id, reservation_id))
    if reservation is None:
        raise NotFound("There is no such reservation.")
    return reservation


def _quote(batch: Batch, reservation: OpenReservation) -> Quote:
    """The terms the reservation was made at."""
    prices = batch.catalogue.prices[reservation.model_id or ""]
    price = next(one for one in prices if one.version == reservation.price_version)
    rate = next(one for one in batch.catalogue.rates if one.version == reservation.rate_version)
    return Quote(price, rate, reservation.multiplier_permille, reservation.charged)


def _settle(batch: Batch, operation: Settle) -> Settled:
    reservation = _find(batch, operation.organization_id, operation.reservation_id)
    return _book(batch, reservation, operation.usage, operation.outcome, operation.provider_id, 1)


def _book(
    batch: Batch, reservation: OpenReservation, usage: Usage, outcome: Outcome, provider_id: str, attempt: int
) -> Settled:
    """Charges what was used, once: a repeated settlement answers what the first one charged."""
    account, now = batch.accounts[reservation.organization_id], batch.time_of(reservation.organization_id)
    quote = _quote(batch, reservation)
    cost = quote.cost_nanos(usage)
    if reservation.charged_micros is not None:
        return Settled(reservation.charged_micros, cost, account.balance.available_micros, True)
    charge, late = quote.charge_micros(usage), reservation.state != "pending"
    if late:
        account.settle_late(reservation.id, charge, now, "system")
    else:
        account.settle(reservation.id, reservation.hold, charge, now, "system")
    for window_id, meter, amount in reservation.parts.windows:
        used = usage.tokens if meter == "tokens" else amount
        batch.windows.settle(reservation.organization_id, window_id, 0 if late else amount, used)
    state = reservation.state if late else "settled"
    closed = _closed(batch, reservation, state, charge, outcome, attempt, None)
    batch.closed[reservation.organization_id, reservation.id] = replace(
        closed,
        usage_id=ordered_id(batch.now, os.urandom(10)),
        recorded_at=batch.now,
        provider_id=provider_id,
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        estimated=usage.estimated,
        cost_nanos=cost,
    )
    return Settled(charge, cost, account.balance.available_micros, False)


def _release(batch: Batch, operation: Release) -> int:
    reservation = _find(batch, operation.organization_id, operation.reservation_id)
    if reservation.state == "pending":
        _give_back(batch, reservation, "released", operation.outcome, 1)
    return batch.accounts[operation.organization_id].balance.available_micros


def _give_back(batch: Batch, reservation: OpenReservation, state: str, outcome: Outcome, attempt: int) -> None:
    now = batch.time_of(reservation.organization_id)
    batch.accounts[reservation.organization_id].release(reservation.hold, now)
    for window_id, _, amount in reservation.parts.windows:
        batch.windows.settle(reservation.organization_id, window_id, amount, 0)
    closed = _closed(batch, reservation, state, None, outcome, attempt, outcome.error)
    batch.closed[reservation.organization_id, reservation.id] = closed


def _closed(
    batch: Batch,
    reservation: OpenReservation,
    state: str,
    charge: int | None,
    outcome: Outcome,
    attempt: int,
    reason: str | None,
) -> calls.CallClosed:
    """Closes the working copy, so that a second operation of this batch finds it closed."""
    reservation.state, reservation.charged_micros = state, charge
    return calls.CallClosed(
        organization_id=reservation.organization_id,
        id=reservation.id,
        state=state,
        charged_micros=charge,
        closed_at=batch.time_of(reservation.organization_id),
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


def _renew(batch: Batch, operation: Renew) -> datetime:
    """A reservation that has been closed meanwhile is not opened again: its call will be settled late."""
    reservation = _find(batch, operation.organization_id, operation.reservation_id)
    expires_at = batch.time_of(operation.organization_id) + LEASE
    if reservation.state == "pending":
        batch.renewed[operation.organization_id, reservation.id] = calls.Checkpoint(
            operation.organization_id, reservation.id, expires_at, operation.input_tokens, operation.output_tokens
        )
        reservation.expires_at = expires_at
    return reservation.expires_at


def _reap(batch: Batch, operation: Reap) -> bool:
    """What its process last wrote down is charged, flagged as estimated; a call without output is released."""
    reservation = _find(batch, operation.organization_id, operation.reservation_id)
    now = batch.time_of(operation.organization_id)
    if reservation.state != "pending" or reservation.expires_at > now:
        return False
    lost = batch.checkpoints.get((operation.organization_id, operation.reservation_id))
    if lost is not None and lost.output_tokens:
        usage = Usage(lost.input_tokens or 0, lost.output_tokens, estimated=True)
        _book(batch, reservation, usage, Outcome("incomplete", error="process lost"), lost.provider_id, lost.number)
    else:
        _give_back(batch, reservation, "expired", Outcome("failed", error="process lost"), lost.number if lost else 1)
    return True


async def _write(tx: TellerTx, batch: Batch) -> None:
    await run(
        tx,
        accounts.writes(batch.accounts.values(), batch.windows),
        calls.insert_end_users(batch.end_users.values()),
        calls.open_calls(batch.opened),
        calls.close_calls(batch.closed.values()),
        calls.write_checkpoints(batch.renewed.values()),
        commit=True,
    )

"""One batch of the teller: the working copies of one transaction. Loaded under the organisations' locks, changed by
what is answered (flows/answer.py), written and committed.

Two round trips as a rule: lock and facts; writes and commit. Nothing but SQL and the core's arithmetic happens while
the organisations are locked.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from tollhouse.core.ask import Ask, CallWant, Credential, Facts, KeyFacts, Size
from tollhouse.core.catalogue import Catalogue
from tollhouse.core.choice import in_question
from tollhouse.core.credit import Account
from tollhouse.core.key import Mode
from tollhouse.core.limits import Takes, counters_of, rates_of, takes_of, takes_of_model
from tollhouse.core.notice import crossed
from tollhouse.core.quota import Window, Windows
from tollhouse.core.rate import Rate, Rates
from tollhouse.flows.fund import catch_up
from tollhouse.flows.operation import Admit, AnyOperation, Attempt, Explain, Reap, Release, Renew, Settle
from tollhouse.store import account as accounts
from tollhouse.store import attempt as attempts
from tollhouse.store import call as calls
from tollhouse.store import catalogue as catalogues
from tollhouse.store import idempotency, quota
from tollhouse.store import notice as notices
from tollhouse.store.account import GrantRow, Locked
from tollhouse.store.attempt import CheckpointFound
from tollhouse.store.call import OpenReservation
from tollhouse.store.db import TellerTx
from tollhouse.store.exchange import run
from tollhouse.store.idempotency import Record, RecordKey

Key = tuple[UUID, UUID]


@dataclass(frozen=True, slots=True)
class Asked:
    """The facts of one ask, and what it takes from which counter."""

    facts: Facts
    takes: Takes


@dataclass(slots=True)
class Desk:
    """One organisation under its lock: the working copies of what is its own, at `now`, its own time: real time, or
    ahead of it by its test clock."""

    locked: Locked
    now: datetime
    account: Account
    available_before: int
    windows: Windows = field(default_factory=Windows)
    rates: Rates = field(default_factory=Rates)
    reservations: dict[UUID, OpenReservation] = field(default_factory=dict)
    checkpoints: dict[UUID, CheckpointFound] = field(default_factory=dict)


@dataclass(slots=True)
class Batch:
    """The desks of one transaction, and what must be written of it."""

    now: datetime
    mode: Mode
    catalogue: Catalogue
    desks: dict[UUID, Desk]
    keys: dict[int, KeyFacts | None] = field(default_factory=dict)  # by number of the operation
    asked: dict[int, Asked] = field(default_factory=dict)
    moves: dict[int, Takes] = field(default_factory=dict)  # what an attempt at another model takes of that one's
    records: dict[RecordKey, Record] = field(default_factory=dict)
    opened: list[calls.CallOpened] = field(default_factory=list)
    attempted: dict[UUID, attempts.AttemptOpened] = field(default_factory=dict)
    closed: dict[UUID, calls.CallClosed] = field(default_factory=dict)  # one row each: of several, the last
    renewed: dict[UUID, attempts.Checkpoint] = field(default_factory=dict)
    end_users: dict[UUID, calls.EndUserRow] = field(default_factory=dict)
    kept: dict[RecordKey, Record] = field(default_factory=dict)
    dropped: set[RecordKey] = field(default_factory=set)


async def load(
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
    asks = {number: one.ask for number, one in enumerate(operations) if isinstance(one, Admit | Explain)}
    asking = {one.organization_id for one in asks.values()}
    heads_of = ids if grants_read is None else sorted(asking)
    closings = [
        (one.organization_id, one.reservation_id)
        for one in operations
        if isinstance(one, Attempt | Settle | Release | Renew | Reap)
    ]
    reaps = [(one.organization_id, one.reservation_id) for one in operations if isinstance(one, Reap)]
    guessed = _guess(asks.values(), catalogue, now)
    rates = {(ask.organization_id, id_) for ask in asks.values() for id_ in rates_of(ask)}
    looked_up = [*_ask_rows(asks, catalogue), *_bearer_rows(operations)]
    _, locked, found, closing, lost, windows, minutes, heads, records = await run(
        tx,
        accounts.lock(ids),
        accounts.locked(ids),
        calls.ask_facts(looked_up, now),
        calls.closings(closings),
        attempts.checkpoints(reaps),
        quota.windows(guessed),
        quota.rates(rates),
        accounts.heads(heads_of, grants_read),
        idempotency.records({key for one in operations if (key := record_key(one)) is not None}),
    )
    if catalogue is None or any(one.catalogue_version != catalogue.version for one in locked):
        catalogue = await catalogues.load(tx)
        if (now_in_question := [*_ask_rows(asks, catalogue), *_bearer_rows(operations)]) != looked_up:
            (found,) = await run(tx, calls.ask_facts(now_in_question, now))
    drawn: list[GrantRow] = closing[0].grants if closing else []
    if due := [one for one in locked if one.balance.next_due_at <= _own_time(one, now)]:
        # whoever asks finds a balance of this moment: nothing depends on a job having run
        for one in due:
            await catch_up(tx, one, catalogue, _own_time(one, now))
        locked, heads, drawn = await run(
            tx, accounts.locked(ids), accounts.heads(heads_of, grants_read), accounts.drawn(closings)
        )
    batch = Batch(now, mode, catalogue, {one.id: _open(one, now) for one in locked})
    batch.records = {RecordKey(one.organization_id, one.endpoint, one.key): one for one in records}
    for row in closing[0].reservations if closing else ():
        batch.desks[row.organization_id].reservations[row.id] = row
    if moving := list(_moving_rows(batch, operations)):
        found += (await run(tx, calls.ask_facts(moving, now)))[0]
    wanted = _find_takes(batch, operations, asks, found)
    missed_windows = {(id_, take.counter.window_id) for id_, takes in wanted for take in takes.windows} - guessed
    missed_rates = {(id_, take.rate_id) for id_, takes in wanted for take in takes.rates} - rates
    if missed_windows or missed_rates:
        more, more_minutes = await run(tx, quota.windows(missed_windows), quota.rates(missed_rates))
        windows, minutes = windows + more, minutes + more_minutes
    for row in [*windows, *(closing[0].windows if closing else ())]:
        batch.desks[row.organization_id].windows.by_id[row.id] = Window(None, row.used, row.reserved)
    for row in minutes:
        batch.desks[row.organization_id].rates.by_id[row.id] = Rate(row.subject_id, row.seconds)
    for row in lost:
        batch.desks[row.organization_id].checkpoints[row.request_id] = row
    _fill_accounts(batch, heads, drawn, asking, grants_read)
    return batch


async def write(tx: TellerTx, batch: Batch) -> None:
    """Writes what was changed and commits."""
    told = [
        notice for desk in batch.desks.values() for notice in crossed(desk.account, desk.available_before, desk.now)
    ]
    changed = quota.changed({id_: desk.windows for id_, desk in batch.desks.items()})
    await run(
        tx,
        accounts.writes((desk.account for desk in batch.desks.values()), changed),
        quota.write_rates({id_: desk.rates for id_, desk in batch.desks.items()}),
        calls.insert_end_users(batch.end_users.values()),
        calls.open_calls(batch.opened),
        attempts.open_attempts(batch.attempted.values()),
        calls.close_calls(batch.closed.values()),
        attempts.write_checkpoints(batch.renewed.values()),
        idempotency.keep(batch.kept.values()),
        idempotency.drop(batch.dropped),
        notices.insert(told),
        commit=True,
    )


def record_key(operation: AnyOperation) -> RecordKey | None:
    """The idempotency record that the operation is about, if any."""
    match operation:
        case Admit(once=once) | Release(once=once) if once is not None:
            return RecordKey(operation.organization_id, once.endpoint, once.key)
        case Settle(answer=answer) if answer is not None:
            return RecordKey(operation.organization_id, answer.once.endpoint, answer.once.key)
        case _:
            return None


def _find_takes(
    batch: Batch, operations: list[AnyOperation], asks: dict[int, Ask], found: list[calls.AskFacts]
) -> list[tuple[UUID, Takes]]:
    """The facts of each ask; and by organisation what asks and attempts will take from which windows and rates."""
    batch.keys = {row.n: key_facts(row) for row in found}
    for row in found:
        ask = asks.get(row.n)
        if ask is not None and (desk := batch.desks.get(ask.organization_id)) is not None:
            facts = _facts(batch, desk, row)
            batch.asked[row.n] = Asked(facts, takes_of(ask, facts))
    batch.moves = dict(_moves(batch, operations))
    wanted = [(asks[number].organization_id, one) for number, asked in batch.asked.items() for one in asked.takes.each]
    return wanted + [(operations[number].organization_id, takes) for number, takes in batch.moves.items()]


def _ask_rows(asks: dict[int, Ask], catalogue: Catalogue | None) -> Iterator[calls.AskRow]:
    for number, ask in asks.items():
        models = in_question(ask, catalogue) if catalogue is not None else ()
        yield calls.AskRow(
            number, ask.organization_id, ask.credential.id if ask.credential else None, ask.subject_id, models
        )


def _bearer_rows(operations: list[AnyOperation]) -> Iterator[calls.AskRow]:
    for number, one in enumerate(operations):
        if isinstance(one, Settle | Release | Renew) and one.bearer is not None:
            yield calls.AskRow(number, one.organization_id, one.bearer.credential.id, one.organization_id)


def _moving_rows(batch: Batch, operations: list[AnyOperation]) -> Iterator[calls.AskRow]:
    """The keys of those that attempt another model, where limits count what a key calls of one model: it may count as
    another key."""
    for number, one in enumerate(operations):
        desk = batch.desks.get(one.organization_id)
        if not isinstance(one, Attempt) or desk is None:
            continue
        reservation = desk.reservations.get(one.reservation_id)
        if reservation is not None and any(rule.scope == "key" and rule.model_id for rule in desk.locked.rules):
            yield calls.AskRow(number, one.organization_id, reservation.key_id, one.organization_id)


def _moves(batch: Batch, operations: list[AnyOperation]) -> Iterator[tuple[int, Takes]]:
    """Of each attempt at another model than that of its reservation what it takes that is bound to this model, in the
    windows in which the call began. A use of a capability takes nothing that is."""
    for number, one in enumerate(operations):
        desk = batch.desks.get(one.organization_id)
        if not isinstance(one, Attempt) or desk is None:
            continue
        reservation, model = desk.reservations.get(one.reservation_id), batch.catalogue.models.get(one.model_id)
        if reservation is None or model is None or reservation.capability or reservation.model_id == model.id:
            continue
        credential = Credential("key", reservation.key_id) if reservation.key_id else None
        want = CallWant(model.id, Size(0, 0))
        ask = Ask(one.organization_id, credential, reservation.subject_id, reservation.channel, want)
        locked, unlocked = desk.locked, frozenset({model.id})  # no candidate is asked that is not
        plan = batch.catalogue.plans[locked.plan_id]
        began = reservation.created_at
        key = batch.keys.get(number)
        facts = Facts(began, plan, locked.suspended, key, unlocked, batch.catalogue, batch.mode, locked.rules)
        yield number, takes_of_model(ask, model, facts)


def _guess(asks: Iterable[Ask], catalogue: Catalogue | None, now: datetime) -> set[Key]:
    """The windows that these asks will touch, as far as the catalogue of the batch before is still true and the
    organisation has no test clock and no rules of its own."""
    if catalogue is None:
        return set()
    return {(ask.organization_id, about.window_id) for ask in asks for about in counters_of(ask, catalogue, now)}


def _own_time(locked: Locked, now: datetime) -> datetime:
    return now + timedelta(microseconds=locked.clock_offset_micros) if locked.clock_offset_micros else now


def _open(locked: Locked, now: datetime) -> Desk:
    return Desk(locked, _own_time(locked, now), Account(locked.balance, {}), locked.balance.available_micros)


def _fill_accounts(
    batch: Batch, heads: list[GrantRow], drawn: list[GrantRow], asking: set[UUID], grants_read: int | None
) -> None:
    """The grants that were read: those that reservations being closed drew from, and for those who ask the head of the
    burn order. A settlement above its reservation needs more, and says so (MoreGrantsNeeded)."""
    for row in heads:
        batch.desks[row.organization_id].account.grants[row.grant.id] = row.grant
    for id_, desk in batch.desks.items():
        account = desk.account
        if grants_read is not None and (id_ not in asking or len(account.grants) >= grants_read):
            account.known_to = max((grant.burn_key() for grant in account.grants.values()), default=())
    for row in drawn:
        batch.desks[row.organization_id].account.grants.setdefault(row.grant.id, row.grant)


def _facts(batch: Batch, desk: Desk, row: calls.AskFacts) -> Facts:
    locked, key = desk.locked, batch.keys[row.n]
    plan = batch.catalogue.plans[locked.plan_id]
    return Facts(desk.now, plan, locked.suspended, key, row.entitled, batch.catalogue, batch.mode, locked.rules)


def key_facts(row: calls.AskFacts) -> KeyFacts | None:
    """What was come with; None when it counts no more."""
    if row.scopes is None:
        return None
    return KeyFacts(
        frozenset(row.scopes), row.mode, row.expires_at, row.revoked_at, row.model_ids, row.counts_as, row.networks
    )

"""What goes out: credits as decimal strings, times as RFC 3339 in UTC."""

from datetime import date, datetime
from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel

from tollhouse.core.credit import Balance, Grant, by_source
from tollhouse.core.money import format_credits
from tollhouse.core.notice import Kind, Notice
from tollhouse.flows.order import Given, Overview
from tollhouse.store.credit import Page, Statement, TransactionRow
from tollhouse.store.entitlement import Entitlement
from tollhouse.store.proof import Failure

MONTHLY = frozenset({"plan", "plan_change"})
BONUS = frozenset({"welcome", "promo", "topup", "adjustment"})


class GrantView(BaseModel):
    id: UUID
    source: str
    amount: str
    remaining: str
    reserved: str
    priority: int
    paid: bool
    effective_at: datetime
    expires_at: datetime | None
    note: str

    @classmethod
    def of(cls, grant: Grant) -> Self:
        return cls(
            id=grant.id,
            source=grant.source,
            amount=format_credits(grant.amount_micros),
            remaining=format_credits(grant.remaining_micros),
            reserved=format_credits(grant.reserved_micros),
            priority=grant.priority,
            paid=grant.paid,
            effective_at=grant.effective_at,
            expires_at=grant.expires_at,
            note=grant.note,
        )


class TotalsView(BaseModel):
    """`available` may be below zero: that is debt. `spendable` is the most that the next call may reserve."""

    available: str
    spendable: str
    reserved: str
    debt: str
    overdraft_limit: str
    period_start: datetime
    period_end: datetime

    @classmethod
    def of(cls, balance: Balance) -> Self:
        return cls(
            available=format_credits(balance.available_micros),
            spendable=format_credits(balance.spendable_micros),
            reserved=format_credits(balance.held_micros),
            debt=format_credits(balance.debt_micros),
            overdraft_limit=format_credits(balance.overdraft_limit_micros),
            period_start=balance.period_start,
            period_end=balance.period_end,
        )


class BalanceView(TotalsView):
    """`monthly` and `bonus` are what the grants still hold, reserved parts included; `grants` in the order of their
    use."""

    monthly: str
    bonus: str
    used_this_period: str
    grants: list[GrantView]

    @classmethod
    def of_statement(cls, statement: Statement, *, notes: bool) -> Self:
        """`notes` False: what operators wrote about the grants is left out."""
        grants = [GrantView.of(grant) for grant in statement.grants]
        if not notes:
            grants = [grant.model_copy(update={"note": ""}) for grant in grants]
        return cls(
            **TotalsView.of(statement.balance).model_dump(),
            monthly=format_credits(by_source(statement.grants, MONTHLY)),
            bonus=format_credits(by_source(statement.grants, BONUS)),
            used_this_period=format_credits(statement.used_this_period_micros),
            grants=grants,
        )


class TransactionView(BaseModel):
    """`estimation_variance` is what a call was charged less what was reserved for it, on the first row of its
    settlement."""

    id: UUID
    seq: int
    type: str
    amount: str
    balance_after: str
    grant_id: UUID | None
    reservation_id: UUID | None
    capability: str | None
    quality: str | None
    model: str | None
    user: str | None
    estimation_variance: str | None
    note: str
    created_at: datetime

    @classmethod
    def of(cls, row: TransactionRow) -> Self:
        variance = row.estimation_variance_micros
        return cls(
            id=row.id,
            seq=row.seq,
            type=row.type,
            amount=format_credits(row.amount_micros),
            balance_after=format_credits(row.balance_after_micros),
            grant_id=row.grant_id,
            reservation_id=row.reservation_id,
            capability=row.capability,
            quality=row.quality,
            model=row.model,
            user=row.user,
            estimation_variance=None if variance is None else format_credits(variance),
            note=row.note,
            created_at=row.created_at,
        )


class TransactionsView(BaseModel):
    """Newest first. `next_cursor` null: this was the last page."""

    items: list[TransactionView]
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page) -> Self:
        return cls(items=[TransactionView.of(row) for row in page.items], next_cursor=page.next_cursor)


class NoticeView(BaseModel):
    """`low_balance`: below `threshold`, a fifth of the monthly credits. `depleted`: at most `threshold`, one credit.
    At most one of a kind a day; `day` and `created_at` are of the organisation's own time."""

    kind: Kind
    day: date
    available: str
    threshold: str
    created_at: datetime

    @classmethod
    def of(cls, row: Notice) -> Self:
        return cls(
            kind=row.kind,
            day=row.day,
            available=format_credits(row.available_micros),
            threshold=format_credits(row.threshold_micros),
            created_at=row.created_at,
        )


class NoticesView(BaseModel):
    """Newest first, at most a hundred."""

    items: list[NoticeView]

    @classmethod
    def of(cls, rows: list[Notice]) -> Self:
        return cls(items=[NoticeView.of(row) for row in rows])


class OrganizationView(BaseModel):
    """`now` is the organisation's own time; `pending_plan` takes effect at the end of the period."""

    id: UUID
    name: str
    kind: str
    business_type: str
    plan: str
    pending_plan: str | None
    period_anchor: datetime
    now: datetime
    suspended_at: datetime | None
    created_at: datetime
    balance: TotalsView

    @classmethod
    def of(cls, overview: Overview) -> Self:
        organization = overview.organization
        return cls(
            id=organization.id,
            name=organization.name,
            kind=organization.kind,
            business_type=organization.business_type,
            plan=organization.plan_id,
            pending_plan=organization.pending_plan_id,
            period_anchor=organization.period_anchor,
            now=overview.now,
            suspended_at=organization.suspended_at,
            created_at=organization.created_at,
            balance=TotalsView.of(overview.balance),
        )


class GivenView(GrantView):
    """The grant, and what the organisation has with it."""

    available: str
    spendable: str

    @classmethod
    def of_given(cls, given: Given) -> Self:
        return cls(
            **GrantView.of(given.grant).model_dump(),
            available=format_credits(given.available_micros),
            spendable=format_credits(given.spendable_micros),
        )


class EntitlementView(BaseModel):
    """`subject_id` null: everybody in the organisation."""

    id: UUID
    organization_id: UUID
    subject_id: UUID | None
    model_id: str
    source: str
    note: str
    starts_at: datetime
    expires_at: datetime | None

    @classmethod
    def of(cls, row: Entitlement) -> Self:
        return cls.model_validate(row, from_attributes=True)


class ClockView(BaseModel):
    """`reaped`: how many calls were still open and had outlived their lease."""

    id: UUID
    now: datetime
    reaped: int
    balance: TotalsView


class FailureView(BaseModel):
    """An invariant that does not hold, with the first rows that break it."""

    number: int
    statement: str
    rows: list[dict[str, str | None]]


class ProofView(BaseModel):
    ok: bool
    failures: list[FailureView]

    @classmethod
    def of(cls, failures: list[Failure]) -> Self:
        views = [
            FailureView(
                number=failure.number,
                statement=failure.statement,
                rows=[
                    {name: None if cell is None else str(cell) for name, cell in row.items()} for row in failure.rows
                ],
            )
            for failure in failures
        ]
        return cls(ok=not views, failures=views)


class FieldErrorView(BaseModel):
    location: Literal["body", "query", "header", "path"]
    field: str
    message: str


class ProblemView(BaseModel):
    """RFC 9457. `code` says what it is, `detail` what helps; further members depend on the code."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldErrorView]

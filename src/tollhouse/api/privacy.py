"""Exports and erasures: by people of their own account, by an organisation of what it has of its members and end users,
by operators of either. They are done by a job, a few minutes after they were ordered."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tollhouse.api.body import Body, EndUser, Id, StrictRoute
from tollhouse.api.caller import Acting, Allowed, InPerson, Operator
from tollhouse.api.state import Shared, State
from tollhouse.core.cursor import cursor_of, id_in
from tollhouse.core.errors import NotFound
from tollhouse.core.privacy import Kind, SubjectKind
from tollhouse.core.privacy import State as TaskState
from tollhouse.core.session import check_own, check_proved
from tollhouse.flows import privacy as flow
from tollhouse.flows.auth import require_person
from tollhouse.flows.order import Order
from tollhouse.store import privacy
from tollhouse.store.catalogue import PLATFORM_ID
from tollhouse.store.privacy import Task

router = APIRouter(prefix="/api/privacy", tags=["privacy"], route_class=StrictRoute)
operator_router = APIRouter(prefix="/api/operator/privacy", tags=["operator"], route_class=StrictRoute)

Oneself = Annotated[Acting, Depends(InPerson())]
Officer = Annotated[Acting, Depends(Allowed("privacy.manage"))]


class EraseBody(Body):
    """`email` is the address of the account that is erased, typed again."""

    email: Annotated[str, Field(min_length=1, max_length=254)]


class TaskBody(Body):
    """`member` is the id of a person who belongs to the organisation or did, `user` the host application's id of an end
    user: one of the two."""

    kind: Kind
    member: Id | None = None
    user: EndUser | None = None

    @model_validator(mode="after")
    def one_of_two(self) -> Self:
        if (self.member is None) == (self.user is None):
            raise ValueError("name a member or a user, and not both")
        return self

    def whom(self) -> flow.Whom:
        return flow.Whom(self.member, self.user)


class OperatorTaskBody(Body):
    """`person` alone: all of the person's account. With `organization_id`: what that organisation has of a `person` or
    of a `user`, an end user by the host application's id."""

    kind: Kind
    person: Id | None = None
    organization_id: Id | None = None
    user: EndUser | None = None

    @model_validator(mode="after")
    def somebody(self) -> Self:
        if (self.person is None) == (self.user is None):
            raise ValueError("name a person or a user, and not both")
        if self.user is not None and self.organization_id is None:
            raise ValueError("a user belongs to an organisation: name organization_id as well")
        return self


class TasksQuery(BaseModel):
    """`cursor` is the `next_cursor` of the page before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=100)] = None


class OperatorTasksQuery(TasksQuery):
    """With `person`: what was ordered for that account. Else for what the organisation has of its own."""

    organization_id: Id | None = None
    person: Id | None = None


class TaskView(BaseModel):
    """`account`: of a whole account. `result_until`: until then the file of an export can be read."""

    id: UUID
    organization_id: UUID
    kind: Kind
    subject_kind: SubjectKind
    subject_id: UUID
    account: bool
    state: TaskState
    steps_done: int
    steps: int
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None
    error: str | None
    result_until: datetime | None

    @classmethod
    def of(cls, task: Task) -> Self:
        return cls.model_validate(task, from_attributes=True)


class TasksView(BaseModel):
    """Newest first. `next_cursor` null: this was the last page."""

    items: list[TaskView]
    next_cursor: str | None

    @classmethod
    def of(cls, found: list[Task], limit: int) -> Self:
        items = found[:limit]
        more = cursor_of("privacy", str(items[-1].id)) if len(found) > limit else None
        return cls(items=[TaskView.of(task) for task in items], next_cursor=more)


# ---------------------------------------------------------------------------------------------------- one's own account


@router.post("/export", status_code=202, summary="Have a file made of all that is known of you")
async def export_own(state: Shared, acting: Oneself) -> TaskView:
    signed = require_person(acting.caller)
    check_own(signed)
    return TaskView.of(await flow.order_own(state.db, acting.order, signed.person_id, "export"))


@router.post("/erase", status_code=202, summary="Erase your account, and what you said, for good")
async def erase_own(state: Shared, acting: Oneself, body: EraseBody) -> TaskView:
    signed = require_person(acting.caller)
    check_proved(signed, acting.order.now)
    return TaskView.of(await flow.order_own(state.db, acting.order, signed.person_id, "erasure", body.email))


@router.get("/own", summary="What was ordered for your account, newest first")
async def read_own(state: Shared, acting: Oneself, query: Annotated[TasksQuery, Query()]) -> TasksView:
    signed = require_person(acting.caller)
    check_own(signed)
    before = id_in("privacy", query.cursor)
    return TasksView.of(await flow.own_tasks(state.db, signed.person_id, before, query.limit + 1), query.limit)


@router.get("/own/{task_id}/file", summary="The file, until seven days later", response_class=StreamingResponse)
async def download_own(state: Shared, acting: Oneself, task_id: UUID) -> StreamingResponse:
    signed = require_person(acting.caller)
    check_own(signed)
    task = await flow.open_own_result(state.db, acting.order, signed.person_id, task_id)
    return _file(state, acting.order, task)


# ------------------------------------------------------------------------------------------------- by an organisation


@router.post("/tasks", status_code=202, summary="Export or erase what the organisation has of one of its own")
async def order_task(state: Shared, officer: Officer, body: TaskBody) -> TaskView:
    if officer.caller.signed is not None and body.kind == "erasure":
        check_proved(officer.caller.signed, officer.order.now)
    return TaskView.of(await flow.order_of(state.db, officer.order, officer.organization_id, body.kind, body.whom()))


@router.get("/tasks", summary="What was ordered, newest first")
async def read_tasks(state: Shared, officer: Officer, query: Annotated[TasksQuery, Query()]) -> TasksView:
    before = id_in("privacy", query.cursor)
    async with state.db.tenant(officer.organization_id) as tx:
        found = await privacy.of(tx, officer.organization_id, None, before, query.limit + 1)
    return TasksView.of(found, query.limit)


@router.get("/tasks/{task_id}", summary="How far it has come")
async def read_task(state: Shared, officer: Officer, task_id: UUID) -> TaskView:
    async with state.db.tenant(officer.organization_id) as tx:
        task = await privacy.one(tx, officer.organization_id, task_id)
    if task is None or task.account:
        raise NotFound("There is no such task.")
    return TaskView.of(task)


@router.get("/tasks/{task_id}/file", summary="The file of an export", response_class=StreamingResponse)
async def download(state: Shared, officer: Officer, task_id: UUID) -> StreamingResponse:
    task = await flow.open_result(state.db, officer.order, officer.organization_id, task_id)
    return _file(state, officer.order, task)


# -------------------------------------------------------------------------------------------------------- by operators


@operator_router.post("/tasks", status_code=202, summary="Export or erase an account, an organisation's member or user")
async def order_any_task(state: Shared, order: Operator, body: OperatorTaskBody) -> TaskView:
    if body.organization_id is None:
        assert body.person is not None
        return TaskView.of(await flow.order_account(state.db, order, body.kind, body.person))
    whom = flow.Whom(body.person, body.user)
    return TaskView.of(await flow.order_of(state.db, order, body.organization_id, body.kind, whom))


@operator_router.get("/tasks", summary="What was ordered for an account, or by an organisation, newest first")
async def read_any_tasks(state: Shared, order: Operator, query: Annotated[OperatorTasksQuery, Query()]) -> TasksView:
    before = id_in("privacy", query.cursor)
    organization_id, person_id = query.organization_id or PLATFORM_ID, query.person
    found = await flow.any_tasks(state.db, order, organization_id, person_id, before, query.limit + 1)
    return TasksView.of(found, query.limit)


@operator_router.get(
    "/organizations/{organization_id}/tasks/{task_id}/file", summary="The file of an export",
    response_class=StreamingResponse,
)  # fmt: skip
async def download_any(state: Shared, order: Operator, organization_id: UUID, task_id: UUID) -> StreamingResponse:
    return _file(state, order, await flow.open_any_result(state.db, order, organization_id, task_id))


def _file(state: State, order: Order, task: Task) -> StreamingResponse:
    headers = {
        "content-disposition": f'attachment; filename="export-{task.id}.zip"',
        "cache-control": "no-store",
    }
    return StreamingResponse(flow.result(state.db, order, task), media_type="application/zip", headers=headers)

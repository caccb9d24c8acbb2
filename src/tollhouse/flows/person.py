"""What is written about a person whatever they do: their own organisation, and its audit log as the record of how they
sign in."""

from collections.abc import Mapping
from uuid import UUID

from tollhouse.core.audit import Detail
from tollhouse.core.routing import PLATFORM_ID
from tollhouse.flows import organization
from tollhouse.flows.audit import record
from tollhouse.flows.order import Order
from tollhouse.store import person as people
from tollhouse.store import profile
from tollhouse.store.db import Database, OperatorTx, PersonTx, enter

# Not the person's name: what an organisation is called stays in the audit log, also when the person is erased.
PERSONAL_NAME = "Personal"


async def give_own_organization(tx: OperatorTx, order: Order, person_id: UUID) -> UUID:
    """The person's personal organisation, made with the free plan when there is none yet. LookupError for a person
    whose account is no more."""
    person = await people.lock(tx, person_id)
    if person is None or person.erased_at is not None:
        raise LookupError(f"no person {person_id}")
    found = await profile.personal_organization(tx, person_id)
    if found is not None:
        return found
    made = await organization.make(tx, order, organization.New(PERSONAL_NAME, "personal"), person_id)
    return made.id


async def ensure_own_organization(db: Database, order: Order, person_id: UUID) -> UUID:
    """The same, in transactions of its own: people whom an operator made get theirs when they first sign in."""
    async with db.person(person_id) as tx:
        found = await profile.own_organization(tx)
    if found is not None:
        return found
    async with db.operator() as tx:
        return await give_own_organization(tx, order, person_id)


async def record_own(
    tx: PersonTx, order: Order, action: str, about: tuple[str, str], details: Mapping[str, Detail]
) -> None:
    """Appends to the audit log of the person's personal organisation; of who has none yet, to the platform's. From here
    on the transaction sees that organisation too."""
    organization_id = await profile.own_organization(tx) or PLATFORM_ID
    await record(await enter(tx, organization_id), organization_id, order, action, about, details)

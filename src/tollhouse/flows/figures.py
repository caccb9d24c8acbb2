"""What binds somebody who chats, and what capabilities would take: decided by the teller's own rules, nothing taken."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from tollhouse.core.ask import AUTO, Ask, CallWant, CapabilityWant, Channel, Credential, Size, Want
from tollhouse.core.catalogue import Capability, Plan
from tollhouse.core.explain import Explanation, Level, LimitLeft
from tollhouse.core.key import Scope
from tollhouse.core.refusals import CapabilityDenied
from tollhouse.core.session import Signed
from tollhouse.flows.operation import Explain
from tollhouse.flows.spend import Teller

# Of how many models the limits are asked for at most.
MODELS_MAX = 40


@dataclass(frozen=True, slots=True)
class Quality:
    """A level of a capability. `plan`: the lowest that has it, where this one has not; None: no plan has it."""

    level: Level
    plan: Plan | None


@dataclass(frozen=True, slots=True)
class Usable:
    """A capability with its levels, the lowest first."""

    capability: Capability
    qualities: tuple[Quality, ...]


async def limits(teller: Teller, signed: Signed, model_ids: Iterable[str]) -> list[LimitLeft]:
    """Every limit that binds the person in a chat: those of every call, then those of these models. All are asked for
    in one batch."""
    models = dict.fromkeys([AUTO, *model_ids])
    wants = [CallWant(one, Size(0, 0)) for one in models][: MODELS_MAX + 1]
    found = await _explained(teller, signed, "chat", "gateway", wants)
    return list(dict.fromkeys(limit for one in found for limit in one.limits))


async def usable(teller: Teller, signed: Signed) -> list[Usable]:
    """Every capability that is switched on, as the person may use it. After `limits`: then the catalogue is known."""
    catalogue = teller.catalogue
    if catalogue is None:
        return []
    on = [one for one in catalogue.capabilities.values() if one.is_active]
    found = await _explained(teller, signed, "capability", "credits", [CapabilityWant(one.id) for one in on])
    return [
        Usable(capability, tuple(Quality(level, _better(level, catalogue.plans)) for level in one.levels))
        for capability, one in zip(on, found, strict=True)
    ]


def _better(level: Level, plans: Mapping[str, Plan]) -> Plan | None:
    refusal = level.refusal
    return plans.get(refusal.upgrade_to or "") if isinstance(refusal, CapabilityDenied) else None


async def _explained(
    teller: Teller, signed: Signed, channel: Channel, scope: Scope, wants: Iterable[Want]
) -> list[Explanation]:
    person = signed.person_id
    asks = [_ask(signed.organization_id, person, channel, scope, want) for want in wants]
    return await asyncio.gather(*(teller.do(Explain(signed.organization_id, ask)) for ask in asks))


def _ask(organization_id: UUID, person_id: UUID, channel: Channel, scope: Scope, want: Want) -> Ask:
    credential = Credential("person", person_id)
    return Ask(organization_id, credential, person_id, channel, want, frozenset({scope}), here=False)

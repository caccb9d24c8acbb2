"""Which models may answer an ask, best first: the one that was named or its replacement, for `auto` those that fit the
question, those of a plan's offer; before them the one that an experiment gives. Whether limits and credits allow them
is decided in core/admission.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tollhouse.core.ask import AUTO, Ask, CallWant, CapabilityWant, Facts, KeyFacts
from tollhouse.core.catalogue import Capability, Catalogue, Offer, Quality
from tollhouse.core.complexity import TIERS, Shape, judge
from tollhouse.core.errors import BadRequest, NotFound, TollhouseError
from tollhouse.core.experiment import Experiment, running
from tollhouse.core.refusals import (
    CapabilityDenied,
    ModelDisabled,
    ModelNotAllowed,
    ModelNotFound,
    NotConnected,
    PriceUnknown,
)
from tollhouse.core.routing import Kind, Model, QualityTier, Route

REPLACEMENTS_MAX = 5
ENDPOINTS: dict[Kind, str] = {"chat": "POST /v1/chat/completions", "embedding": "POST /v1/embeddings"}
# Of each tier those that are tried: itself, the next lower, then the next higher.
_TIERS: dict[QualityTier, tuple[QualityTier, ...]] = {
    "fast": ("fast", "balanced", "powerful"),
    "balanced": ("balanced", "fast", "powerful"),
    "powerful": ("powerful", "balanced", "fast"),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """A model that may be asked, and why when it is not the one that was named."""

    model: Model
    reason: str | None = None
    experiment_id: UUID | None = None


def choices(ask: Ask, want: CallWant, facts: Facts) -> tuple[Choice, ...]:
    """One at least, the best first; the next is for when limits or credits do not allow the one before. ModelNotFound
    and ModelDisabled, ModelNotAllowed for one that the key may not call, BadRequest for a model of another kind than
    the endpoint's."""
    if want.own is not None:
        return (Choice(want.own.model),)
    found = _fitting(ask, want, facts) if want.model_id == AUTO else (_named(ask, want, facts),)
    drawn = _drawn(ask, (want.model_id, None, None), facts) if facts.catalogue.experiments else None
    if drawn is not None:
        arm, experiment = drawn
        if arm.kind == want.kind and unlocked(arm, facts):
            reason = None if arm.id == want.model_id else f"experiment: {experiment.name}"
            found = (Choice(arm, reason, experiment.id), *found)
    if not found:
        raise ModelNotFound(AUTO) if facts.key is None or facts.key.models is None else not_permitted(AUTO, facts.key)
    return found


def find_capability(capability_id: str, catalogue: Catalogue) -> Capability:
    """NotFound for one that does not exist or is switched off."""
    capability = catalogue.capabilities.get(capability_id)
    if capability is None or not capability.is_active:
        known = ", ".join(sorted(one.id for one in catalogue.capabilities.values() if one.is_active))
        raise NotFound(f"There is no capability {capability_id[:80]!r} here. There are: {known or 'none'}.")
    return capability


def offered(want: CapabilityWant, facts: Facts) -> tuple[Capability, Quality, tuple[str, ...]]:
    """The capability, the quality and the models in their order; CapabilityDenied when the plan has it not."""
    catalogue = facts.catalogue
    capability = find_capability(want.capability_id, catalogue)
    if want.quality_id is not None and want.quality_id not in catalogue.qualities:
        known = ", ".join(catalogue.qualities)
        raise BadRequest(f"There is no quality {want.quality_id[:80]!r}. There are: {known}.", "quality")
    offer = catalogue.offer(facts.plan, capability.id)
    quality = _quality(want, offer, catalogue, facts.now)
    if offer is None or quality is None:
        better = catalogue.lowest_plan_with(capability.id, want.quality_id, facts.plan)
        raise CapabilityDenied(
            capability.id, want.quality_id, facts.plan.id, better.id if better else None,
            better.price_cents if better else None,
        )  # fmt: skip
    return capability, quality, _first_named(want, offer.levels[quality.id])


def choices_of_use(
    ask: Ask, want: CapabilityWant, quality_id: str, models: Sequence[str], facts: Facts
) -> tuple[Choice, ...]:
    """Of the models of an offer those that are switched on, priced and connected; when there are none, why the first
    is not. Models of a capability need not be unlocked."""
    found: dict[str, Choice] = {}
    drawn = _drawn(ask, (None, want.capability_id, quality_id), facts)
    if drawn is not None:
        arm, experiment = drawn
        reason = None if arm.id == (models[0] if models else None) else f"experiment: {experiment.name}"
        found[arm.id] = Choice(arm, reason, experiment.id)
    refusals: list[TollhouseError] = []
    for offered in map(facts.catalogue.models.__getitem__, models):
        try:
            model = successor(offered, facts) if ask.here else offered
            _check_usable(ask, model, facts)
        except TollhouseError as refusal:
            refusals.append(refusal)
        else:
            found.setdefault(model.id, Choice(model, _replaced(offered, model)))
    if not found:
        raise refusals[0] if refusals else NotFound("No model is set for this quality. An operator can set one.")
    return tuple(found.values())


def ways(ask: Ask, model: Model, facts: Facts) -> tuple[Route, ...]:
    """Every route to the model; what the host application calls itself has one, and nobody need be connected. A model
    of one's own has one, too."""
    if isinstance(ask.want, CallWant) and ask.want.own is not None:
        return (ask.want.own.route,)
    if not ask.here:
        return (Route(model.provider_id, None),)
    mode = (facts.key and facts.key.mode) or facts.mode
    return facts.catalogue.routes(model, ask.organization_id, mode, facts.mode)


def successor(model: Model, facts: Facts) -> Model:
    """The model itself, or what replaces it since it was deprecated. ModelDisabled when the replacements lead in a
    circle, or through too many."""
    found = model
    for _ in range(REPLACEMENTS_MAX + 1):
        if not _is_replaced(found, facts):
            return found
        found = facts.catalogue.models[found.replacement_id or ""]
    raise ModelDisabled(model.id)


def unlocked(model: Model, facts: Facts, named: str = "") -> bool:
    """Whether it may be used without a trial. Who has unlocked a model has what replaces it too."""
    return model.tier == "free" or model.id in facts.entitled or named in facts.entitled


def permitted(model: Model, facts: Facts) -> bool:
    """Whether the key may call it: what answers in another's place too."""
    return facts.key is None or facts.key.may_call(model.id)


def not_permitted(model_id: str, key: KeyFacts) -> ModelNotAllowed:
    return ModelNotAllowed(model_id, tuple(sorted(key.models or ())))


def usable(ask: Ask, model: Model, facts: Facts) -> bool:
    """Whether it may chat with somebody who has not asked for it by name."""
    try:
        _check_usable(ask, model, facts)
    except TollhouseError:
        return False
    return model.kind == "chat" and unlocked(model, facts)


def in_question(ask: Ask, catalogue: Catalogue) -> tuple[str, ...]:
    """The premium models of which it must be known whether they are unlocked: all of them where a choice is made, else
    the one that is named and what replaces it."""
    if not isinstance(ask.want, CallWant):
        return ()
    named = ask.want.model_id
    if named == AUTO or any(one.model_id == named for one in catalogue.experiments):
        return tuple(model.id for model in catalogue.models.values() if model.tier == "premium")
    found: list[str] = []
    model = catalogue.models.get(named)
    while model is not None and model.id not in found:
        found.append(model.id)
        model = catalogue.models.get(model.replacement_id or "")
    return tuple(id_ for id_ in found if catalogue.models[id_].tier == "premium")


def _first_named(want: CapabilityWant, models: tuple[str, ...]) -> tuple[str, ...]:
    if want.model_id is None:
        return models
    if want.model_id not in models:
        raise BadRequest(
            f"The model {want.model_id[:80]!r} does not serve {want.capability_id!r} at this quality. "
            f"There are: {', '.join(models) or 'none'}.",
            "model",
        )
    return (want.model_id, *(one for one in models if one != want.model_id))


def _quality(want: CapabilityWant, offer: Offer | None, catalogue: Catalogue, now: datetime) -> Quality | None:
    if offer is None:
        return None
    wanted = [want.quality_id] if want.quality_id is not None else list(catalogue.qualities)
    return next((catalogue.quality_at(one, now) for one in wanted if one in offer.levels), None)


def _named(ask: Ask, want: CallWant, facts: Facts) -> Choice:
    """What the host application calls itself is what it says."""
    named = facts.catalogue.models.get(want.model_id)
    if named is None or not named.selectable:
        raise ModelNotFound(want.model_id)
    model = successor(named, facts) if ask.here and named.deprecated_at is not None else named
    _check_permitted(model, facts)
    if not model.enabled:
        raise ModelDisabled(model.id)
    if model.kind != want.kind:
        raise BadRequest(f"{model.id!r} is a model for {ENDPOINTS[model.kind]}: ask for it there.", "model")
    return Choice(model, _replaced(named, model))


def _replaced(named: Model, model: Model) -> str | None:
    return None if model is named else f"deprecated: {named.id} is replaced by {model.id}"


def _fitting(ask: Ask, want: CallWant, facts: Facts) -> tuple[Choice, ...]:
    """For `auto`: the models of the tier that fits the question, the cheapest first, then those of the tiers beside it,
    the system default last."""
    if want.kind != "chat":
        raise BadRequest("'auto' chooses among models that chat: name an embedding model.", "model")
    judged = judge(want.shape or Shape(4 * want.size.input_estimate))
    catalogue = facts.catalogue
    open_to_all = [one for one in catalogue.models.values() if one.selectable and not _is_replaced(one, facts)]
    by_price = sorted((one for one in open_to_all if usable(ask, one, facts)), key=lambda one: _dearness(one, facts))
    fitting = [one for tier in _TIERS[TIERS[judged.level]] for one in by_price if one.quality_tier == tier]
    default = catalogue.default
    if default is not None and default not in fitting and usable(ask, default, facts):
        fitting.append(default)
    return tuple(Choice(one, f"auto: {judged.level} ({judged.reason})") for one in fitting)


def _dearness(model: Model, facts: Facts) -> int:
    """What a token of input and one of output cost together. Models that cost the same stay in their order."""
    price = facts.catalogue.price_at(model.id, facts.now)
    assert price is not None  # of a usable model
    return price.input_nanos_per_million + price.output_nanos_per_million


def _drawn(ask: Ask, about: tuple[str | None, str | None, str | None], facts: Facts) -> tuple[Model, Experiment] | None:
    """The arm that the subject gets of the experiment about this, if there is one and the model can be called. What the
    host application calls itself takes part in none."""
    experiment = running(facts.catalogue.experiments, about, facts.now) if ask.here else None
    if experiment is None:
        return None
    arm = facts.catalogue.models.get(experiment.model_for(ask.subject_id))
    if arm is None or _is_replaced(arm, facts):  # a model may be younger than the models that were read
        return None
    try:
        _check_usable(ask, arm, facts)
    except TollhouseError:
        return None
    return arm, experiment


def _check_permitted(model: Model, facts: Facts) -> None:
    if facts.key is not None and not facts.key.may_call(model.id):
        raise not_permitted(model.id, facts.key)


def _is_replaced(model: Model, facts: Facts) -> bool:
    return model.replacement_id is not None and model.deprecated_at is not None and model.deprecated_at <= facts.now


def _check_usable(ask: Ask, model: Model, facts: Facts) -> None:
    """Whether the key may call it, and it is switched on, priced and connected."""
    _check_permitted(model, facts)
    if not model.enabled:
        raise ModelDisabled(model.id)
    if facts.catalogue.price_at(model.id, facts.now) is None:
        raise PriceUnknown(model.id)
    if not ways(ask, model, facts):
        raise NotConnected(model.id, model.provider_id)

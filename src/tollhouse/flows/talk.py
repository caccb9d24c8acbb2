"""Having a model talk, for whoever shows it to a person: admitted, streamed, metered and settled like any other call.

Who calls the model is not known here: the gateway is (`Talk`), and the call outlives whoever listens.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from tollhouse.core.ask import Credential
from tollhouse.core.conversation import State, Trouble
from tollhouse.core.prompt import Line as Line
from tollhouse.core.quota import Rule


@dataclass(frozen=True, slots=True)
class Wish:
    """What to have said, to whom. `model`: a catalogue id, "auto", or "own/<uuid>" for a model of one's own. `rules`:
    limits that come with what is asked, besides the organisation's, such as an assistant's tokens. `free`: it takes no
    credits, whatever the plan says."""

    organization_id: UUID
    person_id: UUID
    credential: Credential
    model: str
    lines: Sequence[Line]
    max_output_tokens: int | None = None
    rules: tuple[Rule, ...] = ()
    free: bool = False


@dataclass(frozen=True, slots=True)
class Spoken:
    """How it ended: what the books say. `settled` False: the books could not be reached in time, and it is charged all
    the same."""

    state: State
    model_id: str
    model_name: str
    reason: str | None
    input_tokens: int
    output_tokens: int
    cost_nanos: int
    charged_micros: int
    first_token_ms: int | None
    duration_ms: int
    error: Trouble | None
    settled: bool = True


class Speech(Protocol):
    """An answer on its way. `id`: the request's and reservation's; `reason`: why this model, where it was not the one
    that was named."""

    @property
    def id(self) -> UUID: ...

    @property
    def model_id(self) -> str: ...

    @property
    def model_name(self) -> str: ...

    @property
    def reason(self) -> str | None: ...

    @property
    def trial_remaining(self) -> int | None:
        """What is left of the trial after this message; None when it was none."""

    def pieces(self) -> AsyncIterator[str]:
        """The text as it comes, until its end or what broke it. For one reader."""

    async def end(self) -> Spoken:
        """Waits for the end and the settlement. Raises nothing: what went wrong is in the `error`."""

    def stop(self) -> None:
        """Nobody wants more of it: the provider is left, and what came until then is charged."""


class Talk(Protocol):
    async def __call__(self, wish: Wish) -> Speech:
        """The answer once it is admitted, before its provider says anything. Raises the refusal, and what cannot be
        sent to a model; then nothing is charged."""

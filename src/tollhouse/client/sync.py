"""The client for threads."""

import random
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from tollhouse.client import calls
from tollhouse.client.answers import (
    Access,
    Balance,
    Release,
    Renewal,
    Reservation,
    Run,
    Settlement,
    Transactions,
    Usage,
)
from tollhouse.client.attempts import Done, Lost, Reply, attempt_s, judge
from tollhouse.client.calls import Answer, Call, Credits, Id, Wanted, read_charge
from tollhouse.client.errors import TollhouseError
from tollhouse.client.operation import BaseOperation, Ending, leaves_open, raise_unsettled
from tollhouse.client.settings import LIMITS, RUN_S, Patience, read_settings


class Client:
    """Calls Tollhouse with an API key that has the scope `credits` (`user=` needs `act_as` as well).

    `api_key` and `base_url` come from TOLLHOUSE_API_KEY and TOLLHOUSE_URL when they are not given. An attempt takes at
    most `timeout` seconds; what may be repeated is repeated for `retry_for` seconds, a settlement for `settle_for`.

    One client may be used by any number of threads at once, and is meant to be: it keeps connections. Make it after a
    fork, not before. Close it, or use it in a `with`, when all operations are over."""

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: float = 10.0,
        retry_for: float = 20.0,
        settle_for: float = 60.0,
    ) -> None:
        self._settings = read_settings(api_key, base_url, timeout, retry_for, settle_for)
        self._http = httpx.Client(base_url=self._settings.base_url, headers=dict(self._settings.headers), limits=LIMITS)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # --------------------------------------------------------------------------------------------------------- reading

    def balance(self) -> Balance:
        """What there is, and what it is made of."""
        return self._do(calls.balance())

    def transactions(
        self,
        *,
        type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Transactions:
        """A page of the ledger, newest first: `since` inclusive, `until` exclusive; `cursor` is the `next_cursor` of
        the page before."""
        return self._do(calls.transactions(type, since, until, limit, cursor))

    def access_check(
        self,
        capability: str | None = None,
        *,
        quality: str | None = None,
        model: str | None = None,
        input_tokens: int | None = None,
        max_output_tokens: int | None = None,
        assistant: str | None = None,
        user: str | None = None,
    ) -> Access:
        """What a reservation of the same would meet now. Takes nothing, and holds nothing for later. For a model the
        estimate is of so many tokens, or of a page of text."""
        return self._do(
            calls.access_check(capability, quality, model, input_tokens, max_output_tokens, assistant, user)
        )

    def reservation(self, id: Id) -> Reservation:
        """Its state now."""
        return self._do(calls.reservation(id))

    # -------------------------------------------------------------------------------------------------------- spending

    def reserve(
        self, capability: str | None = None, *, idempotency_key: str | None = None, **wanted: Unpack[Wanted]
    ) -> Reservation:
        """Takes from credits and limits what the use may cost at most: of a `capability`, a `model`, or so many
        `credits` (see `Wanted`). The same `idempotency_key` is answered the same for 24 hours, refusals too; when it is
        left out, one is made that holds for the repetitions of this call."""
        return self._do(calls.reserve(capability, idempotency_key, wanted))

    def settle(self, id: Id, *, credits: Credits | None = None, usage: Usage | None = None) -> Settlement:
        """Charges what was used: `credits`, or a `usage` that the reservation's model prices. Safe to repeat: the
        first settlement counts. Unsettled when it could not be delivered."""
        charge = read_charge(credits, usage)
        call = calls.settle(id, charge)
        try:
            return self._do(call, self._settings.settling)
        except TollhouseError as error:
            if not leaves_open(error):
                raise
            failure = error
        raise_unsettled(str(id), charge, failure, None)

    def release(self, id: Id, reason: str) -> Release:
        """Gives everything back: nothing was used. Safe to repeat."""
        return self._do(calls.release(id, reason))

    def renew(self, id: Id, ttl_seconds: int) -> Renewal:
        """The reservation lasts so many seconds from now on. Conflict when it has ended."""
        return self._do(calls.renew(id, ttl_seconds))

    def run(
        self,
        capability: str,
        input: Mapping[str, Any],
        *,
        quality: str | None = None,
        user: str | None = None,
        idempotency_key: str | None = None,
        timeout: float = RUN_S,
    ) -> Run:
        """Has Tollhouse run a capability: reserved, answered and charged in one. Takes `timeout` seconds at most,
        repetitions included; they carry the same key, so it runs and is charged once."""
        call = calls.run(capability, input, quality, user, idempotency_key)
        return self._do(call, self._settings.running(timeout))

    def operation(
        self, capability: str | None = None, *, idempotency_key: str | None = None, **wanted: Unpack[Wanted]
    ) -> "Operation":
        """For `with`: reserves as `reserve` does, renews while the block runs, and settles or releases at its end. See
        `Operation`. With the same `idempotency_key` a block that runs twice is charged once. An entry that is
        interrupted may leave a reservation behind, which holds credits until it ends by itself and charges nothing."""
        return Operation(self, calls.reserve(capability, idempotency_key, wanted))

    # -------------------------------------------------------------------------------------------------------- carrying

    def _do(self, call: Call[Answer], patience: Patience | None = None) -> Answer:
        patience = patience or self._settings.ordinary
        began, tries = time.monotonic(), 0
        while True:
            outcome = self._attempt(call, attempt_s(call, patience, time.monotonic() - began))
            tries += 1
            step = judge(call, outcome, tries, time.monotonic() - began, patience, random.random())  # noqa: S311
            if isinstance(step, Done):
                return step.answer
            time.sleep(step.seconds)

    def _attempt(self, call: Call[Any], seconds: float) -> Reply | Lost:
        deadline = time.monotonic() + seconds
        timeout = httpx.Timeout(seconds, connect=min(seconds, self._settings.ordinary.attempt_s))
        request = self._http.build_request(
            call.method, call.path, content=call.body, headers=dict(call.headers), timeout=timeout
        )
        try:
            response = self._http.send(request, stream=True)
            try:
                body = bytearray()
                for piece in response.iter_raw():
                    body += piece
                    if time.monotonic() > deadline:
                        raise httpx.ReadTimeout("the answer took too long", request=request)
            finally:
                response.close()
        except httpx.TransportError as error:
            return Lost(error)
        return Reply(response.status_code, response.headers, bytes(body))


class Operation(BaseOperation):
    __doc__ = BaseOperation.__doc__

    def __init__(self, client: Client, reserving: Call[Reservation]) -> None:
        super().__init__(reserving)
        self._client = client
        self._left = threading.Event()

    def __enter__(self) -> Self:
        self._reservation = self._client._do(self._begin())
        try:
            threading.Thread(target=self._renew, name=f"tollhouse-renew-{self._reservation.id}", daemon=True).start()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        self._left.set()
        ending = self._end(problem)
        try:
            self.result = self._deliver(ending)
            return
        except BaseException as error:  # Ctrl-C during the delivery leaves the charge open as well
            failure = error
        self._undelivered(ending, failure, problem)

    def _deliver(self, ending: Ending) -> Settlement | Release:
        return self._client._do(*self._delivery(ending, self._client._settings))

    def _renew(self) -> None:
        """Until the block has been left; a thread of its own, because the block may be busy for as long as it likes."""
        call, first_s = self._renewal()
        wait: float | None = first_s
        while wait is not None and not self._left.wait(wait):
            try:
                wait = self._renewed(self._client._do(call, self._client._settings.once))
            except Exception as error:
                wait = self._not_renewed(error)

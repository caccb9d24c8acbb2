"""A POST of `/v1` that calls a model: read, admit, pump, answer. One for each dialect of clients."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256

from starlette.types import Receive, Scope, Send

from tollhouse.core.admission import LimitState
from tollhouse.core.ask import AUTO, Ask, CallWant, CapabilityWant, Channel, CreditsWant, Size, Want
from tollhouse.core.errors import BadRequest, TollhouseError
from tollhouse.core.key import Scope as KeyScope
from tollhouse.core.money import format_credits
from tollhouse.flows.once import Once
from tollhouse.flows.operation import Admit, Admitted, Answered, Bearer, Outcome, Release, Replayed, Settle, Settled
from tollhouse.gateway import kept
from tollhouse.gateway.call import Call
from tollhouse.gateway.exchange import Chat, Exchange
from tollhouse.gateway.http import (
    ClientLeft,
    Headers,
    header,
    read_body,
    refusal_of,
    request_id,
    send_json,
    send_refusal,
)
from tollhouse.gateway.plain import PlainCall
from tollhouse.gateway.state import State
from tollhouse.gateway.stream import StreamCall

IDEMPOTENCY_KEY_MAX = 255


Read = Callable[[bytes, int], Exchange]
Refusal = Callable[[TollhouseError], bytes]


class Endpoint:
    """The ASGI application of one path. `read` makes an exchange of a body and the time in epoch seconds, `refusal` the
    body of an error, both in the path's dialect. Who may call is decided by the teller."""

    scope: KeyScope = "gateway"

    def __init__(self, state: State, path: str, read: Read, refusal: Refusal) -> None:
        self._state = state
        self._path = path
        self._read_body = read
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            exchange, admit = await self._read(scope, receive)
            admitted = await self._state.teller.do(admit)
        except ClientLeft:
            return
        except Exception as error:
            await send_refusal(send, self._refusal, refusal_of(error), [request_id(self._state.clock())])
            return
        if isinstance(admitted, Replayed):
            await self._tell_again(send, exchange, kept.read(admitted.response), [request_id(self._state.clock())])
            return
        try:
            known = await self._state.pumps.keeper.find(admitted, exchange)
            if known is not None:
                await self._tell_kept(send, exchange, admitted, known, admit.once)
                return
            call = self._start(exchange, admitted, admit)
        except Exception as error:
            refusal = refusal_of(error)
            outcome = Outcome("failed", error=f"not sent to a provider: {refusal}")
            release = Release(admitted.organization_id, admitted.id, outcome, once=admit.once)
            await self._state.teller.do(release)
            await send_refusal(send, self._refusal, refusal, admission_headers(admitted))
            return
        watch = asyncio.create_task(_watch(receive, call))
        try:
            await self._answer(call, send)
        finally:
            watch.cancel()

    async def _read(self, scope: Scope, receive: Receive) -> tuple[Exchange, Admit]:
        identity = await self._state.authentication.identify(scope, self._state.clock())
        raw = await read_body(scope, receive, self._state.body_max_bytes)
        exchange = self._read_body(raw, int(self._state.clock().timestamp()))
        organization_id = identity.organization_id
        user, key = identity.on_behalf_of(_end_user(scope)), _idempotency_key(scope)
        want = self._want(scope, exchange)
        channel: Channel = "capability" if isinstance(want, CapabilityWant) else "api"
        ask = Ask(
            organization_id=organization_id,
            credential=identity.credential,
            subject_id=identity.subject_of(user),
            channel=channel,
            want=want,
            needs=identity.needs(self.scope, user),
        )
        once = None if key is None else Once(identity.once_at(self._path), key, _hash(raw, scope))
        return exchange, Admit(organization_id, ask, self._path, exchange.wants_stream, user, once)

    def _want(self, scope: Scope, exchange: Exchange) -> Want:
        size = exchange.size
        if self._state.mode == "test":
            size = Size(size.input_tokens, size.output_tokens, exchange.sandbox_tokens())
        fallback = _fallback(scope)
        capability, quality = header(scope, b"x-tollhouse-capability"), header(scope, b"x-tollhouse-quality")
        if capability is not None:
            if exchange.answers > 1:
                raise BadRequest("A use of a capability has one answer. Leave `n` out.", "n")
            model_id = None if exchange.model == AUTO else exchange.model
            return CapabilityWant(capability, quality, size, model_id)
        if quality is not None:
            raise BadRequest("X-Tollhouse-Quality is of a capability. Name it in X-Tollhouse-Capability too.")
        return CallWant(exchange.model, size, exchange.answers, exchange.kind, fallback, exchange.shape)

    def _start(self, exchange: Exchange, admitted: Admitted, admit: Admit) -> PlainCall | StreamCall:
        assert not isinstance(admit.ask.want, CreditsWant) and admit.ask.want.size is not None
        size, bearer = admit.ask.want.size, None
        if admit.ask.credential is not None:
            bearer = Bearer(admit.ask.credential, admit.ask.needs)
        call: PlainCall | StreamCall
        if isinstance(exchange, Chat) and exchange.wants_stream:
            call = StreamCall(self._state.pumps, admitted, exchange, size, admit.once, bearer)
        else:
            call = PlainCall(self._state.pumps, admitted, exchange, size, admit.once, bearer)
        self._state.pumps.start(call)
        return call

    async def _answer(self, call: PlainCall | StreamCall, send: Send) -> None:
        try:
            await asyncio.shield(call.begun)
        except TollhouseError as error:
            await send_refusal(send, self._refusal, error, call_headers(call))
            return
        headers = call_headers(call)
        if isinstance(call, PlainCall):
            await send_json(send, 200, call.answer, headers + charge_headers(call.settled))
            return
        available = format_credits(call.admitted.available_micros).encode()
        await _start_stream(send, [*headers, (b"x-balance-remaining", available)])
        async for chunk in call.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _tell_again(self, send: Send, exchange: Exchange, told: kept.Kept, headers: Headers) -> None:
        """What the first request with this idempotency key was answered."""
        headers += [(b"idempotent-replayed", b"true"), (b"x-tollhouse-model", told.model.encode())]
        await self._tell(send, exchange, told, headers)

    async def _tell_kept(
        self, send: Send, exchange: Exchange, admitted: Admitted, known: kept.Kept, once: Once | None
    ) -> None:
        """What the organisation keeps to an equal request; it costs a share."""
        terms = admitted.admission.terms
        by = Answered(known.model, terms.route.provider_id, 1, "cache")
        answer = None if once is None else known.under(once)
        settle = Settle(admitted.organization_id, admitted.id, known.usage, Outcome("done"), by, answer)
        settled = await self._state.teller.do(settle)
        await self._state.pumps.keeper.keep_content(admitted, exchange, known.whole)
        headers = [*admission_headers(admitted), (b"x-tollhouse-cache", b"hit")]
        await self._tell(send, exchange, known.charged(settled), headers)

    async def _tell(self, send: Send, exchange: Exchange, told: kept.Kept, headers: Headers) -> None:
        if not (isinstance(exchange, Chat) and exchange.wants_stream):
            await send_json(send, 200, told.plain(exchange), headers + charge_headers(told.settled))
            return
        await _start_stream(send, headers)
        await send({"type": "http.response.body", "body": told.stream(exchange)})


async def _start_stream(send: Send, headers: Headers) -> None:
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _watch(receive: Receive, call: Call) -> None:
    """uvicorn tells of a client that left only to somebody who listens; sending to it does not fail."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            call.client_left()
            return


# ------------------------------------------------------------------------------------------------ the request's headers


def _end_user(scope: Scope) -> str | None:
    user = header(scope, b"x-tollhouse-user")
    if user is not None and not (0 < len(user) <= 200 and user.isprintable()):
        raise BadRequest("X-Tollhouse-User must be 1 to 200 printable characters: your own id of the end user.")
    return user


def _idempotency_key(scope: Scope) -> str | None:
    key = header(scope, b"idempotency-key")
    if key is not None and not (0 < len(key) <= IDEMPOTENCY_KEY_MAX and key.isprintable()):
        raise BadRequest("The Idempotency-Key must be 1 to 255 printable characters.")
    return key


def _fallback(scope: Scope) -> bool:
    """Whether another model may answer when the one that was asked for fails."""
    wish = header(scope, b"x-tollhouse-fallback")
    if wish not in (None, "on", "off"):
        raise BadRequest("X-Tollhouse-Fallback is on (as without it) or off.")
    return wish != "off"


def _hash(raw: bytes, scope: Scope) -> bytes:
    """What makes two requests with one idempotency key the same: the body, and the headers that decide who pays and
    who answers."""
    names = (b"x-tollhouse-user", b"x-tollhouse-capability", b"x-tollhouse-quality", b"x-tollhouse-fallback")
    said = [header(scope, name) or "" for name in names]
    return sha256("\0".join(said).encode() + b"\0" + raw).digest()


# ------------------------------------------------------------------------------------------------ the answer's headers


def call_headers(call: Call) -> Headers:
    """The headers of API.md of a call that is over or on its way, with the model that really answers."""
    headers = admission_headers(call.admitted)
    first = call.admitted.admission.terms.candidates[0]
    if call.candidate.model is not first.model or call.candidate.route != first.route:
        changed = {
            b"x-tollhouse-model": call.candidate.model.id,
            b"x-tollhouse-provider": call.candidate.route.provider_id,
            b"x-tollhouse-reason": call.reason or "",
        }
        headers = [one for one in headers if one[0] not in changed]
        headers += [(name, _line(value)) for name, value in changed.items()]
    return headers


def _line(text: str) -> bytes:
    """As the value of a header, which is one line of Latin letters."""
    return "".join(one if one.isprintable() else " " for one in text).encode("latin-1", "replace")


def admission_headers(admitted: Admitted) -> Headers:
    """The headers of API.md that are known once a call is admitted."""
    admission = admitted.admission
    terms = admission.terms
    headers = [
        (b"x-request-id", str(admitted.id).encode()),
        (b"x-tollhouse-model", terms.model.id.encode()),
        (b"x-tollhouse-provider", terms.route.provider_id.encode()),
        (b"x-credits-reserved", format_credits(admitted.amount_micros).encode()),
    ]
    if terms.reason is not None:
        headers.append((b"x-tollhouse-reason", _line(terms.reason)))
    if admission.trial_remaining is not None:
        headers.append((b"x-trial-remaining", str(admission.trial_remaining).encode()))
    headers += _limit_headers(b"requests", admission.messages, admitted.created_at)
    headers += _limit_headers(b"tokens", admission.tokens, admitted.created_at)
    return headers


def charge_headers(settled: Settled | None) -> Headers:
    if settled is None:
        return []
    return [
        (b"x-credits-used", format_credits(settled.charged_micros).encode()),
        (b"x-balance-remaining", format_credits(settled.available_micros).encode()),
    ]


def _limit_headers(kind: bytes, limit: LimitState | None, now: datetime) -> Headers:
    if limit is None:
        return []
    headers = [
        (b"x-ratelimit-limit-" + kind, str(limit.limit).encode()),
        (b"x-ratelimit-remaining-" + kind, str(max(0, limit.remaining)).encode()),
    ]
    if limit.resets_at is not None:
        seconds = max(0, round((limit.resets_at - now).total_seconds()))
        headers.append((b"x-ratelimit-reset-" + kind, f"{seconds}s".encode()))
    return headers

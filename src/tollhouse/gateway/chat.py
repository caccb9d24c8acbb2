"""`POST /v1/chat/completions`: read, admit, pump, answer."""

import asyncio
from datetime import datetime

from starlette.types import Receive, Scope, Send

from tollhouse.core.access import LimitState
from tollhouse.core.ask import Ask, CallWant, Size
from tollhouse.core.errors import BadRequest, TollhouseError
from tollhouse.core.key import Scope as KeyScope
from tollhouse.core.key import end_user_id
from tollhouse.core.money import format_credits
from tollhouse.flows.auth import credential_of
from tollhouse.flows.operation import Admit, Admitted, Outcome, Release
from tollhouse.gateway import wire
from tollhouse.gateway.call import Call
from tollhouse.gateway.http import ClientLeft, Headers, header, read_body, refusal_of, request_id, send_error, send_json
from tollhouse.gateway.plain import PlainCall
from tollhouse.gateway.state import State
from tollhouse.gateway.stream import StreamCall

ENDPOINT = "/v1/chat/completions"
GATEWAY: frozenset[KeyScope] = frozenset({"gateway"})
ON_BEHALF: frozenset[KeyScope] = frozenset({"gateway", "act_as"})


class Chat:
    """The ASGI application of this one path."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            request, size, admit = await self._read(scope, receive)
            admitted = await self._state.teller.admit(admit)
        except ClientLeft:
            return
        except Exception as error:
            await send_error(send, refusal_of(error), [request_id(self._state.clock())])
            return
        try:
            call = self._start(request, admitted, size)
        except Exception as error:
            outcome = Outcome("failed", error="not sent to a provider")
            await self._state.teller.do(Release(admitted.organization_id, admitted.id, outcome))
            await send_error(send, refusal_of(error), admission_headers(admitted))
            return
        watch = asyncio.create_task(_watch(receive, call))
        try:
            await self._answer(call, admitted, send)
        finally:
            watch.cancel()

    async def _read(self, scope: Scope, receive: Receive) -> tuple[wire.ChatRequest, Size, Admit]:
        identity = await self._state.identities.identify(credential_of(scope["headers"]))
        body = await read_body(scope, receive, self._state.body_max_bytes)
        request = wire.read_chat(body)
        if header(scope, b"x-tollhouse-capability") is not None:
            raise BadRequest("This endpoint takes no X-Tollhouse-Capability. Leave the header out and name a model.")
        user = _end_user(scope)
        organization_id = identity.organization_id
        sandbox_tokens = wire.sandbox_tokens(request, len(body)) if self._state.mode == "test" else None
        size = Size(wire.input_bound(request), request.output_tokens, sandbox_tokens)
        ask = Ask(
            organization_id=organization_id,
            key_id=identity.key_id,
            subject_id=organization_id if user is None else end_user_id(organization_id, user),
            channel="api",
            want=CallWant(request.model, size, request.answers),
            needs=GATEWAY if user is None else ON_BEHALF,
        )
        return request, size, Admit(organization_id, ask, ENDPOINT, request.wants_stream, user)

    def _start(self, request: wire.ChatRequest, admitted: Admitted, size: Size) -> PlainCall | StreamCall:
        terms = admitted.admission.terms
        assert terms.output_tokens is not None  # known of every call that is made here
        provider = self._state.providers.of(terms.route)
        body = wire.to_provider(request, terms.model.provider_model_id, terms.output_tokens)
        call: PlainCall | StreamCall
        if request.wants_stream:
            call = StreamCall(self._state.pumps, admitted, provider, body, size.input_estimate, request.wants_usage)
        else:
            call = PlainCall(self._state.pumps, admitted, provider, body, size.input_estimate)
        self._state.pumps.start(call)
        return call

    async def _answer(self, call: PlainCall | StreamCall, admitted: Admitted, send: Send) -> None:
        headers = admission_headers(admitted)
        try:
            await asyncio.shield(call.begun)
        except TollhouseError as error:
            await send_error(send, error, headers)
            return
        if isinstance(call, PlainCall):
            if call.settled is not None:
                headers += [
                    (b"x-credits-used", format_credits(call.settled.charged_micros).encode()),
                    (b"x-balance-remaining", format_credits(call.settled.available_micros).encode()),
                ]
            await send_json(send, 200, call.answer, headers)
            return
        headers += [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            (b"x-balance-remaining", format_credits(admitted.available_micros).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for chunk in call.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _watch(receive: Receive, call: Call) -> None:
    """uvicorn tells of a client that left only to somebody who listens; sending to it does not fail."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            call.client_left()
            return


def _end_user(scope: Scope) -> str | None:
    user = header(scope, b"x-tollhouse-user")
    if user is not None and not (0 < len(user) <= 200 and user.isprintable()):
        raise BadRequest("X-Tollhouse-User must be 1 to 200 printable characters: your own id of the end user.")
    return user


def admission_headers(admitted: Admitted) -> Headers:
    """The headers of API.md that are known once a call is admitted."""
    admission = admitted.admission
    headers = [
        (b"x-request-id", str(admitted.id).encode()),
        (b"x-tollhouse-model", admission.terms.model.id.encode()),
        (b"x-tollhouse-provider", admission.terms.route.provider_id.encode()),
        (b"x-credits-reserved", format_credits(admitted.amount_micros).encode()),
    ]
    if admission.trial_remaining is not None:
        headers.append((b"x-trial-remaining", str(admission.trial_remaining).encode()))
    headers += _limit_headers(b"requests", admission.messages, admitted.created_at)
    headers += _limit_headers(b"tokens", admission.tokens, admitted.created_at)
    return headers


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

"""`POST /v1/messages/count_tokens`: how long a prompt is. It costs nothing and takes nothing."""

from collections.abc import Iterator

import msgspec
from starlette.types import Receive, Scope, Send

from tollhouse.core.access import Permission
from tollhouse.core.ask import AUTO
from tollhouse.core.catalogue import Catalogue
from tollhouse.core.refusals import ModelNotAllowed, ModelNotFound
from tollhouse.core.routing import Route, routes_of
from tollhouse.core.token import MESSAGE_TOKENS, count_tokens
from tollhouse.flows.auth import Caller, require
from tollhouse.gateway.dialect import messages
from tollhouse.gateway.dialect.messages_request import CountRequest, read_count
from tollhouse.gateway.dialect.meter import tokens
from tollhouse.gateway.http import ClientLeft, read_body, refusal_of, request_id, send_json, send_refusal
from tollhouse.gateway.state import State
from tollhouse.outside import ProviderFault
from tollhouse.store import catalogue, key

ANSWER_MAX = 64 * 1024


class CountTokens:
    """The ASGI application of this path. Anthropic counts for its own models; of others the count is an estimate of
    ours, and the answer says so."""

    policy: Permission = "models.use"

    def __init__(self, state: State) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        now = self._state.clock()
        headers = [request_id(now)]
        try:
            caller = await self._state.authentication.authenticate(scope, now)
            require(caller, self.policy)
            request = read_count(await read_body(scope, receive, self._state.body_max_bytes))
            counted = await self._counted(caller, request)
            answer = {"input_tokens": counted} if counted is not None else _estimate(request)
        except ClientLeft:
            return
        except Exception as error:
            await send_refusal(send, messages.SURFACE.refusal, refusal_of(error), headers)
            return
        await send_json(send, 200, msgspec.json.encode(answer), headers)

    async def _counted(self, caller: Caller, request: CountRequest) -> int | None:
        """As the model's own provider counts; None when it cannot be asked, or does not say."""
        if request.model == AUTO:
            return None
        known = self._state.teller.catalogue or await self._load()
        model = known.models.get(request.model)
        if model is None or not model.selectable:
            raise ModelNotFound(request.model)
        await self._check_permitted(caller, request.model)
        own = known.own_connections.get(caller.organization_id, {})
        for route in routes_of(model, caller.mode or self._state.mode, self._state.mode, own, known.connections)[:1]:
            if route.connection is not None and route.connection.protocol == "anthropic":
                return await self._asked(route, request.native(model.provider_model_id), model.provider_model_id)
        return None

    async def _asked(self, route: Route, body: bytes, name: str) -> int | None:
        try:
            reply = await self._state.providers.of(route).send("count_tokens", name, body, stream=False)
            try:
                said = msgspec.json.decode(await reply.read(ANSWER_MAX)) if reply.status == 200 else None
            finally:
                await reply.close()
        except (ProviderFault, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return tokens(said.get("input_tokens")) if isinstance(said, dict) else None

    async def _check_permitted(self, caller: Caller, model_id: str) -> None:
        """A provider is asked, so this is for the models of the key alone."""
        async with self._state.db.tenant(caller.organization_id) as tx:
            only = await key.models(tx, caller.organization_id, caller.credential.id)
        if only is not None and model_id not in only:
            raise ModelNotAllowed(model_id, tuple(sorted(only)))

    async def _load(self) -> Catalogue:
        async with self._state.db.operator() as tx:
            return await catalogue.load(tx)


def _estimate(request: CountRequest) -> dict[str, object]:
    """By our own tokenizer, over all that the model would read."""
    read = msgspec.to_builtins([part for part in (request.system, request.messages, request.tools) if part])
    return {
        "input_tokens": MESSAGE_TOKENS * len(request.messages) + sum(map(count_tokens, _texts(read))),
        "estimated": True,
    }


def _texts(value: object) -> Iterator[str]:
    """Every text within, what is encoded excepted."""
    match value:
        case str(text):
            yield text
        case list(items):
            for item in items:
                yield from _texts(item)
        case dict(fields):
            for name, inner in fields.items():
                if name not in ("data", "type", "role", "signature"):
                    yield from _texts(inner)

"""Why one attempt at a provider gave nothing, and what may be tried after it."""

import msgspec

from tollhouse.core.errors import ProviderFailed
from tollhouse.outside import ProviderFault, ProviderLacks, ProviderTimeout, Reply, ReplyTooLarge
from tollhouse.outside.address import AddressRefused

SECOND_WAIT_S = 2.0  # a provider that asks for a longer pause is not asked again; the next candidate is


class AttemptFailed(Exception):
    """No output came of it. `error` is what the customer is told if nobody else answers. `again`: the same provider may
    be asked once more. `others`: another candidate may be. `ill`: it says something about the connection's health."""

    def __init__(
        self,
        error: ProviderFailed,
        *,
        again: bool = False,
        others: bool = True,
        ill: bool = True,
        retry_after_s: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.again = again and (retry_after_s is None or retry_after_s <= SECOND_WAIT_S)
        self.others = others
        self.ill = ill
        self.retry_after_s = retry_after_s
        self.status = status


def of_fault(fault: ProviderFault, status: int | None = None) -> AttemptFailed:
    """A provider's fault before any output. After a deadline it is not asked a second time: the customer waited."""
    if isinstance(fault, ProviderLacks | AddressRefused):  # no second attempt would change it
        said = ProviderFailed(f"The call failed: {fault}; nothing was charged. Tell the operator.")
        return AttemptFailed(said, ill=False, status=status)
    if isinstance(fault, ReplyTooLarge):
        said = ProviderFailed(f"The call failed: {fault}; nothing was charged. Ask for less at once.")
        return AttemptFailed(said, others=False, ill=False, status=status)
    late = isinstance(fault, ProviderTimeout)
    error = ProviderFailed(f"The call failed: {fault}; nothing was charged. Try again.", 504 if late else 502)
    return AttemptFailed(error, again=not late, status=status)


def of_answer(what: str, status: int | None = 200) -> AttemptFailed:
    """An answer of which nothing can be used."""
    return AttemptFailed(ProviderFailed(f"{what}; nothing was charged. Try again."), status=status)


async def of_refusal(reply: Reply) -> AttemptFailed:
    """A status other than 200. What the provider says about the request itself is passed on; what it says about our
    account there is not the customer's business."""
    status, wait = reply.status, reply.retry_after_s
    if status in (400, 413, 422):
        return AttemptFailed(ProviderFailed(await _message(reply), 400), others=False, ill=False, status=status)
    if status == 429:
        said = "The provider limits our calls at the moment; nothing was charged. Try again shortly."
    elif status in (503, 529):
        said = "The provider is overloaded at the moment; nothing was charged. Try again shortly."
    else:
        said = f"The provider refused the call (status {status}); nothing was charged."
    error = ProviderFailed(said, {429: 429, 503: 503, 529: 503}.get(status, 502))
    if wait is not None and error.status != 502:
        error.retry_after_s = max(1, min(60, round(wait)))
    again = status in (408, 409, 429) or status >= 500
    return AttemptFailed(error, again=again, ill=status != 404, retry_after_s=wait, status=status)


async def _message(reply: Reply) -> str:
    """What the provider says is wrong, in any of the dialects: they agree on `error.message`."""
    try:
        said = msgspec.json.decode(await reply.read(64 * 1024))
        said = said[0] if isinstance(said, list) else said  # Google's streams refuse with a list
        message = said["error"]["message"]
    except (ProviderFault, msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, RecursionError):
        message = "no reason given"
    return f"The provider would not take the request: {str(message)[:500]}"

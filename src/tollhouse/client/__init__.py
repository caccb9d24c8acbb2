"""The Python client of Tollhouse, for applications that sell AI features and call the models themselves.

```python
from tollhouse.client import Client, InsufficientCredits, Usage

client = Client()  # TOLLHOUSE_API_KEY, TOLLHOUSE_URL

with client.operation("question_generation", quality="enhanced", user="u_1") as op:
    op.sent()  # from here on the provider may have to be paid
    reply = openai.chat.completions.create(model=op.model, messages=messages)
    op.used(usage=Usage(reply.usage.prompt_tokens, reply.usage.completion_tokens))
print(op.result.charged, op.result.balance)
```

The block begins with a reservation: InsufficientCredits, CapabilityDenied or LimitReached are raised there, and nothing
was taken. It is renewed while the block runs. At the end, what `used` reported is charged; without a report the amount
reserved; an exception before `sent` and `used` gives everything back, and goes on.

A charge is never dropped silently: when it cannot be delivered for `settle_for` seconds, `Unsettled` is raised, also in
place of the block's exception (KeyboardInterrupt and CancelledError included), which is then its `during` and its
`__context__`. One `except Unsettled` finds them all; what to keep for later is in it. It is logged, too, by the logger
`tollhouse.client`. Only a process that is killed inside the block charges nothing: its reservation ends by itself.

`AsyncClient` is the same for asyncio. There, a cancellation waits until the charge is delivered."""

from tollhouse.client.aio import AsyncClient, AsyncOperation
from tollhouse.client.answers import (
    Access,
    Balance,
    Estimate,
    Grant,
    Hint,
    Limit,
    Part,
    QualityLevel,
    Release,
    Renewal,
    Reservation,
    Run,
    Settlement,
    Transaction,
    Transactions,
    Usage,
)
from tollhouse.client.calls import Wanted
from tollhouse.client.errors import (
    BadRequest,
    CapabilityDenied,
    Conflict,
    FieldError,
    Forbidden,
    InsufficientCredits,
    LimitReached,
    NotFound,
    ProviderFailed,
    TollhouseError,
    Unauthenticated,
    Unavailable,
    UnknownAnswer,
    Unsettled,
)
from tollhouse.client.sync import Client, Operation

__all__ = [
    "Access",
    "AsyncClient",
    "AsyncOperation",
    "BadRequest",
    "Balance",
    "CapabilityDenied",
    "Client",
    "Conflict",
    "Estimate",
    "FieldError",
    "Forbidden",
    "Grant",
    "Hint",
    "InsufficientCredits",
    "Limit",
    "LimitReached",
    "NotFound",
    "Operation",
    "Part",
    "ProviderFailed",
    "QualityLevel",
    "Release",
    "Renewal",
    "Reservation",
    "Run",
    "Settlement",
    "TollhouseError",
    "Transaction",
    "Transactions",
    "Unauthenticated",
    "Unavailable",
    "UnknownAnswer",
    "Unsettled",
    "Usage",
    "Wanted",
]

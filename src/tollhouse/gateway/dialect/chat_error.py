"""A refusal in OpenAI's shape, and the headers that say whether to try again."""

from typing import Any

import msgspec

from tollhouse.core.errors import TollhouseError

_TYPES = {401: "authentication_error", 402: "insufficient_quota", 403: "permission_error", 404: "not_found_error",
          429: "rate_limit_error"}  # fmt: skip


def error_body(error: TollhouseError) -> bytes:
    """A refusal in OpenAI's shape; what API.md adds to it stands under `metadata`."""
    details = error.details()
    hints = [
        {name: getattr(hint, name) for name in ("kind", "price_cents", "at", "plan") if getattr(hint, name) is not None}
        for hint in error.hints()
    ]
    metadata = {name: value for name, value in details.items() if value is not None and name != "field"}
    fields: dict[str, Any] = {
        "message": str(error),
        "type": _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error"),
        "param": details.get("field"),
        "code": error.code,
    }
    if metadata or hints:
        fields["metadata"] = metadata | ({"hints": hints} if hints else {})
    return msgspec.json.encode({"error": fields})


def error_headers(error: TollhouseError) -> list[tuple[bytes, bytes]]:
    """Whether and when to try again, for clients that do so by themselves."""
    if error.retry_after_s is not None:
        return [(b"retry-after", str(error.retry_after_s).encode())]
    return [] if error.should_retry else [(b"x-should-retry", b"false")]

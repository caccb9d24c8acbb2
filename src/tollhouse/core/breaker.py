"""Whether a connection is asked at the moment: after failures it is left alone for a while, then tried with one call.

closed: every call goes through. open: none does, until the cooldown is over. half-open: one call, the probe, goes
through and decides; a probe of which nothing more is heard counts as lost after a while, and the next call is another.
Times are seconds of a clock that only goes forward.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

State = Literal["closed", "open", "half-open"]
IN_A_ROW = 5
WINDOW_S = 30.0
CALLS_MIN = 20  # fewer calls in the window say nothing about their share
COOLDOWN_S = 10.0  # doubled with each probe that fails
COOLDOWN_MAX_S = 300.0
PROBE_S = 60.0  # a probe that has said nothing for so long is given up


@dataclass(slots=True)
class Breaker:
    """Of one connection."""

    state: State = "closed"
    _in_a_row: int = 0
    _seconds: deque[list[int]] = field(default_factory=deque)  # each with the calls that ended in it, and the failed
    _opens_at: float = 0.0  # for a probe: when the cooldown is over, or the probe given up
    _cooldown_s: float = COOLDOWN_S

    def allows(self, now: float) -> bool:
        """Whether a call may be made now. Of an open breaker whose cooldown is over the first to ask gets the probe."""
        if self.state == "closed":
            return True
        if now < self._opens_at:
            return False
        self.state, self._opens_at = "half-open", now + PROBE_S
        return True

    def retry_in(self, now: float) -> float:
        """Seconds until a call may be made; 0 when it may now."""
        if self.state == "closed":
            return 0.0
        return min(max(0.0, self._opens_at - now), COOLDOWN_MAX_S)  # the difference of two floats may be a hair more

    def succeeded(self, now: float) -> None:
        """A call was answered. One that had begun before the breaker opened says nothing about the provider now."""
        if self.state == "open":
            return
        if self.state == "half-open":
            self._close()
        self._in_a_row = 0
        self._note(now, failed=False)

    def failed(self, now: float, retry_after_s: float | None = None) -> None:
        """A call failed by the provider's fault. `retry_after_s`: how long it wants to be left alone (status 429 or
        503): when this opens the breaker it stays open for as long at least, up to the longest cooldown."""
        if self.state == "half-open":
            self._open(now, min(2 * self._cooldown_s, COOLDOWN_MAX_S), retry_after_s)
            return
        if self.state == "open":
            self._wait(now, retry_after_s)
            return
        self._in_a_row += 1
        self._note(now, failed=True)
        calls, failures = (sum(one[column] for one in self._seconds) for column in (1, 2))
        if self._in_a_row >= IN_A_ROW or (calls >= CALLS_MIN and 2 * failures >= calls):
            self._open(now, COOLDOWN_S, retry_after_s)

    def _open(self, now: float, cooldown_s: float, retry_after_s: float | None) -> None:
        self.state, self._cooldown_s, self._opens_at = "open", cooldown_s, now + cooldown_s
        self._wait(now, retry_after_s)

    def _wait(self, now: float, retry_after_s: float | None) -> None:
        """At least as long as the provider asks for."""
        self._opens_at = max(self._opens_at, now + min(retry_after_s or 0.0, COOLDOWN_MAX_S))

    def _close(self) -> None:
        self.state, self._cooldown_s, self._in_a_row = "closed", COOLDOWN_S, 0
        self._seconds.clear()

    def _note(self, now: float, *, failed: bool) -> None:
        second = int(now)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
        self._seconds[-1][1] += 1
        self._seconds[-1][2] += failed
        while self._seconds[0][0] <= second - WINDOW_S:
            self._seconds.popleft()

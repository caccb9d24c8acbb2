"""Server-sent events on bytes: reading a provider's stream, writing ours.

Source: the WHATWG HTML standard, section "Server-sent events". A line ends with LF, CR or CRLF and with nothing else:
U+2028, U+0085, vertical tab and form feed are data, which is why ``bytes.splitlines`` has no place here.
"""

import re
from typing import Final

MAX_EVENT_BYTES: Final = 1 << 20
"""The most bytes one event may have, counted over its lines without their ends."""

_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class TooLong(Exception):
    """One event grew beyond `MAX_EVENT_BYTES`. The stream cannot be trusted: the reader refuses all that follows.

    `events` holds the payloads that were complete in the same segment before it.
    """

    def __init__(self, events: tuple[bytes, ...] = ()) -> None:
        super().__init__(f"one event of the stream is longer than {MAX_EVENT_BYTES} bytes")
        self.events = events


class EventReader:
    """Takes a stream in segments of any size and gives the data of each event as soon as the event is complete.

    Where the segments are cut never changes the result. Comments and the fields ``event``, ``id`` and ``retry`` are
    skipped; several data lines are joined by LF. An event that the stream leaves unfinished is never given.
    """

    __slots__ = ("_after_cr", "_data", "_dead", "_event_bytes", "_line", "_started")

    def __init__(self) -> None:
        self._line = bytearray()  # the line whose end has not come yet
        self._data: list[bytes] = []  # data lines of the event that is not complete yet
        self._event_bytes = 0  # bytes of that event's complete lines
        self._after_cr = False  # an LF at the start of the next segment belongs to a CR already seen
        self._started = False  # the first line is complete, so a byte order mark is no longer skipped
        self._dead = False

    def feed(self, segment: bytes) -> list[bytes]:
        """The data of each event that `segment` completes, oldest first. Raises `TooLong`."""
        if not (self._line or self._event_bytes or self._data or self._after_cr or self._dead):
            events = _whole_events(segment)
            if events is not None:
                self._started = True
                return events
        return self._feed_lines(segment)

    def _feed_lines(self, segment: bytes) -> list[bytes]:
        if self._dead:
            raise TooLong
        if not segment:
            return []
        if self._after_cr and segment.startswith(b"\n"):
            segment = segment[1:]
        lines = _LINE_END.split(segment)
        self._after_cr = segment.endswith(b"\r")
        unfinished = lines.pop()
        events: list[bytes] = []
        for line in lines:
            if self._line:
                self._line += line
                line = bytes(self._line)
                self._line.clear()
            self._take_line(line, events)
        self._line += unfinished
        self._check(len(self._line), events)
        return events

    def _take_line(self, line: bytes, events: list[bytes]) -> None:
        self._check(len(line), events)
        if not self._started:
            self._started = True
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
            self._event_bytes = 0
            return
        self._event_bytes += len(line)
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))

    def _check(self, line_bytes: int, events: list[bytes]) -> None:
        if self._event_bytes + line_bytes > MAX_EVENT_BYTES:
            self._dead = True
            raise TooLong(tuple(events))


def _whole_events(segment: bytes) -> list[bytes] | None:
    """The data of a segment that is nothing but ``data: ...`` LF LF, once or more; None when it is anything else.

    Nearly every segment of a model's stream has this form, and splitting it costs a small part of reading its lines.
    """
    if not segment.endswith(b"\n\n") or b"\r" in segment:
        return None
    parts = segment.split(b"\n\n")
    parts.pop()
    events = []
    for part in parts:
        if not part.startswith(b"data: ") or b"\n" in part or len(part) > MAX_EVENT_BYTES:
            return None
        events.append(part[6:])
    return events


def event(data: bytes) -> bytes:
    """One event as bytes of the stream. A line end inside `data` starts a further data line and is read back as LF."""
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_LINE_END.split(data))
    return b"data: " + data + b"\n\n"

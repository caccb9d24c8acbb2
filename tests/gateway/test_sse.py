"""Reading and writing server-sent events."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tollhouse.gateway import sse
from tollhouse.gateway.sse import EventReader, TooLong


def read(*segments: bytes) -> list[bytes]:
    reader = EventReader()
    return [data for segment in segments for data in reader.feed(segment)]


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    places = [0, *sorted({min(place, len(stream)) for place in at}), len(stream)]
    return [stream[start:end] for start, end in pairwise(places)]


FRAGMENTS = [
    *(b"data: ", b"data:", b"data", b"event: ping", b"id: 1", b"retry: 3", b": hello", b":", b" ", b"{}", b"x"),
    *(b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xc2\x85", b"\v", b"\f", b"\0"),
    *(b'data: {"a":1}\n\n', b"data: [DONE]\n\n"),
]
streams = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=40).map(b"".join)


def reference(stream: bytes) -> list[bytes]:
    """The standard's algorithm, read off its text, for a whole stream and without regard to speed."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, data = [], b""
    for line in text.split(b"\n")[:-1]:
        if line == b"":
            if data:
                events.append(data[:-1])
            data = b""
        elif line == b"data":
            data += b"\n"
        elif line.startswith(b"data:"):
            value = line[5:]
            data += (value[1:] if value[:1] == b" " else value) + b"\n"
    return events


@given(streams)
@example(b"data: a\n\n\ndata: b\n\n")
@example(b"\xef\xbb\xbfdata: a\n\n")
@example(b"data: a\n\n\xef\xbb\xbfdata: b\n\n")
def test_a_stream_is_read_as_the_standard_says(stream: bytes) -> None:
    assert read(stream) == reference(stream)


@given(streams, st.lists(st.integers(0, 300)))
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", [8, 10])
@example(b"\xef\xbb\xbfdata: a\n\n", [1, 2])
@example(b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [9])
def test_where_the_segments_are_cut_never_changes_the_events(stream: bytes, at: list[int]) -> None:
    assert read(*cut(stream, at)) == read(stream)


@given(streams)
def test_a_stream_that_drips_byte_by_byte_gives_the_same_events(stream: bytes) -> None:
    assert read(*(stream[place : place + 1] for place in range(len(stream)))) == read(stream)


@given(st.lists(streams, max_size=6))
def test_the_quick_path_and_the_line_by_line_path_agree(segments: list[bytes]) -> None:
    slow = EventReader()
    assert read(*segments) == [data for segment in segments for data in slow._feed_lines(segment)]


@given(st.lists(st.binary(max_size=30).filter(lambda data: b"\r" not in data)))
def test_what_is_written_is_read_back_equal(payloads: list[bytes]) -> None:
    assert read(b"".join(map(sse.event, payloads))) == payloads


@given(st.binary(max_size=30))
def test_no_data_can_open_a_second_event(data: bytes) -> None:
    assert read(sse.event(data)) == [data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")]


def test_an_event_is_given_with_its_last_byte_and_not_later() -> None:
    reader = EventReader()
    assert reader.feed(b"data: a\r\n\r") == [b"a"]
    assert reader.feed(b"\ndata: b\n") == []
    assert reader.feed(b"\n") == [b"b"]


def test_other_unicode_line_ends_are_data() -> None:
    data = "one\u2028two\u0085three\vfour\ffive".encode()
    assert read(b"data: " + data + b"\n\n") == [data]


def test_comments_and_other_fields_are_skipped() -> None:
    assert read(b": keep-alive\n\nevent: ping\nid: 7\nretry: 10\ndata: 1\ndata: 2\ndatax: 3\n\n") == [b"1\n2"]


def test_an_unfinished_event_is_never_given() -> None:
    assert read(b"data: whole\n\ndata: half\n") == [b"whole"]


@pytest.mark.parametrize("head", [b"data: ", b": ", b""])
def test_an_event_beyond_the_cap_is_refused_before_it_is_complete(head: bytes) -> None:
    reader = EventReader()
    segment = head + b"x" * 65_536
    with pytest.raises(TooLong):
        for _ in range(17):
            reader.feed(segment)
    with pytest.raises(TooLong):
        reader.feed(b"data: a\n\n")


@pytest.mark.parametrize("size", [sse.MAX_EVENT_BYTES - 6, sse.MAX_EVENT_BYTES - 5])
@pytest.mark.parametrize("pieces", [1, 2, 999])
def test_the_cap_is_the_same_for_any_segments(size: int, pieces: int) -> None:
    stream = b"data: " + b"x" * size + b"\n\n"
    step = len(stream) // pieces
    segments = cut(stream, [step * number for number in range(1, pieces)])
    if size + 6 <= sse.MAX_EVENT_BYTES:
        assert [len(data) for data in read(*segments)] == [size]
    else:
        with pytest.raises(TooLong):
            read(*segments)


def test_many_short_lines_of_one_event_count_together() -> None:
    with pytest.raises(TooLong):
        read(b"data: 0123456789\n" * 70_000)


def test_events_before_an_oversized_one_are_not_lost() -> None:
    reader = EventReader()
    with pytest.raises(TooLong) as refused:
        reader.feed(b"data: paid\n\n" + b"data: " + b"x" * sse.MAX_EVENT_BYTES)
    assert refused.value.events == (b"paid",)

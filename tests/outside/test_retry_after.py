"""How long a provider asks callers to wait, in all the forms that are in use."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.outside.http import retry_after_s

DATES = st.datetimes().map(lambda moment: f"{moment:%a, %d %b %Y %H:%M:%S} GMT")
WEDNESDAY = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0),
        ({"retry-after": " 20 "}, 20),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "3601"}, 3600),
        ({"retry-after": "999999999"}, 3600),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "0.5"}, 0.0005),
        ({"retry-after-ms": "7200000"}, 3600),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, 30),
        ({"retry-after": "Wednesday, 21-Oct-15 07:28:30 GMT"}, 30),
        ({"retry-after": "Wed Oct 21 07:28:30 2015"}, 30),
        ({"retry-after": "Thu, 22 Oct 2015 07:28:00 GMT"}, 3600),
        ({"retry-after": "Wed, 21 Oct 2015 09:28:30 GMT", "date": "Wed, 21 Oct 2015 09:28:20 GMT"}, 10),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": "yesterday"}, 30),
        ({"retry-after": "Wed, 21 Oct 2015 07:27:59 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "9999999999"}, None),
        ({"retry-after": "\u0661"}, None),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:30 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 0000 07:28:30 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 99999999999999999999 07:28:30 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 +99999999999999999999"}, None),
    ],
)
def test_the_wait_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, WEDNESDAY) == seconds


def test_a_date_without_a_zone_is_in_utc_wherever_the_server_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert retry_after_s({"retry-after": "Wed Oct 21 07:28:30 2015"}, WEDNESDAY) == 30
        assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:30 -0000"}, WEDNESDAY) == 30
    time.tzset()


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "date"]), st.text() | DATES))
def test_whatever_is_said_the_wait_is_sensible_or_unknown(headers: dict[str, str]) -> None:
    seconds = retry_after_s(headers, WEDNESDAY)
    assert seconds is None or 0 <= seconds <= 3600

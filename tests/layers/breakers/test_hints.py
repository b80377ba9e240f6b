"""A service says when it wants to be asked again; what cannot be read is no hint."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.layers.breakers.hints import FAR_S, retry_after_s, told_not_to

WEEK_S = 7 * 86_400.0
NOON = "Sun, 06 Nov 1994 12:00:00 GMT"
NOON_S = datetime(1994, 11, 6, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "hint_s"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0.5", 0.5),
        ("+3", 3.0),
        ("-3", 0.0),
        ("-0.1", 0.0),
        ("604800", WEEK_S),
        ("9" * 400, FAR_S),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        ("1e3", None),
        ("7s", None),
        ("7, 8", None),
        ("0x10", None),
        ("\uff11\uff12", None),
        ("9" * 5_000, None),
        ("Sun, 06 Nov", None),
        ("Sun, 99 Nov 1994 25:61:61 GMT", None),
    ],
)
def test_seconds_are_read_or_nothing_is(text: str, hint_s: float | None) -> None:
    """A number is obeyed however long; the past is now; garbage is no hint."""
    assert retry_after_s({"retry-after": text}, wall_s=NOON_S) == hint_s


@pytest.mark.parametrize(
    ("text", "hint_s"),
    [
        ("Sun, 06 Nov 1994 12:00:30 GMT", 30.0),
        ("Sunday, 06-Nov-94 12:00:30 GMT", 30.0),
        ("Sun Nov  6 12:00:30 1994", 30.0),
        ("Sun, 06 Nov 1994 13:00:30 +0100", 30.0),
        ("Sun, 06 Nov 1994 12:00:30 -0000", 30.0),
        ("Sun, 06 Nov 1994 11:00:00 GMT", 0.0),
        ("Sun, 13 Nov 1994 12:00:00 GMT", WEEK_S),
        ("Fri, 31 Dec 9999 23:59:59 GMT", FAR_S),
    ],
)
def test_a_date_is_as_far_as_it_is_from_now(text: str, hint_s: float) -> None:
    """All forms of RFC 9110 are read; whose clock counts is said below."""
    assert retry_after_s({"retry-after": text}, wall_s=NOON_S) == hint_s
    assert retry_after_s({"retry-after": text, "date": NOON}) == hint_s
    assert retry_after_s({"retry-after": text}) is None


def test_the_service_s_own_clock_counts_before_ours() -> None:
    """Our clock may be wrong by an hour; what the service says it is cannot be."""
    headers = {"retry-after": "Sun, 06 Nov 1994 12:00:30 GMT", "date": NOON}
    assert retry_after_s(headers, wall_s=NOON_S + 3_600) == 30
    headers["date"] = "yesterday"
    assert retry_after_s(headers, wall_s=NOON_S + 10) == 20
    assert retry_after_s(headers, wall_s=math.nan) is None


def test_a_date_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this machine stands has nothing to do with it."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        headers = {"retry-after": "Sun, 06 Nov 1994 12:00:30 -0000"}
        assert retry_after_s(headers, wall_s=NOON_S) == 30
    finally:
        monkeypatch.undo()
        time.tzset()


def test_milliseconds_are_finer() -> None:
    """`retry-after-ms` counts before `retry-after`, unless it cannot be read."""
    assert retry_after_s({"retry-after-ms": "250", "retry-after": "1"}) == 0.25
    assert retry_after_s({"retry-after-ms": "soon", "retry-after": "1"}) == 1


@pytest.mark.parametrize("spelled", ["retry-after", "Retry-After"])
@pytest.mark.parametrize("value", ["7", b"7", 7, 7.0])
def test_names_and_values_come_in_any_shape(spelled: str, value: Any) -> None:
    """A plain dict minds the case of its keys; a raw header is bytes."""
    assert retry_after_s({spelled: value}) == 7


@pytest.mark.parametrize(
    ("text", "hint_s"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("1h2m3.5s", 3_723.5),
        ("2m59.56s", 179.56),
        ("8.64s", 8.64),
        ("12", 12.0),
        ("m", None),
        ("1 s", None),
        ("s1", None),
        ("", None),
    ],
)
def test_openai_s_limits_are_spans(text: str, hint_s: float | None) -> None:
    """`x-ratelimit-reset-*` is read where nothing else is said, and only where asked for."""
    headers = {"x-ratelimit-reset-tokens": text}
    assert retry_after_s(headers, limits=True) == hint_s
    assert retry_after_s(headers) is None
    assert retry_after_s({**headers, "retry-after": "3"}, limits=True) == 3


def test_anthropic_s_limits_are_times() -> None:
    """`anthropic-ratelimit-*-reset` is RFC 3339, from the service's own time or ours."""
    headers = {"anthropic-ratelimit-output-tokens-reset": "1994-11-06T12:00:30Z"}
    assert retry_after_s(headers, limits=True) is None
    assert retry_after_s(headers, limits=True, wall_s=NOON_S) == 30
    assert retry_after_s({**headers, "date": NOON}, limits=True) == 30
    past = {"anthropic-ratelimit-requests-reset": "1994-11-06T11:00:00Z", "date": NOON}
    assert retry_after_s(past, limits=True) == 0
    broken = {"anthropic-ratelimit-requests-reset": "1994-13-06T11:00:00Z", "date": NOON}
    assert retry_after_s(broken, limits=True) is None


def test_the_limit_that_is_used_up_counts() -> None:
    """Of limits that are used up the last to be reset; of none is, the first of all."""
    headers = {
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-tokens": "6m0s",
        "x-ratelimit-remaining-tokens": "900",
    }
    assert retry_after_s(headers, limits=True) == 1
    headers["x-ratelimit-remaining-tokens"] = "0"
    assert retry_after_s(headers, limits=True) == 360
    headers["x-ratelimit-remaining-requests"] = "5"
    headers["x-ratelimit-remaining-tokens"] = "5"
    assert retry_after_s(headers, limits=True) == 1


class Broken:
    """Headers that cannot be read."""

    def get(self, name: str) -> str:
        """Fail."""
        raise KeyError(name)


@pytest.mark.parametrize("headers", [None, 7, "retry-after", [], Broken(), {"retry-after": []}])
def test_what_is_no_mapping_has_no_hint(headers: Any) -> None:
    """Nothing that stands where headers should fails the looking."""
    assert retry_after_s(headers, wall_s=NOON_S, limits=True) is None
    assert not told_not_to(headers)


@pytest.mark.parametrize(
    ("text", "told"), [("false", True), ("False", True), ("true", False), ("0", False)]
)
def test_a_service_may_say_that_it_is_of_no_use(text: str, told: bool) -> None:  # noqa: FBT001  a row of a table
    """Only `false` forbids."""
    assert told_not_to({"x-should-retry": text}) is told


NAMES = st.sampled_from(
    [
        "retry-after",
        "retry-after-ms",
        "date",
        "x-ratelimit-reset-tokens",
        "x-ratelimit-remaining-tokens",
        "anthropic-ratelimit-tokens-reset",
    ]
)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.floats().map(str),
    st.integers().map(str),
    st.from_regex(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [A-Z+0-9]{3,5}"),
    st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)"),
    st.from_regex(r"(\d{1,9}h)?(\d{1,9}m)?(\d{1,9}s)?", fullmatch=True),
    st.binary(max_size=20),
)


@given(st.dictionaries(NAMES, TEXTS), st.one_of(st.none(), st.floats()))
def test_a_hint_is_a_wait_or_nothing(headers: dict[str, Any], wall_s: float | None) -> None:
    """Whatever a service writes, there is a finite wait of at least 0, or none."""
    hint_s = retry_after_s(headers, wall_s=wall_s, limits=True)
    assert hint_s is None or 0 <= hint_s <= FAR_S


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)),  # noqa: DTZ001  made aware below
    st.integers(0, 86_400),
)
def test_a_date_says_the_same_as_seconds(now: datetime, wait_s: int) -> None:
    """Both forms of `Retry-After` mean the same wait."""
    now = now.replace(microsecond=0, tzinfo=UTC)
    date = format_datetime(now + timedelta(seconds=wait_s), usegmt=True)
    by_date = retry_after_s({"retry-after": date}, wall_s=now.timestamp())
    assert by_date == retry_after_s({"retry-after": str(wait_s)}) == wait_s

"""How services stand over all processes: one row each, and what stands in it."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.layers.breakers.board import (
    MESSAGE_CHARS_MAX,
    Gauge,
    LastError,
    decode_gauges,
    encode_gauge,
    quantiles,
    rows,
)
from undercroft.model.circuit import CircuitChanged

STATES = st.sampled_from(["closed", "open", "half_open", "forced_open", "disabled", "observe_only"])
WHOLE = st.integers(0, 1_000)


def gauge(state: str = "closed", **more: Any) -> Gauge:
    """Return the figures of one process."""
    return Gauge(**{"service": "crm", "state": state, "since_at": 1.0, **more})


def stored(now: str, why: str = "failure_rate", at: float = 9.0, **more: Any) -> CircuitChanged:
    """Return a stored transition."""
    return CircuitChanged("crm", "closed", now, why, at, **more)


def row_of(*gauges: Gauge, change: CircuitChanged | None = None) -> Any:
    """Return the only row that these make."""
    (row,) = rows(list(enumerate(gauges)), {"crm": change} if change else {})
    return row


GAUGES = st.builds(
    gauge,
    STATES,
    calls=WHOLE,
    failures=WHOLE,
    slow=WHOLE,
    in_flight=WHOLE,
    retries=WHOLE,
    attempts=WHOLE,
    refused=WHOLE,
    usd_nano=st.none() | WHOLE,
    limit=st.none() | WHOLE,
    failure_rate=st.none() | st.floats(0, 1),
    samples=st.lists(st.floats(0, 100), max_size=8),
    suspect=st.booleans(),
    probe_in_s=st.none() | st.floats(0, 60),
)


@given(st.lists(GAUGES, min_size=1, max_size=5))
def test_a_row_adds_up_what_processes_count(gauges: list[Gauge]) -> None:
    """Counts are summed over processes, money and limits over those that have any."""
    row = row_of(*gauges)
    for name in ("calls", "failures", "slow", "in_flight", "retries", "attempts", "refused"):
        assert getattr(row, name) == sum(getattr(g, name) for g in gauges)
    money = [g.usd_nano for g in gauges if g.usd_nano is not None]
    assert row.usd == (pytest.approx(sum(money) / 1e9) if money else None)
    limits = [g.limit for g in gauges if g.limit is not None]
    assert row.limit == (sum(limits) if limits else None)
    assert row.processes == len(gauges)
    assert row.suspect == any(g.suspect for g in gauges)


@given(GAUGES)
def test_figures_survive_the_journal(one: Gauge) -> None:
    """What a process tells is what others read; a field that a newer one adds is passed over."""
    ((number, found),) = decode_gauges([(3, encode_gauge(one)), (4, b"\xc1"), (5, b"")])
    assert number == 3
    assert found == msgspec.structs.replace(one, samples=list(one.samples))
    fields = [getattr(one, name) for name in one.__struct_fields__]
    ((_, found),) = decode_gauges([(1, msgspec.msgpack.encode([*fields, "new"]))])
    assert found.service == "crm"


@given(st.dictionaries(st.text(max_size=5), STATES, max_size=5), st.sets(st.text(max_size=5)))
def test_every_service_has_one_row(changes: dict[str, str], called: set[str]) -> None:
    """A service that was ever open or is called now stands on the board, once, by name."""
    found = rows(
        [(n, gauge(service=name)) for n in range(2) for name in called],
        {name: CircuitChanged(name, "closed", now, "x", 1.0) for name, now in changes.items()},
    )
    assert [row.service for row in found] == sorted({*changes, *called})


@pytest.mark.parametrize(
    ("seen", "change", "state"),
    [
        pytest.param([], stored("open"), "open", id="nobody-lives"),
        pytest.param(["closed", "open"], None, "open", id="nothing-stored"),
        pytest.param(["closed"], stored("open"), "open", id="not-heard-yet"),
        pytest.param(["open", "closed"], stored("closed"), "open", id="not-told-yet"),
        pytest.param(["half_open", "open"], stored("half_open"), "half_open", id="one-tries"),
        pytest.param(["open", "open"], stored("half_open"), "half_open", id="the-prober-died"),
        pytest.param(["half_open"], stored("open"), "open", id="probe-failed-elsewhere"),
        pytest.param(["open"], stored("observe_only", "forced"), "observe_only", id="ordered"),
        pytest.param(["closed"], stored("forced_open", "forced"), "forced_open", id="closed-off"),
        pytest.param(["forced_open"], stored("closed", "reset"), "closed", id="just-reset"),
        pytest.param(["levitating"], None, "levitating", id="newer"),
    ],
)
def test_the_worst_that_is_known_is_shown(
    seen: list[str], change: CircuitChanged | None, state: str
) -> None:
    """What is stored is shown, or worse where a process sees it worse; an order always is."""
    row = row_of(*(gauge(s) for s in seen), change=change)
    assert row.state == state
    expected = 9.0 if change is not None and change.now == state else 1.0
    assert row.since_at == expected


def test_why_is_told_only_of_the_state_that_is_shown() -> None:
    """A row does not give the reason of one state for another."""
    closed = stored("closed", "probes_passed", by="ada", reason="r")
    assert row_of(gauge(), change=closed).why == "probes_passed"
    row = row_of(gauge("open"), change=closed)
    assert (row.state, row.why, row.by, row.reason) == ("open", "", "", "")


@pytest.mark.parametrize(
    ("state", "suspect", "bad"),
    [
        ("closed", False, False),
        ("closed", True, True),
        ("disabled", False, False),
        ("open", False, True),
        ("half_open", False, True),
        ("forced_open", False, True),
        ("observe_only", False, True),
    ],
)
def test_what_a_person_should_see(state: str, *, suspect: bool, bad: bool) -> None:
    """A service is a finding unless its breaker is closed, or was never wanted."""
    assert row_of(gauge(state, suspect=suspect)).bad is bad


def test_a_rate_is_told_where_somebody_has_enough_calls() -> None:
    """Rates are over all calls of all processes, once at least one of them can tell."""
    few, many = gauge(calls=2, failures=2), gauge(calls=18, failures=3, failure_rate=3 / 18)
    assert row_of(few).failure_rate is None
    assert row_of(few, many).failure_rate == 5 / 20
    assert row_of(gauge(failure_rate=0.0)).failure_rate is None


def test_the_next_probe_is_the_first_of_all() -> None:
    """Whoever tries first is waited for; where it is not open nobody is."""
    waits = [gauge("open", probe_in_s=3.0), gauge("open", probe_in_s=2.0), gauge("open")]
    assert row_of(*waits).probe_in_s == 2.0
    assert row_of(*waits, change=stored("forced_open", "forced")).probe_in_s is None


def test_windows_are_named_where_they_agree() -> None:
    """Processes that count over different windows are not said to count over one of them."""
    one, other = gauge(window="last 60 s"), gauge(window="last 100 calls")
    assert row_of(one, one).window == "last 60 s"
    assert row_of(one, other).window == "several"
    assert row_of(gauge()).window == ""


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.floats(0.01, 1))
def test_quantiles_are_those_of_all_calls(took_s: list[float], share: float) -> None:
    """A share of the calls took at most so long, and one that is shorter does not do."""
    gauges = [gauge(calls=1, samples=[one]) for one in took_s]
    (found,) = quantiles(gauges, share)
    assert found is not None
    assert found in took_s
    wanted = share * len(took_s)
    assert sum(one <= found for one in took_s) >= wanted - 1e-6
    assert sum(one < found for one in took_s) <= math.ceil(wanted)


def test_busy_processes_weigh_more() -> None:
    """A process counts by its calls, not by how many of them it remembers."""
    busy, idle = gauge(calls=1_000, samples=[1.0] * 10), gauge(calls=10, samples=[9.0] * 10)
    assert quantiles([busy, idle], 0.5, 0.9) == [1.0, 1.0]
    assert quantiles([], 0.5) == [None]
    assert quantiles([gauge(calls=5)], 0.5, 0.99) == [None, None]


class RudeError(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError


@given(st.text(st.characters(codec=None)))
def test_errors_are_kept_short(text: str) -> None:
    """Of an error its class, its type and a bounded message are kept, whatever it is."""
    kept = LastError.of("transient", OSError(text), 2.0)
    assert (kept.error_class, kept.type, kept.at) == ("transient", "OSError", 2.0)
    assert len(kept.message) <= MESSAGE_CHARS_MAX
    assert text.encode(errors="replace").decode().startswith(kept.message.removesuffix("…"))
    assert encode_gauge(gauge(last_error=kept))
    assert LastError.of("unknown", RudeError(), 1.0).type == "RudeError"


def test_the_last_error_of_all_is_shown() -> None:
    """Of the errors that processes saw last the newest is shown."""
    one = gauge(last_error=LastError("transient", "A", "a", 1.0))
    other = gauge(last_error=LastError("permanent", "B", "b", 2.0))
    row = row_of(one, other, gauge())
    assert row.last_error is not None
    assert row.last_error.type == "B"

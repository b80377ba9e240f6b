"""How services stand over all processes: live figures and stored transitions in one row each.

Keeps: what is shown is what most of it depends on, the worse where two sources differ; a process
that ended counts for nothing but the transitions that it wrote.
Leaves to the engine: which processes are alive, and when figures are published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter

import msgspec

from undercroft.layers.breakers.spend import NANO_PER_USD
from undercroft.model.circuit import (
    CLOSED,
    DISABLED,
    FORCED_OPEN,
    HALF_OPEN,
    OBSERVE_ONLY,
    OPEN,
    CircuitChanged,
)

MESSAGE_CHARS_MAX = 200

# How bad a state is for who calls.
RANKS: Mapping[str, int] = {
    CLOSED: 0,
    OBSERVE_ONLY: 0,
    DISABLED: 0,
    HALF_OPEN: 1,
    OPEN: 2,
    FORCED_OPEN: 3,
}


class LastError(msgspec.Struct, frozen=True, gc=False):
    """The last error of a service, and when, for people.

    Attributes:
        error_class: As of a step's failure: `transient`, `overloaded`, `permanent` and so on.
        type: Name of the exception.
        message: At most 200 characters of it.
    """

    error_class: str
    type: str
    message: str
    at: float

    @classmethod
    def of(cls, error_class: str, error: BaseException | str, at: float) -> LastError:
        """Return what is kept of an error."""
        if isinstance(error, str):
            return cls(str(error_class), "", bounded(error), at)
        return cls(str(error_class), storable(type(error).__name__), bounded(text_of(error)), at)


def text_of(error: BaseException) -> str:
    """Return what an error says, whatever it makes of being asked."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001  an exception of somebody else may do anything
        return "(it cannot say what it is)"


def bounded(message: str) -> str:
    """Return at most 200 characters of a message, as a journal can hold them."""
    if len(message) > MESSAGE_CHARS_MAX:
        message = message[: MESSAGE_CHARS_MAX - 1] + "…"
    return storable(message)


def storable(text: str) -> str:
    """Return a text that can be encoded: half a character, as a file may be named, becomes `?`."""
    return text.encode(errors="replace").decode()


class Gauge(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """How a service stands as one process sees it.

    Attributes:
        since_at: Since when, for people: seconds since 1970.
        window: What the figures are about: `last 100 calls`, `last 60 s`.
        calls: In the window; so are `failures` and `slow`.
        failure_rate: None: too few calls to say. So is `slow_rate`.
        samples: Seconds that the last calls took, at most 128.
        retries: Since the process began; so are the next three.
        attempts: Wire attempts.
        refused: Calls that were not made.
        usd_nano: Billionths of a dollar spent; None: nothing here has a price.
        suspect: Whether it fails more often than it used to, though not enough to be left
            alone.
        probe_in_s: Seconds until it is tried again; None: not open, or nobody knows.
        limit: Calls that may be in flight, since it said that there were too many.
    """

    service: str
    state: str
    since_at: float
    window: str = ""
    calls: int = 0
    failures: int = 0
    slow: int = 0
    failure_rate: float | None = None
    slow_rate: float | None = None
    samples: Sequence[float] = ()
    in_flight: int = 0
    retries: int = 0
    attempts: int = 0
    refused: int = 0
    usd_nano: int | None = None
    last_error: LastError | None = None
    suspect: bool = False
    probe_in_s: float | None = None
    limit: int | None = None


encode_gauge = msgspec.msgpack.Encoder().encode
_decode_gauge = msgspec.msgpack.Decoder(Gauge).decode


def decode_gauges(told: Iterable[tuple[int, bytes]]) -> list[tuple[int, Gauge]]:
    """Return the figures of processes, with the number of each.

    Those that cannot be read, as a newer Undercroft may write them, are passed over.
    """
    found = []
    for runtime, data in told:
        with suppress(msgspec.DecodeError):
            found.append((runtime, _decode_gauge(data)))
    return found


class BoardRow(msgspec.Struct, frozen=True, kw_only=True):
    """How a service stands, over all processes that call it.

    Attributes:
        state: As last stored, or worse where a process sees it worse.
        since_at: Seconds since 1970; None where nobody wrote it down.
        why: Of the last transition; empty where there was none. So are `by` and `reason`.
        processes: How many live ones call it.
        p50_s: Half of the last calls took less; None: none is known.
        p99_s: The same of 99 in a hundred.
        probe_in_s: Seconds until the first process tries it again.
        usd: Spent by the processes that live.
        limit: Calls in flight that are allowed, of all processes that were told to slow down.
    """

    service: str
    state: str
    since_at: float | None
    suspect: bool
    why: str
    by: str
    reason: str
    processes: int
    window: str
    calls: int
    failures: int
    slow: int
    failure_rate: float | None
    slow_rate: float | None
    p50_s: float | None
    p99_s: float | None
    in_flight: int
    attempts: int
    retries: int
    refused: int
    usd: float | None
    last_error: LastError | None
    probe_in_s: float | None
    limit: int | None

    @property
    def bad(self) -> bool:
        """Whether a person should have a look: it is not closed, or about to fail."""
        return self.suspect or self.state not in (CLOSED, DISABLED)


def rows(
    gauges: Iterable[tuple[int, Gauge]], changes: Mapping[str, CircuitChanged]
) -> list[BoardRow]:
    """Return one row for each service, by name.

    Args:
        gauges: Figures of live processes, with the number of each.
        changes: The last stored transition of each service that had one.
    """
    found: dict[str, list[Gauge]] = {name: [] for name in changes}
    for _, gauge in gauges:
        found.setdefault(gauge.service, []).append(gauge)
    return [_row(name, found[name], changes.get(name)) for name in sorted(found)]


def _row(service: str, gauges: Sequence[Gauge], change: CircuitChanged | None) -> BoardRow:
    state, since_at = _standing(gauges, change)
    stored = change if change is not None and change.now == state else None
    calls = sum(g.calls for g in gauges)
    failures, slow = sum(g.failures for g in gauges), sum(g.slow for g in gauges)
    errors = [g.last_error for g in gauges if g.last_error is not None]
    p50_s, p99_s = quantiles(gauges, 0.5, 0.99)
    waits = [g.probe_in_s for g in gauges if g.probe_in_s is not None and g.state == OPEN]
    money = [g.usd_nano for g in gauges if g.usd_nano is not None]
    limits = [g.limit for g in gauges if g.limit is not None]
    return BoardRow(
        service=service,
        state=state,
        since_at=since_at,
        suspect=any(g.suspect for g in gauges),
        why=stored.why if stored else "",
        by=stored.by if stored else "",
        reason=stored.reason if stored else "",
        processes=len(gauges),
        window=_window(gauges),
        calls=calls,
        failures=failures,
        slow=slow,
        failure_rate=_rate(failures, calls, [g.failure_rate for g in gauges]),
        slow_rate=_rate(slow, calls, [g.slow_rate for g in gauges]),
        p50_s=p50_s,
        p99_s=p99_s,
        in_flight=sum(g.in_flight for g in gauges),
        attempts=sum(g.attempts for g in gauges),
        retries=sum(g.retries for g in gauges),
        refused=sum(g.refused for g in gauges),
        usd=sum(money) / NANO_PER_USD if money else None,
        last_error=max(errors, key=lambda error: error.at, default=None),
        probe_in_s=min(waits, default=None) if state == OPEN else None,
        limit=sum(limits) if limits else None,
    )


def _standing(gauges: Sequence[Gauge], change: CircuitChanged | None) -> tuple[str, float | None]:
    """Return the state to show, and since when."""
    states = [(g.state, g.since_at) for g in gauges]
    if change is None:
        state = max((state for state, _ in states), key=_rank)
    elif change.ordered and change.now != CLOSED:
        # What a person said holds for all, from the moment that they hear of it.
        return change.now, change.at
    else:
        # While one process tries the service, the others go on seeing it open.
        worst = HALF_OPEN if change.now == HALF_OPEN else OPEN
        worse = [s for s, _ in states if _rank(change.now) < _rank(s) <= _rank(worst)]
        if change.now == HALF_OPEN or not worse:
            return change.now, change.at
        state = max(worse, key=_rank)
    return state, min(at for s, at in states if s == state)


def _rank(state: str) -> int:
    # A newer Undercroft may know more of them.
    return RANKS.get(state, 1)


def _rate(part: int, whole: int, said: Sequence[float | None]) -> float | None:
    """Return the rate over all, where at least one process has enough calls to speak of one."""
    if whole and any(rate is not None for rate in said):
        return part / whole
    return None


def _window(gauges: Sequence[Gauge]) -> str:
    windows = {g.window for g in gauges if g.window}
    return windows.pop() if len(windows) == 1 else ("several" if windows else "")


def quantiles(gauges: Iterable[Gauge], *shares: float) -> list[float | None]:
    """Return what that share of calls took at most; each process counts by its calls.

    Source: nearest rank, weighted; Hyndman and Fan, 1996, type 1.
    """
    weighted = [
        (took_s, max(g.calls, len(g.samples)) / len(g.samples))
        for g in gauges
        for took_s in g.samples
    ]
    if not weighted:
        return [None] * len(shares)
    weighted.sort(key=itemgetter(0))
    whole = sum(weight for _, weight in weighted)
    answers: list[float | None] = []
    for share in shares:
        # Less than any weight: sums of fractions fall a little short of the whole.
        wanted, seen = share * whole - 1e-6, 0.0
        for took_s, weight in weighted:
            seen += weight
            if seen >= wanted:
                answers.append(took_s)
                break
    return answers

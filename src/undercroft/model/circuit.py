"""What processes tell each other of the services that they call.

Keeps: a transition is never changed once written; new fields go last and have defaults, so
that a newer Undercroft reads older journals.
Encoding: msgpack arrays, as of events. Units: `at` is seconds since 1970 by the wall clock, for
people only. What one process waits for it measures itself: no two clocks are ever compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"
FORCED_OPEN, DISABLED, OBSERVE_ONLY = "forced_open", "disabled", "observe_only"

# Why a breaker went where it is, if a person said so.
ORDERS = frozenset({"forced", "reset"})


class CircuitChanged(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The breaker of a service went from one state to another.

    Attributes:
        service: Its name.
        was: State before.
        now: State since: `closed`, `open`, `half_open`, `forced_open`, `disabled` or
            `observe_only`.
        why: Such as `failure_rate`, `failures_in_a_row`, `probes_passed`, `forced`, `reset`.
        at: When, for people.
        by: Who said so; empty where nobody did.
        reason: What they said.
        runtime: Number of the process that saw it; 0 for the command line.
        wait_s: Of an opening: seconds until it is tried again.
        suspect: Whether the service had been marked as suspect before.
        calls: In the window of the state that ended; so are the rest.
        in_a_row: Failures without a success between.
        refused: Since the state began.
    """

    service: str
    was: str
    now: str
    why: str
    at: float
    by: str = ""
    reason: str = ""
    runtime: int = 0
    wait_s: float = 0.0
    suspect: bool = False
    calls: int = 0
    failures: int = 0
    slow: int = 0
    failure_rate: float | None = None
    slow_rate: float | None = None
    in_flight: int = 0
    in_a_row: int = 0
    refused: int = 0

    @property
    def ordered(self) -> bool:
        """Whether a person said so."""
        return self.why in ORDERS


encode_change = msgspec.msgpack.Encoder().encode
decode_change = msgspec.msgpack.Decoder(CircuitChanged).decode


class Stored(NamedTuple):
    """A transition as a store keeps it.

    Attributes:
        epoch: Counts the transitions of its service, from 1; one process writes each.
    """

    epoch: int
    change: CircuitChanged


class Chain(NamedTuple):
    """Transitions of one service, to be written behind the last one that is known, or not at all.

    Attributes:
        epoch: Of the last one that the writer knows; 0 for none.
    """

    epoch: int
    changes: Sequence[CircuitChanged]


class Ask(NamedTuple):
    """Somebody asks for the right to try a service again.

    Attributes:
        epoch: Of its last transition, as far as the asker knows.
        silent: Process and beat of a holder that was watched for long enough without change.
    """

    epoch: int
    silent: tuple[int, int] | None = None


class Prober(NamedTuple):
    """Who may try a service.

    Attributes:
        beat: Grows for as long as its probes get on.
    """

    runtime: int
    beat: int = 0


class Spent(NamedTuple):
    """So much of each unit was spent.

    Attributes:
        attempts: Wire attempts.
        time_us: Microseconds of calls under way.
        input_tokens: Sent to models.
        output_tokens: Answered by models.
        usd_nano: Billionths of a dollar.
    """

    attempts: int = 0
    time_us: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd_nano: int = 0

    def plus(self, other: tuple[int, int, int, int, int]) -> Spent:
        """Return both together."""
        return Spent(*[mine + theirs for mine, theirs in zip(self, other, strict=True)])


Account = tuple[str, str]


class Post(NamedTuple):
    """What a process tells the others, and asks of them, in one exchange.

    Attributes:
        since: Position up to which it knows the transitions; 0 to be told how all services
            stand.
        chains: Transitions to write, by service.
        gauges: Live figures, encoded, by service; empty ones are taken back.
        asks: Services that it wants to try, and may not without the right to.
        beats: Services whose probes get on.
        gives_back: Services that it has the right to try, and does not want to any more.
        spends: Amounts to add, by scope and name.
        totals: Accounts of which it wants to know the sum over all processes.
    """

    since: int = 0
    chains: Mapping[str, Chain] = MappingProxyType({})
    gauges: Mapping[str, bytes] = MappingProxyType({})
    asks: Mapping[str, Ask] = MappingProxyType({})
    beats: Sequence[str] = ()
    gives_back: Sequence[str] = ()
    spends: Mapping[Account, Spent] = MappingProxyType({})
    totals: Sequence[Account] = ()

    @property
    def writes(self) -> bool:
        """Whether anything is to be written."""
        return bool(
            self.chains or self.gauges or self.asks or self.beats or self.gives_back or self.spends
        )


class News(NamedTuple):
    """What a process is told in an exchange.

    Attributes:
        upto: Position up to which it knows the transitions from now on.
        last: The last transition of each service that had any since, its own included.
        probers: Who may try the services that it asked for, or said a beat of; nobody, if
            a service is missing.
        totals: The sums that it wanted.
        anew: Whether this is another journal than before: what was known of it counts for
            nothing, and `last` tells of all services.
        error: Why nothing of the post was written; None where all of it was, but for chains
            that came too late.
    """

    upto: int = 0
    last: Mapping[str, Stored] = MappingProxyType({})
    probers: Mapping[str, Prober] = MappingProxyType({})
    totals: Mapping[Account, Spent] = MappingProxyType({})
    anew: bool = False
    error: Exception | None = None

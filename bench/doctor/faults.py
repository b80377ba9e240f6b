"""Faults that are put into healthy runs: each takes away what exactly one layer would hold.

Each fault is a function of a run and a chance that returns the run with the fault in it, or None
where the run has no place for it. Which layer would have stopped it is said beside the function.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from bench.doctor.runs import Batch, Call, Run, Say

Injected: TypeAlias = Callable[[Run, random.Random], Run | None]
CHAT = ("openai", "anthropic")
ALL = ("openai", "anthropic", "otlp")
SPANS = ("otlp",)
_NO_READS = frozenset(
    {
        *("think", "calculate", "sleep", "wait", "run_shell"),
        *("transfer_to_human_agents", "transfer_to_billing"),
    }
)
Place: TypeAlias = tuple[int, int, Call]


@dataclass(frozen=True, slots=True)
class Fault:
    """A way in which one layer's protection is missing.

    Attributes:
        formats: In which of the written formats it shows.
    """

    name: str
    layer: str
    inject: Injected
    formats: tuple[str, ...] = ALL


def first_writes(run: Run) -> list[Place]:
    """Return the succeeded writes that are the first ones to a resource with a name."""
    seen: set[str] = set()
    found = []
    for at, n, call in run.calls():
        if call.writes and call.ok and call.key and call.key not in seen:
            found.append((at, n, call))
        if call.writes and call.ok:
            seen.add(call.key)
    return found


def writes(run: Run) -> list[Place]:
    """Return the succeeded writes."""
    return [place for place in run.calls() if place[2].writes and place[2].ok]


def reads(run: Run) -> list[Place]:
    """Return the succeeded reads, of whatever."""
    return [
        place
        for place in run.calls()
        if not place[2].writes and place[2].ok and place[2].name not in _NO_READS
    ]


def alone(run: Run, at: int) -> bool:
    """Whether the batch at `at` has one call."""
    beat = run.beats[at]
    return isinstance(beat, Batch) and len(beat.calls) == 1


def shaped_like(value: str, chance: random.Random) -> str:
    """Return another value of the same shape: each digit and capital is drawn anew."""
    made = "".join(
        chance.choice("0123456789")
        if sign.isdigit()
        else chance.choice("ABCDEFGHJKLMNPQRSTUVWXYZ")
        if sign.isupper() and any(c.isdigit() for c in value) and "-" not in value
        else sign
        for sign in value
    )
    return made if made != value else value + "7"


def said_before(run: Run, at: int, value: str) -> bool:
    """Whether somebody said `value` before the beat at `at`."""
    return any(isinstance(b, Say) and value in b.text for b in run.beats[:at])


def pick(places: list[Place], chance: random.Random) -> Place | None:
    """Return one of the places, if there are any."""
    return chance.choice(places) if places else None


def numbered(call: Call, chance: random.Random) -> Call:
    """Return the call under an id of its own, where calls have ids."""
    return replace(call, id=f"{call.id[:5]}{chance.randrange(10**7, 10**8)}") if call.id else call

"""A life of a turn that this process runs, and what is read of the code that it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from undercroft.engine.body import Body, Decoder
from undercroft.engine.codec import ENCODE_ERRORS, decode
from undercroft.engine.handler import Handler
from undercroft.engine.memo import Memo
from undercroft.engine.targets import Target
from undercroft.engine.turnrun import TurnRun
from undercroft.layers.breakers.policy import Budget
from undercroft.model.event import TurnEnded, TurnStarted, decode_frames
from undercroft.model.outcome import Outcome
from undercroft.model.step import FALLBACK

# The kind of turns whose loop is somebody else's.
GUEST = "guest"


@dataclass(slots=True)
class Live:
    """A turn that this process is running.

    Attributes:
        waiters: What those who asked for the turn wait for, one each.
        budget: What it may spend; None: as all turns.
        why: Why it was told to stop, or None.
    """

    turn_id: str
    run: TurnRun
    budget: Budget | None = None
    task: asyncio.Task[None] | None = None
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    waiters: list[asyncio.Future[Outcome]] = field(default_factory=list)
    why: str | None = None
    expired: bool = False
    closed: bool = False


def is_paused_guest(memo: Memo) -> bool:
    """Whether the turn is one that goes on when its own loop does."""
    return memo.started is not None and memo.started.kind == GUEST and memo.parked is not None


def session_of(frames: Sequence[bytes]) -> str | None:
    """Return the session of a turn, as its first frame tells it."""
    begun = decode_frames(frames[:1])[0]
    return begun.session if isinstance(begun, TurnStarted) else None


def secrets_of(target: Target) -> frozenset[str]:
    """Return the names of secret parameters and fields of what a turn runs."""
    return target.secrets if isinstance(target, Handler) else target.build().secrets


def body_of(target: Target, name: str) -> Body | None:
    """Return what a step of that name runs; None where there is none."""
    if isinstance(target, Handler):
        return target.tools[name].body if name in target.tools else None
    bodies = {op.name: op.body for op in target.build().ops}
    return bodies.get(name.partition("[")[0])


def decoded_value(target: Target, memo: Memo, raw: Any, over: TurnEnded) -> Any:
    """Return what a turn ended with, typed as its code says."""
    if isinstance(target, Handler):
        return target.decode(raw)
    if over.value_of is None:
        return decode(raw)
    name = memo.records[over.value_of].name.removesuffix(FALLBACK)
    decoders: dict[str, Decoder] = {op.name: op.decode for op in target.build().ops}
    read_back: Decoder = decoders.get(name, decode)
    try:
        return read_back(raw)
    except ENCODE_ERRORS:
        return decode(raw)  # of what stood in for the step

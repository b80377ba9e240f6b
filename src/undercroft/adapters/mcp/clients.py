"""The clients of a server of ours: each is a loop of its own, and its calls make up turns.

Keeps: a turn begins with a client's first call and ends once it has asked for nothing for a while,
so that what it read counts for what it writes next, and what it owns is let go of. Where a person
has to decide, the turn is parked at once, and gone on with when the call is made again.

The protocol has no turns, and does not say which calls were proposed together: a call counts as a
batch of its own, in the order of arrival.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from undercroft.errors import BusyError, LoopError, TurnBusyError
from undercroft.model.outcome import Waiting
from undercroft.model.step import Call, Result, StepStatus
from undercroft.ports import Host

WAITING_MAX = 100


@dataclass(frozen=True, slots=True)
class Word:
    """What a person said about a call."""

    granted: bool
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """What came of a call.

    Attributes:
        call: With the id that it goes by.
        result: None where the turn could not go on.
        text: What the client's model reads.
        question: What a person has to decide first.
        turn_id: The turn that it belongs to.
    """

    call: Call
    result: Result | None
    text: str
    question: Waiting | None = None
    turn_id: str = ""


class Line:
    """One client, and the turn that it is at.

    Args:
        host: A runtime.
        toolset: What it may call.
        session: Its name, for the record.
        idle_s: Seconds of silence that end its turn.
        gone: Called when its turn has ended, and nothing of it is waiting.
    """

    def __init__(
        self, host: Host, toolset: Any, session: str, idle_s: float, gone: Callable[[], None]
    ) -> None:
        self._guest = host.guest(toolset, session=session)
        self._idle_s, self._gone = idle_s, gone
        # Whoever holds it lets nobody begin.
        self._door = asyncio.Lock()
        self._running = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        # By what was asked: the calls that wait for somebody's word.
        self._waiting: dict[bytes, Call] = {}
        # Likewise: those that went round in circles until their turn was ended.
        self._spun: dict[bytes, str] = {}

    async def call(self, name: str, arguments: dict[str, Any]) -> Said:
        """Return what comes of a call; one that waited for a person goes on as that one."""
        key = _key(name, arguments)
        parked = self._waiting.pop(key, None)
        if parked is not None:
            return await self.go_on(parked, None)
        call = Call(name, arguments, f"mcp-{uuid.uuid4().hex}")
        if key in self._spun:
            # A turn of its own for each round would let it go on for ever.
            return Said(call, None, self._spun[key])
        async with self._door:
            self._begin()
        return await self._carried(call, None)

    def parked(self, call_id: str) -> Call | None:
        """Return the call of that id that waits for a person, and take it for gone on with."""
        for key, call in self._waiting.items():
            if call.id == call_id:
                return self._waiting.pop(key)
        return None

    async def go_on(self, call: Call, word: Word | None) -> Said:
        """Make a call again that waited for a person, with that person's word if it is known."""
        async with self._door:
            # The turn in which it was asked for is taken up, so no other may be open.
            await self._quiet.wait()
            await self._guest.end()
            self._begin()
        return await self._carried(call, word)

    async def close(self) -> None:
        """End its turn."""
        async with self._door:
            if self._timer is not None:
                self._timer.cancel()
            await (self._guest.pause() if self._guest.waits else self._guest.end())

    # ------------------------------------------------------------------ one call

    async def _carried(self, call: Call, word: Word | None) -> Said:
        guest = self._guest
        try:
            result = await guest.call(call)
            if word is not None and result.status is StepStatus.WAITING:
                await guest.decide(call, granted=word.granted, by=word.by, reason=word.reason)
                result = await guest.call(call)
            said = Said(call, result, result.text, guest.question(call), guest.turn_id)
        except LoopError as error:
            said = Said(call, None, str(error))
            if len(self._spun) < WAITING_MAX:
                self._spun[_key(call.name, call.arguments)] = said.text
            self._later(self._failed(error))
        except (BusyError, TurnBusyError) as error:
            said = Said(call, None, str(error))
        finally:
            self._end_one()
        if said.result is not None and said.result.status is StepStatus.WAITING:
            while len(self._waiting) >= WAITING_MAX:
                self._waiting.pop(next(iter(self._waiting)))
            self._waiting[_key(call.name, call.arguments)] = call
            await self._park()
        return said

    def _begin(self) -> None:
        self._running += 1
        self._quiet.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_one(self) -> None:
        self._running -= 1
        if self._running:
            return
        self._quiet.set()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._idle_s, lambda: self._later(self._over()))

    # ------------------------------------------------------------------ the end of a turn

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _over(self) -> None:
        async with self._door:
            if self._running:
                return
            await self._guest.end()
            self._spun.clear()
            if not self._waiting:
                self._gone()

    async def _failed(self, error: LoopError) -> None:
        async with self._door:
            await self._quiet.wait()
            await self._guest.fail(error)

    async def _park(self) -> None:
        """Let the turn wait without this process: somebody may decide in another one."""
        async with self._door:
            await self._quiet.wait()
            if self._guest.waits:
                await self._guest.pause()


def _key(name: str, arguments: object) -> bytes:
    return msgspec.json.encode([name, arguments], order="deterministic", enc_hook=str)

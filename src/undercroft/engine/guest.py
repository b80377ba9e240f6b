"""What somebody else's loop sees of its turn: the seam that frameworks and raw loops go through.

Keeps: it only hands on; what may run, when and how often, the engine decides.

    guest = rt.guest("support", tools, session="s-1")
    results = await guest.calls(batch)          # one call in place of asyncio.gather
    await guest.end("You are on the gold tier.")
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from types import TracebackType
from typing import Any, Self

from undercroft.engine.guestrun import GuestRun
from undercroft.engine.guests import GuestRunner
from undercroft.engine.handler import Handler
from undercroft.engine.inside import INSIDE
from undercroft.model.foreign import Ask, Run
from undercroft.model.message import Answer, Message, ToolSpec
from undercroft.model.outcome import Outcome, Waiting
from undercroft.model.step import MODEL, Call, Result

# Gives what runs turns in the loop that runs now.
Place = Callable[[], Awaitable[GuestRunner]]


class Guest:
    """A turn of somebody else's loop; it begins with the first thing that it is told.

    Made by `Runtime.guest` and `undercroft.guard`. Once it has ended or paused it can be used
    again: for another turn, or to go on.

    Attributes:
        name: Of the loop.
        session: The conversation that it belongs to, or None.
        handler: Its tools.
    """

    def __init__(self, place: Place, handler: Handler[..., Any], session: str | None) -> None:
        self._place = place
        self.name = handler.name
        self.session = session
        self.handler = handler
        self._run: GuestRun | None = None
        self._outcome: asyncio.Future[Outcome] | None = None
        self._runner: GuestRunner | None = None
        self._beginning: asyncio.Lock | None = None
        # Name of its line, where it works within a call of another guest.
        self._line = ""

    def __repr__(self) -> str:
        return f"<undercroft guest {self.name!r} {self.turn_id or 'not begun'}>"

    @property
    def turn_id(self) -> str:
        """Id of the turn; empty where none was begun yet."""
        return "" if self._run is None else self._run.turn_id

    @property
    def waits(self) -> bool:
        """Whether a call of the turn waits for somebody's word."""
        return self._run is not None and bool(self._run.waiting)

    async def __aenter__(self) -> Self:
        """Use it for one turn, until the end of the block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the turn as the block ended; one that was cancelled is stopped, and can go on."""
        if error is None:
            await (self.pause() if self.waits else self.end())
        elif isinstance(error, Exception):
            await self.fail(error)
        else:
            await self.stop()

    def use(self, handler: Handler[..., Any]) -> None:
        """Have other tools from now on, for a loop whose tools change."""
        self.handler = handler
        if self._run is not None:
            self._run.use(handler, self._line)

    # ------------------------------------------------------------------ calls

    async def saw(self, batch: Sequence[Call], *, branch: str = "") -> None:
        """Say which calls were proposed together, before any of them runs; again is no harm.

        Args:
            batch: In the order of proposal.
            branch: Name of a line of work beside the loop itself, such as a sub-agent.

        Raises:
            LoopError: The model was told before that it goes round in circles, and goes on.
            BusyError: Another turn of the session is at work, for too long.
        """
        run = await self._begun([call.id for call in batch if call.id])
        run.saw(run.lead(self._at(branch)), batch)

    async def call(self, call: Call, run: Run | None = None, *, branch: str = "") -> Result:
        """Return what comes of one call, when it is its turn; nothing that it does is raised.

        Args:
            call: Of the batch that was seen last; any other is a batch of its own.
            run: Carries it out in the way of its loop, and returns plain data. Not called
                where its result is recorded, or where it may not run. None: the tool's own
                function is called.
            branch: As with `saw`.

        Raises:
            LoopError: As with `saw`.
        """
        life = await self._begun([call.id] if call.id else ())
        return await life.carry(life.lead(self._at(branch)), call, run)

    async def calls(self, batch: Sequence[Call], *, branch: str = "") -> list[Result]:
        """Run one batch of calls of tools of ours; return their results in that order.

        Raises:
            LoopError: As with `saw`.
        """
        await self.saw(batch, branch=branch)
        if len(batch) == 1:
            return [await self.call(batch[0], branch=branch)]
        return list(await asyncio.gather(*(self.call(call, branch=branch) for call in batch)))

    def held(self, *, branch: str = "") -> list[Call]:
        """Return the calls of the last batch that have no result yet, in their order."""
        run = self._run
        if run is None:
            return []
        return [slot.call for slot in run.lead(self._at(branch)).batch if slot.result is None]

    def question(self, call: Call, *, branch: str = "") -> Waiting | None:
        """Return what a person is asked about a call whose result is `waiting`.

        None where it waits for nobody's word, but behind a call that does.
        """
        run = self._run
        return None if run is None else run.question(run.lead(self._at(branch)), call)

    def asked_before(self, call: Call, *, branch: str = "") -> bool:
        """Return whether an earlier life of the turn asked somebody about a call of the batch.

        What was answered to a question of this life cannot be there yet.
        """
        run = self._run
        return run is not None and run.asked_before(run.lead(self._at(branch)), call)

    async def asked(self, ids: Collection[str]) -> list[tuple[str, str]]:
        """Return the calls about which a person was asked in an earlier life, and said nothing.

        Args:
            ids: Of calls of the turn, by which it is found.

        Returns the name of the tool and the id of each call, in the order of asking.
        """
        run = await self._begun(ids)
        return run.unanswered()

    async def decide(
        self, call: Call, *, granted: bool, by: str, reason: str = "", branch: str = ""
    ) -> None:
        """Hand on a person's word on a call that waits; the first one counts. Then ask again.

        Raises:
            DecisionError: It waits for nobody's word.
        """
        run = await self._begun([call.id] if call.id else ())
        run.decide(run.lead(self._at(branch)), call, granted=granted, by=by, reason=reason)

    # ------------------------------------------------------------------ its model

    async def ask(  # noqa: PLR0913  what a request is made of
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        ask: Ask,
        *,
        name: str = "",
        service: str = MODEL,
        branch: str = "",
    ) -> Answer:
        """Have the loop's model asked, past the guards; raises what asking it raised.

        Args:
            messages: All that would be sent, in order.
            tools: That would be offered.
            ask: Sends a prompt in the way of the loop, and returns the answer.
            name: Of the model, by which prices are looked up.
            service: What is called, for its breaker.
            branch: As with `saw`.

        Raises:
            ModelError: It may not be asked: its service is given up, or a budget is spent.
            LoopError: As with `saw`.
        """
        run = await self._begun(_ids(messages) if self.session and self._run is None else ())
        return await run.ask(
            run.lead(self._at(branch)), messages, tools, ask, name=name, service=service
        )

    def withdrawn(self, *, branch: str = "") -> frozenset[str]:
        """Return the names of tools that the model knows to be withdrawn."""
        run = self._run
        if run is None:
            return frozenset()
        told = run.lead(self._at(branch)).line.told
        return frozenset(name for names in told.values() for name in names)

    # ------------------------------------------------------------------ its end

    async def end(self, value: Any = None) -> Outcome | None:
        """Say that the loop is over; return the outcome, or None where nothing had begun.

        Args:
            value: What the user was told.
        """
        if self._run is None:
            return None
        if self._line:
            self._leave()
            return None
        self._run.end(value)
        return await self._over()

    async def fail(self, error: BaseException) -> Outcome | None:
        """Say that the loop ended with an error."""
        if self._run is None:
            return None
        if self._line:
            self._leave()
            return None
        self._run.fail(error)
        return await self._over()

    def over(self, error: BaseException | None) -> None:
        """Say that the loop is over, with an error or without, and wait for no record of it."""
        run, inner = self._run, self._line
        if run is None:
            return
        if inner:
            self._leave()
        elif error is None:
            run.end(None)
        else:
            run.fail(error)
        self._run = self._outcome = None

    async def pause(self) -> Outcome | None:
        """Say that the loop waits for somebody, and may go on in another process."""
        if self._run is None:
            return None
        if self._line:
            # The turn pauses when the loop outside does.
            self._run, self._line = None, ""
            return None
        self._run.pause()
        return await self._over()

    async def stop(self) -> None:
        """Say that the loop was cut off, and may go on."""
        run, runner = self._run, self._runner
        if self._line:
            self._leave()
            return
        self._run = None
        if run is not None and runner is not None:
            await runner.stop_guest(run.turn_id, "its loop was cut off")

    async def _over(self) -> Outcome:
        outcome = self._outcome
        assert outcome is not None  # noqa: S101  it has begun
        self._run = self._outcome = None
        return await outcome

    def _at(self, branch: str) -> str:
        """Return the name of a line of this loop among those of the turn."""
        return f"{self._line}/{branch}" if self._line and branch else self._line or branch

    def _leave(self) -> None:
        """End a loop that works within a call: the turn goes on."""
        if self._run is not None:
            self._run.leave(self._line)
        self._run, self._line = None, ""

    def _entered(self) -> GuestRun | None:
        """Return the turn of the guest within a call of which this code runs, if so."""
        inside = INSIDE.get()
        if inside is None:
            return None
        run: GuestRun = inside.run
        if not run.open or run.loop is not asyncio.get_running_loop():
            return None
        self._line = run.enter(inside.lead, inside.slot, self.handler)
        self._run = run
        return run

    async def _begun(self, ids: Collection[str]) -> GuestRun:
        """Return the turn, begun if it was not."""
        run = self._run
        if run is not None and run.open:
            return run
        self._line = ""
        run = self._entered()
        if run is not None:
            return run
        if self._beginning is None:
            self._beginning = asyncio.Lock()
        async with self._beginning:
            run = self._run
            if run is None or not run.open:
                self._runner = await self._place()
                run, self._outcome = await self._runner.take_in(self.handler, self.session, ids)
                self._run = run
        return run


def _ids(messages: Sequence[Message]) -> list[str]:
    """Return the ids of the calls since the user spoke last: those of the turn at hand."""
    last = max((place for place, m in enumerate(messages) if m.role == "user"), default=-1)
    return [call.id for m in messages[last + 1 :] for call in m.calls if call.id]

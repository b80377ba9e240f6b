"""Two lines for a loop of one's own: its tools guarded, and one call in place of `asyncio.gather`.

Keeps: the loop stays as it is; what its tools do is scheduled, guarded and written down.

    guarded = uc.guard([get_account, withdraw])
    ...
    results = await guarded.calls(message.tool_calls)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from undercroft.engine.guest import Guest
from undercroft.engine.parts.proposed import calls_of
from undercroft.model.message import ToolSpec
from undercroft.model.outcome import Outcome
from undercroft.model.step import Result


class GuardedLoop:
    """The tools of a loop of one's own; made by `undercroft.guard`.

    Its turn begins with its first batch, and ends when it is told so, with its `async with`
    block, or with the task in which it began.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._watched: asyncio.Task[Any] | None = None

    def __repr__(self) -> str:
        return f"<undercroft guard {self._guest.name!r}>"

    @property
    def guest(self) -> Guest:
        """The turn, with all that can be said of it."""
        return self._guest

    @property
    def turn_id(self) -> str:
        """Id of the turn; empty before its first batch."""
        return self._guest.turn_id

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """What a model is told of the tools: name, description and JSON schema of each."""
        away = self._guest.withdrawn()
        return tuple(spec for spec in self._guest.handler.specs if spec.name not in away)

    async def calls(self, proposed: Iterable[object]) -> list[Result]:
        """Run the calls that a model proposed together; return their results in that order.

        Calls that conflict run in that order, others together. Nothing that a tool does is
        raised: a result says what came of it, and its `text` is what the model should read.

        Args:
            proposed: `message.tool_calls` of OpenAI's, `response.output` or `message.content`
                with calls among other parts, or `uc.Call`s.

        Raises:
            DeclarationError: Something among them is no call.
            LoopError: The model was told before that it goes round in circles, and goes on.
        """
        batch = calls_of(proposed)
        self._watch()
        return await self._guest.calls(batch) if batch else []

    async def approve(self, result: Result, *, by: str, reason: str = "") -> list[Result]:
        """Say yes to a call whose result was `waiting`; return what came of all that waited."""
        return await self._decide(result, granted=True, by=by, reason=reason)

    async def reject(self, result: Result, *, by: str, reason: str = "") -> list[Result]:
        """Say no to a call whose result was `waiting`; return what came of all that waited."""
        return await self._decide(result, granted=False, by=by, reason=reason)

    async def _decide(self, result: Result, *, granted: bool, by: str, reason: str) -> list[Result]:
        held = self._guest.held()
        call = next((c for c in held if (c.name, c.id) == (result.name, result.call_id)), None)
        if call is not None:
            await self._guest.decide(call, granted=granted, by=by, reason=reason)
        return list(await asyncio.gather(*(self._guest.call(one) for one in held)))

    async def end(self, value: Any = None) -> Outcome | None:
        """Say that the turn is over; `value` is what the user was told."""
        return await self._guest.end(value)

    async def __aenter__(self) -> Self:
        """Use it for one turn."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the turn as the block ended."""
        await self._guest.__aexit__(kind, error, traceback)

    def _watch(self) -> None:
        """Have the turn end with the task that runs now, if nobody ends it before."""
        task = asyncio.current_task()
        if task is None or task is self._watched:
            return
        self._watched = task
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[Any]) -> None:
        if self._watched is not task:
            return  # it went on in another one
        self._watched = None
        if task.cancelled():
            return  # it can be gone on with
        self._guest.over(task.exception())

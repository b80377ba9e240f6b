"""A line on stderr that says what a long run is doing, where somebody is watching."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from undercroft.app import Runtime
from undercroft.cli.console import err
from undercroft.cli.safe import cut, safe, took
from undercroft.errors import TurnNotFoundError
from undercroft.model.step import StepStatus

# Shorter runs are over before a line could be read.
FIRST_S = 0.5
# Folding a long turn costs time of the loop that runs it; this bounds the share it may take.
SHARE_MAX = 0.02
_NAMES_MAX = 20
_STOPPING = "stopping: a write under way may end first; Ctrl-C again stops at once"


class Progress:
    """The line, from the first half second of a run to its end.

    Args:
        turn_id: Says which turn it is about, once that is known.
    """

    def __init__(self, turn_id: Callable[[], str | None]) -> None:
        self._turn_id = turn_id
        self._watched = sys.stderr.isatty()
        self._console = err()
        self._spinner = Spinner("dots", style="blue")
        self._live: Live | None = None
        self._stopping = False

    def stopping(self) -> None:
        """Say that the run was told to stop."""
        self._stopping = True
        if self._live is not None:
            self._say(_STOPPING)
        elif self._watched:
            self._console.print(Text(_STOPPING, style="dim"))

    @asynccontextmanager
    async def watching(self, rt: Runtime) -> AsyncIterator[None]:
        """Show what the turn does while the body runs, if stderr is a terminal."""
        if not self._watched:
            yield
            return
        task = asyncio.get_running_loop().create_task(self._watch(rt))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self, rt: Runtime) -> None:
        began_s = time.monotonic()
        await asyncio.sleep(FIRST_S)
        # Not redirected: what steps print on stdout is none of this console's business.
        with Live(
            self._spinner, console=self._console, transient=True, redirect_stdout=False
        ) as self._live:
            while True:
                asked_s = time.monotonic()
                if not self._stopping:
                    self._say(f"{took(asked_s - began_s)}  {_doing(rt, self._turn_id())}")
                cost_s = time.monotonic() - asked_s
                await asyncio.sleep(max(FIRST_S, cost_s / SHARE_MAX))

    def _say(self, text: str) -> None:
        self._spinner.update(text=Text(cut(text, self._console.width - 4), style="dim"))


def _doing(rt: Runtime, turn_id: str | None) -> str:
    if turn_id is None:
        return "at work"
    with suppress(TurnNotFoundError):
        steps = rt.trace(turn_id).steps
        running = [safe(step.step_id) for step in steps if step.status is StepStatus.RUNNING]
        done = len(steps) - len(running)
        said = f"{done:,} {'step' if done == 1 else 'steps'} done"
        return f"{said}, running {', '.join(running[:_NAMES_MAX])}" if running else said
    return "beginning"

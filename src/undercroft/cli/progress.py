"""A line on stderr that says what a long run is doing, where somebody is watching."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from rich.console import Console
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


@asynccontextmanager
async def watched(rt: Runtime, turn_id: Callable[[], str | None]) -> AsyncIterator[None]:
    """Show what the turn does while the body runs, if stderr is a terminal."""
    console = err()
    if not sys.stderr.isatty():
        yield
        return
    task = asyncio.get_running_loop().create_task(_watch(console, rt, turn_id))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _watch(console: Console, rt: Runtime, turn_id: Callable[[], str | None]) -> None:
    began_s = time.monotonic()
    await asyncio.sleep(FIRST_S)
    # Not redirected: what steps print on stdout is none of this console's business.
    spinner = Spinner("dots", style="blue")
    with Live(spinner, console=console, transient=True, redirect_stdout=False):
        while True:
            asked_s = time.monotonic()
            text = f"{took(asked_s - began_s)}  {_doing(rt, turn_id())}"
            spinner.update(text=Text(cut(text, console.width - 4), style="dim"))
            cost_s = time.monotonic() - asked_s
            await asyncio.sleep(max(FIRST_S, cost_s / SHARE_MAX))


def _doing(rt: Runtime, turn_id: str | None) -> str:
    if turn_id is None:
        return "at work"
    with suppress(TurnNotFoundError):
        steps = rt.trace(turn_id).steps
        running = [safe(step.step_id) for step in steps if step.status is StepStatus.RUNNING]
        if running:
            return f"{len(steps) - len(running):,} steps done, running {', '.join(running[:50])}"
        return f"{len(steps):,} steps done"
    return "beginning"

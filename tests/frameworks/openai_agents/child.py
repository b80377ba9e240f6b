"""An agent in a process of its own, which dies where it is told to: `python -m … JOURNAL …`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from agents import Runner, RunState, function_tool

import undercroft as uc
from tests.frameworks.openai_agents.bank import agent_of
from tests.provider import Provider
from undercroft.adapters.frameworks.openai_agents import undercroft_agent


async def main(folder: Path, url: str, what: str, die: str) -> None:
    """Run until somebody is asked, or go on with a yes."""

    def killed(where: str) -> None:
        if die == where:
            os.kill(os.getpid(), signal.SIGKILL)

    @function_tool(needs_approval=True)
    async def pay(amount: int) -> str:
        """Pay."""
        killed("before")
        with (folder / "ledger").open("a") as book:
            book.write(f"{amount}\n")
        killed("within")
        return f"paid {amount}"

    provider = cast("Provider", SimpleNamespace(url=url))
    async with agent_of(provider, [pay]) as agent:
        guarded = undercroft_agent(agent, uc.Runtime(folder / "journal.db"))
        path = folder / "state.json"
        if what == "ask":
            result: Any = await Runner.run(guarded, "pay")
            path.write_text(result.to_state().to_string())
        else:
            state = await RunState.from_string(guarded, path.read_text())
            for one in state.get_interruptions():
                state.approve(one)
            result = await Runner.run(guarded, state)
            killed("after")
        sys.stdout.write(json.dumps({"said": result.final_output}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))

"""An agent in a process of its own: `python -m tests.frameworks.langchain.child URL FOLDER …`.

It makes one batch of two calls, `pay` and `look`, on one thread, and says on stdout what came of
them. `pay` appends a line to a ledger; it dies where it is told to.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import ToolMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

import undercroft as uc
from undercroft.adapters.frameworks.langchain import Undercroft


def kill() -> None:
    """End this process as the kernel would."""
    os.kill(os.getpid(), signal.SIGKILL)


def tools(folder: Path, die: str) -> list[Any]:
    """Return the tools."""

    async def pay(account: str) -> str:
        """Pay."""
        if die == "before":
            kill()
        with (folder / "ledger").open("a") as book:
            book.write(f"{account}\n")
        if die == "within":
            kill()
        return "paid"

    async def look(account: str) -> str:
        """Look."""
        if die == "after":
            await asyncio.sleep(0.5)  # the outcome of the payment is in the journal by then
            kill()
        return "seen"

    return [pay, look]


async def main(url: str, folder: Path, what: str, die: str) -> None:
    """Hold the conversation once."""
    effects = {
        "pay": {"writes": "account/{account}", "approval": what in {"ask", "yes"}},
        "look": {"reads": "other/{account}"},
    }
    async with AsyncSqliteSaver.from_conn_string(str(folder / "checkpoints.db")) as kept:
        under = Undercroft(uc.Runtime(str(folder / "journal.db")), effects=effects)
        model = ChatOpenAI(model="m", base_url=f"{url}/v1", api_key="none", max_retries=0)  # type: ignore[arg-type]  # a secret may be text
        agent: Any = create_agent(model, tools(folder, die), middleware=[under], checkpointer=kept)
        told: Any = {"messages": [("user", "Pay.")]} if what in {"begin", "ask"} else None
        if what == "yes":
            told = Command(resume=True)
        thread = {"configurable": {"thread_id": "t"}}
        # What is not yet saved when the process dies, LangGraph cannot go on from.
        state = await agent.ainvoke(told, thread, durability="sync")
    results = {m.tool_call_id: m.text for m in state["messages"] if isinstance(m, ToolMessage)}
    sys.stdout.write(json.dumps({"results": results, "asked": "__interrupt__" in state}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))

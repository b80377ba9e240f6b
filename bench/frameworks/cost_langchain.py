"""What Undercroft adds to a call of a tool in a graph of LangChain's; see `costs`.

The call is that of a `ToolNode` in a compiled graph without a model: a step of LangGraph's, with
its config, its callbacks and its messages, as an agent has it.
"""

from __future__ import annotations

import asyncio
import operator
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode

import undercroft as uc
from bench.frameworks.costs import MEMORY, OWN, READ, WRITE, Once, measured, said
from undercroft.adapters.frameworks.langchain import Undercroft

CALLS = 2_000
# So many calls are a turn: as many as turns have.
TURN_CALLS = 50


class State(TypedDict):
    """What the graph keeps."""

    messages: Annotated[list[AnyMessage], operator.add]
    left: int


async def look(n: int) -> str:
    """Look at something."""
    return f"page {n}"


async def put(n: int) -> str:
    """Change something."""
    return f"page {n}"


class Loop:
    """A graph that calls a tool whenever it is told to; a run of it is `TURN_CALLS` calls long."""

    def __init__(self, host: uc.Runtime | None, name: str) -> None:
        hooks: dict[str, Any] = {}
        if host is not None:
            under = Undercroft(host)
            hooks = {
                "wrap_tool_call": under.wrap_tool_call,
                "awrap_tool_call": under.awrap_tool_call,
            }
        self._name = name
        self._wanted: asyncio.Queue[int] = asyncio.Queue()
        self._done: asyncio.Queue[object] = asyncio.Queue()
        graph = StateGraph(State)
        graph.add_node("ask", self._ask)
        graph.add_node("tools", ToolNode([look, put], **hooks))
        graph.add_edge(START, "ask")
        graph.add_conditional_edges("ask", self._after, ["tools", END])
        graph.add_edge("tools", "ask")
        self._graph = graph.compile()
        self._run: asyncio.Task[Any] | None = None

    async def _ask(self, state: State) -> dict[str, Any]:
        if state["messages"]:
            self._done.put_nowait(state["messages"][-1])
        if not state["left"]:
            return {"messages": [AIMessage("done")]}
        n = await self._wanted.get()
        call = {"name": self._name, "args": {"n": n}, "id": f"c{n}"}
        return {"messages": [AIMessage("", tool_calls=[call])], "left": state["left"] - 1}

    @staticmethod
    def _after(state: State) -> str:
        last: Any = state["messages"][-1]
        return "tools" if last.tool_calls else END

    async def once(self, n: int) -> object:
        """Make call number n."""
        if self._run is None or (n % TURN_CALLS == 0 and n):
            if self._run is not None:
                await self._run
            given: Any = {"messages": [], "left": TURN_CALLS}
            self._run = asyncio.ensure_future(self._graph.ainvoke(given))
        self._wanted.put_nowait(n)
        return await self._done.get()


def under(host: uc.Runtime | None, name: str) -> Once:
    """Return what makes a call in a graph."""
    return Loop(host, name).once


async def main() -> None:
    """Measure, and say what was found."""
    uc.declare(look, reads="page/{n}")
    uc.declare(put, writes="page/{n}", read_first=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        async with uc.Runtime() as memory, uc.Runtime(path) as file:
            ways = {
                OWN: under(None, "look"),
                MEMORY: under(memory, "look"),
                READ: under(file, "look"),
                WRITE: under(file, "put"),
            }
            found = await measured(ways, calls=CALLS)
    said("LangGraph", {name: version(name) for name in ("langgraph", "langchain")}, found)


if __name__ == "__main__":
    asyncio.run(main())

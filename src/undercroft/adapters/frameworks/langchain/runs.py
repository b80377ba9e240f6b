"""Runs of graphs: which guest a hook belongs to, in which event loop it lives, and when it ends.

Keeps: one guest for all agents of one run of a graph, each with a line of its own; an agent that
a tool runs has a guest of its own within that call. A run that ends without an answer, since it
was paused or failed, is told of as that.

LangGraph has no hook for the end of a run. The callbacks of its root run tell of it: a handler
for roots is registered for this process by `register_configure_hook`, as LangChain's own
counters of tokens are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import BaseTool
from langchain_core.tracers.context import register_configure_hook
from langgraph.errors import GraphInterrupt

from undercroft.adapters.frameworks.langchain.asking import Resume, resume_of
from undercroft.adapters.frameworks.langchain.messages import Translated, calls_of, text_of
from undercroft.adapters.frameworks.langchain.tools import foreign
from undercroft.model.step import Call
from undercroft.ports import Caller, Guest, Host

T = TypeVar("T")
Config = Mapping[str, Any]
TOOLSETS_MAX = 1_000
# A node that raises has those of its calls cut off that no thread has begun yet. Threads begin
# within milliseconds; what does not come by then was given to somebody else.
COMES_WITHIN_S = 1.0


class Cell:
    """One call of a tool while it is carried out.

    Attributes:
        error: What the tool raised last, which its node may have turned into a message.
        runs: Of agents within it.
    """

    __slots__ = ("error", "runs")

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.runs: list[Run] = []


class Root(NamedTuple):
    """The outermost run that this code belongs to.

    Attributes:
        id: As its callbacks know it.
        resume: What the graph was given to go on with, or None.
    """

    id: UUID
    resume: Resume | None


# The run that this code belongs to, and the call within which it runs.
ROOT: ContextVar[Root | None] = ContextVar("undercroft_langchain_root", default=None)
WITHIN: ContextVar[Cell | None] = ContextVar("undercroft_langchain_within", default=None)


class Batch:
    """Calls that were proposed together, as far as their loop asked for them.

    Attributes:
        calls: In their order.
        kept: What calls came to in this life, as the framework's own objects.
        paused: Tasks in which somebody is asked.
        decided: How often somebody said a word in this life.
    """

    __slots__ = (
        "_asking",
        "_changed",
        "_seen",
        "_under_way",
        "calls",
        "decided",
        "kept",
        "paused",
    )

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.kept: dict[str, Any] = {}
        self.paused: set[str] = set()
        self.decided = 0
        self._seen: list[Any] = []
        self._under_way: set[Any] = set()
        self._asking: set[Any] = set()
        self._changed: asyncio.Future[None] | None = None

    def begin(self, calling: Any) -> None:
        """Take note that a call is asked for."""
        if calling not in self._seen:
            self._seen.append(calling)
        self._under_way.add(calling)
        self._asking.discard(calling)
        self._tell()

    def settle(self, calling: Any, *, asks: bool) -> None:
        """Take note that nothing of a call is under way, and whether it asks somebody."""
        self._under_way.discard(calling)
        (self._asking.add if asks else self._asking.discard)(calling)
        self._tell()

    async def quiet(self, calling: Any) -> None:
        """Wait until nothing of any call is under way, and all have come that its node begins."""
        await self._come(calling)
        while self._under_way:
            await self._change()

    async def _come(self, calling: Any) -> None:
        """Wait until the calls have come that are about to be begun beside this one."""
        with suppress(TimeoutError):
            async with asyncio.timeout(COMES_WITHIN_S):
                while len(self._seen) < len(self.calls) and calling.begins_another(
                    sum(one is calling or one.is_beside(calling) for one in self._seen)
                ):
                    await self._change()

    async def goes_on(self, decided: int) -> bool:
        """Return whether somebody says one word more; False: all that ask only wait."""
        while self.decided == decided and (self._asking or self._under_way):
            await self._change()
        return self.decided != decided

    async def may_ask(self, calling: Any) -> bool:
        """Return whether it is the turn of a call to ask: a task asks one question at a time.

        False: another one of its task asks, and waits.
        """
        await self._come(calling)
        while calling.task not in self.paused:
            rivals = [c for c in self._seen if c in self._asking and c.task == calling.task]
            if not self._under_way and min(rivals, key=self._place) is calling:
                return True
            await self._change()
        return False

    def _place(self, calling: Any) -> int:
        call = calling.call
        same = (n for n, c in enumerate(self.calls) if (c.id, c.name) == (call.id, call.name))
        return next(same, len(self.calls))

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)


class Line:
    """One agent of a run: its line of the turn.

    Attributes:
        branch: Name of the line; empty for the only one.
        batch: The calls that were proposed last.
        source: The message that proposed them.
    """

    __slots__ = ("batch", "branch", "messages", "source")

    def __init__(self, branch: str) -> None:
        self.branch = branch
        self.messages = Translated()
        self.batch: Batch | None = None
        self.source: object = None


class Run:
    """One run of a graph from a message until its answer or pause.

    Args:
        host: Takes its guest in.
        session: Id of the thread, or None.
        name: Of the agent.
    """

    def __init__(self, host: Host, session: str | None, name: str) -> None:
        self.host, self.session, self.name = host, session, name
        self.guest: Guest | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.tools: dict[str, BaseTool] = {}
        self.lines: dict[str, Line] = {}
        # Namespaces of agents that have not given their answer.
        self.open: set[str] = set()

    # ------------------------------------------------------------------ its guest

    def line(self, ns: str) -> Line:
        """Return the line of the agent in a namespace of checkpoints; it is at work now."""
        self.open.add(ns)
        found = self.lines.get(ns)
        if found is None:
            name = "" if not self.lines else _named(ns, {one.branch for one in self.lines.values()})
            found = self.lines[ns] = Line(name)
        return found

    def use(self, tools: dict[str, BaseTool], toolsets: Toolsets) -> Guest:
        """Return the guest, which knows these tools besides those that it knew."""
        mine = self.tools
        if self.guest is None or any(mine.get(name) is not one for name, one in tools.items()):
            self.tools = {**mine, **tools}
            toolset = toolsets.of(self.name, self.tools)
            if self.guest is None:
                self.guest = self.host.guest(toolset, session=self.session)
            else:
                self.guest.use(toolset)
        return self.guest

    # ------------------------------------------------------------------ where it lives

    async def here(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what a coroutine returns that has to run where the guest lives."""
        running = asyncio.get_running_loop()
        if self.loop is None:
            self.loop = running
        if self.loop is running:
            return await make()
        return await _across(self.loop, make)

    def back(self) -> Callable[[Callable[[], Awaitable[T]]], Awaitable[T]]:
        """Return what awaits something in the event loop that runs now, from the guest's."""
        mine = asyncio.get_running_loop()

        async def back(make: Callable[[], Awaitable[T]]) -> T:
            if asyncio.get_running_loop() is mine:
                return await make()
            return await _across(mine, make)

        return back

    def caller(self) -> Caller:
        """Return what this thread waits with.

        Raises:
            DeclarationError: The guest lives in the event loop of this very thread.
        """
        return self.host.caller(self.loop)

    def wait(self, caller: Caller, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what a coroutine returns, to a thread that has no event loop."""

        async def where() -> T:
            self.loop = asyncio.get_running_loop()
            return await make()

        return caller.wait(where)

    # ------------------------------------------------------------------ its end

    async def finished(self, ns: str, text: str) -> None:
        """Take note that the agent of a namespace gave its answer."""
        self.open.discard(ns)
        guest = self.guest
        if guest is not None and not self.open:
            self.lines.clear()
            await guest.end(text)

    async def over(self, outputs: object, error: BaseException | None) -> None:
        """Take note that nothing of the run comes any more."""
        guest = self.guest
        if guest is None:
            return
        if isinstance(error, GraphInterrupt) or guest.waits:
            await guest.pause()
        elif isinstance(error, Exception):
            await guest.fail(error)
        elif error is not None:
            await guest.stop()
        elif (said := _said(outputs)) is not None and not self.open:
            await guest.end(said)
        else:
            last = _last(outputs)
            if isinstance(last, AIMessage) and last.tool_calls and len(self.lines) == 1:
                # Somebody else's guard asks about them: by their ids the turn is found again.
                await guest.saw(calls_of(last, unread=False))
            await guest.pause()


class Toolsets:
    """Tools made ready, once for each distinct set."""

    def __init__(self, host: Host, effects: Any) -> None:
        self._host, self._effects = host, effects
        self._made: dict[tuple[Any, ...], tuple[list[BaseTool], Any]] = {}

    def of(self, name: str, tools: dict[str, BaseTool]) -> Any:
        """Return tools made ready for a guest."""
        key = name, *map(id, tools.values())
        found = self._made.get(key)
        if found is None:
            if len(self._made) >= TOOLSETS_MAX:
                self._made.clear()
            made = self._host.toolset(name, map(foreign, tools.values()), self._effects)
            found = self._made[key] = list(tools.values()), made
        return found[1]


class Roots(BaseCallbackHandler):
    """Tells runs of graphs when their root run is over, and of what tools raised."""

    run_inline = True
    ignore_llm = ignore_retry = ignore_retriever = ignore_chat_model = ignore_custom_event = True

    def __init__(self) -> None:
        self.runs: dict[UUID, list[Run]] = {}

    def on_chain_start(
        self,
        serialized: Any,  # noqa: ARG002  the handler's
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **_: Any,
    ) -> None:
        """Remember a root, and what a graph goes on with."""
        root, resume = ROOT.get(), resume_of(inputs)
        if parent_run_id is None or root is None:
            ROOT.set(Root(run_id, resume))
        elif resume is not None:
            ROOT.set(Root(root.id, resume))

    def on_tool_error(self, error: BaseException, **_: Any) -> None:
        """Remember what a tool raised."""
        cell = WITHIN.get()
        if cell is not None:
            cell.error = error

    @property
    def on_chain_end(self) -> Any:
        """What is told of a run that returned; awaited where that can be."""
        return self._returned if running_loop() is None else self._areturned

    @property
    def on_chain_error(self) -> Any:
        """What is told of a run that raised; awaited where that can be."""
        return self._raised if running_loop() is None else self._araised

    def _returned(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        self._over(run_id, outputs, None)

    async def _areturned(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        await self._aover(run_id, outputs, None)

    def _raised(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._over(run_id, None, error)

    async def _araised(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        await self._aover(run_id, None, error)

    def _over(self, root: UUID, outputs: Any, error: BaseException | None) -> None:
        for run in self.runs.pop(root, ()):
            run.wait(run.caller(), partial(run.over, outputs, error))

    async def _aover(self, root: UUID, outputs: Any, error: BaseException | None) -> None:
        for run in self.runs.pop(root, ()):
            await run.here(partial(run.over, outputs, error))


ROOTS = Roots()
# The default is the handler itself, so that it is there in every thread and context.
_HANDLER: ContextVar[BaseCallbackHandler | None] = ContextVar(
    "undercroft_langchain_roots", default=ROOTS
)
register_configure_hook(_HANDLER, inheritable=False)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop of this thread, if one runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _across(loop: asyncio.AbstractEventLoop, make: Callable[[], Awaitable[T]]) -> T:
    async def run() -> T:
        return await make()

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), loop))


def namespace(config: Config) -> str:
    """Return the namespace of checkpoints of the graph that a node with this config is in."""
    ns = config.get("configurable", {}).get("checkpoint_ns", "")
    return str(ns).rpartition("|")[0]


def _named(ns: str, taken: set[str]) -> str:
    """Return a name for the line of a namespace: its nodes, without the ids of their tasks."""
    name = ".".join(part.partition(":")[0] for part in ns.split("|") if part) or "agent"
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name}-{number}"
    return unique


def _last(outputs: object) -> object:
    """Return the last message of what a run came to."""
    messages = outputs.get("messages") if isinstance(outputs, dict) else outputs
    return messages[-1] if isinstance(messages, list) and messages else messages


def _said(outputs: object) -> str | None:
    """Return what a run that is over told its user; None: it stopped before it said anything."""
    last = _last(outputs)
    if isinstance(last, AIMessage) and not last.tool_calls:
        return text_of(last)
    return None if isinstance(last, BaseMessage) else str(last)

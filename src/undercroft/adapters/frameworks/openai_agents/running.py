"""One run of the SDK, led through a turn: from its first prompt or call to its end or its pause.

Keeps: which calls were proposed together is said before any of them runs; a call passes the SDK's
own gates (approval, guardrails, hooks) only once the engine lets it begin.
Leaves to the SDK: its loop, and what a person is shown; to the engine: every decision.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import uuid
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any

from agents import RunContextWrapper
from agents.exceptions import AgentsException

from undercroft.adapters.frameworks.openai_agents.talk import (
    Prompts,
    mark_of,
    marked,
)
from undercroft.errors import LoopError
from undercroft.model.foreign import Ask
from undercroft.model.message import Answer, Message, ToolSpec
from undercroft.model.step import Call, Result, StepStatus
from undercroft.ports import Guest, Host

# In a saved run nobody says which calls go on together: they are waited for while others come.
_QUIET_ROUNDS = 20
_OPEN = (StepStatus.WAITING,)
BY_STATE = "run state"
BY_POLICY = "needs_approval"


class AgentLoopError(LoopError, AgentsException):
    """The run leads round in circles, was told so, and went on; it ends with this."""


class Pending:
    """One call on its way: the engine says when it may begin, the SDK then carries it out.

    Attributes:
        call: With the provider's id.
        blocked: Whether it is held behind a call of which nobody has decided.
        result: What came of it, once that is known.
        raised: What its tool raised, where it ran here.
        handled: What the SDK made of that for the model, if it did.
        value: What its tool returned, where it ran here.
        live: Whether it did return here.
    """

    def __init__(self, run: Run, call: Call) -> None:
        self._run, self.call = run, call
        self.result: Result | None = None
        self.raised: BaseException | None = None
        self.handled: Any = None
        self.value: Any = None
        self.live = False
        self.invoked = self.blocked = False
        self._task: asyncio.Task[Result] | None = None
        self._moved: asyncio.Future[None] | None = None
        self._body: asyncio.Future[Callable[[], Awaitable[Any]]] | None = None

    def begin(self) -> None:
        """Ask the engine for it, unless that was done."""
        if self._task is not None:
            return
        loop = asyncio.get_running_loop()
        self._moved = loop.create_future()
        if self._body is None:
            self._body = loop.create_future()
        ask = self._run.guest.call(self.call, self._carry)
        self._task = loop.create_task(ask)
        self._task.add_done_callback(self._done)

    def _done(self, _: asyncio.Task[Result]) -> None:
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)

    async def _carry(self) -> Any:
        """Wait until the SDK comes to it, and do what it wants done."""
        assert self._moved is not None  # noqa: S101  set when it began
        assert self._body is not None  # noqa: S101
        if not self._moved.done():
            self._moved.set_result(None)
        body = await asyncio.shield(self._body)
        return await body()

    async def settled(self) -> bool:
        """Wait until it may begin, or something came of it; return whether it may begin."""
        self.begin()
        assert self._moved is not None  # noqa: S101  it began
        assert self._task is not None  # noqa: S101
        await asyncio.shield(self._moved)
        if self._task.done():
            await self._take()
        return self.result is None

    async def done(self, body: Callable[[], Awaitable[Any]]) -> Result:
        """Have it carried out by `body` where it may be; return what came of it."""
        self.invoked = True
        if self._task is None:
            self.result = await self._run.guest.call(self.call, body)
            return self.result
        if self.result is None or self.result.status in _OPEN:
            assert self._body is not None  # noqa: S101  it began
            if not self._body.done():
                self._body.set_result(body)
            await asyncio.shield(self._task)
            await self._take()
        assert self.result is not None  # noqa: S101  it ended
        return self.result

    async def _take(self) -> None:
        assert self._task is not None  # noqa: S101  it began
        self.result = await self._task

    def again(self) -> None:
        """Ask for it once more, since somebody decided."""
        self._task = self.result = None
        self.begin()

    def give_up(self, why: str) -> None:
        """Say that the SDK will not carry it out."""
        self._run.drop(self)
        if self._body is None or self._body.done():
            return

        async def refused() -> Any:
            raise NotCarriedOutError(why)

        self._body.set_result(refused)

    def cancel(self) -> None:
        """Let go of it, since its run is over."""
        if self._task is not None and not self._task.done():
            self._task.cancel()


class NotCarriedOutError(Exception):
    """The SDK did not carry a call out after all: a guardrail of its user's said no."""


class Run:
    """One run of the SDK, or of an agent that is used as a tool in one.

    Attributes:
        guest: Its turn.
        token: Put behind the ids of calls; empty where a session was given.
        begun_here: Calls by their ids, as the last answer in this life proposed them.
        asked: Whether a model was asked in this life.
        over: Whether it has ended or paused.
    """

    def __init__(
        self,
        host: Host,
        toolset: Any,
        context: RunContextWrapper[Any],
        session: str | None,
    ) -> None:
        self._host, self._session = host, session
        self._context = weakref.ref(context)
        self.toolset = toolset
        self.token = ""
        self._guest: Guest | None = None
        self.prompts = Prompts()
        self.proposed: dict[str, Call] = {}
        self.pending: dict[str, Pending] = {}
        self.output: tuple[Any] | None = None
        self.asked = self.over = False
        self.working = 0
        self._arriving: list[tuple[Call, str]] = []
        self._gathering: asyncio.Task[None] | None = None
        self.stopped: AgentLoopError | None = None

    # ------------------------------------------------------------------ its turn

    @property
    def context(self) -> RunContextWrapper[Any] | None:
        """What the SDK knows of the run."""
        return self._context()

    @property
    def guest(self) -> Guest:
        """Its turn; begun with a session of its own if nothing else was said before."""
        if self._guest is None:
            self.know("")
        assert self._guest is not None  # noqa: S101  set just now
        return self._guest

    def know(self, call_id: str) -> None:
        """Find the turn that a saved call belongs to, by its id as the SDK has it."""
        if self._guest is not None:
            return
        session = self._session
        if session is None:
            self.token = mark_of(call_id) or uuid.uuid4().hex[:12]
            session = f"run-{self.token}"
        self._guest = self._host.guest(self.toolset, session=session)

    @property
    def paused(self) -> bool:
        """Whether it came back to whoever began it without an end."""
        return self.output is None

    def use(self, toolset: Any) -> None:
        """Have other tools from now on."""
        if toolset is self.toolset:
            return
        self.toolset = toolset
        if self._guest is not None:
            self._guest.use(toolset)

    # ------------------------------------------------------------------ its model

    async def ask(
        self, messages: Sequence[Message], specs: Sequence[ToolSpec], ask: Ask, name: str
    ) -> Answer:
        """Have a model asked, past the guards."""
        self.asked = True
        try:
            answer = await self.guest.ask(messages, specs, ask, name=name)
        except LoopError as error:
            raise _typed(error) from error
        self.proposed.clear()
        self.pending.clear()
        return answer

    async def saw(self, batch: Sequence[Call]) -> None:
        """Say which calls of tools were proposed together."""
        self.proposed = {call.id: call for call in batch if call.id}
        if not batch:
            return
        try:
            await self.guest.saw(batch)
        except LoopError as error:
            raise _typed(error) from error

    # ------------------------------------------------------------------ its calls

    async def meet(self, call: Call, context: Any, call_id: str) -> Pending:
        """Return a call that the SDK came to, once all that go on together are known.

        Args:
            call: With the provider's id.
            context: What the SDK knows of the run.
            call_id: As the SDK has it.
        """
        self.know(call_id)
        if call.id not in self.proposed and call.id not in self.pending:
            self._arriving.append((call, call_id))
            if self._gathering is None:
                self._gathering = asyncio.ensure_future(self._gather(context))
            await asyncio.shield(self._gathering)
        found = self.pending.get(call.id or "")
        if found is None:
            found = self.pending[call.id or ""] = Pending(self, self.proposed[call.id or ""])
        return found

    async def _gather(self, context: Any) -> None:
        """Tell the engine of calls of a saved run: those that come together belong together."""
        try:
            seen = -1
            while seen != len(self._arriving):
                seen = len(self._arriving)
                for _ in range(_QUIET_ROUNDS):
                    await asyncio.sleep(0)
            arrived, self._arriving = self._arriving, []
        finally:
            self._gathering = None
        batch = [call for call, _ in arrived]
        ids = [call.id for call in batch if call.id]
        waiting = await self.guest.asked(ids)
        undecided = any(
            context.is_tool_approved(_plain(name), marked(call_id, self.token)) is None
            for name, call_id in waiting
            if call_id not in ids
        )
        asked = {call_id for _, call_id in waiting}
        await self.saw(batch)
        for call, call_id in arrived:
            pending = self.pending[call.id or ""] = Pending(self, call)
            if call.id in asked:
                await self.agreed(pending, context)
            else:
                # The SDK took a word on it, and not on the one that it is held behind.
                word = context.is_tool_approved(_plain(call.name), call_id)
                pending.blocked = undecided and word is True

    async def agreed(self, pending: Pending, context: Any) -> None:
        """Hand on that a person agreed to a call, and wait until it may begin."""
        if not await self.settled(pending) and await self._hand_on(pending, context):
            await self.settled(pending)

    async def _hand_on(self, pending: Pending, context: Any) -> bool:
        """Hand on a person's yes to a call that waits for it; return whether there is one."""
        if not self.waits(pending):
            return False
        question = self.guest.question(pending.call)
        if question is None or question.void:
            return False
        call_id = marked(pending.call.id or "", self.token)
        if not context.is_tool_approved(_plain(pending.call.name), call_id):
            return False
        await self.decide(pending, granted=True, by=BY_STATE)
        return True

    async def settled(self, pending: Pending) -> bool:
        """Wait until a call may begin, or something came of it; return whether it may begin.

        Raises:
            AgentLoopError: The run leads round in circles, was told so, and went on.
        """
        try:
            return await pending.settled()
        except LoopError as error:
            raise _typed(error) from error

    @staticmethod
    def waits(pending: Pending) -> bool:
        """Whether a call waits for a person, or behind one that does."""
        return pending.result is not None and pending.result.status is StepStatus.WAITING

    async def decide(self, pending: Pending, *, granted: bool, by: str, reason: str = "") -> None:
        """Hand on a word on a call that waits, and ask for it again."""
        await self.guest.decide(pending.call, granted=granted, by=by, reason=reason)
        pending.again()

    async def work(
        self, pending: Pending, body: Callable[[], Awaitable[Any]], context: Any
    ) -> Result:
        """Have a call carried out; return what came of it.

        Raises:
            AgentLoopError: The run leads round in circles, was told so, and went on.
        """
        self.working += 1
        try:
            result = await pending.done(body)
            while await self._hand_on(pending, context):
                result = await pending.done(body)
        except LoopError as error:
            raise _typed(error) from error
        else:
            return result
        finally:
            self.working -= 1
            if not self.asked and not self.working:
                # Whether the SDK goes on it does not say; if it does, the turn is taken up again.
                await self._pause()

    async def refused(self, call: Call, reason: str) -> None:
        """Hand on a person's no to a call, which the SDK has answered already."""
        await self.saw([call])
        pending = Pending(self, call)
        waits = not await self.settled(pending) and self.waits(pending)
        if waits and self.guest.question(call) is not None:
            await self.decide(pending, granted=False, by=BY_STATE, reason=reason)
            await self.settled(pending)
        if pending.result is None:
            pending.give_up("a person said no")
            await self.settled(pending)

    def drop(self, pending: Pending) -> None:
        """Forget a call that will not be carried out."""
        self.pending.pop(pending.call.id or "", None)

    # ------------------------------------------------------------------ its end

    async def _pause(self) -> None:
        if self._guest is not None and self._guest.turn_id:
            await self._guest.pause()

    async def said(self, output: Any) -> None:
        """Take note of what the user is told; the run may still fail."""
        self.output = (output,)
        if self.asked or self._guest is None:
            return
        # No model was asked, so nobody tells of the end.
        if not self._guest.turn_id and self.proposed:
            await self._guest.asked(list(self.proposed))
        await self._end()

    async def close(self) -> None:
        """End the turn as the run ended, pause it, or leave it to be gone on with."""
        if self.over:
            return
        error = sys.exc_info()[1]
        self.over = True
        for pending in list(self.pending.values()):
            if error is not None or not pending.invoked:
                pending.cancel()
        guest = self._guest
        if guest is None:
            return
        if isinstance(error, Exception):
            await guest.fail(error.__cause__ if isinstance(error, AgentLoopError) else error)  # type: ignore[arg-type]
        elif error is not None:
            await guest.stop()
        elif self.output is not None:
            await self._end()
        elif guest.waits or guest.held():
            await guest.pause()
        else:
            await guest.stop()

    async def _end(self) -> None:
        assert self._guest is not None  # noqa: S101  it was asked for
        assert self.output is not None  # noqa: S101
        self.over = True
        await self._guest.end(told(self.output[0]))


class Nest:
    """A call of a tool, as far as agents run inside of it.

    Attributes:
        inner: The run of the agent that is used as a tool, once it began.
    """

    def __init__(self) -> None:
        self.inner: Run | None = None


RUN: ContextVar[Run | None] = ContextVar("undercroft_agents_run", default=None)
NEST: ContextVar[Nest | None] = ContextVar("undercroft_agents_nest", default=None)


def told(output: Any) -> Any:
    """Return what the user is told as plain data."""
    if output is None or isinstance(output, str):
        return output
    dump = getattr(output, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    with contextlib.suppress(TypeError, ValueError):
        return json.loads(json.dumps(output))
    return str(output)


def _plain(name: str) -> str:
    """Return the name of a tool as the SDK has it, without the agent's or its namespace."""
    return name.rpartition(".")[2]


def _typed(error: LoopError) -> AgentLoopError:
    if isinstance(error, AgentLoopError):
        return error
    made = AgentLoopError(*error.args)
    made.__dict__.update({k: v for k, v in error.__dict__.items() if k != "run_data"})
    return made

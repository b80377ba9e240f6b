"""One call of a tool: from the request of its node to what the node gets, by way of the engine.

Keeps: what a tool returned or raised here is given to its node as it is; what was recorded is
made anew from the record; nobody's answer to one question counts for another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from math import inf
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langgraph.errors import GraphBubbleUp, GraphInterrupt, ParentCommand
from langgraph.prebuilt.tool_node import ToolCallRequest

from undercroft import errors
from undercroft.adapters.frameworks.langchain.asking import (
    NOTHING,
    Word,
    question_of,
    word_of,
)
from undercroft.adapters.frameworks.langchain.messages import text_of
from undercroft.adapters.frameworks.langchain.results import data_of, returned_of
from undercroft.adapters.frameworks.langchain.runs import (
    ROOT,
    WITHIN,
    Batch,
    Cell,
    Line,
    Run,
    Toolsets,
    namespace,
)
from undercroft.adapters.frameworks.langchain.tools import foreign
from undercroft.errors import DomainError, PausedError
from undercroft.model.foreign import Run as CarryOut
from undercroft.model.outcome import Waiting
from undercroft.model.step import Call, Result, StepStatus
from undercroft.ports import Guest

BY = "langgraph"
# Of the path of a task that was sent to its node.
_SENT = "__pregel_push"


class LoopError(errors.LoopError, GraphBubbleUp):
    """The model goes round in circles; no `ToolNode` makes a message for it of this."""

    def __init__(self, error: errors.LoopError) -> None:
        Exception.__init__(self, *error.args)
        self.__dict__.update(error.__dict__)


class Calling:
    """One call of a tool, while its node waits for it."""

    def __init__(self, run: Run, toolsets: Toolsets, request: ToolCallRequest) -> None:
        self._run, self._toolsets, self._request = run, toolsets, request
        told = request.tool_call
        self.call = Call(told["name"], told["args"], told["id"])
        config = request.runtime.config
        self._ns = namespace(config)
        self.task = str(config.get("configurable", {}).get("checkpoint_ns", ""))
        # A node that is sent one call begins no other; a node that reads the state begins all.
        self._alone = config.get("metadata", {}).get("langgraph_path", ("",))[0] == _SENT
        self._width = config.get("max_concurrency") or inf
        self._cell = Cell()
        self._line: Line
        self._guest: Guest
        self._batch: Batch | None = None
        self._result: Result | None = None
        self._pause: GraphInterrupt | None = None
        # What came of it here: an object, or what was raised.
        self._own: Any = None
        self._asked_before = self._over = False

    # ------------------------------------------------------------------ where the guest lives

    async def carry(self, carry_out: CarryOut) -> Waiting | None:
        """Have the call carried out; return what a person is asked first, or None.

        Raises:
            LoopError: The model was told before that it goes round in circles, and goes on.
        """
        run, runtime = self._run, self._request.runtime
        self._line = line = run.line(self._ns)
        self._guest = run.use({tool.name: tool for tool in runtime.tools}, self._toolsets)
        source, calls = _proposed(self._request.state, self.call)
        batch = line.batch
        if batch is None or (line.source is not source and batch.calls != calls):
            batch = line.batch = Batch(calls)
        line.source = source
        self._batch = batch
        batch.begin(self)
        await self._guest.saw(calls, branch=line.branch)
        self._asked_before = self._guest.asked_before(self.call, branch=line.branch)
        return await self._called(carry_out)

    async def decided(self, word: Word, carry_out: CarryOut) -> Waiting | None:
        """Hand on a person's word; return as `carry` does."""
        assert self._batch is not None  # noqa: S101  it was asked for
        self._batch.begin(self)
        await self._guest.decide(
            self.call,
            granted=word.granted,
            by=word.by or BY,
            reason=word.reason,
            branch=self._line.branch,
        )
        self._asked_before = False
        self._batch.decided += 1
        return await self._called(carry_out)

    async def _called(self, carry_out: CarryOut) -> Waiting | None:
        batch = self._batch
        assert batch is not None  # noqa: S101  it was asked for
        branch = self._line.branch
        while True:
            decided = batch.decided
            result = self._result = await self._guest.call(self.call, carry_out, branch=branch)
            waiting = None
            if result.status is StepStatus.WAITING:
                waiting = self._guest.question(self.call, branch=branch)
            batch.settle(self, asks=waiting is not None)
            if result.status is not StepStatus.WAITING or self._pause is not None:
                return None
            if waiting is not None:
                break
            # It is held behind a call that somebody may be about to decide.
            if not await batch.goes_on(decided):
                return None
            batch.begin(self)
        if not await batch.may_ask(self):
            return None
        return waiting

    async def settled(self) -> None:
        """Take note that the call is about to be given back to its node.

        Not before its siblings have settled too: a node that raises has those cut off.
        """
        batch, self._over = self._batch, True
        if batch is None:
            return
        batch.settle(self, asks=False)
        if self._pause is not None:
            batch.paused.add(self.task)
        if self._gives_up:
            await batch.quiet(self)

    @property
    def _gives_up(self) -> bool:
        """Whether its node will raise."""
        result = self._result
        if result is None or result.status is StepStatus.WAITING:
            return True
        return result.status is StepStatus.FAILED

    def is_beside(self, other: Calling) -> bool:
        """Whether it takes up a thread of the same node."""
        return self.task == other.task and not self._over

    def begins_another(self, begun: int) -> bool:
        """Whether its node begins one more call while so many have not been given back."""
        return not self._alone and begun < self._width

    def while_open(self, carry_out: CarryOut) -> CarryOut:
        """Return what carries the call out by its node, as long as that waits for it.

        What was read is read again before an approval counts: by then the node is gone.
        """

        async def carry() -> Any:
            tool = self._request.tool
            if not self._over or tool is None:
                return await carry_out()
            again = foreign(tool).call
            assert again is not None  # noqa: S101  each has one
            return await again(self._request.tool_call["args"])

        return carry

    # ------------------------------------------------------------------ where its node is

    def inside(self, handler: Callable[[ToolCallRequest], Any]) -> Any:
        """Carry the call out; return plain data, or raise."""
        token = WITHIN.set(self._cell)
        self._cell.error = None
        raised: BaseException | None = None
        try:
            return self._took(handler(self._request))
        except BaseException as error:
            raised = self._raised(error)
            if isinstance(raised, ParentCommand):
                return {"$parent": data_of(raised.args[0])}
            if raised is error:
                raise
            raise raised from error
        finally:
            WITHIN.reset(token)
            runs, self._cell.runs = self._cell.runs, []
            for run in runs:
                run.wait(run.caller(), partial(run.over, None, raised))

    async def ainside(self, handler: Callable[[ToolCallRequest], Awaitable[Any]]) -> Any:
        """Carry the call out; return plain data, or raise."""
        token = WITHIN.set(self._cell)
        self._cell.error = None
        raised: BaseException | None = None
        try:
            return self._took(await handler(self._request))
        except BaseException as error:
            raised = self._raised(error)
            if isinstance(raised, ParentCommand):
                return {"$parent": data_of(raised.args[0])}
            if raised is error:
                raise
            raise raised from error
        finally:
            WITHIN.reset(token)
            runs, self._cell.runs = self._cell.runs, []
            for run in runs:
                await run.here(partial(run.over, None, raised))

    def _took(self, returned: Any) -> Any:
        self._own = returned
        if isinstance(returned, ToolMessage) and returned.status == "error":
            # Its node made a message of what the tool raised.
            raise self._cell.error or DomainError(text_of(returned))
        return data_of(returned)

    def _raised(self, error: BaseException) -> BaseException:
        """Return what the engine is told of what was raised."""
        if isinstance(error, GraphInterrupt):
            self._pause = error
            return PausedError(self.call.name, "somebody is asked within it", "Answer first.")
        if self._own is None:
            self._own = error
        return error

    def word(self, waiting: Waiting) -> Word | None:
        """Return what a person said, or None where nobody said anything to this question yet.

        Raises:
            AnswerError: What was said may mean anything; it can be said again.
        """
        question = question_of(waiting, self._guest.turn_id, self.call.id)
        root = ROOT.get()
        # A question of this very life nobody has seen: no answer can be to it.
        if self._asked_before and root is not None and root.resume is not None:
            answer = root.resume.answer_to(question)
            if answer is not NOTHING:
                return word_of(answer, self.call.name)
        self._pause = GraphInterrupt((question,))
        return None

    def returned(self) -> Any:
        """Return what the node gets of the call; raises what it is to raise."""
        result, batch = self._result, self._batch
        assert result is not None  # noqa: S101  or an error was raised
        assert batch is not None  # noqa: S101  likewise
        if result.status is StepStatus.WAITING:
            # Without a question of its own it only stays unfinished.
            raise self._pause or GraphInterrupt(())
        key = f"{self.call.id} {self.call.name} {self.call.arguments!r}"
        own = self._own
        if own is None:
            own = batch.kept.get(key)
        else:
            batch.kept[key] = own
        if result.stood_in or result.status not in {StepStatus.OK, StepStatus.FAILED}:
            return self._message(result)
        if isinstance(own, BaseException):
            raise own
        if own is not None:
            return own
        return self._anew(result)

    def _anew(self, result: Result) -> Any:
        """Return what was recorded as the node wants it."""
        if result.status is StepStatus.FAILED:
            return self._message(result)
        if isinstance(result.data, Mapping) and "$parent" in result.data:
            raise ParentCommand(
                returned_of(result.data["$parent"], name=self.call.name, call_id=self.call.id)
            )
        made = returned_of(result.data, name=self.call.name, call_id=self.call.id)
        return self._message(result) if made is None else made

    def _message(self, result: Result) -> ToolMessage:
        ok = result.status is StepStatus.OK
        return ToolMessage(
            result.text,
            name=self.call.name,
            tool_call_id=self.call.id or "",
            status="success" if ok else "error",
        )


def _proposed(state: Any, call: Call) -> tuple[object, list[Call]]:
    """Return the message that proposed a call, and the calls that it proposed and that are open."""
    for messages in _conversations(state):
        answered: set[str] = set()
        for message in reversed(messages):
            if isinstance(message, ToolMessage):
                answered.add(message.tool_call_id)
            elif isinstance(message, AIMessage):
                calls = [
                    Call(told["name"], told["args"], told["id"])
                    for told in message.tool_calls
                    if told["id"] not in answered
                ]
                if any(one.id == call.id and one.name == call.name for one in calls):
                    return message, calls
                break
    return call, [call]


def _conversations(state: Any) -> list[list[BaseMessage]]:
    """Return what in a state may be its conversation; `messages` first."""
    if isinstance(state, list):
        return [state]
    fields = state if isinstance(state, Mapping) else getattr(state, "__dict__", {})
    first = fields.get("messages")
    found = [first] if isinstance(first, list) else []
    return found + [
        value
        for value in fields.values()
        if value is not first and isinstance(value, list) and value
    ]

"""A session in a journal: turns of a runtime, and the window that another process makes of them.

Keeps: what the model and the tools say is what was generated; the second runtime knows nothing
but the journal.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import undercroft as uc
from bench.context.sessions import Chat, arguments_of

SESSION = "bench"
WIDE = uc.ContextPolicy(limit_tokens=100_000_000)
# What the tools will return, in order.
RESULTS: deque[str] = deque()


async def look(order_id: str, account: str, item_ids: list[str], pay_back_to: str) -> str:
    """Return the next result."""
    del order_id, account, item_ids, pay_back_to
    return RESULTS.popleft()


TOOL = uc.tool(reads="orders")(look)


@uc.handler(tools=[TOOL])
async def talk(turn: uc.Turn, system: str, text: str) -> str:
    """Answer the user, with as many calls as the model wants."""
    turn.context.system(system)
    turn.context.user(text)
    while (answer := await turn.model()).calls:
        await turn.calls(answer.calls)
    return answer.text


class Recorded:
    """A model that says what it said.

    Attributes:
        asked_s: When it was asked last, on the clock of the processor.
    """

    def __init__(self, answers: Sequence[uc.Answer]) -> None:
        self._answers = deque(answers)
        self.asked_s = 0.0

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Return the next answer."""
        del request
        self.asked_s = time.process_time()
        return self._answers.popleft()


def cold_ms(messages: Sequence[Chat], folder: Path) -> float:
    """Journal a session; return what another runtime takes until it asks the model again."""
    return asyncio.run(_cold_ms(messages, folder / "journal.db"))


async def _cold_ms(messages: Sequence[Chat], path: Path) -> float:
    system = messages[0]["content"]
    said = [one["content"] for one in messages if one["role"] == "user"]
    answers = [_answer(one) for one in messages if one["role"] == "assistant"]
    RESULTS.clear()
    RESULTS.extend(one["content"] for one in messages if one["role"] == "tool")
    model = Recorded(answers)
    async with _runtime(path, model) as runtime:
        for text in said[:-1]:
            await runtime.run(talk, session=SESSION, system=system, text=text)
    model = Recorded([uc.Answer("That is all.")])
    async with _runtime(path, model) as runtime:
        began = time.process_time()
        outcome = await runtime.run(talk, session=SESSION, system=system, text=said[-1])
    if outcome.value != "That is all.":
        raise AssertionError(outcome)
    return (model.asked_s - began) * 1e3


def _runtime(path: Path, model: Recorded) -> uc.Runtime:
    return uc.Runtime(path, model=model, context=WIDE, loops=None, sync="never")


def _answer(message: Chat) -> uc.Answer:
    calls = []
    for call in message.get("tool_calls") or ():
        given: dict[str, Any] = {"item_ids": [], "pay_back_to": "", **arguments_of(call)}
        calls.append(uc.Call("look", given, call["id"]))
    return uc.Answer(message["content"] or "", tuple(calls))

"""What recorded conversations cost on disk: `python -m bench.record`.

Each τ-bench conversation is run through the runtime as a session of turns, its tools answering
with what was recorded, all in one journal; the file is closed, and its size divided by the steps
in it. Every prompt is rebuilt from it and compared with what was sent.
Target: at most 2 KiB a step.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import undercroft as uc
from bench.context.sessions import (
    DOMAINS,
    TRACES,
    Chat,
    arguments_of,
    conversation_of,
    rows_of,
    sendable,
)
from undercroft.queries import list_turns, read_prompt, read_trace

AT_MOST_BYTES = 2_048


class Recorded:
    """A model and its tools that say what they said."""

    def __init__(self, messages: Sequence[Chat]) -> None:
        self.system = [m["content"] for m in messages if m["role"] == "system"]
        self.answers = deque(_answer(m) for m in messages if m["role"] == "assistant")
        self.results = deque(str(m["content"]) for m in messages if m["role"] == "tool")
        self.sent: list[uc.ModelRequest] = []

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Return the next answer."""
        self.sent.append(request)
        return self.answers.popleft()


def _answer(message: Chat) -> uc.Answer:
    calls = tuple(
        uc.Call(call["function"]["name"], arguments_of(call), call.get("id"))
        for call in message.get("tool_calls") or ()
    )
    return uc.Answer(message.get("content") or "", calls)


def _handler(recorded: Recorded, names: Sequence[str]) -> Any:
    def tool(name: str) -> Any:
        async def body(given: Any = None) -> str:
            del given
            return recorded.results.popleft()

        return uc.tool(reads="shop", name=name)(body)

    tools = [tool(name) for name in names]

    @uc.handler(tools=tools)
    async def talk(turn: uc.Turn, text: str) -> str:
        for system in recorded.system:
            turn.context.system(system)
        turn.context.user(text)
        while (answer := await turn.model()).calls:
            await turn.calls([uc.Call(c.name, {"given": c.arguments}, c.id) for c in answer.calls])
        return answer.text

    return talk


async def _run(messages: Sequence[Chat], path: Path, session: str) -> list[uc.ModelRequest]:
    """Journal one conversation; return what its model was sent."""
    recorded = Recorded(messages)
    said = [m["content"] for m in messages if m["role"] == "user"]
    names = sorted({c["function"]["name"] for m in messages for c in m.get("tool_calls") or ()})
    policy = uc.ContextPolicy(limit_tokens=10_000_000)
    target = _handler(recorded, names)
    async with uc.Runtime(path, model=recorded, context=policy, loops=None, sync="never") as rt:
        for text in said:
            if recorded.answers:
                await rt.run(target, text=text, session=session)
    return recorded.sent


def _checked(path: Path, session: str, sent: Sequence[uc.ModelRequest]) -> tuple[int, int]:
    """Return the steps of a session, and how many of its prompts come back as they were sent."""
    steps = rebuilt = 0
    requests = iter(sent)
    for head in reversed(list_turns(str(path), session=session, limit=100_000)):
        trace = read_trace(str(path), head.turn_id)
        steps += len(trace.steps)
        for step in trace.steps:
            if step.kind == "model":
                prompt = read_prompt(str(path), head.turn_id, step.n)
                request = next(requests)
                rebuilt += prompt is not None and prompt.messages == request.messages
    return steps, rebuilt


def _conversations(rows: int) -> Sequence[tuple[str, Sequence[Chat]]]:
    found = [
        (row["trace_id"], conversation_of(row).messages)
        for folders in DOMAINS.values()
        for folder in folders
        for row in rows_of(TRACES / folder / "traces.jsonl.gz")
        if row.get("messages") and sendable(row["messages"])
    ]
    return found[:rows]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000, help="at most so many conversations")
    options = parser.parse_args()
    if not TRACES.is_dir():
        print(f"the recorded traces are not here: {TRACES}", file=sys.stderr)
        return 2
    steps = prompts = sent = alone = said = 0
    conversations = _conversations(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.db"
        for name, messages in conversations:
            requests = asyncio.run(_run(messages, path, name))
            met, rebuilt = _checked(path, name, requests)
            steps, prompts, sent = steps + met, prompts + rebuilt, sent + len(requests)
            alone += sum(len(json.dumps(one)) for one in messages)
            said += sum(len(m.content) for one in requests for m in one.messages)
        size = path.stat().st_size
    print(f"{len(conversations)} conversations in one journal: {steps} steps")
    print(f"prompts rebuilt exactly from it {prompts} of {sent}")
    print(f"bytes a step {size / steps:.0f}, target {AT_MOST_BYTES}")
    print(f"the conversations as JSON {alone / steps:.0f}, ", end="")
    print(f"all prompts as text {said / steps:.0f}")
    return 0 if size / steps <= AT_MOST_BYTES and prompts == sent else 1
    return 0 if size / steps <= AT_MOST_BYTES and prompts == sent else 1


if __name__ == "__main__":
    sys.exit(main())

"""Undercroft itself, on the same workload as the floor.

The workflow declares what the steps touch, so claims, breakers, budgets and the journal all
do their work; a reader of the figures pays for them.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any, Literal, Self

import undercroft as uc
from bench import workload
from bench.workload import STEP_COUNT, Body, Numbers, drive, executions, payload

if TYPE_CHECKING:
    from pathlib import Path

CHAIN = uc.Workflow("bench-chain")
CHAIN.resolve(workload.resolve)
CHAIN.read("bench/{turn_no}")(workload.read)
CHAIN.gather(workload.gather)
CHAIN.prepare(workload.prepare)
CHAIN.prepare(workload.review)  # not `approve`: a gate returns no payload
CHAIN.execute(writes="bench/{turn_no}")(workload.execute)
CHAIN.confirm(workload.confirm)

FAN = uc.Workflow("bench-fan")


@FAN.resolve
async def items() -> list[int]:
    """Say what to read."""
    return list(range(workload.FAN_COUNT))


@FAN.gather(each="items")
async def reads(item: int) -> Body:
    """Do one of the reads."""
    return await workload.slow_read(item)


@FAN.prepare
async def joined(reads: list[Body]) -> int:
    """Join them."""
    return len(reads)


@uc.tool(reads="bench/{k}")
async def work(k: int) -> Body:
    """One step of a long turn."""
    return payload(0, k)


@uc.handler(tools=[work])
async def long_turn(turn: uc.Turn, count: int) -> str:
    """Ask for `count` steps, one after another."""
    for k in range(count):
        await turn.calls([uc.Call("work", {"k": k})])
    return "done"


_GRAPH_HEAD = """
import undercroft as uc
from bench.workload import Body, payload

flow = uc.Workflow("bench-graph-{count}")

@flow.resolve
async def s0(turn_no: int) -> Body:
    return payload(turn_no, 0)
"""
_GRAPH_STEP = """
@flow.gather
async def s{at}(s{before}: Body) -> Body:
    return payload(s{before}["turn"], {at})
"""


def long_graph(folder: Path, count: int) -> Any:
    """Return a workflow of `count` steps in a row: a module is written, as a user would."""
    name = f"bench_graph_{count}"
    if name in sys.modules:
        return sys.modules[name].flow
    path = folder / "code" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    steps = (_GRAPH_STEP.format(at=at, before=at - 1) for at in range(1, count))
    path.write_text(_GRAPH_HEAD.format(count=count) + "".join(steps), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.flow


class House:
    """The workload on a Runtime."""

    def __init__(
        self, folder: Path, *, sync: Literal["never", "writes", "always"], log: Path | None
    ) -> None:
        """Keep the journal in `folder`."""
        self.folder, self.log = folder, log
        self.runtime = uc.Runtime(str(folder / "undercroft.db"), sync=sync)

    async def __aenter__(self) -> Self:
        """Open the runtime."""
        await self.runtime.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.runtime.__aexit__(None, None, None)

    async def done(self, target: Any, **inputs: Any) -> None:
        """Run one turn and insist that it ends well."""
        outcome = await self.runtime.run(target, **inputs)
        if outcome.status != "done":
            raise RuntimeError(outcome)

    async def chain(self, turn_no: int) -> None:
        """Run the seven steps, one after another."""
        await self.done(CHAIN, turn_no=turn_no)

    async def fan(self, turn_no: int) -> None:  # noqa: ARG002 - needs no number
        """Run one step, then 50 reads beside each other, then one step."""
        await self.done(FAN)

    async def loop(self, turn_no: int, count: int) -> None:  # noqa: ARG002 - a handler needs no number
        """Run a handler that asks for `count` steps."""
        await self.done(long_turn, count=count)

    async def graph(self, turn_no: int, count: int) -> None:
        """Run a workflow of `count` steps."""
        await self.done(long_graph(self.folder, count), turn_no=turn_no)

    async def finish(self, turns: int, in_flight: int) -> Numbers:
        """Recover what was cut off, then run what never began.

        A read may run ahead of the journal, so a line in the log is no proof that a turn was
        accepted: whatever is neither done nor in doubt after `recover` is run as new.
        """
        if self.log is None:
            raise ValueError("--log")
        outcomes = await self.runtime.recover(in_flight_max=in_flight)
        ends = [end for end in outcomes.values() if not isinstance(end, Exception)]
        doubtful = {self.turn_no(end.turn_id) for end in ends if end.status == "in_doubt"}
        last = STEP_COUNT - 1
        done = {turn_no for turn_no, at in executions(self.log) if at == last} | doubtful
        await drive((no for no in range(turns) if no not in done), in_flight, self.chain)
        return {
            "recovered": len(outcomes),
            "not_resumed": len(outcomes) - sum(end.status in ("done", "in_doubt") for end in ends),
            "in_doubt": len(doubtful),
        }

    def turn_no(self, turn_id: str) -> int:
        """Return the number that a turn was run with."""
        return int(self.runtime.trace(turn_id).input["turn_no"])
